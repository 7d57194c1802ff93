// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/calibrations"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// measured makes the directory of a complete run of 24 blocks of tcp_rr, or of a pool of host against itself, on hosts with a
// fingerprint. Its trials are noise of 2 %, always the same.
//
//	measured run|pool DIR [KEY=VALUE…]
//
// cpu=MODEL is the hosts' (cpu=: no fingerprint), window=TIME the trials', id=ID the run's, day=N when it was measured, ruler=POOL
// what it recorded of its machine.
func measured(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[0] != "run" && args[0] != "pool" {
		ts.Fatalf("usage: measured run|pool DIR [KEY=VALUE…]")
	}
	day, cpu := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "one"
	r := &econbench.Run{ID: "r1", Version: "v0.1.0", Started: day, Lab: "emulated"}
	second := econbench.Arm{Topology: "overlay", Fastpath: "none"}
	if args[0] == "pool" {
		second = econbench.Arm{Topology: "host", Fastpath: "none", Copy: 2}
	}
	host := econbench.Arm{Topology: "host", Fastpath: "none"}
	r.Plan = econbench.Plan{
		Suite: "quick", Arms: []econbench.Arm{host, second}, Baseline: host, Blocks: 24, Duration: 1.5, Warmup: 0.25, Seed: 7, RebuildEvery: 10,
		Placement: econbench.Split, Wire: econbench.WireDefault, CongestionControl: "cubic", Workloads: []econbench.PlannedWorkload{{Name: "tcp_rr"}},
	}
	var err error
	r.Plan, err = resolve(r.Plan)
	ts.Check(err)
	for _, arg := range args[2:] {
		switch key, value, _ := strings.Cut(arg, "="); key {
		case "cpu":
			cpu = value
		case "id":
			r.ID = value
		case "day":
			r.Started = day.AddDate(0, 0, int(value[0]-'0'))
		case "window":
			window, err := time.ParseDuration(value)
			ts.Check(err)
			r.Plan.Duration = econbench.SecondsOf(window)
		case "ruler":
			r.Rulers = []econbench.Ruler{{
				Workload: "tcp_rr", Params: r.Plan.Workloads[0].Params, Pool: value, Measured: day.AddDate(0, 0, -1), Arm: econbench.Arm{Topology: "overlay"},
				Blocks: 30, Power: 0.95, Lengths: []econbench.RulerLength{{Blocks: 24, Sees: new(0.02)}},
			}}
		default:
			ts.Fatalf("measured: %q: want cpu, id, day, window or ruler", key)
		}
	}
	if cpu != "" {
		facts := econbench.HostFacts{Fingerprint: econbench.Fingerprint{"cpu.model": cpu}}
		r.Hosts = map[string]econbench.HostFacts{econbench.ClientHost: facts, econbench.ServerHost: facts}
	}
	dir, err := rundir.Create(ts.MkAbs(args[1]), r)
	ts.Check(err)
	random := rand.New(rand.NewPCG(1, 2))
	for block := range r.Plan.Blocks {
		for i, c := range r.Plan.Cells() {
			v := 1000 * math.Exp(0.02/math.Sqrt2*random.NormFloat64())
			ts.Check(dir.Append(econbench.Trial{Block: block, Position: i, Cell: c, Valid: true, Elapsed: 10, Metrics: map[string]*float64{"transactions": &v}}))
		}
	}
	ts.Check(dir.Finish(econbench.StatusComplete, nil))
}

// TestAddRulers: a run takes what its machine's store knows, whatever else lies there, and what it has it keeps.
func TestAddRulers(t *testing.T) {
	t.Setenv("ECONBENCH_STATE", t.TempDir())
	facts := econbench.HostFacts{Fingerprint: econbench.Fingerprint{"cpu.model": "one"}}
	run := func() *econbench.Run {
		return &econbench.Run{
			Hosts: map[string]econbench.HostFacts{econbench.ClientHost: facts, econbench.ServerHost: facts},
			Plan:  econbench.Plan{Duration: 1.5, Workloads: []econbench.PlannedWorkload{{Name: "tcp_rr"}, {Name: "udp_rr"}}},
		}
	}
	key := run().MachineKey()
	add := func(r *econbench.Run) (pools, warnings []string) {
		addRulers(r, func(text string) { warnings = append(warnings, text) })
		for _, ruler := range r.Rulers {
			pools = append(pools, ruler.Workload+" "+ruler.Pool)
		}
		return pools, warnings
	}
	if pools, warnings := add(run()); pools != nil || warnings != nil {
		t.Errorf("an empty store: %q, warnings %q", pools, warnings)
	}
	put := func(pool, machine string, day int, workloads ...string) string {
		c := &reports.Calibration{Schema: 1, Run: pool, Machine: machine, Duration: 1.5, Arm: econbench.Arm{Topology: "host", Fastpath: "none"}, Started: time.Unix(int64(day)*86400, 0)}
		for _, w := range workloads {
			c.Workloads = append(c.Workloads, reports.CalibratedWorkload{Workload: w})
		}
		path, err := storeCalibration(c)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("p1", key, 1, "tcp_rr", "udp_rr")
	path := put("p2", key, 2, "tcp_rr")
	want := []string{"tcp_rr p2", "udp_rr p1"}
	if pools, warnings := add(run()); !slices.Equal(pools, want) || warnings != nil {
		t.Errorf("%q, want %q; warnings %q", pools, want, warnings)
	}
	frozen := run()
	frozen.Rulers = []econbench.Ruler{{Workload: "tcp_rr", Pool: "p0"}}
	if pools, _ := add(frozen); !slices.Equal(pools, []string{"tcp_rr p0", "udp_rr p1"}) {
		t.Errorf("%q: what a run has it keeps", pools)
	}
	// A torn file and one of another machine: named, and the rest counts.
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content[:len(content)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	store, err := calibrations.Default()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put("other", "p3", nil); err != nil {
		t.Fatal(err)
	}
	foreign := put("p4", "other", 4, "tcp_rr")
	if err := os.Rename(foreign, filepath.Join(filepath.Dir(path), "p4.json")); err != nil {
		t.Fatal(err)
	}
	pools, warnings := add(run())
	if !slices.Equal(pools, []string{"tcp_rr p1", "udp_rr p1"}) || len(warnings) != 2 ||
		!strings.Contains(warnings[0], "p2.json: left out: read calibration: unexpected end") || !strings.Contains(warnings[1], `p4.json: left out: it is of machine "other", want "`+key) {
		t.Errorf("%q, warnings %q", pools, warnings)
	}
	bare := run()
	bare.Hosts = nil
	if pools, warnings := add(bare); pools != nil || warnings != nil {
		t.Errorf("a run without fingerprints: %q %q", pools, warnings)
	}
}

// TestNoteLab: a run takes its rulers when it is first known what it measures on, and keeps what it has when it is resumed.
func TestNoteLab(t *testing.T) {
	t.Setenv("ECONBENCH_STATE", t.TempDir())
	facts := econbench.HostFacts{Fingerprint: econbench.Fingerprint{"cpu.model": "one"}}
	hosts := map[string]econbench.HostFacts{econbench.ClientHost: facts, econbench.ServerHost: facts}
	plan := econbench.Plan{Duration: 1.5, Workloads: []econbench.PlannedWorkload{{Name: "tcp_rr"}}}
	key := (&econbench.Run{Lab: "emulated", Plan: plan, Hosts: hosts}).MachineKey()
	began := &econbench.Run{Plan: plan}
	noteLab(began, "emulated", "sha256:1", hosts, func(text string) { t.Error(text) })
	if began.Rulers != nil || began.MachineKey() != key || began.Image != "sha256:1" {
		t.Fatalf("%+v", began)
	}
	c := &reports.Calibration{Schema: 1, Run: "p1", Machine: key, Duration: 1.5, Arm: econbench.Arm{Topology: "host", Fastpath: "none"},
		Workloads: []reports.CalibratedWorkload{{Workload: "tcp_rr"}}}
	if _, err := storeCalibration(c); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		run  *econbench.Run
		want int
	}{"new": {&econbench.Run{Plan: plan}, 1}, "resumed": {began, 0}} {
		noteLab(c.run, "emulated", "sha256:1", hosts, func(text string) { t.Error(text) })
		if len(c.run.Rulers) != c.want || c.run.MachineKey() != key {
			t.Errorf("%s: rulers %+v, want %d", name, c.run.Rulers, c.want)
		}
	}
}
