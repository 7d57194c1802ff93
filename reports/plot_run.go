// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"github.com/econbench/econbench"
)

// workloadPlots are the plots of one workload with its parameters.
type workloadPlots struct {
	key     string // as byWorkload has it
	cells   []Cell
	figures []figure
	split   cpuSplit
}

// workloadsOf draws all workloads of a run, in the plan's order.
func workloadsOf(s *Summary, run *econbench.Run) (list []workloadPlots) {
	looks := looksOf(s)
	order, groups := byWorkload(s.Cells, func(c Cell) econbench.Cell { return econbench.Cell{Workload: c.Workload, Params: c.Params} })
	primaries := make(map[cellKey]string)
	for _, k := range order {
		primary, _ := shownPrimary(groups[k], s.Plan)
		for _, c := range groups[k] {
			primaries[keyOf(econbench.Cell{Arm: c.Arm, Workload: c.Workload, Params: c.Params})] = primary
		}
	}
	trials := trialValues(run, primaries)
	splits := splitCPU(run)
	for _, k := range order {
		cells := groups[k]
		w := workloadPlots{key: k, cells: cells, split: splits[cells[0].Workload+" "+cells[0].Params.String()]}
		primary, metric := shownPrimary(cells, s.Plan)
		add := func(what string, f figure, ok bool) {
			if ok {
				f.file = fileName(cells[0].Workload, cells[0].Params.String(), what)
				w.figures = append(w.figures, f)
			}
		}
		if primary != "" {
			f, ok := stripFigure(shortTitle(k), primary, metric, stripsOf(cells, primary, trials, looks))
			add(primary, f, ok)
		}
		f, ok := latencyFigure(shortTitle(k), curvesOf(cells, looks))
		add("latency", f, ok)
		f, ok = cpuFigure(shortTitle(k), w.split, barsOf(cells, w.split, looks))
		add("cpu", f, ok)
		list = append(list, w)
	}
	return list
}

// cellTrials are a cell's trials by its primary metric.
type cellTrials struct {
	values  []trialValue
	lacking int // trials without a value
}

// trialValues are the trials' values of each cell's primary metric, in the order of trials.
func trialValues(run *econbench.Run, primaries map[cellKey]string) map[cellKey]cellTrials {
	cells := make(map[cellKey]cellTrials)
	for _, t := range run.Trials {
		key := keyOf(t.Cell)
		c := cells[key]
		if v := t.Metrics[primaries[key]]; v != nil && isFinite(*v) {
			c.values = append(c.values, trialValue{t.Block, *v, t.Valid})
		} else {
			c.lacking++
		}
		cells[key] = c
	}
	return cells
}
