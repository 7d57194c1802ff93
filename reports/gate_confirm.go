// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"slices"

	"github.com/econbench/econbench"
)

// confirm judges what is suspect by the extra blocks alone. The planned blocks are why these were measured; to count them again would
// count what was perhaps luck twice.
func (g *Gate) confirm(old, new Labelled, o GateOptions) error {
	if err := checkConfirm(old.Run, new.Run, o.Confirm); err != nil {
		return err
	}
	suspects, cells := g.Suspects(new.Run.Plan.Baseline)
	if len(suspects) == 0 {
		return nil
	}
	e := extraOf(new, o.Confirm, cells)
	if n := invalidOf(e.Run.Trials); n > 0 {
		g.Problems = append(g.Problems, fmt.Sprintf("%d of %s are not valid", n, counted(len(e.Run.Trials), "extra trial")))
	}
	var confirmed *Comparison
	if len(e.Run.Trials) > 0 {
		var err error
		if confirmed, err = Compare([]Labelled{old, e.Labelled}, o.compareOptions()); err != nil {
			return fmt.Errorf("confirm by the extra blocks of %s: %w", e.Label, err)
		}
	}
	for i := range g.Cells {
		c := &g.Cells[i]
		if c.Verdict != GateSuspect {
			continue
		}
		switch n := e.blocks(c.cellOf(c.NewArm)); {
		case n == 0:
			c.Reason = "no extra blocks of it were measured, which alone can confirm it"
		case n < e.wanted: // to stop when it suits would be to choose
			c.Reason = fmt.Sprintf("%d of %s were measured, and all of them have to confirm it", n, counted(e.wanted, "extra block"))
		default:
			c.confirmBy(confirmed, g.Share, old.Run.Plan, e)
		}
	}
	return nil
}

// checkConfirm says whether a run may confirm what another one made suspect: it has to be the same measurement, and a third run. By the old
// one's own blocks nothing has changed, and by the new one's nothing is confirmed.
func checkConfirm(old, new *econbench.Run, by Labelled) error {
	switch run := by.Run; {
	case run == nil:
		return nil
	case sameRun(run, new):
		return fmt.Errorf("confirm by %s: it is the run itself, which can't confirm what it made suspect", by.Label)
	case sameRun(run, old):
		return fmt.Errorf("confirm by %s: it is the old run, which has nothing of the new one", by.Label)
	case run.Status != econbench.StatusComplete: // to stop when it suits would be to choose
		return fmt.Errorf("confirm by %s: it is not complete: %s", by.Label, run.Status)
	}
	if d, _ := differences(new, by.Run); len(d) > 0 {
		return fmt.Errorf("confirm by %s: %w: %s", by.Label, ErrDiffer, d[0])
	}
	return nil
}

// extraBlocks are what confirms, as if it were all of a run: of what is suspect and its baseline alone, so that what else was measured is
// neither corrected for nor a problem.
type extraBlocks struct {
	Labelled
	wanted int
	whole  int // measured
	has    map[cellKey]bool
}

func extraOf(new, by Labelled, cells []econbench.Cell) extraBlocks {
	e, all := extraBlocks{Labelled: by, has: map[cellKey]bool{}}, []econbench.Trial(nil)
	if by.Run != nil {
		e.wanted, all = by.Run.Plan.Blocks, by.Run.Trials
	} else {
		e.Labelled, all = new, new.Run.Extra
		if a := new.Run.Against; a != nil {
			e.wanted = a.ConfirmBlocks
		}
	}
	fresh := *e.Run
	fresh.Trials, fresh.Extra, fresh.Superseded, fresh.Warnings = nil, nil, nil, nil
	for _, t := range all {
		if slices.ContainsFunc(cells, func(c econbench.Cell) bool { return keyOf(c) == keyOf(t.Cell) }) {
			fresh.Trials = append(fresh.Trials, t)
		}
	}
	e.Run = &fresh
	e.count(all)
	return e
}

// count finds the whole blocks: those in which all was attempted that any block has. One that was broken off is measured anew when the run
// is taken up again, and to judge by it until then would be to choose.
func (e *extraBlocks) count(trials []econbench.Trial) {
	seen := map[int]map[cellKey]bool{}
	for _, t := range trials {
		if seen[t.Block] == nil {
			seen[t.Block] = map[cellKey]bool{}
		}
		seen[t.Block][keyOf(t.Cell)], e.has[keyOf(t.Cell)] = true, true
	}
	for _, cells := range seen {
		if len(cells) == len(e.has) {
			e.whole++
		}
	}
}

// blocks is in how many of them a cell was measured, valid or not.
func (e *extraBlocks) blocks(c econbench.Cell) int {
	if !e.has[keyOf(c)] {
		return 0
	}
	return e.whole
}

// confirmBy gives a suspect its verdict by what the extra blocks say.
func (c *GatedCell) confirmBy(confirmed *Comparison, share float64, old econbench.Plan, e extraBlocks) {
	for _, other := range confirmed.Pairs[0].Cells {
		if other.NewArm.String() != c.NewArm.String() || other.Arm.String() != c.Arm.String() || other.Workload != c.Workload || other.Params.String() != c.Params.String() {
			continue
		}
		m := other.Metrics[c.Metric]
		c.Confirm = stepOf(m)
		verdict, reason := m.pass(share)
		if why := m.unfit(old, e.Run.Plan, c.cellOf(c.NewArm), e.wanted); why != "" {
			verdict, reason = GateUnmeasured, why
		}
		switch verdict {
		case GateSuspect:
			c.Verdict, c.Reason = GateRegressed, ""
		case GatePassed:
			c.Verdict, c.Reason = GatePassed, "suspect after the planned blocks, which the extra blocks did not confirm"
		default:
			c.Verdict, c.Reason = GateUnmeasured, "suspect after the planned blocks, and the extra blocks can't tell: "+reason
		}
		return
	}
}
