// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"strings"

	"github.com/econbench/econbench"
)

// htmlTable is a table of the page. The first cell of each row is its header.
type htmlTable struct {
	Caption string
	Head    []htmlCell
	Rows    [][]htmlCell
}

// htmlCell is a cell, which may be a verdict.
type htmlCell struct {
	Text  string
	Left  bool
	Badge *badge
	Span  int // columns; 0 is 1
	Class string
}

// tableOf is the text report's table.
func tableOf(t table) htmlTable {
	out := htmlTable{Caption: strings.Join(nonEmpty(t.title), " · ")}
	if len(t.title) > 1 { // the heading has the parameters
		name, _, _ := strings.Cut(t.title[0], " ")
		out.Caption = strings.Join(append(nonEmpty([]string{name}), nonEmpty(t.title[1:])...), " · ")
	}
	for _, c := range t.columns {
		out.Head = append(out.Head, htmlCell{Text: c.header, Left: c.left})
	}
	for i := range t.columns[0].cells {
		var row []htmlCell
		for _, c := range t.columns {
			cell := htmlCell{Text: c.cells[i], Left: c.left}
			if c.verdict {
				cell = verdictCell(cell)
			}
			row = append(row, cell)
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

func verdictCell(c htmlCell) htmlCell {
	switch v := Verdict(c.Text); v {
	case VerdictBetter, VerdictWorse, VerdictSame, VerdictInconclusive:
		b := badgeOf(v)
		c.Badge = &b
	}
	return c
}

// columnsTable is a table of columns as other sections of the text report have.
func columnsTable(caption string, cols []column) htmlTable {
	return tableOf(table{title: []string{caption}, columns: cols})
}

// figuresTable has every metric of a workload, with every arm's median, interval and ratio: what plots show and more.
func figuresTable(title string, cells []Cell, plan econbench.Plan) htmlTable {
	t := htmlTable{Caption: "All figures of " + title + ": medians over blocks, ± half their intervals; ×: ratios to the baseline", Head: []htmlCell{{Text: "metric", Left: true}, {Text: "better", Left: true}}}
	for _, c := range cells {
		t.Head = append(t.Head, htmlCell{Text: shorten(clean(c.Arm.String()))})
	}
	for _, name := range (&Summary{Plan: plan, Cells: cells}).metricNames() {
		known, _ := plan.Metric(name)
		better := string(known.Better)
		if better == "" {
			better = "–"
		}
		row := []htmlCell{{Text: clean(name), Left: true}, {Text: better, Left: true}}
		for _, c := range cells {
			row = append(row, htmlCell{Text: figureText(name, c.Metrics[name])})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func figureText(name string, m Metric) string {
	if m.Median == nil {
		return "–"
	}
	text := show(name, m.Unit, m.Median)
	if m.Spread != nil {
		text += " " + showSpread(m.Spread)
	}
	if m.Ratio != nil && m.Ratio.Median != nil {
		text += " " + factor(*m.Ratio.Median, 2) + "×"
	}
	return text
}

// cpuTable is what the stacked bars show.
func cpuTable(title string, cells []Cell, split cpuSplit) (htmlTable, bool) {
	if len(split.parts) == 0 {
		return htmlTable{}, false
	}
	t := htmlTable{Caption: "CPU time of " + title + " in cores, both hosts; means over valid trials, so that parts add up; counted by " + split.note, Head: []htmlCell{{Text: "arm", Left: true}}}
	for _, p := range split.parts {
		t.Head = append(t.Head, htmlCell{Text: p})
	}
	t.Head = append(t.Head, htmlCell{Text: "sum"}, htmlCell{Text: "cpu (median)"}, htmlCell{Text: "trials"})
	for _, c := range cells {
		r := split.rows[keyOf(econbench.Cell{Arm: c.Arm, Workload: c.Workload, Params: c.Params})]
		row := []htmlCell{{Text: shorten(clean(c.Arm.String())), Left: true}}
		sum := 0.0
		for part := range split.parts {
			if r.trials == 0 {
				row = append(row, htmlCell{Text: "–"})
				continue
			}
			sum += r.mean(part)
			row = append(row, htmlCell{Text: plain(r.mean(part))})
		}
		total := "–"
		if r.trials > 0 {
			total = plain(sum)
		}
		t.Rows = append(t.Rows, append(row, htmlCell{Text: total}, htmlCell{Text: show("cpu", "cores", c.Metrics["cpu"].Median)}, htmlCell{Text: fmt.Sprint(r.trials)}))
	}
	return t, true
}
