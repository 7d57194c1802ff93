// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// TestRunGate measures a reference, and the same once more, which passes; then the overlay with a handicap in the place of the overlay,
// which the gate stops: with exit code 2, by extra blocks of its own, although the run is broken off in these and taken up again.
//
// The handicap holds up each frame for ten times what a transaction takes, so that no neighbour on the machine hides it. Two runs of one
// thing may differ on a busy machine: what code that run has to end with is what the judgement makes of its record.
func TestRunGate(t *testing.T) {
	sharedHosts(t)
	dir := t.TempDir()
	gated := func(out, overlay string, more ...string) *program {
		args := []string{"--blocks", "4", "--duration", "600ms", "--warmup", "100ms", "--workload", "tcp_rr", "--arm", "host," + overlay, "-o", filepath.Join(dir, out)}
		return start(t, sharedLab(), append(append([]string{"run"}, args...), more...)...)
	}
	reference := filepath.Join(dir, "reference")
	gated("reference", "overlay").want(0)

	same := gated("same", "overlay", "--baseline-run", reference, "--gate", "90%")
	g := judged(t, filepath.Join(dir, "same"), same.wait)
	same.want(codeOf(g))
	if g.Verdict == reports.GateIncomparable {
		t.Errorf("two runs on one lab can't be compared: %v", g.Differences)
	}
	if !strings.Contains(same.stdout.String(), "gate 90% against run ") {
		t.Errorf("no gate below the table:\n%s", same.stdout.String())
	}

	out := filepath.Join(dir, "slower")
	slower := gated("slower", "overlay=overlay+handicap:500us", "--baseline-run", reference, "--gate", "30%")
	slower.until("measuring again what is suspect, and its baseline, in 4 extra blocks")
	slower.until("block 4 ")
	slower.interrupt()
	slower.want(1)
	if g := judged(t, out, slower.wait); g.Verdict != reports.GateSuspect {
		t.Errorf("broken off in the extra blocks it is %s", g.Verdict)
	}
	slower = start(t, sharedLab(), "run", "--resume", out).want(exitGate)
	slower.wantError("gate: overlay → overlay+handicap:500us tcp_rr", "lost 30% or more against run ", "confirmed by extra blocks")
	if g := judged(t, out, slower.wait); g.Verdict != reports.GateRegressed || g.Cells[0].Confirm == nil || g.Cells[0].Confirm.Blocks != 4 {
		t.Errorf("gate: %+v", g)
	}
	run, err := rundir.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	allValid(t, run, 8)
	if len(run.Extra) != 8 || run.Extra[7].Build <= run.Trials[7].Build || run.Against == nil || run.Against.Dir != reference {
		t.Errorf("%d extra trials, against %+v", len(run.Extra), run.Against)
	}
	start(t, sharedLab(), "compare", reference, out, "--gate", "30%", "--arm", "overlay=overlay+handicap:500us").want(exitGate)
}

// judged reads what a run recorded of its gate, and checks that its record says so once more.
func judged(t *testing.T, dir string, wait func() int) *reports.Gate {
	t.Helper()
	wait()
	body, err := os.ReadFile(filepath.Join(dir, rundir.GateFile))
	if err != nil {
		t.Fatal(err)
	}
	g, err := reports.ReadGate(body)
	if err != nil {
		t.Fatal(err)
	}
	run, err := rundir.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := loadReference(*run.Against, run.Plan)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ref.gate(run); err != nil || again.Verdict != g.Verdict || g.Old.Run != run.Against.Run {
		t.Errorf("recorded as %s against %s, and now %+v, %v", g.Verdict, g.Old.Run, again, err)
	}
	return g
}

// codeOf is the exit code that a gate asks for where nothing else went wrong.
func codeOf(g *reports.Gate) int {
	err := gateError(g, nil)
	var e exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return 1
}
