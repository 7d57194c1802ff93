// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/econbench/econbench"
)

// column of a table that people read.
type column struct {
	header  string
	left    bool
	verdict bool // its cells are verdicts, which may be coloured
	cells   []string
}

func (c column) width() int {
	w := utf8.RuneCountInString(c.header)
	for _, s := range c.cells {
		w = max(w, utf8.RuneCountInString(s))
	}
	return w
}

// table is one workload: a row for every arm.
type table struct {
	title   []string // parts
	columns []column
	narrow  []column // the same without what can be spared
	ruler   string   // what stands below it; "" for nothing
}

// tables makes one table of every workload with its parameters, in the plan's order.
func tables(s *Summary) []table {
	order, groups := byWorkload(s.Cells, func(c Cell) econbench.Cell { return econbench.Cell{Workload: c.Workload, Params: c.Params} })
	var out []table
	for _, k := range order {
		primary, metric := shownPrimary(groups[k], s.Plan)
		t := table{
			title:   append([]string{k}, setting(s)...),
			columns: columns(groups[k], primary, s, "cpu"),
			narrow:  columns(groups[k], primary, s),
			ruler:   rulerLine(s, groups[k]),
		}
		if metric.Better != "" {
			t.title = slices.Insert(t.title, 1, fmt.Sprintf("%s: %s is better", heading(primary), metric.Better))
		}
		out = append(out, t)
	}
	return out
}

// workloadTitle names a workload with its parameters, also where a foreign run gave it no name.
func workloadTitle(workload string, params econbench.Params) string {
	title := strings.TrimSpace(clean(workload + " " + params.String()))
	if title == "" {
		return "unnamed workload"
	}
	return title
}

// byWorkload groups cells by workload and parameters, in the order in which these first come up.
func byWorkload[C any](cells []C, of func(C) econbench.Cell) (order []string, groups map[string][]C) {
	groups = make(map[string][]C)
	for _, c := range cells {
		cell := of(c)
		k := workloadTitle(cell.Workload, cell.Params)
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], c)
	}
	return order, groups
}

// setting is what all tables of a run have in common; it stands in each title, for tables are quoted alone.
func setting(s *Summary) []string {
	return []string{
		"baseline " + clean(s.Baseline.String()), "placement " + clean(string(s.Plan.Placement)),
		"wire " + clean(string(s.Plan.Wire)), clean(s.Plan.CongestionControl),
		fmt.Sprintf("%s of %s", counted(s.Plan.Blocks, "block"), showSeconds(s.Plan.Duration)),
	}
}

// shownPrimary is the metric that the plan made primary or, where the plan says none, the first that was collected.
func shownPrimary(cells []Cell, plan econbench.Plan) (name string, m Metric) {
	for _, c := range cells {
		if c.primary != "" {
			known, _ := plan.Metric(c.primary)
			return c.primary, Metric{Unit: known.Unit, Better: known.Better}
		}
	}
	for _, known := range slices.Concat(econbench.Metrics(), plan.OwnMetrics()) {
		if collected(cells, known.Name) {
			return known.Name, Metric{Unit: known.Unit, Better: known.Better}
		}
	}
	return "", Metric{}
}

func collected(cells []Cell, metric string) bool {
	return slices.ContainsFunc(cells, func(c Cell) bool { return c.Metrics[metric].N > 0 })
}

// columns are the primary metric with its comparison, then what describes it. A metric that no arm collected has none.
// CPU per unit of work is shown with its ratio to the baseline, and so are the metrics of withRatio.
func columns(cells []Cell, primary string, s *Summary, withRatio ...string) []column {
	per := func(f func(Cell) string) []string {
		var out []string
		for _, c := range cells {
			out = append(out, f(c))
		}
		return out
	}
	cols := []column{{header: "arm", left: true, cells: per(func(c Cell) string { return shorten(clean(c.Arm.String())) })}}
	if primary != "" {
		cols = append(cols,
			column{header: heading(primary), cells: per(func(c Cell) string { return showWithSpread(c, primary) })},
			column{header: shorten("vs " + clean(s.Baseline.String())), cells: per(func(c Cell) string { return showRatio(c.Metrics[primary].Ratio) })},
			column{header: "verdict", left: true, verdict: true, cells: per(func(c Cell) string { return showVerdict(c, primary) })})
	}
	for _, name := range describing(cells, primary, s.Plan.OwnMetrics()) {
		cols = append(cols, column{header: heading(name), cells: per(func(c Cell) string {
			m := c.Metrics[name]
			text := show(name, m.Unit, m.Median)
			if strings.HasPrefix(name, "cpu_per_") || slices.Contains(withRatio, name) {
				text += showShortRatio(m.Ratio)
			}
			return text
		})})
	}
	return append(cols, column{header: "n", cells: per(showTrials)})
}

// describing lists the metrics shown beside the primary one: CPU, CPU per unit of work, latency, the fast path's share, and what the
// suite's programs bring along.
func describing(cells []Cell, primary string, own []econbench.Metric) []string {
	var names []string
	add := func(choices ...string) {
		for _, name := range choices {
			if name != primary && collected(cells, name) {
				names = append(names, name)
				return
			}
		}
	}
	add("cpu")
	add("cpu_per_transaction", "cpu_per_byte", "cpu_per_packet")
	add("latency_p50")
	add("latency_p99")
	add("hit_ratio")
	for _, m := range own {
		add(m.Name)
	}
	return names
}

// heading is a metric's name at the head of a column.
func heading(metric string) string {
	short := map[string]string{
		"cpu": "CPU cores", "cpu_per_transaction": "CPU/trans.", "cpu_per_byte": "CPU/GB", "cpu_per_packet": "CPU/packet",
		"latency_p50": "P50", "latency_p90": "P90", "latency_p99": "P99", "latency_mean": "mean latency", "hit_ratio": "hits",
	}
	if s, ok := short[metric]; ok {
		return s
	}
	return shorten(clean(metric))
}

func showWithSpread(c Cell, metric string) string {
	m := c.Metrics[metric]
	if m.Median == nil {
		return missing
	}
	return show(metric, m.Unit, m.Median) + " " + showSpread(m.Spread)
}

func showVerdict(c Cell, primary string) string {
	m, ok := c.Metrics[primary]
	switch {
	case c.Valid+c.Invalid == 0:
		return "no trials"
	case c.Valid == 0:
		return "all invalid"
	case !ok || m.N == 0:
		return "not collected"
	case m.Ratio == nil:
		return ""
	}
	return string(m.Ratio.Verdict)
}

func showTrials(c Cell) string {
	if c.Invalid == 0 {
		return fmt.Sprint(c.Valid)
	}
	return fmt.Sprintf("%d/%d", c.Valid, c.Valid+c.Invalid)
}

// fit lays the table out in the given width: whole, else without what can be spared, else in several pieces.
func (t table) fit(width int) [][]column {
	if whole := pack(t.columns, width); len(whole) == 1 {
		return whole
	}
	return pack(t.narrow, width)
}

// pack splits columns into pieces that fit the width, each beginning with the first column.
func pack(cols []column, width int) [][]column {
	const gap = 2
	var out [][]column
	current, used := []column{cols[0]}, cols[0].width()
	for _, c := range cols[1:] {
		w := gap + c.width()
		if used+w > width && len(current) > 1 {
			out = append(out, current)
			current, used = []column{cols[0]}, cols[0].width()
		}
		current, used = append(current, c), used+w
	}
	return append(out, current)
}

// clean keeps what came from a file from moving the cursor or breaking a row.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
}

// shorten keeps one absurd name from ruining a table.
func shorten(s string) string {
	const most = 32
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
