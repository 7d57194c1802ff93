// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// line is what decides about a trial's place in a run.
func line(t econbench.Trial) string { return fmt.Sprintf("%d.%d %s", t.Block, t.Position, t.Cell) }

func lines(trials []econbench.Trial) (list []string) {
	for _, t := range trials {
		list = append(list, line(t))
	}
	return list
}

// A run that is broken off after any of its trials and resumed measures the blocks that are not whole, and in the order
// that it would have had. Its builds are new ones.
func TestResumedRunMeasuresTheRest(t *testing.T) {
	p := plan(4, "host", "overlay", "overlay+quicker")
	w := &world{}
	if _, err := w.engine().Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	uninterrupted, all := lines(w.trials), w.trials
	for cut := range len(all) + 1 {
		run := &econbench.Run{Plan: p, Trials: all[:cut]}
		done, err := DoneBy(run)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{}
		e := w.engine()
		e.Done = done
		tally, err := e.Run(t.Context(), p)
		if err != nil || tally != (Tally{Planned: 12, Valid: 12}) {
			t.Errorf("cut after %d: tally %+v, error %v", cut, tally, err)
		}
		whole := cut / 3 * 3
		if got := lines(w.trials); !slices.Equal(got, uninterrupted[whole:]) {
			t.Errorf("cut after %d: measured %q, want %q", cut, got, uninterrupted[whole:])
		}
		if cut%3 > 0 != (len(done.Broken) == 1 && done.Broken[0] == cut/3) {
			t.Errorf("cut after %d: broken %v", cut, done.Broken)
		}
		for _, tr := range w.trials {
			if cut > 0 && tr.Build <= all[cut-1].Build {
				t.Errorf("cut after %d: %s was measured on build %d, which was the first part's", cut, line(tr), tr.Build)
			}
		}
	}
}

// Topologies are made anew where the plan says so, counted from the run's beginning and not from the break.
func TestResumedRunRebuildsWhereThePlanSays(t *testing.T) {
	p := plan(6, "host")
	done := Done{Blocks: map[int]bool{0: true, 1: true, 2: true}, Builds: 7}
	w := &world{}
	e := w.engine()
	e.Done = done
	if _, err := e.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	var builds []int
	for _, tr := range w.trials {
		builds = append(builds, tr.Build)
	}
	if want := []int{7, 8, 8}; !slices.Equal(builds, want) {
		t.Errorf("builds %v, want %v", builds, want)
	}
}

// A trial that failed was attempted: its block is whole, and the tally keeps it.
func TestInvalidTrialsAreNotMeasuredAgain(t *testing.T) {
	p := plan(2, "host", "overlay")
	w := &world{loadErr: func(n int) error {
		if n == 1 {
			return errors.New("connection refused")
		}
		return nil
	}}
	if _, err := w.engine().Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	superseded := w.trials[0]
	superseded.Build = 11
	done, err := DoneBy(&econbench.Run{Plan: p, Trials: w.trials[:2], Superseded: []econbench.Trial{superseded}})
	if err != nil || !done.Blocks[0] || len(done.Blocks) != 1 || done.Valid != 1 || done.Invalid != 1 || done.Builds != 12 {
		t.Fatalf("done %+v, error %v", done, err)
	}
	w = &world{}
	e := w.engine()
	e.Done = done
	tally, err := e.Run(t.Context(), p)
	if err != nil || tally != (Tally{4, 3, 1}) || len(w.trials) != 2 || w.trials[0].Block != 1 {
		t.Errorf("tally %+v, error %v, trials %q", tally, err, lines(w.trials))
	}
}

// Trials that the plan would not have measured there are another plan's.
func TestTrialsOfAnotherPlan(t *testing.T) {
	p := plan(2, "host", "overlay")
	first := econbench.Trial{Cell: Order(p, 0)[0]}
	for want, spoil := range map[string]func(*econbench.Trial){
		"":                             func(*econbench.Trial) {},
		"the plan has 2 blocks":        func(t *econbench.Trial) { t.Block = 2 },
		"of 2 trials: it is not this":  func(t *econbench.Trial) { t.Position = -1 },
		"there: it is not this plan's": func(t *econbench.Trial) { t.Position = 1 },
		"size=11: the plan has":        func(t *econbench.Trial) { t.Params = econbench.Params{"size": "11"} },
	} {
		tr := first
		spoil(&tr)
		_, err := DoneBy(&econbench.Run{Plan: p, Trials: []econbench.Trial{tr}})
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
