// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

func warningsOf(t *testing.T, run *econbench.Run, arm string) (texts []string) {
	t.Helper()
	for _, n := range cellOf(t, summarise(t, run), arm, "tcp_rr").Warnings {
		texts = append(texts, n.String())
	}
	return texts
}

func TestNoiseWarns(t *testing.T) {
	steady := []float64{100, 101, 99, 100.5, 99.5, 100.2, 99.8, 100.1, 99.9, 100.3, 99.7, 100}
	odd := slices.Clone(steady)
	odd[7] = 60
	rising := slices.Clone(steady)
	for i := range rising {
		rising[i] += 3 * float64(i)
	}
	for name, c := range map[string]struct {
		overlay []float64
		want    string // "": no warning
	}{
		"steady":          {steady, ""},
		"odd":             {odd, "noisy: transactions of block 7 is -40% off the median"},
		"rising":          {rising, "drift: transactions changed by +23% from the first third of the blocks to the last (ρ +1.00)"},
		"equal":           {repeat(12, 100), ""},
		"one odd of five": {odd[5:10], ""},
		// The MAD of values most of which are equal is 0: nothing stands out by it.
		"mostly equal": {append(repeat(11, 100), 50), ""},
		"zeros":        {repeat(12, 0), ""},
	} {
		t.Run(name, func(t *testing.T) {
			var found string
			for _, w := range warningsOf(t, rrRun(steady, c.overlay), "overlay") {
				if strings.HasPrefix(w, "noisy") || strings.HasPrefix(w, "drift") {
					found += w
				}
			}
			if c.want == "" && found != "" || !strings.HasPrefix(found, c.want) {
				t.Errorf("%q, want %q", found, c.want)
			}
			if n := cellOf(t, summarise(t, rrRun(steady, c.overlay)), "overlay", "tcp_rr").Metrics["transactions"].N; n != len(c.overlay) {
				t.Errorf("%d values count, want all %d", n, len(c.overlay))
			}
		})
	}
}

func TestUnfinishedWarmup(t *testing.T) {
	for name, c := range map[string]struct {
		halves float64
		warned bool
	}{"unfinished": {0.93, true}, "within what counts": {0.99, false}, "slowing down": {1.2, false}} {
		run := rrRun(repeat(8, 100), repeat(8, 90))
		for i := range run.Trials {
			run.Trials[i].Metrics["halves"] = ptr(c.halves + 0.001*float64(i%3))
		}
		warned := slices.ContainsFunc(warningsOf(t, run, "overlay"), func(s string) bool { return strings.HasPrefix(s, "warm-up was not over") })
		if warned != c.warned {
			t.Errorf("%s: warned %v", name, warned)
		}
	}
}

func TestMinEffect(t *testing.T) {
	overlay := []float64{100.31, 100.32, 100.33, 100.34, 100.35, 100.36, 100.37}
	r := func(o Options) *Ratio {
		s, err := SummariseWith(rrRun(repeat(7, 100), overlay), o)
		if err != nil {
			t.Fatal(err)
		}
		return cellOf(t, s, "overlay", "tcp_rr").Metrics["transactions"].Ratio
	}
	if got := r(Options{}); got.Verdict != VerdictSame || !strings.Contains(got.Reason, "0.34% is less than the least difference that counts, 0.5%") {
		t.Errorf("%s, %q", got.Verdict, got.Reason)
	}
	if got := r(Options{MinEffect: 0.003}); got.Verdict != VerdictBetter || got.Reason != "" {
		t.Errorf("%s, %q", got.Verdict, got.Reason)
	}
	near(t, "effect of a ratio", effect(1.25), 0.25, 1e-12)
	near(t, "effect of its reciprocal", effect(0.8), 0.25, 1e-12)
}

// TestMoreBlocks: what was promised holds when that many blocks of the same kind come.
func TestMoreBlocks(t *testing.T) {
	few := rrRun(repeat(3, 100), repeat(3, 60, 61, 62))
	r := cellOf(t, summarise(t, few), "overlay", "tcp_rr").Metrics["transactions"].Ratio
	if r.More == nil || *r.More != 3 { // six are the fewest
		t.Errorf("of three blocks: %v more", r.More)
	}
	wide := []float64{60, 140, 90, 110, 105, 95, 130, 75}
	r = cellOf(t, summarise(t, rrRun(repeat(8, 100), wide)), "overlay", "tcp_rr").Metrics["transactions"].Ratio
	if r.Verdict != VerdictInconclusive || r.More == nil {
		t.Fatalf("%+v", r)
	}
	n := len(wide) + *r.More
	r = cellOf(t, summarise(t, rrRun(repeat(n, 100), repeat(n, wide...))), "overlay", "tcp_rr").Metrics["transactions"].Ratio
	if r.Verdict == VerdictInconclusive && *r.More > n/3 {
		t.Errorf("after the blocks that were promised: %+v", r)
	}
}

// TestMeans: an arm twice as fast under one workload and half as fast under another one comes to 1.
func TestMeans(t *testing.T) {
	run := sampleRun(8)
	for i, trial := range run.Trials {
		v := map[string]float64{"tcp_stream": 100, "tcp_rr": 100}[trial.Workload]
		if trial.Arm.String() == "overlay" {
			v *= map[string]float64{"tcp_stream": 2, "tcp_rr": 0.5}[trial.Workload]
		}
		if trial.Arm.String() == "overlay+oncache" {
			v *= map[string]float64{"tcp_stream": 0.9, "tcp_rr": 0.4}[trial.Workload]
		}
		run.Trials[i].Metrics = map[string]*float64{run.Plan.Workloads[map[string]int{"tcp_stream": 0, "tcp_rr": 1}[trial.Workload]].Primary: &v}
	}
	s := summarise(t, run)
	if len(s.Means) != 2 || s.Means[0].N != 8 || s.Means[0].Workloads != 2 || s.Means[0].Without != 0 {
		t.Fatalf("%+v", s.Means)
	}
	near(t, "twice and half", *s.Means[0].Median, 1, 1e-12)
	near(t, "low", *s.Means[0].Low, 1, 1e-12)
	near(t, "0.9 and 0.4", *s.Means[1].Median, math.Sqrt(0.9*0.4), 1e-12)

	run.Plan.Workloads[1].Primary = "latency_p99" // nobody has it
	s = summarise(t, run)
	if m := s.Means[0]; m.Workloads != 1 || m.Without != 1 || math.Abs(*m.Median-2) > 1e-12 {
		t.Errorf("one workload left: %+v", m)
	}
	for i := range run.Trials { // of latency less is better
		run.Trials[i].Metrics["latency_p99"] = ptr(map[string]float64{"host": 2, "overlay": 1, "overlay+oncache": 8}[run.Trials[i].Arm.String()])
	}
	s = summarise(t, run)
	near(t, "gain of latency", *s.Means[0].Median, 2, 1e-12) // 2 and 2/1
}
