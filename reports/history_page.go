// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed history.html.tmpl
var historyTemplate string

// historyPage shares its head with a run's page.
var historyPage = template.Must(template.Must(pageTemplate.Clone()).New("history").Parse(historyTemplate))

// pageHistory is what the template takes.
type pageHistory struct {
	pageHead
	Line        string
	Gate        banner
	GateLines   []string
	Acknowledge string
	Series      []pageSeries
	Left        string // said where plots do not show all nights
	Lists       []pageList
	Legend      string
}

// pageSeries is a series on the page.
type pageSeries struct {
	ID      string
	Title   string
	About   string
	Plot    template.HTML
	Changes []string
}

// pageList is a list below the series.
type pageList struct {
	ID, Head string
	Lines    []string
}

// html writes a page that needs nothing but itself: no script, no font, no picture from elsewhere.
func (h *History) html(w io.Writer) error {
	page := pageHistory{
		pageHead: newPageHead("econbench " + h.line()), Line: upper(h.line()), Gate: h.gateBanner(), GateLines: h.gateLines(), Legend: h.legend(),
	}
	if h.Gate.Acknowledge != "" {
		page.Acknowledge = "changes:\n" + h.Gate.Acknowledge
	}
	for i := range h.Series {
		page.Series = append(page.Series, h.pageSeries(&h.Series[i], fmt.Sprintf("series-%d", i+1)))
	}
	for _, l := range []pageList{
		{"setups", "Setups, within which changes are looked for", h.setupLines()}, {"borders", "Levels where the setup changed, not judged", h.borderLines()},
		{"gaps", "Nights that were not measured", h.gapLines()}, {"warnings", "Warnings", h.warningLines()},
	} {
		if len(l.Lines) > 0 {
			page.Lists = append(page.Lists, l)
		}
	}
	if n := len(h.Nights); n > plottedNights {
		page.Left = fmt.Sprintf("They show the newest %d of %d nights.", plottedNights, n)
	}
	var b bytes.Buffer // a template that fails must not leave half a page
	if err := historyPage.Execute(&b, page); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// gateBanner has a colour for each exit code.
func (h *History) gateBanner() banner {
	b := banner{Class: "good", Head: upper(strings.TrimSuffix(h.gateHead(), ":"))}
	switch h.Gate.Exit {
	case 1:
		b.Class = "doubt"
	case 2:
		b.Class = "bad"
	}
	return b
}

func (h *History) pageSeries(s *HistorySeries, id string) pageSeries {
	t := s.newest()
	about := []string{s.armName(), nightsOf(t) + " nights"}
	if n := len(t.Segments); n > 0 {
		about = append(about, fmt.Sprintf("%s → %s", s.show(t.Segments[0].Level), s.show(t.Segments[n-1].Level)))
	}
	if t.Factor != nil {
		about = append(about, percent(*t.Factor)+"%")
	}
	if t.Verdict != "" {
		about = append(about, string(t.Verdict))
	}
	if s.Better != "" {
		about = append(about, string(s.Better)+" is better")
	}
	if standing := h.standingOf(s, t); standing != "" {
		about = append(about, standing)
	}
	out := pageSeries{ID: id, Title: s.title(), About: strings.Join(about, " · ")}
	out.Plot = template.HTML(h.figureOf(s, out.About).inline(id + "-plot"))
	for _, track := range s.Tracks {
		for _, c := range track.Changes {
			_, line, _ := strings.Cut(h.changeLine(s, track, c), s.title()+": ")
			out.Changes = append(out.Changes, line)
		}
	}
	return out
}
