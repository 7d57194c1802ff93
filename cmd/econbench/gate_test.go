// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// night makes the directory of a complete run of tcp_rr over host and overlay (arms=ARM,…), 8 blocks on an emulated lab, by this econbench. Its noise
// is of 1 %, of its own for each seed.
//
//	night DIR [KEY=VALUE…]
//
// loss=SHARE is what the overlay has lost, id=ID and seed=N are the run's, blocks=N how many, cpu=MODEL the hosts'; invalid=N are so many
// trials that do not count; gate=DIR holds it against the run there by a gate of 5 %, or of another share=SHARE (0: none), pair=OLDARM=NEWARM, with confirm=N extra blocks, extra=N of which are
// measured, in which the overlay has lost extraloss=SHARE; status=killed leaves it as SIGKILL does, any other as it says.
func night(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: night DIR [KEY=VALUE…]")
	}
	o := map[string]string{"loss": "0", "id": args[0], "seed": "1", "blocks": "8", "cpu": "one", "invalid": "0", "confirm": "8", "extra": "0",
		"extraloss": "0", "share": "0.05", "arms": "host,overlay", "status": string(econbench.StatusComplete)}
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		if _, known := o[key]; !known && key != "gate" && key != "pair" {
			ts.Fatalf("night: unknown key %q", key)
		}
		o[key] = value
	}
	number := func(key string) float64 {
		v, err := strconv.ParseFloat(o[key], 64)
		ts.Check(err)
		return v
	}
	arms, err := parseArms(strings.Split(o["arms"], ","))
	ts.Check(err)
	r := nightOf(ts, o["id"], arms, int(number("blocks")), o["cpu"])
	if o["gate"] != "" {
		r.Against = &econbench.Against{Dir: ts.MkAbs(o["gate"]), Run: o["gate"], Gate: number("share"), ConfirmBlocks: int(number("confirm"))}
	}
	if old, new, mapped := strings.Cut(o["pair"], "="); mapped {
		p, err := parsePair(old, new)
		ts.Check(err)
		r.Against.Arms = []econbench.ArmPair{p}
	}
	dir, err := rundir.Create(ts.MkAbs(args[0]), r)
	ts.Check(err)
	random := rand.New(rand.NewPCG(uint64(number("seed")), 3))
	for block := range r.Plan.Blocks + int(number("extra")) {
		extra := block >= r.Plan.Blocks
		for i, c := range engine.Order(r.Plan, block) {
			v := map[string]float64{"host": 50e3, "overlay": 30e3}[c.Arm.Topology] * math.Exp(0.01/math.Sqrt2*random.NormFloat64())
			if c.Arm.Topology == "overlay" {
				v *= 1 - number(map[bool]string{false: "loss", true: "extraloss"}[extra])
			}
			t := econbench.Trial{Block: block, Position: i, Extra: extra, Cell: c, Valid: true, Elapsed: 2, Metrics: map[string]*float64{"transactions": &v}}
			if !extra && block*2+i < int(number("invalid")) {
				t.Valid, t.Invalid = false, []string{"path: vxlan stayed flat"}
			}
			ts.Check(dir.Append(t))
		}
	}
	if o["status"] == "killed" {
		ts.Check(dir.Close())
		return
	}
	ts.Check(dir.Finish(econbench.Status(o["status"]), nil))
}

// nightOf is the run without its trials.
func nightOf(ts *testscript.TestScript, id string, arms []econbench.Arm, blocks int, cpu string) *econbench.Run {
	ts.Check(ts.Exec("econbench", "version"))
	version, _, _ := strings.Cut(strings.TrimPrefix(ts.ReadFile("stdout"), "econbench "), "\n")
	facts := econbench.HostFacts{Fingerprint: econbench.Fingerprint{"cpu.model": cpu}}
	r := &econbench.Run{ID: id, Version: version, Started: time.Unix(1e9, 0).UTC(), Status: econbench.StatusRunning, Lab: "emulated",
		Hosts: map[string]econbench.HostFacts{econbench.ClientHost: facts, econbench.ServerHost: facts}}
	r.Plan = econbench.Plan{
		Suite: "quick", Arms: arms, Baseline: arms[0], Blocks: blocks, Duration: 1.5, Warmup: 0.25, Seed: 7,
		RebuildEvery: 4, Placement: econbench.Split, Wire: econbench.WireDefault, CongestionControl: "cubic",
		Workloads: []econbench.PlannedWorkload{{Name: "tcp_rr"}},
	}
	var err error
	r.Plan, err = resolve(r.Plan)
	ts.Check(err)
	return r
}

// TestGateExitCodes: a regression is 2 whatever else went wrong, what is not known is 1, and everything is said.
func TestGateExitCodes(t *testing.T) {
	cell := func(v reports.GateVerdict) reports.GatedCell {
		return reports.GatedCell{NewArm: econbench.Arm{Topology: "overlay"}, Arm: econbench.Arm{Topology: "overlay"}, Workload: "w" + string(v), Verdict: v, Reason: "because"}
	}
	other := errors.New("1 of 9 trials are not valid")
	for name, c := range map[string]struct {
		g      *reports.Gate
		others error
		code   int
		says   []string
	}{
		"passed":       {&reports.Gate{Verdict: reports.GatePassed, Cells: []reports.GatedCell{cell(reports.GatePassed)}}, nil, 0, nil},
		"passed but":   {&reports.Gate{Verdict: reports.GatePassed, Cells: []reports.GatedCell{cell(reports.GatePassed)}}, other, 1, []string{"not valid"}},
		"regressed":    {&reports.Gate{Verdict: reports.GateRegressed, Cells: []reports.GatedCell{cell(reports.GateRegressed)}}, nil, 2, []string{"wregressed: lost"}},
		"suspect":      {&reports.Gate{Verdict: reports.GateSuspect, Cells: []reports.GatedCell{cell(reports.GateSuspect)}}, nil, 1, []string{"could not be judged", "suspect overlay wsuspect: because"}},
		"incomparable": {&reports.Gate{Verdict: reports.GateIncomparable, Differences: []reports.RunDifference{{Fact: "kernel", Old: "1", New: "2"}}}, nil, 1, []string{`kernel: "2", was "1"`, "nothing is a regression"}},
		"both": {&reports.Gate{Verdict: reports.GateRegressed, Problems: []string{"1 of 9 trials are not valid"},
			Cells: []reports.GatedCell{cell(reports.GateRegressed), cell(reports.GateUnmeasured)}}, other, 2, []string{"wregressed: lost", "unmeasured overlay wunmeasured", "not valid"}},
	} {
		err := (&outcome{gate: c.g}).err(c.others)
		code := 0
		if err != nil {
			code = 1
		}
		if e := (exitError{}); errors.As(err, &e) {
			code, err = e.code, e.error
		}
		if code != c.code {
			t.Errorf("%s: exit code %d, want %d (%v)", name, code, c.code, err)
		}
		for _, text := range c.says {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: want %q in %v", name, text, err)
			}
		}
	}
	if err := (*outcome)(nil).err(other); err != other {
		t.Errorf("without a gate: %v", err)
	}
}

// TestRatesOf: what a share came to in the old run is this run's load.
func TestRatesOf(t *testing.T) {
	w := func(name, rate string, found float64) econbench.PlannedWorkload {
		return econbench.PlannedWorkload{Name: name, Params: econbench.Params{"rate": rate}, Rate: found}
	}
	old := econbench.Plan{Workloads: []econbench.PlannedWorkload{w("nginx", "50%", 1234), w("nginx", "80%", 2000)}}
	got := ratesOf(old, econbench.Plan{Workloads: []econbench.PlannedWorkload{w("nginx", "80%", 0), w("nginx", "60%", 0), w("tcp_rr", "", 0)}})
	if got[0].Rate != 2000 || got[1].Rate != 0 || got[2].Rate != 0 {
		t.Errorf("rates %+v", got)
	}
}

// TestProgressAgain: what is left is reckoned from the extra blocks alone.
func TestProgressAgain(t *testing.T) {
	var b strings.Builder
	p := newProgress(&b, false)
	p.Trial(9, 10, econbench.Trial{Valid: true, Elapsed: 1000})
	p.again(2)
	p.Trial(3, 4, econbench.Trial{Valid: true, Elapsed: 10})
	if got := b.String(); !strings.Contains(got, "trial 3/4") || !strings.Contains(got, "about 10s left") {
		t.Errorf("progress: %s", got)
	}
}
