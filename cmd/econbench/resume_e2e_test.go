// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/rundir"
)

// TestKilledAndResumed kills a run with SIGKILL in the middle of a block, tears its last line, and takes it up again: what
// it left on the engines is swept, the block that was broken off is measured anew, and nothing recorded is lost.
func TestKilledAndResumed(t *testing.T) {
	hosts := sharedHosts(t)
	before := snapshots(t, hosts)
	out := filepath.Join(t.TempDir(), "run")
	p := start(t, sharedLab(), tiny("--blocks", "3", "--arm", "host,overlay", "--workload", "tcp_rr", "--out", out)...)
	p.until("trial 3/")
	start(t, sharedLab(), "run", "--resume", out).want(1).wantError("run is still going on")
	p.signal(syscall.SIGKILL)
	p.want(-1)
	killed, err := rundir.Load(out)
	if err != nil || killed.Status != econbench.StatusRunning || len(killed.Trials) < 3 || len(killed.Trials) > 5 {
		t.Fatalf("killed run: %d trials, %v", len(killed.Trials), err)
	}
	trials := filepath.Join(out, rundir.TrialsFile)
	whole, err := os.ReadFile(trials)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(trials, append(whole, whole[:99]...), 0o644); err != nil {
		t.Fatal(err)
	}
	settled(t, hosts, before, "networks", "swarm", "nodes", "volumes") // those only a controller removes

	p = start(t, sharedLab(), "run", "--resume", out).want(0)
	if !strings.Contains(p.said(), "removed what a dead run had left") {
		t.Errorf("not told that the killed part's things were removed:\n%s", p.said())
	}
	run, err := rundir.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	allValid(t, run, 6)
	for i, tr := range run.Trials {
		if want := engine.Order(run.Plan, i/2)[i%2].String(); tr.Block != i/2 || tr.Position != i%2 || tr.Cell.String() != want {
			t.Errorf("trial %d is %d.%d %s, want %s", i, tr.Block, tr.Position, tr.Cell, want)
		}
	}
	if odd := len(killed.Trials) % 2; len(run.Superseded) != odd {
		t.Errorf("%d trials superseded, want %d", len(run.Superseded), odd)
	}
	last := run.Trials[5]
	if last.Part != 1 || last.Build <= killed.Trials[0].Build || empty(filepath.Join(out, last.Log)) {
		t.Errorf("last trial: part %d, build %d, log %q", last.Part, last.Build, last.Log)
	}
	wantRecord(t, run)
	if len(run.Resumed) != 1 || run.Resumed[0].Before.Status != econbench.StatusRunning || run.Resumed[0].Hosts["client"].Kernel == "" ||
		!strings.Contains(strings.Join(run.Resumed[0].Command, " "), "--resume") || strings.Contains(strings.Join(run.Command, " "), "--resume") {
		t.Errorf("resumed: %+v", run.Resumed)
	}
	again := *run
	again.Hosts = run.Resumed[0].Hosts
	if was, now := run.MachineKey(), again.MachineKey(); was == "" || was != now {
		t.Errorf("the machine's key was %q and is %q", was, now)
	}
	after, err := os.ReadFile(trials)
	if err != nil || !strings.HasPrefix(string(after), string(whole)) {
		t.Errorf("what the killed part recorded has changed: %v", err)
	}
	if table := p.stdout.String(); !strings.Contains(table, "complete, 6 of 6 trials") || !strings.Contains(table, "resumed at ") {
		t.Errorf("table:\n%s", table)
	}
}
