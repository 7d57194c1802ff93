// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/econbench/econbench"
)

// pace turns rates that were given as shares into numbers: each arm does the closed loop once, and the slowest one's transactions are
// what the shares are of. None of that is recorded but the numbers, so that a run that is taken up again goes on with them. A workload
// whose pace can't be found fails in its own trials.
func (e *Engine) pace(ctx context.Context) error {
	e.plan.Workloads = slices.Clone(e.plan.Workloads)
	e.unpaced = map[string]error{}
	capacity := map[string]float64{} // by closed loop
	changed := false
	for i, planned := range e.plan.Workloads {
		share, closed, ok := e.Parts.share(planned.Name, planned.Params)
		if !ok || planned.Rate > 0 {
			continue
		}
		cell := econbench.Cell{Workload: planned.Name, Params: closed}
		key := loadOf(cell)
		if capacity[key] == 0 && e.unpaced[key] == nil {
			slowest, err := e.capacity(ctx, cell)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil:
				e.Progress.Step(err.Error())
				e.unpaced[key] = err
			default:
				capacity[key] = slowest
			}
		}
		e.plan.Workloads[i].Rate = share * capacity[key]
		changed = changed || capacity[key] > 0
	}
	if !changed || e.Recorder == nil {
		return nil
	}
	return e.Recorder.Replan(e.plan)
}

// pilots is how many trials of each arm are looked at. The slowest of all counts: one that met a hiccup makes the load lighter than asked
// for, for all arms alike, while one that was lucky has the slowest arm fall behind. (With the better of two, at a moment when a machine
// of two virtual cores was 20 % faster than later, 80 % came to 98 % of what the overlay did, and its P99 to 79 ms.)
const pilots = 2

// capacity is how many transactions per second the slowest of the plan's arms does in its slowest pilot.
func (e *Engine) capacity(ctx context.Context, cell econbench.Cell) (slowest float64, err error) {
	slowest = math.Inf(1)
	for _, cell.Arm = range e.plan.Arms {
		for n := range pilots {
			e.Progress.Step(fmt.Sprintf("finding the pace: %s, %d of %d", cell, n+1, pilots))
			if err := e.build(ctx); err != nil {
				return 0, err
			}
			t := econbench.Trial{Cell: cell}
			if _, err := e.try(ctx, &t); err != nil {
				return 0, fmt.Errorf("finding the pace: %s: %w", cell, err)
			}
			done := t.Metrics["transactions"]
			if done == nil || *done <= 0 {
				return 0, fmt.Errorf("finding the pace: %s: transactions were not counted", cell)
			}
			slowest = min(slowest, *done)
		}
	}
	return slowest, nil
}

// loadOf is what a cell's arm is put under.
func loadOf(c econbench.Cell) string { return c.Workload + " " + c.Params.String() }

// share is that of a workload's rate; ok is false where it has none, or a number.
func (parts Parts) share(workload string, p econbench.Params) (share float64, closed econbench.Params, ok bool) {
	w, ok := named(parts.Workloads, workload).(econbench.Paced)
	if !ok {
		return 0, nil, false
	}
	return w.Share(p)
}

// paced is a cell's parameters with a number for the rate.
func (e *Engine) paced(c econbench.Cell) (econbench.Params, error) {
	_, closed, ok := e.Parts.share(c.Workload, c.Params)
	if !ok {
		return c.Params, nil
	}
	for _, planned := range e.plan.Workloads {
		if planned.Rate > 0 && planned.Name == c.Workload && planned.Params.String() == c.Params.String() {
			return named(e.Parts.Workloads, c.Workload).(econbench.Paced).At(c.Params, planned.Rate), nil
		}
	}
	err := e.unpaced[loadOf(econbench.Cell{Workload: c.Workload, Params: closed})]
	return nil, fmt.Errorf("rate is a share of what is not known: %w", err)
}
