// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench/internal/names"
)

// historyFormats is the one list of a history's formats. The first is the default.
var historyFormats = []struct {
	name   string
	render func(*History, io.Writer) error
}{
	{"text", (*History).text}, {"markdown", (*History).markdown}, {"csv", (*History).csv}, {"json", (*History).json}, {"html", (*History).html},
	{"github", (*History).github},
}

// HistoryFormats lists the formats that a history can be rendered in, the default first.
func HistoryFormats() (list []string) {
	for _, f := range historyFormats {
		list = append(list, f.name)
	}
	return list
}

// Render writes the history in one of HistoryFormats; an unknown one is an error before anything is written.
func (h *History) Render(w io.Writer, format string) error {
	for _, f := range historyFormats {
		if f.name == format {
			if err := f.render(h, w); err != nil {
				return fmt.Errorf("render history as %s: %w", format, err)
			}
			return nil
		}
	}
	return names.Unknown("history format", format, HistoryFormats())
}

func (h *History) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(h)
}

var historyHeader = []string{
	"arm", "workload", "params", "metric", "unit", "better", "primary", "carrier", "baseline", "judged", "run", "started", "setup",
	"value", "low", "high", "n", "level", "gap", "segment_level", "change", "change_low", "change_high", "p", "p_corrected", "verdict", "acknowledged",
}

// csv writes a row per series and night. The columns of a change are in the row of its first night.
func (h *History) csv(w io.Writer) error {
	out := csv.NewWriter(w)
	out.Write(historyHeader) // errors are kept for Error below
	for i := range h.Series {
		s := &h.Series[i]
		segments, changes := h.byNight(s)
		for _, p := range s.Points {
			n := h.Nights[p.Night]
			row := []string{s.Arm.String(), s.Workload, s.Params.String(), s.Metric, s.Unit, string(s.Better), strconv.FormatBool(s.Primary),
				string(s.Carrier), s.Baseline, strconv.FormatBool(s.Judged), n.Run, stamp(n.Started), strconv.Itoa(n.Setup),
				exact(p.Value), exact(p.Low), exact(p.High), strconv.Itoa(p.N), exact(p.Level), p.Gap}
			if seg, ok := segments[p.Night]; ok {
				row = append(row, exact(&seg.Level))
			} else {
				row = append(row, "")
			}
			if c, ok := changes[p.Night]; ok {
				row = append(row, exact(&c.Factor), exact(c.Low), exact(c.High), exact(&c.P), exact(&c.PCorrected), string(c.Verdict), strconv.FormatBool(c.Acknowledged != nil))
			} else {
				row = append(row, make([]string, len(historyHeader)-len(row))...)
			}
			out.Write(row)
		}
	}
	out.Flush()
	return out.Error()
}

// byNight finds the segment that a night with a value is in, and the change that begins with it.
func (h *History) byNight(s *HistorySeries) (segments map[int]HistorySegment, changes map[int]HistoryChange) {
	segments, changes = make(map[int]HistorySegment), make(map[int]HistoryChange)
	for _, t := range s.Tracks {
		for _, c := range t.Changes {
			changes[c.Night] = c
		}
		at := 0
		for _, p := range s.Points { // both are in the order of nights; those of other setups may lie between
			if p.Value == nil || h.Nights[p.Night].Setup != t.Setup {
				continue
			}
			for t.Segments[at].Last < p.Night {
				at++
			}
			segments[p.Night] = t.Segments[at]
		}
	}
	return segments, changes
}

func stamp(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func (h *History) text(w io.Writer) error {
	var b bytes.Buffer
	wrap(&b, "", h.line())
	b.WriteByte('\n')
	wrap(&b, "", h.gateHead())
	for _, l := range h.gateLines() {
		wrap(&b, "  ", l)
	}
	paint := Text{}.painter(w)
	for _, g := range h.tables() {
		b.WriteByte('\n')
		wrap(&b, "", strings.Join(nonEmpty(g.title), " · "))
		for _, cols := range g.fit(textWidth - 1) {
			if err := drawText(&b, cols, paint); err != nil {
				return err
			}
		}
	}
	section(&b, "changes:", h.changeLines())
	section(&b, "setups, within which changes are looked for:", h.setupLines())
	section(&b, "levels where the setup changed, not judged:", h.borderLines())
	section(&b, "nights that were not measured:", h.gapLines())
	section(&b, "warnings:", h.warningLines())
	if h.Gate.Acknowledge != "" {
		b.WriteString("\nto acknowledge, with a reason, in the file that --acknowledged names:\n\nchanges:\n" + h.Gate.Acknowledge)
	}
	b.WriteByte('\n')
	wrap(&b, "", h.legend())
	return writeTrimmed(w, b.Bytes())
}

func (h *History) markdown(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n\n**%s**\n", escape(h.line()), escape(strings.TrimSuffix(h.gateHead(), ":")))
	list := func(head string, lines []string) {
		if len(lines) > 0 && head != "" {
			fmt.Fprintf(&b, "\n%s\n", head)
		}
		for i, l := range lines {
			if i == 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "- %s\n", escape(l))
		}
	}
	list("", h.gateLines())
	for _, g := range h.tables() {
		title := nonEmpty(g.title)
		fmt.Fprintf(&b, "\n### %s\n\n", escape(title[0]))
		if len(title) > 1 {
			fmt.Fprintf(&b, "%s\n\n", escape(strings.Join(title[1:], " · ")))
		}
		drawMarkdown(&b, g.columns)
	}
	list("Changes:", h.changeLines())
	list("Setups, within which changes are looked for:", h.setupLines())
	list("Levels where the setup changed, not judged:", h.borderLines())
	list("Nights that were not measured:", h.gapLines())
	list("Warnings:", h.warningLines())
	if h.Gate.Acknowledge != "" {
		b.WriteString(h.acknowledging())
	}
	fmt.Fprintf(&b, "\n%s\n", escape(h.legend()))
	return writeTrimmed(w, b.Bytes())
}

// acknowledging is the lines that acknowledge the regressions, in Markdown.
func (h *History) acknowledging() string {
	return "\nTo acknowledge, with a reason, in the file that `--acknowledged` names:\n\n" + fenced("yaml", "changes:\n"+h.Gate.Acknowledge)
}

// github is the history for $GITHUB_STEP_SUMMARY.
func (h *History) github(w io.Writer) error {
	page := stepSummary{limit: summaryLimit, whole: "econbench history DIR -f markdown"}
	page.text("## %s\n\n%s\n", escape(upper(strings.TrimSuffix(h.gateHead(), ":"))), escape(upper(h.line())))
	page.bullets("", h.gateLines())
	if h.Gate.Acknowledge != "" {
		page.add(h.acknowledging(), "the lines that acknowledge the regressions")
	}
	for _, g := range h.tables() {
		title := nonEmpty(g.title)
		page.table("### "+escape(title[0])+"\n\n"+escape(strings.Join(title[1:], " · ")), g.columns, "")
	}
	page.text("\n%s\n", escape(h.legend()))
	page.folded("Changes", h.changeLines())
	page.folded("Setups, within which changes are looked for", h.setupLines())
	page.folded("Levels where the setup changed, not judged", h.borderLines())
	page.folded("Nights that were not measured", h.gapLines())
	page.folded("Warnings", h.warningLines())
	return page.write(w)
}
