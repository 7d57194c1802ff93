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

var historyPage = template.Must(template.New("history").Parse(historyTemplate))

// pageSeries is a series on the page.
type pageSeries struct {
	ID      int
	Title   string
	About   string
	Plot    template.HTML
	Changes []string
	Failed  bool
}

// pageList is a list below the series.
type pageList struct {
	Head  string
	Lines []string
}

// html writes a page that needs nothing but itself: no script, no font, no picture from elsewhere.
func (h *History) html(w io.Writer) error {
	page := struct {
		Line, Gate  string
		Failed      bool
		GateLines   []string
		Acknowledge string
		Series      []pageSeries
		Lists       []pageList
		Legend      string
	}{
		Line: h.line(), Gate: strings.TrimSuffix(h.gateHead(), ":"), Failed: h.Gate.Exit != 0, GateLines: h.gateLines(), Legend: h.legend(),
	}
	if h.Gate.Acknowledge != "" {
		page.Acknowledge = "changes:\n" + h.Gate.Acknowledge
	}
	for i := range h.Series {
		page.Series = append(page.Series, h.pageSeries(&h.Series[i], i+1))
	}
	for _, l := range []pageList{
		{"Setups, within which changes are looked for", h.setupLines()}, {"Levels where the setup changed, not judged", h.borderLines()},
		{"Nights that were not measured", h.gapLines()}, {"Warnings", h.warningLines()},
	} {
		if len(l.Lines) > 0 {
			page.Lists = append(page.Lists, l)
		}
	}
	if n := len(h.Nights); n > plottedNights {
		page.Legend += fmt.Sprintf(" Plots show the newest %d of %d nights.", plottedNights, n)
	}
	var b bytes.Buffer // a template that fails must not leave half a page
	if err := historyPage.Execute(&b, page); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (h *History) pageSeries(s *HistorySeries, id int) pageSeries {
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
	out := pageSeries{ID: id, Title: s.title(), About: strings.Join(about, " · "), Failed: t.Standing != nil, Plot: template.HTML(h.plotOf(s, id))}
	for _, track := range s.Tracks {
		for _, c := range track.Changes {
			_, line, _ := strings.Cut(h.changeLine(s, track, c), s.title()+": ")
			out.Changes = append(out.Changes, line)
		}
	}
	return out
}
