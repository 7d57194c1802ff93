// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/econbench/econbench"
)

// Extra are blocks beyond the plan's, of some of its cells: what a gate suspects, with the baseline that it is compared with.
type Extra struct {
	Cells  []econbench.Cell // of the plan
	Blocks int              // they are numbered on from the plan's
	Done   Done             // what earlier parts of the run have measured of them
}

// ExtraOrder is the order of a block beyond the plan's: the plan's order of that block, without the cells that are not in it. So
// trials that are compared with each other still stand side by side.
func ExtraOrder(p econbench.Plan, cells []econbench.Cell, block int) []econbench.Cell {
	return slices.DeleteFunc(Order(p, block), func(c econbench.Cell) bool { return !contains(cells, c) })
}

func contains(cells []econbench.Cell, c econbench.Cell) bool {
	return slices.ContainsFunc(cells, func(other econbench.Cell) bool { return other.String() == c.String() })
}

// Extra measures cells of the plan once more in blocks of their own, on topologies that are made anew: what came of one build of
// them must not confirm itself. Its tally is of these blocks alone. The plan is the one of Run, with the rates that Run found.
func (e *Engine) Extra(ctx context.Context, plan econbench.Plan, x Extra) (_ Tally, err error) {
	e.plan, e.beds, e.builds = onlyOf(plan, x.Cells), map[string]*bed{}, max(e.builds, e.Done.Builds, x.Done.Builds)
	e.failures, e.failing, e.stuck = 0, nil, nil
	e.tally = Tally{x.Blocks * len(x.Cells), x.Done.Valid, x.Done.Invalid}
	e.extra = true
	defer func() {
		e.extra = false
		err = errors.Join(err, e.tearDown(context.WithoutCancel(ctx)))
	}()
	for n := range x.Blocks {
		if n%plan.RebuildEvery == 0 {
			if err := e.tearDown(ctx); err != nil {
				return e.tally, err
			}
		}
		block := plan.Blocks + n
		if x.Done.Blocks[block] {
			continue
		}
		for position, cell := range ExtraOrder(plan, x.Cells, block) {
			if err := e.measure(ctx, block, position, cell); err != nil {
				return e.tally, err
			}
		}
	}
	return e.tally, nil
}

// onlyOf is the plan without arms and workloads that none of the cells has: their topologies and servers are not needed.
func onlyOf(p econbench.Plan, cells []econbench.Cell) econbench.Plan {
	p.Arms = slices.DeleteFunc(slices.Clone(p.Arms), func(a econbench.Arm) bool {
		return !slices.ContainsFunc(cells, func(c econbench.Cell) bool { return c.Arm == a })
	})
	p.Workloads = slices.DeleteFunc(slices.Clone(p.Workloads), func(w econbench.PlannedWorkload) bool {
		return !slices.ContainsFunc(cells, func(c econbench.Cell) bool {
			return c.Workload == w.Name && c.Params.String() == w.Params.String()
		})
	})
	return p
}

// ExtraDoneBy finds out what is left of blocks beyond the plan's. As in the plan's blocks, one that was broken off is measured anew.
func ExtraDoneBy(run *econbench.Run, cells []econbench.Cell) (d Done, err error) {
	d.Blocks = map[int]bool{}
	begun := map[int]map[int]bool{} // by block: valid, by position
	for _, t := range run.Extra {
		order := ExtraOrder(run.Plan, cells, t.Block)
		if t.Position < 0 || t.Position >= len(order) || order[t.Position].String() != t.Cell.String() {
			return d, fmt.Errorf("trial %d.%d of %s: not what is to be confirmed: %s", t.Block, t.Position, t.Cell, list(cells))
		}
		if begun[t.Block] == nil {
			begun[t.Block] = map[int]bool{}
		}
		begun[t.Block][t.Position] = t.Valid
		d.Builds = max(d.Builds, t.Build+1)
	}
	d.take(begun, len(cells))
	return d, nil
}

func list(cells []econbench.Cell) string {
	text := ""
	for i, c := range cells {
		if i > 0 {
			text += ", "
		}
		text += c.String()
	}
	return text
}
