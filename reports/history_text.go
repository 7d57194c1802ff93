// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// stripNights is how many nights the strip of a table shows, the newest.
const stripNights = 30

// line says what the history is of.
func (h *History) line() string {
	var known []HistoryNight
	for _, n := range h.Nights {
		if n.Unread == "" {
			known = append(known, n)
		}
	}
	s := fmt.Sprintf("history of %s, %s", counted(len(known), "night"), known[0].name())
	if last := known[len(known)-1].name(); last != known[0].name() {
		s += " to " + last
	}
	if n := len(h.Setups); n > 1 {
		s += fmt.Sprintf(", on %d setups", n)
	}
	if n := len(h.Nights) - len(known); n > 0 {
		s += fmt.Sprintf("; %d more could not be read", n)
	}
	return s
}

// gateHead is what the gate comes to.
func (h *History) gateHead() string {
	var parts []string
	if n := len(h.Gate.Regressions); n > 0 {
		parts = append(parts, counted(n, "unacknowledged regression"))
	}
	if len(h.Gate.Unmeasured) > 0 {
		parts = append(parts, "the newest night could not be measured")
	}
	if len(parts) == 0 {
		return "gate: passed: no unacknowledged regression stands"
	}
	return "gate: failed: " + strings.Join(parts, "; ") + ":"
}

func (h *History) gateLines() (lines []string) {
	for _, r := range h.Gate.Regressions {
		var nights []string
		for _, n := range r.Nights {
			nights = append(nights, h.Nights[n].name()+" (run "+clean(h.Nights[n].Run)+")")
		}
		name := (&HistorySeries{Arm: r.Arm, Workload: r.Workload, Params: r.Params, Metric: r.Metric}).title()
		lines = append(lines, fmt.Sprintf("regression: %s: %s%% since %s", name, percent(r.Factor), strings.Join(nights, ", ")))
	}
	for _, why := range h.Gate.Unmeasured {
		lines = append(lines, "could not measure: "+why)
	}
	return lines
}

// tables makes one table of every workload, parameters and metric: a row for every arm on the newest setup that it was measured on.
func (h *History) tables() (list []table) {
	var order []string
	groups := make(map[string][]*HistorySeries)
	for i := range h.Series {
		s := &h.Series[i]
		k := workloadTitle(s.Workload, s.Params) + "\x00" + s.Metric
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s)
	}
	for _, k := range order {
		workload, _, _ := strings.Cut(k, "\x00")
		group := groups[k]
		t := table{title: []string{workload, heading(group[0].Metric)}}
		if group[0].Better != econbench.Neither {
			t.title[1] += ": " + string(group[0].Better) + " is better"
		}
		if !slices.ContainsFunc(group, func(s *HistorySeries) bool { return s.Primary }) {
			t.title = append(t.title, "described, not judged")
		}
		t.columns = h.columns(group)
		t.narrow = t.columns
		list = append(list, t)
	}
	return list
}

func (h *History) columns(group []*HistorySeries) []column {
	per := func(f func(*HistorySeries, HistoryTrack) string) (cells []string) {
		for _, s := range group {
			cells = append(cells, f(s, s.newest()))
		}
		return cells
	}
	level := func(at func(HistoryTrack) (HistorySegment, bool)) []string {
		return per(func(s *HistorySeries, t HistoryTrack) string {
			seg, ok := at(t)
			if !ok {
				return missing
			}
			return s.show(seg.Level)
		})
	}
	return []column{
		{header: "arm", left: true, cells: per(func(s *HistorySeries, _ HistoryTrack) string { return shorten(s.armName()) })},
		{header: "nights", cells: per(func(_ *HistorySeries, t HistoryTrack) string { return nightsOf(t) })},
		{header: "first", cells: level(func(t HistoryTrack) (seg HistorySegment, ok bool) {
			if ok = len(t.Segments) > 0; ok {
				seg = t.Segments[0]
			}
			return seg, ok
		})},
		{header: "now", cells: level(func(t HistoryTrack) (seg HistorySegment, ok bool) {
			if ok = len(t.Segments) > 0; ok {
				seg = t.Segments[len(t.Segments)-1]
			}
			return seg, ok
		})},
		{header: "changes", cells: per(func(_ *HistorySeries, t HistoryTrack) string { return fmt.Sprint(len(t.Changes)) })},
		{header: "in all", cells: per(func(_ *HistorySeries, t HistoryTrack) string {
			if t.Factor == nil {
				return missing
			}
			return percent(*t.Factor) + "%"
		})},
		{header: "verdict", left: true, verdict: true, cells: per(func(_ *HistorySeries, t HistoryTrack) string { return string(t.Verdict) })},
		{header: "gate", left: true, cells: per(func(s *HistorySeries, t HistoryTrack) string { return h.standingOf(s, t) })},
		{header: "newest nights", left: true, cells: per(func(s *HistorySeries, t HistoryTrack) string { return h.strip(s, t) })},
	}
}

func (h *History) standingOf(s *HistorySeries, t HistoryTrack) string {
	switch {
	case !s.Judged:
		return "not judged"
	case t.Standing != nil:
		return "regressed"
	case slices.ContainsFunc(t.Changes, func(c HistoryChange) bool { return c.Acknowledged != nil }):
		return "acknowledged"
	}
	return ""
}

// armName is the arm, with what it is held against.
func (s *HistorySeries) armName() string {
	if s.Carrier == CarrierRatio {
		return clean(s.Arm.String() + " vs " + s.Baseline)
	}
	return clean(s.Arm.String())
}

// newest is the track of the setup with the newest night.
func (s *HistorySeries) newest() (newest HistoryTrack) {
	last := -1
	for _, t := range s.Tracks {
		if len(t.Segments) == 0 {
			if last < 0 {
				newest = t
			}
			continue
		}
		if at := t.Segments[len(t.Segments)-1].Last; at > last {
			newest, last = t, at
		}
	}
	return newest
}

// show is a value of the series in human units.
func (s *HistorySeries) show(v float64) string {
	if s.Carrier == CarrierRatio {
		return factor(v, 3) + "×"
	}
	return show(s.Metric, s.Unit, &v)
}

func nightsOf(t HistoryTrack) string {
	if t.Gaps == 0 {
		return fmt.Sprint(t.Nights)
	}
	return fmt.Sprintf("%d/%d", t.Nights, t.Nights+t.Gaps)
}

// strip draws the newest nights of a track: a block for a value, · for a gap, | before a change. The scale is that of the levels, and
// three standard deviations to both sides, so that one spike does not flatten all others.
func (h *History) strip(s *HistorySeries, t HistoryTrack) string {
	var points []HistoryPoint
	for _, p := range s.Points {
		if h.Nights[p.Night].Setup == t.Setup {
			points = append(points, p)
		}
	}
	points = points[max(0, len(points)-stripNights):]
	low, high := h.extent(t, points)
	var b strings.Builder
	for i, p := range points {
		if i > 0 && slices.ContainsFunc(t.Changes, func(c HistoryChange) bool { return c.Night == p.Night }) {
			b.WriteByte('|')
		}
		if p.Value == nil {
			b.WriteString("·")
			continue
		}
		step := 3
		if high > low {
			step = int(math.Round(7 * (math.Log(*p.Value) - low) / (high - low)))
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[min(max(step, 0), 7)])
	}
	return b.String()
}

// extent is the range, in logarithms, that points of a track are drawn in.
func (h *History) extent(t HistoryTrack, points []HistoryPoint) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	var off []float64
	for _, p := range points {
		for _, seg := range t.Segments {
			if p.Value != nil && p.Night >= seg.First && p.Night <= seg.Last {
				low, high = min(low, math.Log(seg.Level)), max(high, math.Log(seg.Level))
				off = append(off, math.Abs(math.Log(*p.Value/seg.Level)))
			}
		}
	}
	if len(off) == 0 {
		return 0, 0
	}
	spread := 1.4826 * median(off)
	return low - 3*spread, high + 3*spread
}

// changeLines are all changes, series by series, night by night.
func (h *History) changeLines() (lines []string) {
	for i := range h.Series {
		s := &h.Series[i]
		for _, t := range s.Tracks {
			for _, c := range t.Changes {
				lines = append(lines, h.changeLine(s, t, c))
			}
		}
	}
	return lines
}

func (h *History) changeLine(s *HistorySeries, t HistoryTrack, c HistoryChange) string {
	d := Change{Factor: &c.Factor, Low: c.Low, High: c.High}
	line := fmt.Sprintf("%s: %s from %s (run %s): %s → %s, %s, p %s", s.title(), c.Verdict, h.Nights[c.Night].name(), clean(c.Run),
		s.show(c.Old), s.show(c.New), showChange(&d, true), smallP(c.PCorrected))
	if c.Night-c.Before > 1 {
		line += fmt.Sprintf("; the night before it is %s", h.Nights[c.Before].name())
	}
	if len(h.Setups) > 1 {
		line += fmt.Sprintf("; setup %d", t.Setup)
	}
	if c.Acknowledged != nil {
		a := h.Acknowledgements[*c.Acknowledged]
		line += "; acknowledged: " + clean(strings.Join(nonEmpty([]string{a.Reason, a.Link}), ", ")) + " (" + clean(a.Place) + ")"
	}
	if c.Reason != "" && c.Verdict != VerdictNone {
		line += "; " + c.Reason
	}
	if len(c.Noted) > 0 {
		line += "; changed with it: " + someDifferences(c.Noted)
	}
	return line
}

func smallP(p float64) string { return showP(MetricChange{PHolm: &p}) }

// someDifferences names the first few.
func someDifferences(list []RunDifference) string {
	const most = 3
	lines := differenceLines(list)
	if more := len(lines) - most; more > 0 {
		lines = append(lines[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}

// setupLines are the newest setups; the other formats have all.
func (h *History) setupLines() (lines []string) {
	const most = 10
	if len(h.Setups) < 2 {
		return nil
	}
	for _, s := range h.Setups[max(0, len(h.Setups)-most):] {
		line := fmt.Sprintf("setup %d: %s, %s to %s", s.Number, counted(s.Nights, "night"), h.Nights[s.First].name(), h.Nights[s.Last].name())
		if len(s.Differences) > 0 {
			line += fmt.Sprintf("; fingerprint changed from setup %d: %s", s.After, someDifferences(s.Differences))
		}
		lines = append(lines, line)
	}
	return lines
}

// borderLines are those of the setup that came last; the other formats have all.
func (h *History) borderLines() (lines []string) {
	for i := range h.Series {
		s := &h.Series[i]
		for _, t := range s.Tracks {
			if e := t.Border; e != nil && t.Setup == len(h.Setups) {
				lines = append(lines, fmt.Sprintf("%s: %s → %s, %s%%, from setup %d to %d", s.title(), s.show(e.Old), s.show(e.New), percent(e.Factor), e.From, t.Setup))
			}
		}
	}
	return lines
}

// gapLines say which nights have no value, once for all series that lack it for one reason.
func (h *History) gapLines() (lines []string) {
	for i, n := range h.Nights {
		if n.Unread != "" {
			lines = append(lines, clean(n.Label)+": could not be read: "+clean(n.Unread))
			continue
		}
		var order []string
		where := make(map[string][]string)
		for j := range h.Series {
			s := &h.Series[j]
			for _, p := range s.Points {
				if p.Night == i && p.Gap != "" {
					if where[p.Gap] == nil {
						order = append(order, p.Gap)
					}
					where[p.Gap] = append(where[p.Gap], s.title())
				}
			}
		}
		for _, gap := range order {
			titles := where[gap]
			if len(titles) > 3 {
				titles = append(titles[:3:3], fmt.Sprintf("and %d more", len(titles)-3))
			}
			lines = append(lines, fmt.Sprintf("%s (run %s): %s: %s", n.name(), clean(n.Run), gap, strings.Join(titles, ", ")))
		}
	}
	const most = 40
	if more := len(lines) - most; more > 0 {
		lines = append([]string{fmt.Sprintf("%d more, earlier: csv and json have all", more)}, lines[more:]...)
	}
	return lines
}

func (h *History) warningLines() (lines []string) {
	lines = noteLines(h.Warnings)
	for i := range h.Series {
		for _, n := range h.Series[i].Warnings {
			lines = append(lines, h.Series[i].title()+": "+clean(n.Text))
		}
	}
	for _, n := range h.Nights {
		for _, w := range n.Warnings {
			lines = append(lines, n.name()+": "+clean(w.Text))
		}
	}
	return lines
}

// legend explains the signs, once, below everything.
func (h *History) legend() string {
	by := "arms by their ratio to the baseline in the same block, the baseline by its levels, which are not judged"
	if h.Absolute {
		by = "absolute values, as asked for"
	}
	return fmt.Sprintf("Medians over blocks, one value a night: %s. first, now: levels of the newest setup; in all: its changes together, ~ below %.3g%%. "+
		"A change is found by energy distance and a t-test, from %d nights of a level on; p: corrected over nights and series, "+
		"so that nights without changes show any with a chance of about %.3g%% a setup. Strip: a night each, · a gap, | a change. "+
		"gate: of the newest night's setup and plan alone.", by, 100*h.MinEffect, h.MinSegment, 100*h.Alpha)
}

// GateText is what the gate comes to, for who reads nothing else: a line, and one for each reason.
func (h *History) GateText() string {
	return strings.Join(append([]string{h.gateHead()}, h.gateLines()...), "\n  ")
}
