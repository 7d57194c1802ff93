// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

func plan(blocks int, arms ...string) econbench.Plan {
	p := econbench.Plan{
		Blocks: blocks, Duration: 1, RebuildEvery: 2, Seed: 7, Placement: econbench.Split, Wire: econbench.WireDefault,
		Workloads: []econbench.PlannedWorkload{{Name: "ask"}},
	}
	for _, s := range arms {
		a, err := econbench.ParseArm(s)
		if err != nil {
			panic(err)
		}
		p.Arms = append(p.Arms, a)
	}
	p.Baseline = p.Arms[0]
	p, err := (&world{}).parts().Resolve(p)
	if err != nil {
		panic(err)
	}
	return p
}

func TestRunMeasuresEveryCellOncePerBlock(t *testing.T) {
	w := &world{}
	p := plan(4, "host", "overlay", "overlay+quicker")
	tally, err := w.engine().Run(t.Context(), p)
	// overlay+quicker takes the overlay's devices here, so its proof holds as well.
	if err != nil || tally != (Tally{Planned: 12, Valid: 12}) {
		t.Fatalf("tally %+v, error %v\n%s", tally, err, w.trials[0].Invalid)
	}
	seen := map[string]int{}
	for _, tr := range w.trials {
		seen[fmt.Sprint(tr.Block, tr.Arm)]++
		if tr.Build != tr.Block/2 {
			t.Errorf("block %d was measured on build %d", tr.Block, tr.Build)
		}
	}
	for block := range 4 {
		for _, a := range p.Arms {
			if n := seen[fmt.Sprint(block, a)]; n != 1 {
				t.Errorf("block %d arm %s: %d trials", block, a, n)
			}
		}
	}
	builds, closes := 0, 0
	for _, e := range w.events {
		builds += strings.Count(e, "build ")
		closes += strings.Count(e, "close ")
	}
	if builds != 4 || closes != 4 { // two topologies, two builds; the two overlay arms share one
		t.Errorf("%d builds and %d closes, want 4 each: %v", builds, closes, w.events)
	}
}

func TestRecordHasWhatWasCounted(t *testing.T) {
	w := &world{}
	if _, err := w.engine().Run(t.Context(), plan(1, "overlay")); err != nil {
		t.Fatal(err)
	}
	tr := w.trials[0]
	if got := *tr.Metrics["transactions"]; got != 1000 {
		t.Errorf("transactions %v", got)
	}
	if got := *tr.Metrics["cpu_per_transaction"]; got != 1e-3 {
		t.Errorf("cpu_per_transaction %v", got)
	}
	if !tr.Apart {
		t.Error("the lab kept the hosts' CPUs apart, the trial does not say so")
	}
	if v, there := tr.Metrics["latency_p50"]; v != nil || !there {
		t.Errorf("latency_p50 is %v, %v: what nobody collected must be there as null", v, there)
	}
	if p := tr.Proof; len(p.Failures) > 0 || p.PayloadToServer != 10_000 || !slices.Equal(p.Through, []string{"wire", "vxlan"}) {
		t.Errorf("proof %+v", p)
	}
}

// TestCostlyCollectors are in a run whose plan wants them, and nothing is built where a host can't have them.
func TestCostlyCollectors(t *testing.T) {
	w, p := &world{}, plan(1, "host")
	if _, err := w.engine().Run(t.Context(), p); err != nil || !slices.Equal(w.readers, []string{"fake"}) {
		t.Errorf("readers %q, error %v", w.readers, err)
	}
	if _, there := w.trials[0].Metrics["cpu_exact"]; there || slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "probe") }) {
		t.Errorf("not wanted: %v, events %q", w.trials[0].Metrics, w.events)
	}
	w, p.CPU = &world{}, econbench.CPUExact
	if _, err := w.engine().Run(t.Context(), p); err != nil || !slices.Equal(w.readers, []string{"fake", "costly"}) {
		t.Errorf("readers %q, error %v", w.readers, err)
	}
	if want := []string{"probe client [costly]", "probe server [costly]"}; !slices.Equal(w.events[:2], want) {
		t.Errorf("events %q, want %q first", w.events, want)
	}
	if v := w.trials[0].Metrics["cpu_exact"]; v == nil || *v != 0.9 {
		t.Errorf("wanted: %v", w.trials[0].Metrics)
	}
	if v, there := w.trials[0].Metrics["cpu_exact_irq"]; !there || v != nil {
		t.Error("what was not collected is not null")
	}
	w = &world{probeErr: map[string]error{econbench.ServerHost: errors.New("collector costly: not on this kernel")}}
	_, err := w.engine().Run(t.Context(), p)
	if err == nil || err.Error() != "server: collector costly: not on this kernel" || len(w.events) != 2 {
		t.Errorf("error %v, events %q", err, w.events)
	}
}

func TestOrderIsShuffledAndRepeatable(t *testing.T) {
	p := plan(40, "host", "overlay")
	first := 0
	for block := range p.Blocks {
		a, b := Order(p, block), Order(p, block)
		for i := range a {
			if a[i].String() != b[i].String() {
				t.Fatalf("block %d has two orders", block)
			}
		}
		if a[0].Arm.Topology == "host" {
			first++
		}
	}
	if first < 8 || first > 32 {
		t.Errorf("host came first in %d of 40 blocks", first)
	}
}

// A program that fails makes its trial invalid, with its log; topologies are made anew and the run goes on.
func TestFailedTrialIsKeptAndTheRunGoesOn(t *testing.T) {
	w := &world{loadErr: func(n int) error {
		if n == 1 {
			return errors.New("connection refused")
		}
		return nil
	}}
	tally, err := w.engine().Run(t.Context(), plan(2, "host", "overlay"))
	if err != nil || tally != (Tally{4, 3, 1}) {
		t.Fatalf("tally %+v, error %v", tally, err)
	}
	bad := w.trials[1]
	if bad.Valid || !strings.Contains(bad.Invalid[0], "connection refused") || w.logs[strings.TrimPrefix(bad.Log, "logs/")] != "the tool's last words" {
		t.Errorf("trial %+v, logs %v", bad, w.logs)
	}
	if w.trials[2].Build != 1 {
		t.Errorf("the trial after the failed one was measured on build %d, want a new one", w.trials[2].Build)
	}
}

func TestRunGivesUpWhenNothingWorks(t *testing.T) {
	w := &world{loadErr: func(int) error { return errors.New("no") }}
	tally, err := w.engine().Run(t.Context(), plan(50, "host", "overlay"))
	if err == nil || tally.Invalid != maxFailures || len(w.trials) != maxFailures {
		t.Errorf("tally %+v, error %v", tally, err)
	}
}

func TestDeadLabEndsTheRun(t *testing.T) {
	w := &world{loadErr: func(int) error { return errors.New("no") }, unhealthy: errors.New("engine a: connection refused")}
	tally, err := w.engine().Run(t.Context(), plan(5, "host", "overlay"))
	if !errors.Is(err, ErrUnhealthy) || tally.Invalid != 1 {
		t.Errorf("tally %+v, error %v", tally, err)
	}
}

// What is recorded before the user stops the run stays, and the trial that was under way leaves no trace.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	w := &world{}
	w.loadErr = func(n int) error {
		if n == 2 {
			cancel(stop)
			return errors.New("killed")
		}
		return nil
	}
	tally, err := w.engine().Run(ctx, plan(5, "host", "overlay"))
	if !errors.Is(err, stop) || tally.Valid != 2 || len(w.trials) != 2 {
		t.Errorf("tally %+v, error %v, %d trials", tally, err, len(w.trials))
	}
	if last := w.events[len(w.events)-1]; !strings.HasPrefix(last, "close ") {
		t.Errorf("topologies still stand: %v", w.events)
	}
}

func TestFullDiskEndsTheRun(t *testing.T) {
	full := errors.New("no space left on device")
	w := &world{appendErr: full}
	if _, err := w.engine().Run(t.Context(), plan(5, "host")); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

// A path that is not the arm's own makes the trial invalid, in either direction and on either side.
func TestProof(t *testing.T) {
	for name, c := range map[string]struct {
		arm   string
		spoil func(side string, c map[string]econbench.Counters)
		want  string
	}{
		"overlay goes around its tunnel": {"overlay", set("devices", "vxlan.rx_bytes", 0), "vxlan rx 0 B, payload accounts for at least 4800 B"},
		"only one direction does":        {"overlay", set("devices", "vxlan.tx_packets", 3), "vxlan tx 3 frames"},
		"host goes through a tunnel":     {"host", set("devices", "vxlan.rx_bytes", 80_000_000), "should be flat"},
		"payload is missing on the wire": {"host", set("devices", "wire.rx_packets", 10), "wire rx 10 frames"},
		"wire carries far more":          {"host", set("devices", "wire.tx_bytes", 900_000), "payload accounts for at most"},
		"device was not counted": {"overlay", func(_ string, c map[string]econbench.Counters) {
			delete(c["devices"], "vxlan.rx_bytes")
		}, "vxlan was not counted"},
		"nothing moved": {"host", func(_ string, c map[string]econbench.Counters) {
			c["sockets"]["bytes_received"], c["sockets"]["bytes_acked"] = 0, 0
		}, "no payload moved"},
		"foreign frames pay for their bytes": {"host", func(_ string, c map[string]econbench.Counters) {
			c["devices"]["wire.rx_bytes"], c["devices"]["wire.rx_packets"] = 1_580_000, 11_000 // 10000 frames of 150 B beside the workload
		}, "wire rx 1580000 B, payload accounts for at most"},
		"device off the path was not counted": {"host", func(_ string, c map[string]econbench.Counters) {
			delete(c["devices"], "vxlan.tx_bytes")
		}, "vxlan was not counted"},
		"wire was not counted": {"host", func(_ string, c map[string]econbench.Counters) {
			delete(c["devices"], "wire.tx_bytes")
		}, "wire was not counted"},
		"a socket counter is missing": {"host", func(_ string, c map[string]econbench.Counters) {
			delete(c["sockets"], "segs_in")
		}, "segs_in was not counted"},
		"sockets were not counted": {"host", func(_ string, c map[string]econbench.Counters) { delete(c, "sockets") }, "were not counted"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, spoiled := range []string{econbench.ClientHost, econbench.ServerHost} {
				w := &world{window: func(_ int, arm, side string) agentproto.WindowReply {
					r := soundWindow(arm, side)
					if arm == c.arm && side == spoiled {
						c.spoil(side, r.Window.Counters)
					}
					return r
				}}
				if _, err := w.engine().Run(t.Context(), plan(1, "host", "overlay")); err != nil {
					t.Fatal(err)
				}
				for _, tr := range w.trials {
					if tr.Valid != (tr.Arm.String() != c.arm) {
						t.Errorf("%s spoiled: trial of %s: valid is %v: %v", spoiled, tr.Arm, tr.Valid, tr.Invalid)
					}
					if !tr.Valid && !strings.Contains(strings.Join(tr.Invalid, "; "), spoiled+": "+c.want) &&
						!strings.Contains(strings.Join(tr.Invalid, "; "), c.want) {
						t.Errorf("%s spoiled: %v, want %q", spoiled, tr.Invalid, c.want)
					}
				}
			}
		})
	}
}

// An agent that was held up while reading has counters that lie apart by that much, and no more.
func TestProofKnowsHowFarCountersLieApart(t *testing.T) {
	for reading, valid := range map[econbench.Seconds]bool{0: false, 0.1: true} {
		w := &world{window: func(_ int, arm, side string) agentproto.WindowReply {
			r := soundWindow(arm, side)
			r.Window.Reading = reading
			for _, counter := range []string{"wire.rx_packets", "wire.tx_packets"} {
				r.Window.Counters["devices"][counter] = 920
			}
			return r
		}}
		if _, err := w.engine().Run(t.Context(), plan(1, "host")); err != nil {
			t.Fatal(err)
		}
		if tr := w.trials[0]; tr.Valid != valid {
			t.Errorf("reading for %g s: valid is %v: %v", reading, tr.Valid, tr.Invalid)
		}
	}
}

func set(collector, counter string, v float64) func(string, map[string]econbench.Counters) {
	return func(_ string, c map[string]econbench.Counters) { c[collector][counter] = v }
}

// An algorithm other than the plan's, on either side, makes the trial invalid.
func TestCongestionControlIsHeldToThePlan(t *testing.T) {
	for _, side := range []string{econbench.ClientHost, econbench.ServerHost} {
		w := &world{window: func(_ int, arm, at string) agentproto.WindowReply {
			r := soundWindow(arm, at)
			r.Window.Notes = map[string]string{econbench.NoteCongestionControl: "cubic"}
			if at == side {
				r.Window.Notes[econbench.NoteCongestionControl] = "bbr"
			}
			return r
		}}
		p := plan(1, "host")
		p.CongestionControl = "cubic"
		if _, err := w.engine().Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`congestion control: %s's flows run "bbr", want "cubic"`, side)
		if tr := w.trials[0]; tr.Valid || !slices.Equal(tr.Invalid, []string{want}) {
			t.Errorf("invalid because of %q, want %q", tr.Invalid, want)
		}
	}
}

// A testbed that has to be activated is so around the fast path, and is left as it was whatever fails in between.
func TestTestbedsAreActivated(t *testing.T) {
	around := []string{"activate host", "attach none", "detach none", "deactivate host"}
	for name, c := range map[string]struct {
		spoil   func(*world)
		events  []string
		invalid string // "": the trial is valid
		ends    bool   // the run does
	}{
		"all is well":       {func(*world) {}, around, "", false},
		"client fails":      {func(w *world) { w.loadErr = func(int) error { return errors.New("crashed") } }, around, "crashed", false},
		"proof fails":       {func(w *world) { w.doubted = []string{"rules were in effect"} }, around, "path: rules were in effect", false},
		"attaching fails":   {func(w *world) { w.attachErr = errors.New("no") }, []string{"activate host", "attach none", "deactivate host"}, "attach none: no", false},
		"can't be":          {func(w *world) { w.activateErr = errors.New("no") }, nil, "activate topology: no", false},
		"can't be no more":  {func(w *world) { w.deactivateErr = errors.New("busy") }, around, "busy", true},
		"both of them fail": {func(w *world) { w.doubted, w.deactivateErr = []string{"in effect"}, errors.New("busy") }, around, "in effect", true},
	} {
		w := &world{activated: true}
		c.spoil(w)
		_, err := w.engine().Run(t.Context(), plan(2, "host"))
		if errors.Is(err, ErrUnhealthy) != c.ends || (err != nil) != c.ends {
			t.Errorf("%s: run ended with %v", name, err)
		}
		if want := map[bool]int{true: 1, false: 2}[c.ends]; len(w.trials) != want {
			t.Fatalf("%s: %d trials, want %d", name, len(w.trials), want)
		}
		if invalid := strings.Join(w.trials[0].Invalid, "; "); !strings.Contains(invalid, c.invalid) || (invalid == "") != (c.invalid == "") {
			t.Errorf("%s: invalid because of %q, want %q", name, invalid, c.invalid)
		}
		end := slices.Index(w.events, "trial host")
		if got := w.events[1:end]; !slices.Equal(got, c.events) {
			t.Errorf("%s: %q, want %q", name, got, c.events)
		}
	}
}

// A topology that is another one, changed, has that one below it, planned or not, and its servers.
func TestBasedTopologyStandsUponItsBase(t *testing.T) {
	w := &world{}
	e := w.engine()
	e.Parts.Topologies = append([]econbench.Topology{basedTopology{fakeTopology{w, "changed"}}}, e.Parts.Topologies...)
	for _, arms := range [][]string{{"changed"}, {"changed", "host"}} {
		w.events, w.served = nil, nil
		p := plan(1, "host")
		p.Arms = nil
		for _, name := range arms {
			p.Arms = append(p.Arms, econbench.Arm{Topology: name, Fastpath: econbench.NoFastpath})
		}
		if _, err := e.Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if want := []string{"build host", "build changed upon host"}; !slices.Equal(w.events[:2], want) {
			t.Errorf("%v: %q, want %q first", arms, w.events, want)
		}
		if !slices.Equal(w.served, []string{"host"}) {
			t.Errorf("%v: servers in %q, want one in host", arms, w.served)
		}
		for _, closed := range []string{"close host", "close changed"} {
			if !slices.Contains(w.events, closed) {
				t.Errorf("%v: %q lacks %q", arms, w.events, closed)
			}
		}
	}
}

func TestCrossCheck(t *testing.T) {
	v := 1000.0
	m := map[string]*float64{"transactions": &v}
	if w := crossCheck(m, map[string]float64{"tool_transactions": 1100}); len(w) != 0 {
		t.Errorf("10 %% off warns: %v", w)
	}
	if w := crossCheck(m, map[string]float64{"tool_transactions": 500}); len(w) != 1 || !strings.Contains(w[0], "-50 %") {
		t.Errorf("50 %% off: %v", w)
	}
}

func TestResolveRefusesBadPlans(t *testing.T) {
	good := plan(1, "host", "overlay")
	for want, spoil := range map[string]func(*econbench.Plan){
		`arm "ovrlay": unknown topology "ovrlay": did you mean "overlay"? allowed: host, overlay`: func(p *econbench.Plan) {
			p.Arms = []econbench.Arm{{Topology: "ovrlay", Fastpath: "none"}}
		},
		`arm "host+quickr": unknown fast path "quickr": did you mean "quicker"? allowed: none, quicker`: func(p *econbench.Plan) {
			p.Arms = []econbench.Arm{{Topology: "host", Fastpath: "quickr"}}
		},
		`unknown workload "aks"`:      func(p *econbench.Plan) { p.Workloads = []econbench.PlannedWorkload{{Name: "aks"}} },
		`workload ask: unknown para`:  func(p *econbench.Plan) { p.Workloads[0].Params = econbench.Params{"x": "1"} },
		`baseline "overlay+quicker"`:  func(p *econbench.Plan) { p.Baseline = econbench.Arm{Topology: "overlay", Fastpath: "quicker"} },
		`arm "host": given twice`:     func(p *econbench.Plan) { p.Arms = append(p.Arms, p.Arms[0]) },
		`size=10: given twice`:        func(p *econbench.Plan) { p.Workloads = append(p.Workloads, p.Workloads[0]) },
		`blocks 0: want 1 to 100000`:  func(p *econbench.Plan) { p.Blocks = 0 },
		`duration NaN s: want 0.1 s`:  func(p *econbench.Plan) { p.Duration = econbench.Seconds(math.NaN()) },
		`unknown placement "spilt"`:   func(p *econbench.Plan) { p.Placement = "spilt" },
		`unknown wire "mtu-frame"`:    func(p *econbench.Plan) { p.Wire = "mtu-frame" },
		`no workload given`:           func(p *econbench.Plan) { p.Workloads = nil },
		`rebuild-every 0: want 1 to `: func(p *econbench.Plan) { p.RebuildEvery = 0 },
	} {
		p := good
		p.Workloads = slices.Clone(p.Workloads)
		spoil(&p)
		if _, err := (&world{}).parts().Resolve(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// Check finds all that is wrong, each with its place, and says nothing about what is sound.
func TestCheckNamesPlaces(t *testing.T) {
	p := plan(1, "host", "overlay")
	p.Arms = append(p.Arms, econbench.Arm{Topology: "host", Fastpath: "quickr"}, p.Arms[0])
	p.Baseline = econbench.Arm{Topology: "bridge", Fastpath: "none"}
	p.Workloads = []econbench.PlannedWorkload{
		{Name: "ask"}, {Name: "aks"}, {}, {Name: "ask", Params: econbench.Params{"x": "1", "size": "10"}}, {Name: "ask"},
	}
	p.Blocks, p.Warmup, p.Wire = 0, -1, "mtu"
	_, wrong := (&world{}).parts().Check(p)
	var got []Place
	for _, e := range wrong {
		got = append(got, e.Place)
	}
	want := []Place{
		{Key: "arms", Item: 3}, {Key: "arms", Item: 4}, {Key: "baseline"}, {Key: "workloads", Item: 2, Field: "name"},
		{Key: "workloads", Item: 3}, {Key: "workloads", Item: 4, Field: "x", Name: true}, {Key: "workloads", Item: 5},
		{Key: "blocks"}, {Key: "warmup"}, {Key: "wire"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("places %+v\nwant   %+v", got, want)
	}
	if _, wrong := (&world{}).parts().Check(plan(1, "host")); len(wrong) > 0 {
		t.Errorf("a sound plan: %v", wrong[0])
	}
}

func TestEstimateCountsWholeSeconds(t *testing.T) {
	p := plan(4, "host", "overlay")
	p.Duration, p.Warmup = 1.3, 0.4
	if got, want := (&world{}).parts().Estimate(p), 8*(2*time.Second+trialOverhead)+2*buildTime; got != want {
		t.Errorf("estimate %v, want %v", got, want)
	}
}
