// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// TestRunGate measures two nights by the nightly script, of which the first becomes the reference and the second passes; then the overlay
// with a handicap in the place of the overlay, which the gate stops: with exit code 2, by extra blocks of its own, although the run is
// broken off in these and taken up again.
//
// The handicap holds up each frame for ten times what a transaction takes, so that no neighbour on the machine hides it. Two nights of one
// thing may differ on a busy machine: what code a night has to end with is what the judgement makes of its record.
func TestRunGate(t *testing.T) {
	sharedHosts(t)
	dir := t.TempDir()
	suite := filepath.Join(dir, "tiny.yaml")
	text := "arms: [host, overlay]\nworkloads: [{name: tcp_rr}]\nblocks: 4\nduration: 600ms\nwarmup: 100ms\n"
	if err := os.WriteFile(suite, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	nights := filepath.Join(dir, "nights")
	first := nightOnLab(t, nights, suite)
	reference, err := filepath.EvalSymlinks(filepath.Join(nights, "reference"))
	if err != nil || reference != first {
		t.Fatalf("the reference is %s, %v: want the first night, %s", reference, err, first)
	}
	second := nightOnLab(t, nights, suite)
	if g := judged(t, second); g.Verdict == reports.GateIncomparable || second == first {
		t.Errorf("two nights on one lab can't be compared: %v", g.Differences)
	}
	for _, page := range []string{"summary.md", "gate.md", "gate.xml"} {
		if empty(filepath.Join(second, page)) {
			t.Errorf("%s is empty or missing", page)
		}
	}

	out := filepath.Join(dir, "slower")
	slower := start(t, sharedLab(), "run", "--suite", suite, "--arm", "host,overlay=overlay+handicap:500us", "--baseline-run", reference, "--gate", "30%", "-o", out)
	slower.until("measuring again what is suspect, and its baseline, in 4 extra blocks")
	slower.until("block 4 ")
	slower.interrupt()
	slower.want(1)
	if g := judged(t, out); g.Verdict != reports.GateSuspect {
		t.Errorf("broken off in the extra blocks it is %s", g.Verdict)
	}
	slower = start(t, sharedLab(), "run", "--resume", out).want(exitGate)
	slower.wantError("gate: overlay → overlay+handicap:500us tcp_rr", "lost 30% or more against run ", "confirmed by extra blocks")
	if g := judged(t, out); g.Verdict != reports.GateRegressed || g.Cells[0].Confirm == nil || g.Cells[0].Confirm.Blocks != 4 {
		t.Errorf("gate: %+v", g)
	}
	if !strings.Contains(slower.stdout.String(), "gate 30% against run ") {
		t.Errorf("no gate below the table:\n%s", slower.stdout.String())
	}
	run, err := rundir.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	run.Warnings = nil // that it was resumed
	allValid(t, run, 8)
	if len(run.Extra) != 8 || run.Extra[7].Build <= run.Trials[7].Build || run.Against == nil || run.Against.Dir != reference {
		t.Errorf("%d extra trials, against %+v", len(run.Extra), run.Against)
	}
	start(t, sharedLab(), "compare", reference, out, "--gate", "30%", "--arm", "overlay=overlay+handicap:500us").want(exitGate)
}

// nightOnLab runs the nightly script once on the shared lab, and checks that its exit code is the gravest of what it does.
func nightOnLab(t *testing.T, nights, suite string) (night string) {
	t.Helper()
	script, err := filepath.Abs(filepath.Join(nightlyFolder, "econbench-nightly"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script)
	cmd.Env = append(shipped().Env, "PATH="+built.dir+":"+os.Getenv("PATH"), "NIGHTLY_DIR="+nights, "NIGHTLY_SUITE="+suite, "NIGHTLY_GATE=90%")
	p := startCommand(t, cmd)
	code := p.wait()
	if night, err = filepath.EvalSymlinks(filepath.Join(nights, "latest")); err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
	run, err := rundir.Load(night)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	if run.Against != nil {
		want = gateCode(judged(t, night))
	} else {
		allValid(t, run, 8)
	}
	for _, args := range [][]string{{"report", night, "-f", "html"}, {"history", filepath.Join(nights, "runs"), "--gate"}} {
		switch startCommand(t, shipped(args...)).wait() {
		case 0:
		case exitGate:
			want = exitGate
		default:
			want = max(want, 1)
		}
	}
	if code != want {
		t.Errorf("the night ended with %d, want %d\n%s%s", code, want, p.stdout.String(), p.said())
	}
	return night
}

// judged reads what a run recorded of its gate, and checks that its record says so once more.
func judged(t *testing.T, dir string) *reports.Gate {
	t.Helper()
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
