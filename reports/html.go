// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"strings"

	"github.com/econbench/econbench"
)

// HTML is a run as one page that needs nothing else: no script, no network, no other file. The zero value shows what a run tells; In adds
// what its gate came to, and the traces and profiles that lie in its directory.
type HTML struct {
	folder fs.FS
}

var (
	_ econbench.Report = HTML{}
	_ InFolder         = HTML{}
)

// InFolder is an optional interface of formats that show what lies beside a run's trials in its directory.
type InFolder interface {
	econbench.Report
	In(folder fs.FS) econbench.Report
}

func (HTML) Name() string { return "html" }
func (HTML) Help() string {
	return "one page with verdicts, tables, plots, hosts and how to reproduce it; for any browser, offline"
}

// In is the format with a run's directory.
func (h HTML) In(folder fs.FS) econbench.Report {
	h.folder = folder
	return h
}

//go:embed html.tmpl
var pageText string

//go:embed html.css
var pageStyle string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// pageHead is what all pages begin with.
type pageHead struct {
	Title   string
	Style   template.CSS
	Colours template.CSS
}

func newPageHead(title string) pageHead {
	return pageHead{title, template.CSS(pageStyle), template.CSS(colours())}
}

// page is what the template takes.
type page struct {
	pageHead
	Run       string // id
	Line      string // how it ended
	Setting   []string
	Banners   []banner
	Verdicts  []armVerdict
	Gate      *pageGate
	Overview  *pagePlot
	Workloads []pageWorkload
	Published *pagePublished
	Invalid   []noteGroup
	Warnings  []noteGroup
	Journey   *pictures
	Flames    *pictures
	Hosts     *hostsSection
	Command   string
	Replay    string   // by flags alone
	Again     string   // by the suite's file, where flags can't say it
	Part      []string // commands of later parts
	Facts     []fact
	Legend    string
	Baseline  string
}

// pageWorkload is a workload's section.
type pageWorkload struct {
	ID     string
	Nav    string // its name, as far as it has to be told from others
	Name   string
	Params string
	Table  htmlTable
	Ruler  string
	Plots  []pagePlot
	All    htmlTable
	CPU    *htmlTable
}

// pagePlot is a plot with what is said about it.
type pagePlot struct {
	Title, Note string
	SVG         template.HTML
}

type pagePublished struct {
	Table  htmlTable
	Notes  []string
	Legend string
}

// noteGroup are the notes of a workload's cells, or of the run.
type noteGroup struct {
	Place string
	Notes []placedNote
}

type placedNote struct{ Arm, Text string }

// Render writes the page.
func (h HTML) Render(w io.Writer, run *econbench.Run) error {
	s, data, err := summaryOf(run, Options{})
	if err != nil {
		return err
	}
	gate, judged := h.gateOf(run)
	p := page{
		pageHead: newPageHead("econbench run " + clean(s.Run)), Run: clean(s.Run), Gate: gate,
		Line: upper(strings.TrimPrefix(runLine(s), "run "+clean(s.Run)+": ")), Setting: nonEmpty(setting(s)), Banners: bannersOf(s, judged), Verdicts: verdictsOf(s, data),
		Invalid: noteGroups(s, true), Warnings: noteGroups(s, false), Hosts: hostsOf(run), Replay: replayCommand(run.Plan),
		Facts: planFacts(run), Legend: legend(s), Baseline: clean(s.Baseline.String()),
	}
	if len(run.Command) > 0 {
		p.Command = commandLine(run.Command)
	}
	if again, seeded := againCommand(run); p.Replay == "" && seeded {
		p.Again = commandLine(again)
	}
	for _, r := range run.Resumed {
		p.Part = append(p.Part, commandLine(r.Command))
	}
	if f, ok := overview(s); ok {
		p.Overview = &pagePlot{f.title, upper(f.note), template.HTML(f.inline("plot-overview"))}
	}
	p.Workloads = pageWorkloads(s, run)
	if len(s.Published) > 0 {
		p.Published = &pagePublished{columnsTable("Published figures beside what was measured", publishedColumns(s.Published)), publishedNotes(s.Published), publishedLegend}
	}
	h.addPictures(&p, run)
	var b bytes.Buffer // a page that fails is not half a page
	if err := pageTemplate.Execute(&b, p); err != nil {
		return fmt.Errorf("render html: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// pageWorkloads are the sections of all workloads.
func pageWorkloads(s *Summary, run *econbench.Run) (list []pageWorkload) {
	tables := tables(s)
	for i, plots := range workloadsOf(s, run) {
		first := plots.cells[0]
		w := pageWorkload{
			ID: fmt.Sprintf("workload-%d", i+1), Nav: shorten(workloadName(first.Workload, first.Params, s.Plan)), Name: clean(first.Workload), Params: clean(first.Params.String()),
			Table: tableOf(tables[i]), Ruler: tables[i].ruler, All: figuresTable(plots.key, plots.cells, s.Plan),
		}
		if strings.TrimSpace(w.Name) == "" {
			w.Name = "unnamed workload"
		}
		for j, f := range plots.figures {
			w.Plots = append(w.Plots, pagePlot{f.title, upper(f.note), template.HTML(f.inline(fmt.Sprintf("plot-%d-%d", i+1, j+1)))})
		}
		if t, ok := cpuTable(plots.key, plots.cells, plots.split); ok {
			w.CPU = &t
		}
		list = append(list, w)
	}
	return list
}

// addPictures shows what lies in the run's directory.
func (h HTML) addPictures(p *page, run *econbench.Run) {
	if h.folder == nil {
		return
	}
	budget := maxPictures
	if j := journeyOf(h.folder, run.Plan, &budget); len(j.List)+len(j.LeftOut) > 0 {
		p.Journey = &j
	}
	if f := flamesOf(h.folder, run.Plan, &budget); len(f.List)+len(f.LeftOut) > 0 {
		p.Flames = &f
	}
}

// noteGroups are the notes by workload and arm, the run's own first.
func noteGroups(s *Summary, invalid bool) (list []noteGroup) {
	add := func(place, arm string, notes []Note) {
		for _, n := range notes {
			if n.Invalid != invalid {
				continue
			}
			text := n.Text
			if n.Trials > 0 {
				text += " (" + n.count() + ")"
			}
			if len(list) == 0 || list[len(list)-1].Place != place {
				list = append(list, noteGroup{Place: place})
			}
			g := &list[len(list)-1]
			g.Notes = append(g.Notes, placedNote{clean(arm), clean(text)})
		}
	}
	add("the run as a whole", "", s.Warnings)
	order, groups := byWorkload(s.Cells, func(c Cell) econbench.Cell { return econbench.Cell{Workload: c.Workload, Params: c.Params} })
	for _, k := range order {
		for _, c := range groups[k] {
			add(k, c.Arm.String(), c.Warnings)
		}
	}
	return list
}

// colours are the plots' inks as CSS variables: light, and dark on a screen that asks for it. Paper is white.
func colours() string {
	var light, dark strings.Builder
	for _, i := range inks() {
		fmt.Fprintf(&light, "%s:#%02x%02x%02x;", i.variable, i.light.R, i.light.G, i.light.B)
		fmt.Fprintf(&dark, "%s:#%02x%02x%02x;", i.variable, i.dark.R, i.dark.G, i.dark.B)
	}
	return ":root{" + light.String() + "}\n@media screen and (prefers-color-scheme:dark){:root{" + dark.String() + "}}\n"
}
