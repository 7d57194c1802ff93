// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"maps"
	"slices"

	"github.com/econbench/econbench"
)

// Done is what earlier parts of a run have measured. Its zero value is a run's that begins.
type Done struct {
	Blocks         map[int]bool // whole ones, which are not measured again
	Broken         []int        // begun and broken off: measured anew
	Builds         int          // made so far; their numbers go on
	Valid, Invalid int          // trials in whole blocks
}

// DoneBy finds out what is left of a run. A block is the unit: its trials are compared with each other, because a machine
// drifts more between blocks than arms differ, and a break of minutes or days is between those before and after it. So a
// block that was broken off is measured anew, all of it. An invalid trial was attempted and stays as it is recorded.
func DoneBy(run *econbench.Run) (d Done, err error) {
	d.Blocks = map[int]bool{}
	cells := len(run.Plan.Cells())
	begun := map[int]map[int]bool{} // by block: valid, by position
	for _, t := range run.Trials {
		if err := inPlan(run.Plan, t); err != nil {
			return d, err
		}
		if begun[t.Block] == nil {
			begun[t.Block] = map[int]bool{}
		}
		begun[t.Block][t.Position] = t.Valid
	}
	d.take(begun, cells)
	for _, t := range slices.Concat(run.Trials, run.Extra, run.Superseded) {
		d.Builds = max(d.Builds, t.Build+1)
	}
	return d, nil
}

// take sorts blocks, each of them the validity of its trials by position, into whole and broken ones.
func (d *Done) take(begun map[int]map[int]bool, cells int) {
	for _, block := range slices.Sorted(maps.Keys(begun)) {
		if len(begun[block]) < cells {
			d.Broken = append(d.Broken, block)
			continue
		}
		d.Blocks[block] = true
		for _, valid := range begun[block] {
			if valid {
				d.Valid++
			} else {
				d.Invalid++
			}
		}
	}
}

// inPlan holds a trial against the plan: at its block and position the plan has to have its cell.
func inPlan(p econbench.Plan, t econbench.Trial) error {
	where := fmt.Sprintf("trial %d.%d of %s", t.Block, t.Position, t.Cell)
	if t.Block < 0 || t.Block >= p.Blocks || t.Position < 0 || t.Position >= len(p.Cells()) {
		return fmt.Errorf("%s: the plan has %d blocks of %d trials: it is not this plan's", where, p.Blocks, len(p.Cells()))
	}
	if planned := Order(p, t.Block)[t.Position]; planned.String() != t.Cell.String() {
		return fmt.Errorf("%s: the plan has %s there: it is not this plan's", where, planned)
	}
	return nil
}
