// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// compareTables makes one table of every workload with its parameters: a row for every arm.
func compareTables(p RunPair) []table {
	order, groups := byWorkload(p.Cells, func(c ComparedCell) econbench.Cell { return econbench.Cell{Workload: c.Workload, Params: c.Params} })
	var out []table
	for _, k := range order {
		primary := primaryCompared(groups[k])
		described := describedChanges(groups[k], primary)
		t := table{
			title:   []string{k},
			columns: append(changeColumns(p, groups[k], primary, true), described...),
			narrow:  addFitting(changeColumns(p, groups[k], primary, false), described, textWidth-1),
		}
		if m := groups[k][0].Metrics[primary]; m.Better != "" {
			t.title = append(t.title, fmt.Sprintf("%s: %s is better", heading(primary), m.Better))
		}
		out = append(out, t)
	}
	return out
}

func primaryCompared(cells []ComparedCell) string {
	for _, c := range cells {
		if c.primary != "" {
			return c.primary
		}
	}
	for _, known := range econbench.Metrics() {
		if comparedAnywhere(cells, known.Name) {
			return known.Name
		}
	}
	return ""
}

func comparedAnywhere(cells []ComparedCell, metric string) bool {
	return slices.ContainsFunc(cells, func(c ComparedCell) bool { return c.Metrics[metric].Old.N > 0 && c.Metrics[metric].New.N > 0 })
}

// addFitting adds what is described as far as the width goes; all of it is in the other formats.
func addFitting(cols, described []column, width int) []column {
	for _, c := range described {
		if wider := append(slices.Clone(cols), c); len(pack(wider, width)) == 1 {
			cols = wider
		}
	}
	return cols
}

// changeColumns are the primary metric in both runs, its two changes and what they come to. wide shows whole intervals.
func changeColumns(p RunPair, cells []ComparedCell, primary string, wide bool) []column {
	per := func(f func(ComparedCell, MetricChange) string) []string {
		var out []string
		for _, c := range cells {
			out = append(out, f(c, c.Metrics[primary]))
		}
		return out
	}
	level := func(side string, of func(MetricChange) Level) column {
		return column{header: shorten(clean(side)), cells: per(func(_ ComparedCell, m MetricChange) string {
			l := of(m)
			if l.Median == nil {
				return missing
			}
			spread := number(halfWidth(l.Low, l.High, l.Median))
			return show(primary, m.Unit, l.Median) + " " + showSpread(spread)
		})}
	}
	cols := []column{
		{header: "arm", left: true, cells: per(func(c ComparedCell, _ MetricChange) string { return shorten(clean(c.name())) })},
		level(p.Old, func(m MetricChange) Level { return m.Old }),
		level(p.New, func(m MetricChange) Level { return m.New }),
		{header: "change", cells: per(func(_ ComparedCell, m MetricChange) string { return showChange(m.Absolute, wide) })},
	}
	if slices.ContainsFunc(cells, func(c ComparedCell) bool { return c.Metrics[primary].Ratio != nil }) {
		cols = append(cols, column{header: shorten("vs " + clean(p.baseline.String())), cells: per(func(_ ComparedCell, m MetricChange) string { return showChange(m.Ratio, wide) })})
	}
	return append(cols,
		column{header: "p", cells: per(func(_ ComparedCell, m MetricChange) string { return showP(m) })},
		column{header: "n", cells: per(func(_ ComparedCell, m MetricChange) string { return showCounts(m) })},
		column{header: "verdict", left: true, verdict: true, cells: per(func(_ ComparedCell, m MetricChange) string { return string(m.Verdict) })},
		column{header: "by", left: true, cells: per(func(_ ComparedCell, m MetricChange) string { return string(m.Carrier) })})
}

// describedChanges are the changes of what describes the primary metric: CPU per unit of work, the tail of latency.
func describedChanges(cells []ComparedCell, primary string) (cols []column) {
	for _, choices := range [][]string{{"cpu_per_transaction", "cpu_per_byte", "cpu_per_packet"}, {"latency_p99"}} {
		at := slices.IndexFunc(choices, func(name string) bool { return name != primary && comparedAnywhere(cells, name) })
		if at < 0 {
			continue
		}
		c := column{header: heading(choices[at])}
		for _, cell := range cells {
			c.cells = append(c.cells, showShortChange(cell.Metrics[choices[at]]))
		}
		cols = append(cols, c)
	}
	return cols
}

// showChange is a change with its interval, in percent: "-5.1% [-6.0, -4.2]", or else "-5.1% ±0.9".
func showChange(c *Change, wide bool) string {
	switch {
	case c == nil:
		return ""
	case c.Factor == nil:
		return missing
	}
	s := percent(*c.Factor) + "%"
	switch {
	case c.Low == nil || c.High == nil:
		return s + " ±?"
	case wide:
		return s + " [" + percent(*c.Low) + ", " + percent(*c.High) + "]"
	}
	return s + " ±" + strings.TrimPrefix(percent(1+(*c.High/2-*c.Low/2)), "+")
}

// percent is a factor as a change: 0.949 is "-5.1".
func percent(factor float64) string {
	v := 100 * (factor - 1)
	switch {
	case v >= 999.5:
		return fmt.Sprintf("+%.2g", v)
	case v >= 99.95:
		return fmt.Sprintf("%+.0f", v)
	case v > -0.05 && v < 0.05:
		return "0.0"
	}
	return fmt.Sprintf("%+.1f", v)
}

// showP is the p that the verdict rests on.
func showP(m MetricChange) string {
	p := m.PHolm
	if c := m.carried(); p == nil && c != nil {
		p = c.P
	}
	switch {
	case p == nil:
		return missing
	case *p < 0.0001:
		return "<0.0001"
	case *p < 0.01:
		return fmt.Sprintf("%.4f", *p)
	}
	return fmt.Sprintf("%.3f", *p)
}

func showCounts(m MetricChange) string {
	if c := m.carried(); c != nil {
		return fmt.Sprintf("%d+%d", c.OldN, c.NewN)
	}
	return ""
}

// showShortChange is the change of a metric that is described: the number if it is significant, or if nothing judges it.
func showShortChange(m MetricChange) string {
	c := m.carried()
	switch {
	case c == nil || c.Factor == nil:
		return missing
	case m.Verdict == VerdictSame:
		return "~"
	case m.Verdict == VerdictInconclusive && m.Reason != undirected:
		return "?"
	}
	return percent(*c.Factor) + "%"
}
