// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// CheckReference says whether a run that is only planned could be held against an old one, as far as that can be known before
// anything is measured: what it would be refused for after hours, it is refused for now. What hosts it will be measured on is not
// known yet. The error is one line.
func CheckReference(old *econbench.Run, plan econbench.Plan, a econbench.Against) error {
	if old.Schema != econbench.Schema {
		return fmt.Errorf("schema %d: want %d, the one that this econbench reads", old.Schema, econbench.Schema)
	}
	decisive, _ := planDifferences(old.Plan, plan)
	if len(decisive) > 0 {
		return fmt.Errorf("its plan differs in what decides figures: %s", strings.Join(differenceLines(decisive), "; "))
	}
	pairs, err := pairsOf(old.Plan, plan, a.Arms)
	if err != nil {
		return err
	}
	cells, missing := pairCells(old.Plan, plan, pairs)
	if len(cells) == 0 {
		return fmt.Errorf("it has none of the plan's cells: %s", someCells(plan.Cells()))
	}
	if a.Gate == 0 {
		return nil
	}
	if old.Status != econbench.StatusComplete {
		return fmt.Errorf("it is not complete: %s; a gate wants a complete run, see econbench run --resume", old.Status)
	}
	if !slices.Contains(pairs, econbench.ArmPair{Old: old.Plan.Baseline, New: plan.Baseline}) {
		return fmt.Errorf("its baseline is %s, the plan's %s: ratios to them say different things", old.Plan.Baseline, plan.Baseline)
	}
	if len(missing) > 0 {
		return fmt.Errorf("it has not got what the plan measures: %s", someCells(missing))
	}
	if len(plan.Arms) < 2 {
		return fmt.Errorf("a gate judges ratios to the baseline: want an arm beside %s", plan.Baseline)
	}
	return enoughBlocks(old, plan, cells, a)
}

// Decisive are the differences of two runs for which Compare refuses them and a gate calls them incomparable; of a run that has only
// begun, with what is known of its hosts by then.
func Decisive(old, new *econbench.Run) []RunDifference {
	decisive, _ := differences(old, new)
	return decisive
}

// GateArms are the pairs of arms to compare, given those that were asked for: each of the plan's arms with itself, but for those; and the
// plan's arms whose partner the old run lacks, which only a run without a gate may have (CheckReference). None were asked for: none, which
// stands for each with itself.
func GateArms(old, plan econbench.Plan, asked []econbench.ArmPair) (pairs []econbench.ArmPair, alone []econbench.Arm) {
	if len(asked) == 0 {
		return nil, nil
	}
	pairs, _ = pairsOf(old, plan, asked) // what was asked for and is not there has been refused, or is told of by Compare
	for _, a := range plan.Arms {
		if !slices.ContainsFunc(pairs, func(p econbench.ArmPair) bool { return p.New == a }) {
			alone = append(alone, a)
		}
	}
	return pairs, alone
}

// pairsOf are all pairs of arms that the plans have. The error is about a pair that was asked for.
func pairsOf(old, plan econbench.Plan, asked []econbench.ArmPair) (pairs []econbench.ArmPair, err error) {
	for _, p := range asked {
		if !slices.Contains(old.Arms, p.Old) {
			return nil, fmt.Errorf("arm %q: it has not got that; its arms: %s", p.Old, joinArms(old.Arms))
		}
	}
	for _, a := range plan.Arms {
		pair := econbench.ArmPair{Old: a, New: a}
		if i := slices.IndexFunc(asked, func(p econbench.ArmPair) bool { return p.New == a }); i >= 0 {
			pair = asked[i]
		}
		if slices.Contains(old.Arms, pair.Old) {
			pairs = append(pairs, pair)
		}
	}
	return pairs, nil
}

func joinArms(arms []econbench.Arm) string {
	var list []string
	for _, a := range arms {
		list = append(list, a.String())
	}
	return strings.Join(list, ", ")
}

// pairCells are the plan's cells that the old plan has as well, in the old plan's words, and those that it has not.
func pairCells(old, plan econbench.Plan, pairs []econbench.ArmPair) (both, missing []econbench.Cell) {
	has := map[cellKey]bool{}
	for _, c := range old.Cells() {
		has[keyOf(c)] = true
	}
	for _, c := range plan.Cells() {
		i := slices.IndexFunc(pairs, func(p econbench.ArmPair) bool { return p.New == c.Arm })
		if i < 0 || !has[keyOf(withArm(c, pairs[i].Old))] {
			missing = append(missing, c)
			continue
		}
		both = append(both, withArm(c, pairs[i].Old))
	}
	return both, missing
}

func someCells(cells []econbench.Cell) string {
	const most = 4
	var list []string
	for i, c := range cells {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(cells)-most))
			break
		}
		list = append(list, fmt.Sprintf("%q", c))
	}
	return strings.Join(list, ", ")
}

// enoughBlocks says whether a regression could be found: with too few blocks no data are significant, and the gate would let all pass or
// call all unmeasured.
func enoughBlocks(old *econbench.Run, plan econbench.Plan, cells []econbench.Cell, a econbench.Against) error {
	data := map[cellKey]*cellData{}
	for _, d := range sortIntoCells(old) {
		data[keyOf(d.cell)] = d
	}
	o := GateOptions{Share: a.Gate}.compareOptions().withDefaults()
	family := len(plan.Workloads)
	for _, c := range cells {
		if c.Arm == old.Plan.Baseline {
			continue
		}
		d, base := data[keyOf(c)], data[keyOf(withArm(c, old.Plan.Baseline))]
		if d == nil || base == nil {
			return fmt.Errorf("it has no trials of %q with its baseline", c)
		}
		paired, _ := pairedRatios(d.perBlock(d.primary), base.perBlock(d.primary))
		for _, side := range []struct {
			flag string
			n    int
		}{{"blocks", plan.Blocks}, {"confirm-blocks", a.ConfirmBlocks}} {
			least := fewestBeside(len(paired), o.Alpha/float64(family))
			switch {
			case least == 0:
				return fmt.Errorf("it has %s of %q that are valid, too few for a verdict over %s: want a run with more",
					counted(len(paired), "block"), c, counted(family, "workload"))
			case side.n < least:
				return fmt.Errorf("%s %d: no outcome is significant against its %s of %q, over %s: want %d or more",
					side.flag, side.n, counted(len(paired), "block"), c, counted(family, "workload"), least)
			}
		}
	}
	return nil
}

// fewestBeside is how many values a second sample must have at least for the smallest p to reach alpha, and for there to be an
// interval; 0: no number does.
func fewestBeside(n int, alpha float64) int {
	const most = 1000
	alpha = min(alpha, 0.05) // that of the interval
	for m := 1; m <= most; m++ {
		if leastRankP(n, m) <= alpha*(1+1e-9) {
			return m
		}
	}
	return 0
}
