// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

// gateRun makes a run of another seed, so that no two runs have the same noise, and lets spoil do to each trial what it likes.
func gateRun(id string, seed uint64, blocks, extra int, spoil func(*econbench.Trial)) *econbench.Run {
	run := sampleRun(0)
	run.ID, run.Plan.Blocks = id, blocks
	random := rand.New(rand.NewPCG(seed, 9))
	for b := range blocks + extra {
		for i, c := range run.Plan.Cells() {
			t := sampleTrial(id, b, i, c, random)
			t.Extra = b >= blocks
			if v := t.Metrics["throughput"]; v != nil { // the samples' noise is about as wide as the gate
				steady := 34e9 / 8 * speeds[c.Arm.String()][0]
				*v = steady * math.Pow(*v/steady, 0.3)
			}
			if spoil != nil {
				spoil(&t)
			}
			if t.Extra {
				run.Extra = append(run.Extra, t)
			} else {
				run.Trials = append(run.Trials, t)
			}
		}
	}
	run.Against = &econbench.Against{Run: "old", Gate: 0.05, ConfirmBlocks: extra}
	return run
}

// slower takes a share from overlay's tcp_rr; in the extra blocks another one.
func slower(planned, extra float64) func(*econbench.Trial) {
	return func(t *econbench.Trial) {
		if v := t.Metrics["transactions"]; v != nil && t.Arm.String() == "overlay" {
			left := 1 - map[bool]float64{false: planned, true: extra}[t.Extra]
			*v *= left
			*t.Metrics["latency_p99"] /= left
		}
	}
}

func gateOf(t testing.TB, old, new *econbench.Run, share float64) *Gate {
	t.Helper()
	g, err := NewGate(Labelled{"old", old}, Labelled{"new", new}, GateOptions{Share: share})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func gated(t testing.TB, g *Gate, arm, workload string) GatedCell {
	t.Helper()
	for _, c := range g.Cells {
		if c.NewArm.String() == arm && c.Workload == workload {
			return c
		}
	}
	t.Fatalf("no cell %s %s", arm, workload)
	return GatedCell{}
}

// TestGateVerdicts: what has to happen for each verdict, of overlay's tcp_rr and of the run.
func TestGateVerdicts(t *testing.T) {
	invalid := func(arm string) func(*econbench.Trial) {
		return func(t *econbench.Trial) {
			if t.Arm.String() == arm && t.Workload == "tcp_rr" {
				t.Valid, t.Invalid = false, []string{"vxlan stayed flat"}
			}
		}
	}
	noisy := rand.New(rand.NewPCG(8, 8))
	for name, c := range map[string]struct {
		new        *econbench.Run
		cell, all  GateVerdict
		reason     string
		failed, ok bool
	}{
		"the same":          {gateRun("new", 2, 10, 0, nil), GatePassed, GatePassed, "", false, true},
		"faster":            {gateRun("new", 2, 10, 0, slower(-0.2, 0)), GatePassed, GatePassed, "better", false, true},
		"a little slower":   {gateRun("new", 2, 10, 0, slower(0.035, 0)), GatePassed, GatePassed, "less than the gate's share", false, true},
		"slower":            {gateRun("new", 2, 10, 0, slower(0.08, 0)), GateSuspect, GateSuspect, "no extra blocks", false, false},
		"and confirmed":     {gateRun("new", 2, 10, 10, slower(0.08, 0.08)), GateRegressed, GateRegressed, "", true, true},
		"not confirmed":     {gateRun("new", 2, 10, 10, slower(0.08, 0)), GatePassed, GatePassed, "did not confirm", false, true},
		"confirmed by half": {cutExtra(gateRun("new", 2, 10, 10, slower(0.08, 0.08)), 15), GateSuspect, GateSuspect, "5 of 10 extra blocks", false, false},
		"a cell is gone":    {gateRun("new", 2, 10, 0, invalid("overlay")), GateUnmeasured, GateUnmeasured, "no valid trial", false, false},
		"baseline is gone":  {gateRun("new", 2, 10, 0, invalid("host")), GateUnmeasured, GateUnmeasured, "no ratio", false, false},
		"too few blocks":    {gateRun("new", 2, 1, 0, nil), GateUnmeasured, GateUnmeasured, "10+1 blocks", false, false},
		"too noisy": {gateRun("new", 2, 10, 0, func(t *econbench.Trial) {
			if v := t.Metrics["transactions"]; v != nil {
				*v *= 0.5 + noisy.Float64()
			}
		}), GateUnmeasured, GateUnmeasured, "wider than ±5%", false, false},
		"zero in half of the blocks": {gateRun("new", 2, 10, 0, func(t *econbench.Trial) {
			set(t, t.Block%2 == 0, number(0))
		}), GateUnmeasured, GateUnmeasured, "5 of 20 values have no ratio: zero or negative", false, false},
		"zero in half of the extra blocks": {gateRun("new", 2, 10, 10, func(t *econbench.Trial) {
			slower(0.08, 0)(t)
			set(t, t.Extra && t.Block%2 == 0, number(0))
		}), GateUnmeasured, GateUnmeasured, "the extra blocks can't tell: 5 of 20 values have no ratio", false, false},
		"no value in most blocks": {gateRun("new", 2, 10, 0, func(t *econbench.Trial) {
			set(t, t.Block >= 4, nil)
		}), GateUnmeasured, GateUnmeasured, "only 4 of the new run's 10 blocks have a value", false, false},
		"a value in half of the blocks": {gateRun("new", 2, 10, 0, func(t *econbench.Trial) {
			set(t, t.Block >= 5, nil)
		}), GatePassed, GatePassed, "", false, true},
		"no value in most extra blocks": {gateRun("new", 2, 10, 10, func(t *econbench.Trial) {
			slower(0.08, 0.08)(t)
			set(t, t.Block >= 14, nil)
		}), GateUnmeasured, GateUnmeasured, "the extra blocks can't tell: only 4 of the new run's 10 blocks have a value", false, false},
		"broken off before the last baseline": {without(gateRun("new", 2, 10, 10, slower(0.08, 0.08)), 19, "host"), GateSuspect, GateSuspect,
			"9 of 10 extra blocks", false, false},
		"broken off before another suspect": {without(gateRun("new", 2, 10, 10, slower(0.08, 0.08)), 19, "overlay+oncache"), GateSuspect, GateSuspect,
			"9 of 10 extra blocks", false, false},
		"noise in the extra blocks": {gateRun("new", 2, 10, 10, func(t *econbench.Trial) {
			slower(0.08, 0.02)(t)
			if v := t.Metrics["transactions"]; v != nil && t.Extra {
				*v *= 0.5 + noisy.Float64()
			}
		}), GateUnmeasured, GateUnmeasured, "the extra blocks can't tell", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := gateOf(t, gateRun("old", 1, 10, 0, nil), c.new, 0.05)
			cell := gated(t, g, "overlay", "tcp_rr")
			if cell.Verdict != c.cell || g.Verdict != c.all || !strings.Contains(cell.Reason, c.reason) || g.Failed() != c.failed || g.Measured() != c.ok {
				t.Errorf("cell %s (%s), gate %s, failed %t, measured %t: want %s (%s), %s\n%s", cell.Verdict, cell.Reason, g.Verdict, g.Failed(), g.Measured(),
					c.cell, c.reason, c.all, strings.Join(g.Lines(), "\n"))
			}
			for _, other := range []string{"overlay", "overlay+oncache"} {
				if s := gated(t, g, other, "tcp_stream"); name != "too few blocks" && s.Verdict != GatePassed {
					t.Errorf("%s tcp_stream: %s (%s)", other, s.Verdict, s.Reason)
				}
			}
		})
	}
}

// set gives overlay's tcp_rr another value.
func set(t *econbench.Trial, when bool, value *float64) {
	if _, is := t.Metrics["transactions"]; is && when && t.Arm.String() == "overlay" {
		t.Metrics["transactions"] = value
	}
}

// without takes an arm's tcp_rr out of one extra block, as a run lacks it that was killed there.
func without(run *econbench.Run, block int, arm string) *econbench.Run {
	run.Extra = slices.DeleteFunc(run.Extra, func(t econbench.Trial) bool {
		return t.Block == block && t.Arm.String() == arm && t.Workload == "tcp_rr"
	})
	return run
}

// TestGateBeyond: an estimate beyond the gate that is not significant never passes.
func TestGateBeyond(t *testing.T) {
	change := func(factor, low, high float64) MetricChange {
		return MetricChange{Better: econbench.Higher, Carrier: CarrierRatio, Old: Level{N: 10}, New: Level{N: 10}, Verdict: VerdictSame,
			Ratio: &Change{Factor: &factor, Low: &low, High: &high, OldN: 10, NewN: 10, P: number(0.02)}}
	}
	if v, reason := change(0.94, 0.90, 0.985).pass(0.05); v != GateUnmeasured || reason != "the estimate is beyond the gate, and not significant" {
		t.Errorf("%s (%s)", v, reason)
	}
	if v, reason := change(0.96, 0.93, 0.99).pass(0.05); v != GatePassed || reason != "" {
		t.Errorf("%s (%s)", v, reason)
	}
}

// TestGateOtherLoad: at half of the load a latency that has grown looks as before, in the planned blocks and in those that confirm.
func TestGateOtherLoad(t *testing.T) {
	at := func(run *econbench.Run, rate float64) *econbench.Run {
		run.Plan.Workloads = slices.Clone(run.Plan.Workloads)
		run.Plan.Workloads[1].Rate = rate
		return run
	}
	old := at(gateRun("old", 1, 10, 0, nil), 4000)
	for rate, want := range map[float64]GateVerdict{4000: GatePassed, 4000.4: GatePassed, 3200: GateUnmeasured, 0: GateUnmeasured} {
		g := gateOf(t, old, at(gateRun("new", 2, 10, 0, nil), rate), 0.05)
		if c := gated(t, g, "overlay", "tcp_rr"); c.Verdict != want || g.Verdict != want || rate == 3200 && !strings.Contains(c.Reason, "at another load, 3200/s, was 4000/s") {
			t.Errorf("%v: %s (%s)", rate, c.Verdict, c.Reason)
		}
		if c := gated(t, g, "overlay", "tcp_stream"); c.Verdict != GatePassed {
			t.Errorf("another workload: %s (%s)", c.Verdict, c.Reason)
		}
	}
	if c := gated(t, gateOf(t, old, at(gateRun("new", 2, 10, 10, slower(0.2, 0.2)), 3200), 0.05), "overlay", "tcp_rr"); c.Verdict != GateUnmeasured {
		t.Errorf("a loss at another load: %s", c.Verdict)
	}
	g := confirmedBy(t, old, at(gateRun("new", 2, 10, 0, slower(0.08, 0)), 4000), at(gateRun("again", 3, 10, 0, slower(0.08, 0)), 3200))
	if c := gated(t, g, "overlay", "tcp_rr"); c.Verdict != GateUnmeasured || !strings.Contains(c.Reason, "the extra blocks can't tell: at another load, 3200/s") {
		t.Errorf("confirmed at another load: %s (%s)", c.Verdict, c.Reason)
	}
}

// confirmedBy has another run's blocks confirm what is suspect.
func confirmedBy(t *testing.T, old, new, by *econbench.Run) *Gate {
	t.Helper()
	g, err := NewGate(Labelled{"old", old}, Labelled{"new", new}, GateOptions{Share: 0.05, Confirm: Labelled{"by", by}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestGateConfirmByRun: another run's blocks of what is suspect, and nothing else of that run, confirm or don't.
func TestGateConfirmByRun(t *testing.T) {
	old, new := gateRun("old", 1, 10, 0, nil), gateRun("new", 2, 10, 0, slower(0.08, 0))
	again := gateRun("again", 3, 8, 0, func(tr *econbench.Trial) {
		slower(0.08, 0)(tr)
		if tr.Workload == "tcp_stream" {
			tr.Valid, tr.Invalid = false, []string{"vxlan stayed flat"}
		}
	})
	g := confirmedBy(t, old, new, again)
	c := gated(t, g, "overlay", "tcp_rr")
	if c.Verdict != GateRegressed || c.Confirm.Blocks != 8 || !g.Measured() || len(new.Extra) > 0 {
		t.Errorf("%s (%s), problems %q", c.Verdict, c.Reason, g.Problems)
	}
	if c.Confirm.PHolm == nil || *c.Confirm.PHolm != *c.Confirm.Change.P { // one suspect: nothing to correct over
		t.Errorf("p %v, corrected %v", *c.Confirm.Change.P, c.Confirm.PHolm)
	}
	if *c.Planned.PHolm == *c.Planned.Change.P {
		t.Error("the planned blocks are not corrected over the workloads")
	}
	invalid := gateRun("again", 3, 10, 0, func(tr *econbench.Trial) {
		slower(0.08, 0)(tr)
		if tr.Workload == "tcp_rr" && tr.Arm.String() == "host" && tr.Block == 0 {
			tr.Valid, tr.Invalid = false, []string{"vxlan stayed flat"}
		}
	})
	if g := confirmedBy(t, old, new, invalid); !slices.Equal(g.Problems, []string{"1 of 20 extra trials are not valid"}) || !g.Failed() {
		t.Errorf("%s, problems %q", g.Verdict, g.Problems)
	}
	cut := gateRun("again", 3, 10, 0, nil)
	cut.Status = econbench.StatusInterrupted
	other := gateRun("again", 3, 10, 0, nil)
	other.Image = "another"
	for want, by := range map[string]*econbench.Run{"it is the run itself": new, "it is the old run": old, "not complete: interrupted": cut, `image: "another"`: other} {
		_, err := NewGate(Labelled{"old", old}, Labelled{"new", new}, GateOptions{Share: 0.05, Confirm: Labelled{"by", by}})
		if err == nil || !strings.HasPrefix(err.Error(), "confirm by by: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func cutExtra(run *econbench.Run, blocks int) *econbench.Run {
	run.Extra = slices.DeleteFunc(run.Extra, func(t econbench.Trial) bool { return t.Block >= blocks })
	return run
}

// TestGateConfirmsByFreshBlocks: what the planned blocks say is in no figure of the confirmation.
func TestGateConfirmsByFreshBlocks(t *testing.T) {
	old, new := gateRun("old", 1, 10, 0, nil), gateRun("new", 2, 10, 8, slower(0.3, 0.08))
	c := gated(t, gateOf(t, old, new, 0.05), "overlay", "tcp_rr")
	if c.Verdict != GateRegressed || c.Confirm.Blocks != 8 || c.Planned.Blocks != 10 {
		t.Fatalf("%+v %+v", c, c.Confirm)
	}
	near(t, "planned", *c.Planned.Change.Factor, 0.7, 0.02)
	near(t, "confirmation", *c.Confirm.Change.Factor, 0.92, 0.02)
	// A report knows nothing of the extra blocks.
	s, err := Summarise(new)
	if err != nil || s.Attempted != 60 {
		t.Errorf("%d trials in the summary, %v", s.Attempted, err)
	}
}

// TestGateLowerIsBetter: a latency regresses upwards.
func TestGateLowerIsBetter(t *testing.T) {
	judged := func(f float64) *Gate {
		byLatency := func(run *econbench.Run) *econbench.Run {
			run.Plan.Workloads = slices.Clone(run.Plan.Workloads)
			run.Plan.Workloads[1].Primary = "latency_p99"
			return run
		}
		return gateOf(t, byLatency(gateRun("old", 1, 10, 0, nil)), byLatency(gateRun("new", 2, 10, 10, slower(f, f))), 0.05)
	}
	if c := gated(t, judged(0.1), "overlay", "tcp_rr"); c.Verdict != GateRegressed || *c.Planned.Change.Factor < 1.05 || c.Metric != "latency_p99" {
		t.Errorf("%+v", c)
	}
	if c := gated(t, judged(-0.1), "overlay", "tcp_rr"); c.Verdict != GatePassed || c.Reason != "better" {
		t.Errorf("%+v", c)
	}
}

// TestLost: percentages are read as they are shown.
func TestLost(t *testing.T) {
	for _, c := range []struct {
		better econbench.Better
		factor float64
		lost   bool
	}{
		{econbench.Higher, 0.95, true}, {econbench.Higher, 0.951, false}, {econbench.Higher, 1.3, false}, {econbench.Higher, 0.1, true},
		{econbench.Lower, 1.05, true}, {econbench.Lower, 1.049, false}, {econbench.Lower, 0.1, false},
	} {
		if got := lost(c.better, c.factor, 0.05); got != c.lost {
			t.Errorf("%s %v: %t", c.better, c.factor, got)
		}
	}
}

// TestGateOtherMachine: a regression on another kernel is none, whatever its size, and the difference is said.
func TestGateOtherMachine(t *testing.T) {
	old, new := gateRun("old", 1, 10, 0, nil), gateRun("new", 2, 10, 10, slower(0.5, 0.5))
	old.Hosts = map[string]econbench.HostFacts{econbench.ClientHost: {Kernel: "6.1.0"}}
	new.Hosts = map[string]econbench.HostFacts{econbench.ClientHost: {Kernel: "6.8.0"}}
	g := gateOf(t, old, new, 0.05)
	if g.Verdict != GateIncomparable || g.Failed() || g.Measured() || len(g.Cells) != 0 || len(g.Differences) != 1 {
		t.Errorf("%+v", g)
	}
	if text := strings.Join(g.Lines(), "\n"); !strings.Contains(text, `kernel.release of client: "6.8.0", was "6.1.0"`) {
		t.Errorf("%s", text)
	}
}

// TestGateMissing: cells that one run alone has; a run that is not whole.
func TestGateMissing(t *testing.T) {
	old, new := gateRun("old", 1, 10, 0, nil), gateRun("new", 2, 10, 0, nil)
	new.Plan.Arms = append(new.Plan.Arms[:2:2], arm("overlay+xmasq"))
	for i := range new.Trials {
		if new.Trials[i].Arm.String() == "overlay+oncache" {
			new.Trials[i].Arm = arm("overlay+xmasq")
		}
	}
	new.Trials = new.Trials[:len(new.Trials)-1]
	g := gateOf(t, old, new, 0.05)
	if c := gated(t, g, "overlay+xmasq", "tcp_rr"); c.Verdict != GateUnmeasured || c.Reason != "the old run has not got it" || c.Planned != nil || c.Metric != "transactions" {
		t.Errorf("%+v", c)
	}
	if len(g.OnlyOld) != 2 || g.Verdict != GateUnmeasured || !slices.Equal(g.Problems, []string{"59 of 60 planned trials were measured"}) {
		t.Errorf("only old %v, %s, problems %q", g.OnlyOld, g.Verdict, g.Problems)
	}
	empty := gateRun("new", 2, 0, 0, nil)
	if g := gateOf(t, old, empty, 0.05); g.Verdict != GateUnmeasured || len(g.Cells) != 4 {
		t.Errorf("an empty run: %+v", g)
	}
	alone := gateRun("new", 2, 10, 0, nil)
	alone.Plan.Arms = alone.Plan.Arms[:1]
	alone.Trials = slices.DeleteFunc(alone.Trials, func(t econbench.Trial) bool { return t.Arm.String() != "host" })
	if g := gateOf(t, old, alone, 0.05); g.Verdict != GateUnmeasured || g.Measured() {
		t.Errorf("a baseline alone passes: %+v", g)
	}
	for _, share := range []float64{0, 1, -1} {
		if _, err := NewGate(Labelled{"old", old}, Labelled{"new", new}, GateOptions{Share: share}); err == nil {
			t.Errorf("share %v is taken", share)
		}
	}
}

// TestGateArmMapping: another arm than the old run's is judged by it, and the suspects are the new run's cells.
func TestGateArmMapping(t *testing.T) {
	old, new := gateRun("old", 1, 10, 0, nil), gateRun("new", 2, 10, 0, nil)
	pairs, alone := GateArms(old.Plan, new.Plan, []ArmPair{{Old: arm("overlay+oncache"), New: arm("overlay")}})
	if len(pairs) != 3 || pairs[0].Old != pairs[0].New || pairs[1].Old != arm("overlay+oncache") || len(alone) > 0 {
		t.Fatalf("pairs %v, alone %v", pairs, alone)
	}
	g, err := NewGate(Labelled{"old", old}, Labelled{"new", new}, GateOptions{Share: 0.05, Arms: pairs})
	if err != nil {
		t.Fatal(err)
	}
	suspects, all := g.Suspects(new.Plan.Baseline)
	var names []string
	for _, c := range all {
		names = append(names, c.Arm.String()+" "+c.Workload)
	}
	if diff := cmp.Diff([]string{"host tcp_stream", "overlay tcp_stream", "host tcp_rr", "overlay tcp_rr"}, names); diff != "" || len(suspects) != 2 {
		t.Errorf("suspects %v, -want +got:\n%s", suspects, diff)
	}
	if !strings.Contains(g.Lines()[0], "overlay+oncache → overlay ") {
		t.Errorf("%s", g.Lines()[0])
	}
	// What the old run has not got: without a gate it is told of, with one it is unmeasured, under the old run's name.
	asked := []ArmPair{{Old: arm("overlay+oncache"), New: arm("overlay")}}
	if pairs, alone = GateArms(old.Plan, planWith(new.Plan, "overlay+xmasq"), asked); len(pairs) != 3 || !slices.Equal(alone, []econbench.Arm{arm("overlay+xmasq")}) {
		t.Errorf("pairs %v, alone %v", pairs, alone)
	}
	new.Plan.Workloads = append(slices.Clone(new.Plan.Workloads), econbench.PlannedWorkload{Name: "udp_rr", Primary: "transactions"})
	if g, err = NewGate(Labelled{"old", old}, Labelled{"new", new}, GateOptions{Share: 0.05, Arms: asked}); err != nil {
		t.Fatal(err)
	}
	if c := gated(t, g, "overlay", "udp_rr"); c.Arm != arm("overlay+oncache") || c.Verdict != GateUnmeasured {
		t.Errorf("%+v", c)
	}
}

func planWith(p econbench.Plan, name string) econbench.Plan {
	p.Arms = append(slices.Clone(p.Arms), arm(name))
	return p
}

// TestCheckReference: what a run would be refused for at its end it is refused for before it begins.
func TestCheckReference(t *testing.T) {
	plan := sampleRun(0).Plan
	plan.Blocks = 10
	for want, c := range map[string]struct {
		change func(*econbench.Run, *econbench.Plan, *econbench.Against)
	}{
		"": {func(*econbench.Run, *econbench.Plan, *econbench.Against) {}},
		"not complete: interrupted": {func(r *econbench.Run, _ *econbench.Plan, _ *econbench.Against) {
			r.Status = econbench.StatusInterrupted
		}},
		`differs in what decides figures: placement: "shared", was "split"; duration: "3s", was "2s"`: {func(_ *econbench.Run, p *econbench.Plan, _ *econbench.Against) {
			p.Placement, p.Duration = econbench.Shared, 3
		}},
		"its baseline is overlay, the plan's host": {func(r *econbench.Run, _ *econbench.Plan, _ *econbench.Against) {
			r.Plan.Baseline = arm("overlay")
		}},
		`it has not got what the plan measures: "overlay+xmasq tcp_stream`: {func(_ *econbench.Run, p *econbench.Plan, _ *econbench.Against) {
			p.Arms = append(p.Arms[:2:2], arm("overlay+xmasq"))
		}},
		`arm "overlay+econ": it has not got that; its arms: host, overlay, overlay+oncache`: {func(_ *econbench.Run, _ *econbench.Plan, a *econbench.Against) {
			a.Arms = []econbench.ArmPair{{Old: arm("overlay+econ"), New: arm("overlay")}}
		}},
		"want an arm beside host":                                      {func(_ *econbench.Run, p *econbench.Plan, _ *econbench.Against) { p.Arms = p.Arms[:1] }},
		"blocks 2: no outcome is significant against its 10 blocks of": {func(_ *econbench.Run, p *econbench.Plan, _ *econbench.Against) { p.Blocks = 2 }},
		"confirm-blocks 1: no outcome is significant":                  {func(_ *econbench.Run, _ *econbench.Plan, a *econbench.Against) { a.ConfirmBlocks = 1 }},
		`it has 0 blocks of "overlay tcp_rr`: {func(r *econbench.Run, _ *econbench.Plan, _ *econbench.Against) {
			for i := range r.Trials {
				if r.Trials[i].Workload == "tcp_rr" {
					r.Trials[i].Valid = false
				}
			}
		}},
		"it has none of the plan's cells": {func(_ *econbench.Run, p *econbench.Plan, a *econbench.Against) {
			p.Workloads = []econbench.PlannedWorkload{{Name: "nginx"}}
			a.Gate = 0 // not even to be compared
		}},
		"schema 9": {func(r *econbench.Run, _ *econbench.Plan, _ *econbench.Against) { r.Schema = 9 }},
	} {
		old, p, a := sampleRun(10), plan, econbench.Against{Gate: 0.05, ConfirmBlocks: 10}
		c.change(old, &p, &a)
		err := CheckReference(old, p, a)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	old := sampleRun(10)
	old.Status = econbench.StatusFailed
	if err := CheckReference(old, plan, econbench.Against{}); err != nil {
		t.Errorf("to be compared with alone: %v", err)
	}
}

// gates show what a gate has to say.
func gates(t *testing.T) map[string]*Gate {
	old := gateRun("20260102-030405-ab12", 1, 10, 0, nil)
	both := func(tr *econbench.Trial) {
		slower(0.08, 0.09)(tr)
		if v := tr.Metrics["throughput"]; v != nil && tr.Arm.String() == "overlay+oncache" {
			*v *= map[bool]float64{false: 0.85, true: 1}[tr.Extra]
		}
	}
	odd := gateRun("20260103-030405-cd34", 3, 10, 0, slower(0.08, 0))
	odd.Plan.Arms = append(odd.Plan.Arms, econbench.Arm{Topology: "a,\"b\"\n<|*é", Fastpath: "none"})
	other := gateRun("20260103-030405-cd34", 3, 10, 0, nil)
	other.Plan.Placement = econbench.Shared
	return map[string]*Gate{
		"gate-regressed":    gateOf(t, old, gateRun("20260103-030405-cd34", 2, 10, 10, both), 0.05),
		"gate-passed":       gateOf(t, old, gateRun("20260103-030405-cd34", 2, 10, 0, slower(-0.1, 0)), 0.05),
		"gate-suspect":      gateOf(t, old, odd, 0.05),
		"gate-incomparable": gateOf(t, old, other, 0.05),
	}
}

func TestGateGolden(t *testing.T) {
	for name, g := range gates(t) {
		for _, format := range GateFormats() {
			var b strings.Builder
			if err := g.Render(&b, format); err != nil {
				t.Fatal(err)
			}
			got := b.String()
			if format == "text" {
				checkWidth(t, got)
			}
			if format == "junit" {
				checkJUnit(t, name, got)
			}
			golden(t, name+"."+format, got)
		}
	}
	if err := gates(t)["gate-passed"].Render(new(strings.Builder), "jsn"); err == nil || !strings.Contains(err.Error(), `did you mean "json"`) {
		t.Errorf("error %v", err)
	}
}

// checkJUnit reads it as a CI system does.
func checkJUnit(t *testing.T, name, text string) {
	t.Helper()
	var s junitReport
	if err := xml.Unmarshal([]byte(text), &s); err != nil || len(s.Suites) != 1 {
		t.Fatalf("%s: %v", name, err)
	}
	want := map[string][2]int{"gate-regressed": {1, 0}, "gate-passed": {0, 0}, "gate-suspect": {0, 4}, "gate-incomparable": {0, 1}}[name]
	if s.Failures != want[0] || s.Errors != want[1] || s.Tests != len(s.Suites[0].Cases) {
		t.Errorf("%s: %d failures, %d errors of %d tests, want %v\n%s", name, s.Failures, s.Errors, s.Tests, want, text)
	}
}

// TestGateRoundTrip: gate.json is read as it was written; another schema is refused.
func TestGateRoundTrip(t *testing.T) {
	for name, g := range gates(t) {
		b, err := json.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ReadGate(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(back)
		if err != nil || string(again) != string(b) {
			t.Errorf("%s: %v\n%s\n%s", name, err, b, again)
		}
		for _, format := range GateFormats() { // a record says what was said when it was made
			var was, now strings.Builder
			if err := errors.Join(g.Render(&was, format), back.Render(&now, format)); err != nil || was.String() != now.String() {
				t.Errorf("%s as %s: %v\n%s", name, format, err, cmp.Diff(was.String(), now.String()))
			}
		}
	}
	for _, bad := range []string{`{}`, `{"schema":9}`, `{`} {
		if _, err := ReadGate([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
