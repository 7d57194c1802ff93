// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

// ruledRun has a ruler of both workloads: one calibrated before it, of an arm of its own, which saw nothing in few blocks; one
// added later. An arm lacks blocks.
func ruledRun() *econbench.Run {
	run := sampleRun(20)
	run.Plan.Placement = econbench.Shared
	alarms := econbench.Bounded{Share: 0.05, Low: 0.037, High: 0.065}
	ruler := func(i int, armed string, measured time.Time, lengths ...econbench.RulerLength) econbench.Ruler {
		return econbench.Ruler{
			Workload: run.Plan.Workloads[i].Name, Params: run.Plan.Workloads[i].Params, Pool: "20260101-000000-cd34", Measured: measured,
			Version: "v0.0.9", Arm: arm(armed), Blocks: 33, Trial: 2.2, Confidence: 0.95, Power: 0.95, Lengths: lengths,
		}
	}
	run.Rulers = []econbench.Ruler{
		ruler(0, "overlay", run.Started.AddDate(0, 0, -1), econbench.RulerLength{Blocks: 13, FalseAlarms: alarms},
			econbench.RulerLength{Blocks: 136, Sees: ptr(0.012), SeesLow: ptr(0.010), SeesHigh: ptr(0.015), FalseAlarms: alarms}),
		ruler(1, "host", run.Started.AddDate(0, 1, 0), econbench.RulerLength{Blocks: 13, Sees: ptr(0.104), FalseAlarms: alarms},
			econbench.RulerLength{Blocks: 68, Sees: ptr(0.018), FalseAlarms: alarms}),
	}
	var trials []econbench.Trial
	for _, tr := range run.Trials {
		if tr.Block < 5 || tr.Arm != arm("overlay+oncache") {
			trials = append(trials, tr)
		}
	}
	run.Trials = trials
	return run
}

// TestSeen reads a ruler that follows the theory, an effect of 10 % / √n, between its lengths and beyond them.
func TestSeen(t *testing.T) {
	theory := func(n int) float64 { return 0.1 / math.Sqrt(float64(n)) }
	var lengths []econbench.RulerLength
	for _, n := range []int{12, 48, 192} {
		lengths = append(lengths, econbench.RulerLength{Blocks: n, Sees: ptr(theory(n))})
	}
	o := Options{}.withDefaults()
	for _, n := range []int{6, 11, 12, 13, 24, 48, 100, 191, 192, 193, 300} {
		got, extrapolated := seen(lengths, n, o)
		if got == nil || math.Abs(*got/theory(n)-1) > 1e-12 || extrapolated != (n < 12 || n > 192) {
			t.Errorf("%d blocks: %v, extrapolated %v, want %g", n, got, extrapolated, theory(n))
		}
	}
	// A steeper piece: from 10.4 % to 1.8 % it is their geometric mean at the blocks' geometric mean.
	steep := []econbench.RulerLength{{Blocks: 16, Sees: ptr(0.104)}, {Blocks: 64, Sees: ptr(0.018)}}
	if got, _ := seen(steep, 32, o); got == nil || math.Abs(*got-math.Sqrt(0.104*0.018)) > 1e-12 {
		t.Errorf("32 blocks: %v, want %g", got, math.Sqrt(0.104*0.018))
	}
	// However many blocks there are, an effect below the least that counts gets no verdict.
	if got, _ := seen(lengths, 1e6, o); got == nil || *got != o.MinEffect {
		t.Errorf("a million blocks: %v, want %g", got, o.MinEffect)
	}
}

func TestSeenNothing(t *testing.T) {
	o := Options{}.withDefaults()
	blind := []econbench.RulerLength{{Blocks: 8}, {Blocks: 32, Sees: ptr(0.5)}}
	for n, want := range map[int]*float64{7: nil, 8: nil, 9: ptr(0.5 * math.Sqrt(32./9)), 32: ptr(0.5)} {
		got, _ := seen(blind, n, o)
		if (got == nil) != (want == nil) || got != nil && math.Abs(*got-*want) > 1e-12 {
			t.Errorf("%d blocks: %v, want %v", n, got, want)
		}
	}
	if got, _ := seen([]econbench.RulerLength{{Blocks: 32, Sees: ptr(0.9)}}, 8, o); got != nil {
		t.Errorf("more than twofold: %g, want nothing", *got)
	}
	if got, _ := seen(nil, 8, o); got != nil {
		t.Errorf("no lengths: %g", *got)
	}
}

func TestQuote(t *testing.T) {
	o := Options{}.withDefaults()
	alarms := func(share float64) econbench.Bounded { return econbench.Bounded{Share: share, High: 1} }
	r := &econbench.Ruler{Blocks: 40, Lengths: []econbench.RulerLength{ // as they come, and one that no verdict can be had from
		{Blocks: 64, Sees: ptr(0.01), FalseAlarms: alarms(0.64)}, {Blocks: 3, FalseAlarms: alarms(0.03)}, {Blocks: 16, Sees: ptr(0.02), FalseAlarms: alarms(0.16)},
	}}
	for _, c := range []struct {
		pairs        int
		sees, alarms float64 // 0: null
		extrapolated bool
	}{{5, 0, 0, false}, {6, 0.02 * math.Sqrt(16./6), 0.16, true}, {16, 0.02, 0.16, false}, {31, 0.02 * math.Sqrt(16./31), 0.16, false}, {33, 0.02 * math.Sqrt(16./33), 0.64, false}, {64, 0.01, 0.64, true}} {
		q := quote(r, c.pairs, o)
		if (q.Sees == nil) != (c.sees == 0) || q.Sees != nil && math.Abs(*q.Sees-c.sees) > 1e-12 || q.Extrapolated != c.extrapolated || q.Blocks != c.pairs {
			t.Errorf("%d pairs: %+v, want %g", c.pairs, q, c.sees)
		}
		if (q.FalseAlarms == nil) != (c.alarms == 0) || q.FalseAlarms != nil && q.FalseAlarms.Share != c.alarms {
			t.Errorf("%d pairs: false alarms %+v, want %g", c.pairs, q.FalseAlarms, c.alarms)
		}
	}
	r.Lengths = []econbench.RulerLength{{Blocks: 16, Sees: ptr(0.04), SeesLow: ptr(0.02), SeesHigh: ptr(0.08)}, {Blocks: 64, Sees: ptr(0.02), SeesLow: ptr(0.01), SeesHigh: ptr(0.04)}}
	if q := quote(r, 32, o); math.Abs(*q.SeesLow/math.Sqrt(0.02*0.01)-1) > 1e-9 || math.Abs(*q.SeesHigh/math.Sqrt(0.08*0.04)-1) > 1e-9 {
		t.Errorf("32 pairs: bounds %g and %g, want the geometric means of those of 16 and 64", *q.SeesLow, *q.SeesHigh)
	}
	if quote(nil, 10, o) != nil || quote(r, 0, o) != nil {
		t.Error("a quote without a ruler, or of nothing")
	}
}

// TestRulers: which calibration a run takes.
func TestRulers(t *testing.T) {
	run := sampleRun(1)
	known := func(change func(*Calibration)) *Calibration {
		c := &Calibration{Schema: 1, Run: "old", Duration: 2, Warmup: 0.5, Arm: arm("overlay"), Started: run.Started.AddDate(0, 0, -9),
			Workloads: []CalibratedWorkload{{Workload: "tcp_rr", Params: econbench.Params{"response": "1", "request": "1"}, Primary: "transactions", Blocks: 33,
				Lengths: []CalibratedLength{{Blocks: 12, Sees: ptr(0.1), FalseAlarms: Rate{Hits: 5, Runs: 100, Share: 0.05, Low: 0.02, High: 0.11}}}}}}
		change(c)
		return c
	}
	old := known(func(*Calibration) {})
	newer := known(func(c *Calibration) { c.Run, c.Started = "newer", c.Started.AddDate(0, 0, 1) })
	stranger := known(func(c *Calibration) {
		c.Run, c.Started, c.Arm = "stranger", c.Started.AddDate(0, 0, 2), arm("host-bare")
	})
	for _, c := range []struct {
		name  string
		known []*Calibration
		want  string
	}{
		{"none", nil, ""},
		{"one", []*Calibration{old}, "old"},
		{"newest", []*Calibration{old, newer}, "newer"},
		{"newest, whatever the order", []*Calibration{newer, old}, "newer"},
		{"of an arm of the plan", []*Calibration{stranger, old}, "old"},
		{"of any arm", []*Calibration{stranger}, "stranger"},
		{"window", []*Calibration{known(func(c *Calibration) { c.Duration = 1.5 })}, ""},
		{"warm-up", []*Calibration{known(func(c *Calibration) { c.Warmup = 0 })}, ""},
		{"from before the shape was recorded", []*Calibration{known(func(c *Calibration) { c.Duration, c.Warmup = 0, 0 })}, ""},
		{"parameters", []*Calibration{known(func(c *Calibration) { c.Workloads[0].Params = econbench.Params{"request": "1", "response": "2"} })}, ""},
		{"primary metric", []*Calibration{known(func(c *Calibration) { c.Workloads[0].Primary = "latency_p99" })}, ""},
		{"workload", []*Calibration{known(func(c *Calibration) { c.Workloads[0].Workload = "udp_rr" })}, ""},
	} {
		got := ""
		rulers := Rulers(run, c.known)
		if len(rulers) > 0 {
			got = rulers[0].Pool
		}
		if got != c.want || len(rulers) > 1 {
			t.Errorf("%s: %q of %d, want %q", c.name, got, len(rulers), c.want)
		}
	}
	want := []econbench.Ruler{{Workload: "tcp_rr", Params: econbench.Params{"request": "1", "response": "1"}, Pool: "old", Measured: old.Started, Arm: arm("overlay"), Blocks: 33,
		Lengths: []econbench.RulerLength{{Blocks: 12, Sees: ptr(0.1), FalseAlarms: econbench.Bounded{Share: 0.05, Low: 0.02, High: 0.11}}}}}
	if diff := cmp.Diff(want, Rulers(run, []*Calibration{old})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// What was frozen stays, and a ruler is neither part of the machine's key nor a reason for another verdict.
	key := keyOfMachine(run)
	run.Rulers = want
	if got := Rulers(run, []*Calibration{newer}); got != nil {
		t.Errorf("a run that has a ruler got another: %+v", got)
	}
	if got := keyOfMachine(run); got != key || key == "" {
		t.Errorf("key %q, was %q", got, key)
	}
}

func keyOfMachine(run *econbench.Run) string {
	facts := econbench.HostFacts{Fingerprint: econbench.Fingerprint{"cpu.model": "one"}}
	run.Hosts = map[string]econbench.HostFacts{econbench.ClientHost: facts, econbench.ServerHost: facts}
	return run.MachineKey()
}

func TestReadCalibration(t *testing.T) {
	c, err := Calibrate(poolRun(30, 0.02, 0.03), CalibrationOptions{Minutes: []float64{1}, Runs: 20})
	if err != nil {
		t.Fatal(err)
	}
	if c.Duration != 2 || c.Warmup != 0.5 {
		t.Errorf("window %g after %g, want the pool's", c.Duration, c.Warmup)
	}
	var b bytes.Buffer
	if err := c.RenderJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadCalibration(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := got.RenderJSON(&again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), again.String()); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
	for text, want := range map[string]string{
		b.String()[:b.Len()/2]:             "unexpected end",
		"":                                 "unexpected end",
		"[]":                               "cannot unmarshal",
		"{}":                               "no schema",
		`{"schema": 7, "run": 3}`:          "schema 7 is newer than 1",
		`{"schema": 1}`:                    "no pool",
		`{"schema": 1, "run": 3}`:          "cannot unmarshal",
		`{"schema": 1, "run": "20260101"}`: "no arm",
	} {
		if _, err := ReadCalibration([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.30q: %v, want %q", text, err, want)
		}
	}
}

// TestRulerChangesNoVerdict: with a ruler a report says one thing more, and nothing else.
func TestRulerChangesNoVerdict(t *testing.T) {
	run := ruledRun()
	with, err := Summarise(run)
	if err != nil {
		t.Fatal(err)
	}
	run.Rulers = nil
	without, err := Summarise(run)
	if err != nil {
		t.Fatal(err)
	}
	for i := range with.Cells {
		if has := with.Cells[i].Ruler != nil; has != (with.Cells[i].Arm != with.Baseline) {
			t.Errorf("%s %s: ruler %v", with.Cells[i].Arm, with.Cells[i].Workload, has)
		}
		with.Cells[i].Ruler = nil
	}
	if diff := cmp.Diff(without, with, cmp.AllowUnexported(Cell{}, Ratio{})); diff != "" {
		t.Errorf("-without +with:\n%s", diff)
	}
}

// FuzzReadCalibration: whatever lies in a store, a run that quotes it can be reported in every format.
func FuzzReadCalibration(f *testing.F) {
	f.Add([]byte(`{"schema": 1, "run": "p", "arm": "overlay", "duration": 2, "warmup": 0.5, "workloads": [{"workload": "tcp_rr",
		"params": {"request": "1", "response": "1"}, "primary": "transactions", "blocks": 33, "lengths": [{"blocks": 13, "sees": 0.1}, {"blocks": 68, "sees": 0.02}]}]}`))
	f.Add([]byte(`{"schema": 1, "run": "p\u001b[2J", "arm": "a", "duration": 2, "warmup": 0.5, "workloads": [{"workload": "tcp_rr",
		"params": {"request": "1", "response": "1"}, "primary": "transactions", "lengths": [{"blocks": 7, "sees": 1e308}, {"blocks": 7, "sees": 5e-324}, {"blocks": -1, "sees": -1}]}]}`))
	f.Add([]byte(`{"schema": 2}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ReadCalibration(b)
		if err != nil {
			return
		}
		run := sampleRun(7)
		run.Rulers = Rulers(run, []*Calibration{c})
		for _, r := range All() {
			if text := render(t, r, run); strings.Contains(text, "\x1b") {
				t.Errorf("%s: %q", r.Name(), text)
			}
		}
	})
}
