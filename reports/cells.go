// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"slices"

	"github.com/econbench/econbench"
)

// cellData is what the trials of one cell brought, before any statistics.
type cellData struct {
	cell    econbench.Cell
	plan    *econbench.Plan // which knows its metrics
	planned bool
	primary string
	valid   int
	invalid int
	seen    map[string]bool   // metrics that a trial names, collected or not
	values  map[string]series // by metric: of the valid trials, one value a block
	room    int               // values that a metric is likely to have
	twice   bool              // some block has more than one valid trial
	notes   notes
}

type cellKey struct{ arm, workload, params string }

func keyOf(c econbench.Cell) cellKey { return cellKey{c.Arm.String(), c.Workload, c.Params.String()} }

// sortIntoCells returns the plan's cells in its order, then those that only trials know.
func sortIntoCells(run *econbench.Run) []*cellData {
	var list []*cellData
	index := make(map[cellKey]*cellData)
	planned := run.Plan.Cells()
	room := 1 + len(run.Trials)/max(1, len(planned))
	get := func(c econbench.Cell) *cellData {
		d := index[keyOf(c)]
		if d == nil {
			d = &cellData{cell: c, plan: &run.Plan, seen: make(map[string]bool), values: make(map[string]series), room: room}
			d.primary = primaryOf(run.Plan, c)
			index[keyOf(c)] = d
			list = append(list, d)
		}
		return d
	}
	for _, c := range planned {
		get(c).planned = true
	}
	for _, t := range run.Trials {
		get(t.Cell).take(t)
	}
	for _, d := range list {
		d.settle()
		d.doubt(run)
		d.doubtNoise()
	}
	return list
}

// primaryOf is the metric that the plan says carries the verdict; "" for a workload that the plan does not know.
func primaryOf(plan econbench.Plan, c econbench.Cell) string {
	name := ""
	for _, w := range plan.Workloads {
		if w.Name == c.Workload && w.Params.String() == c.Params.String() {
			return w.Primary
		}
		if w.Name == c.Workload {
			name = w.Primary
		}
	}
	return name
}

func (d *cellData) take(t econbench.Trial) {
	for name := range t.Metrics {
		if !d.seen[name] {
			d.seen[name] = true
		}
	}
	for _, w := range t.Warnings {
		d.notes.add(Note{Text: w, Trials: 1})
	}
	if !t.Valid {
		d.invalid++
		reasons := t.Invalid
		if len(reasons) == 0 {
			reasons = []string{"no reason was recorded"}
		}
		for _, r := range reasons {
			d.notes.add(Note{Text: r, Invalid: true, Trials: 1})
		}
		return
	}
	d.valid++
	var broken []string
	for name, v := range t.Metrics {
		switch {
		case v == nil:
		case !isFinite(*v):
			broken = append(broken, name)
		default:
			column, ok := d.values[name]
			if !ok {
				column = series{make([]int, 0, d.room), make([]float64, 0, d.room)}
			}
			column.add(t.Block, *v)
			d.values[name] = column
		}
	}
	slices.Sort(broken)
	for _, name := range broken {
		d.notes.add(Note{Text: name + " is not a finite number, taken as not collected", Trials: 1})
	}
}

// settle leaves one value a block, in the order of blocks. Trials come in that order, so that there is nearly always nothing to do.
func (d *cellData) settle() {
	for name, column := range d.values {
		settled, twice := column.settled()
		d.values[name], d.twice = settled, d.twice || twice
	}
}

// doubt notes what is odd about the cell as a whole.
func (d *cellData) doubt(run *econbench.Run) {
	switch {
	case d.valid+d.invalid == 0:
		d.notes.add(Note{Text: "no trials"})
	case d.valid == 0:
		d.notes.add(Note{Text: "no valid trial"})
	case d.primary != "" && len(d.values[d.primary].values) == 0:
		d.notes.add(Note{Text: "primary metric " + d.primary + " was not collected"})
	}
	if !d.planned && len(run.Plan.Workloads) > 0 {
		d.notes.add(Note{Text: "not in the run's plan"})
	}
	if d.twice {
		d.notes.add(Note{Text: "measured more than once in a block, whose median counts"})
	}
}

// metric is what the run knows of a metric by its name; of one that it does not know, the name.
func (d *cellData) metric(name string) econbench.Metric {
	m, _ := d.plan.Metric(name)
	m.Name = name
	return m
}

// perBlock gives one value a block.
func (d *cellData) perBlock(metric string) map[int]float64 {
	column := d.values[metric]
	out := make(map[int]float64, len(column.blocks))
	for i, b := range column.blocks {
		out[b] = column.values[i]
	}
	return out
}
