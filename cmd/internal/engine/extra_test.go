// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// twoWorkloads is a plan of two workloads over three arms, and some of its cells.
func twoWorkloads(t *testing.T) (p econbench.Plan, some []econbench.Cell) {
	t.Helper()
	p = plan(3, "host", "overlay", "overlay+quicker")
	p.Workloads = append(p.Workloads, econbench.PlannedWorkload{Name: "tell"})
	p, err := (&world{}).parts().Resolve(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Cells() {
		if c.Workload == "tell" && c.Arm.String() != "overlay" {
			some = append(some, c)
		}
	}
	return p, some
}

// Extra blocks measure their cells alone, behind the plan's blocks, in an order that follows from the plan, on new topologies.
func TestExtraBlocks(t *testing.T) {
	p, some := twoWorkloads(t)
	w := &world{}
	e := w.engine()
	if _, err := e.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	planned := slices.Clone(w.trials)
	w.trials, w.events, w.served = nil, nil, nil
	tally, err := e.Extra(t.Context(), p, Extra{Cells: some, Blocks: 3})
	if err != nil || tally != (Tally{Planned: 6, Valid: 6}) {
		t.Fatalf("tally %+v, error %v", tally, err)
	}
	for i, tr := range w.trials {
		block := 3 + i/2
		if !tr.Extra || tr.Block != block || tr.Position != i%2 || tr.Cell.String() != ExtraOrder(p, some, block)[i%2].String() || !contains(some, tr.Cell) {
			t.Errorf("trial %d: %+v", i, tr)
		}
		if last := planned[len(planned)-1].Build; tr.Build != last+1+i/4 { // two blocks a build
			t.Errorf("block %d was measured on build %d; the plan's last one was %d", tr.Block, tr.Build, last)
		}
	}
	if slices.ContainsFunc(planned, func(tr econbench.Trial) bool { return tr.Extra }) {
		t.Error("a planned trial says that it is extra")
	}
	if len(w.served) != 4 { // one workload in each of two topologies, twice
		t.Errorf("servers in %q: want those of the cells' workload alone", w.served)
	}
	firsts := 0
	for block := 3; block < 43; block++ {
		if ExtraOrder(p, some, block)[0].Arm.Topology == "host" {
			firsts++
		}
	}
	if firsts < 8 || firsts > 32 {
		t.Errorf("host came first in %d of 40 blocks", firsts)
	}
}

// Extra blocks that were broken off anywhere are gone on with: what is whole stays, and nothing of the plan is measured again.
func TestExtraBlocksResumed(t *testing.T) {
	p, some := twoWorkloads(t)
	w := &world{}
	e := w.engine()
	if _, err := e.Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	planned := w.trials
	w.trials = nil
	if _, err := e.Extra(t.Context(), p, Extra{Cells: some, Blocks: 3}); err != nil {
		t.Fatal(err)
	}
	extra := w.trials
	for cut := range len(extra) + 1 {
		run := &econbench.Run{Plan: p, Trials: planned, Extra: extra[:cut]}
		done, err := DoneBy(run)
		if err != nil || len(done.Blocks) != 3 {
			t.Fatalf("%+v %v", done, err)
		}
		whole, err := ExtraDoneBy(run, some)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{}
		e := w.engine()
		e.Done = done
		if _, err := e.Run(t.Context(), p); err != nil || len(w.trials) != 0 {
			t.Fatalf("%d trials of the plan were measured again, error %v", len(w.trials), err)
		}
		tally, err := e.Extra(t.Context(), p, Extra{Cells: some, Blocks: 3, Done: whole})
		if err != nil || tally != (Tally{Planned: 6, Valid: 6}) || !slices.Equal(lines(w.trials), lines(extra)[cut/2*2:]) {
			t.Errorf("cut after %d: tally %+v, error %v, measured %q", cut, tally, err, lines(w.trials))
		}
		for _, tr := range w.trials {
			if tr.Build <= planned[len(planned)-1].Build || cut > 0 && tr.Build <= extra[cut-1].Build {
				t.Errorf("cut after %d: %s was measured on build %d, which an earlier part had", cut, line(tr), tr.Build)
			}
		}
	}
	if _, err := ExtraDoneBy(&econbench.Run{Plan: p, Extra: extra}, some[:1]); err == nil || !strings.Contains(err.Error(), "not what is to be confirmed") {
		t.Errorf("other cells: error %v", err)
	}
}

// A lab that dies ends the extra blocks; failures before them don't count.
func TestExtraBlocksEnd(t *testing.T) {
	p, some := twoWorkloads(t)
	w := &world{loadErr: func(int) error { return errors.New("refused") }}
	e := w.engine()
	e.failures, e.failing = maxFailures-1, map[string]bool{"ask": true}
	tally, err := e.Extra(t.Context(), p, Extra{Cells: some, Blocks: 2})
	if err != nil || tally.Invalid != 4 {
		t.Errorf("tally %+v, error %v", tally, err)
	}
	w.unhealthy = errors.New("engine gone")
	if _, err := e.Extra(t.Context(), p, Extra{Cells: some, Blocks: 2}); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("stop"))
	if _, err := e.Extra(ctx, p, Extra{Cells: some, Blocks: 2}); err == nil || err.Error() != "stop" {
		t.Errorf("error %v", err)
	}
}
