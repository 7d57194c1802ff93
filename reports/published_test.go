// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/csv"
	"math"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// publishedRun is a run of a workload that its suite defines, beside what was published: within reach, out of reach, of another
// metric, of arms and workloads that it has not.
func publishedRun() *econbench.Run {
	run := sampleRun(10)
	run.Plan.Programs = []econbench.Program{{
		Name: "redis", Primary: "latency_p95", Server: []string{"redis-server"}, Client: []string{"redis-benchmark", "-h", "{server}"},
		Params: econbench.Params{"size": "64"}, Metrics: []econbench.ProgramMetric{
			{Name: "latency_p95", Unit: "s", Better: "lower", Help: "95th percentile", Regexp: `(\d+)`, Scale: 1e-6},
			{Name: "wakeups", Unit: "1/s", Better: econbench.BetterNeither, Help: "how often it woke up", JSON: "a", Scale: 1},
		},
	}}
	run.Plan.Workloads = append(run.Plan.Workloads, econbench.PlannedWorkload{Name: "redis", Params: econbench.Params{"size": "64"}, Primary: "latency_p95"})
	fast, plain := arm("overlay+oncache"), arm("overlay")
	run.Plan.Published = []econbench.PublishedFigure{
		{Workload: "tcp_rr", Metric: "transactions", Arm: fast, Against: plain, Gain: 1.36, Source: "Paper, table 1"},
		{Workload: "tcp_rr", Metric: "transactions", Arm: fast, Against: plain, Gain: 2.01, Source: "Paper, figure 2"},
		{Workload: "tcp_stream", Metric: "cpu_per_byte", Arm: fast, Against: plain, Gain: 0.74, UpTo: 0.68, Source: "Paper, table 3"},
		{Workload: "redis", Params: econbench.Params{"size": "64"}, Metric: "latency_p95", Arm: fast, Against: plain, Gain: 0.5, Source: "Paper | figure 4"},
		{Workload: "tcp_stream", Metric: "throughput", Arm: fast, Against: arm("host"), Gain: 1.2, Source: "Paper, text"},
		{Workload: "tcp_rr", Metric: "transactions", Arm: arm("overlay+xmasq"), Against: plain, Gain: 2, Source: "Other paper"},
		{Workload: "udp_rr", Metric: "transactions", Arm: fast, Against: plain, Gain: 2, Source: "Other paper"},
	}
	var own []econbench.Trial
	for _, t := range run.Trials {
		if t.Workload == "tcp_rr" {
			t.Workload, t.Params = "redis", econbench.Params{"size": "64"}
			t.Metrics = map[string]*float64{"latency_p95": ptr(1.3 / *t.Metrics["transactions"]), "wakeups": ptr(*t.Metrics["transactions"] / 2), "cpu": t.Metrics["cpu"]}
			own = append(own, t)
		}
	}
	run.Trials = append(run.Trials, own...)
	return run
}

// TestPublished checks what the golden reports show, in figures.
func TestPublished(t *testing.T) {
	s, err := Summarise(publishedRun())
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		reached    Reached
		outOfReach bool
		measured   float64 // what sampleRun is made of; 0: not measured
		gap        float64 // NaN: none
	}{
		{ReachedYes, false, 0.995 / 0.59, (0.995 - 0.59) / 0.41},
		{ReachedNo, true, 0.995 / 0.59, (0.995 - 0.59) / 0.41},
		{ReachedYes, false, 0.54 / 0.80, (1/0.80 - 1/0.54) / (1 - 1/0.54)},
		{ReachedNo, true, 0.59 / 0.995, (1/0.995 - 1/0.59) / (1 - 1/0.59)},
		{ReachedNo, false, 0.80, (0.80 - 0.54) / 0.46},
		{"", false, 0, math.NaN()},
		{"", false, 0, math.NaN()},
	}
	if len(s.Published) != len(want) {
		t.Fatalf("%d rows, want %d", len(s.Published), len(want))
	}
	for i, w := range want {
		p := s.Published[i]
		if p.Reached != w.reached || p.OutOfReach != w.outOfReach || (p.Measured == nil) != (w.measured == 0) || (p.Gap == nil) != math.IsNaN(w.gap) || (p.Note == "") == (p.Measured == nil) {
			t.Errorf("row %d: %+v", i+1, p)
			continue
		}
		if p.Measured != nil && math.Abs(*p.Measured.Median/w.measured-1) > 0.05 {
			t.Errorf("row %d: measured %v, want about %v", i+1, *p.Measured.Median, w.measured)
		}
		if p.Gap != nil && (math.Abs(*p.Gap.Median-w.gap) > 0.08 || p.Gap.N != 10 || !(*p.Gap.Low <= *p.Gap.Median && *p.Gap.Median <= *p.Gap.High)) {
			t.Errorf("row %d: gap %+v %v, want about %v", i+1, p.Gap, *p.Gap.Median, w.gap)
		}
	}
}

// TestGapClosed: a share is that of its own block, and a block without a gap has none.
func TestGapClosed(t *testing.T) {
	floor := map[int]float64{0: 10, 1: 10, 2: 10, 3: 10}
	host := map[int]float64{0: 20, 1: 30, 2: 9, 4: 50}
	arm := map[int]float64{0: 15, 1: 15, 2: 12, 3: 12, 4: 12}
	gap, note := gapClosed(arm, floor, host, econbench.Higher, Options{}.withDefaults())
	if gap == nil || gap.N != 2 || gap.Excluded != 1 || *gap.Median != 0.375 || gap.Low != nil || note != "1 of 3 blocks had no gap, host was not better" {
		t.Errorf("%+v, %q", gap, note)
	}
	gap, _ = gapClosed(map[int]float64{0: 8}, map[int]float64{0: 10}, map[int]float64{0: 6}, econbench.Lower, Options{}.withDefaults())
	if gap == nil || *gap.Median != 0.5 {
		t.Errorf("of a latency: %+v", gap)
	}
	if gap, note := gapClosed(arm, floor, floor, econbench.Higher, Options{}.withDefaults()); gap != nil || !strings.Contains(note, "in no block better") {
		t.Errorf("no gap: %+v, %q", gap, note)
	}
	if gap, note := gapClosed(arm, nil, host, econbench.Higher, Options{}.withDefaults()); gap != nil || !strings.Contains(note, "it takes host") {
		t.Errorf("no overlay: %+v, %q", gap, note)
	}
}

// TestReached: an interval says yes or no, a median alone nothing; of a range the nearer end is to be reached.
func TestReached(t *testing.T) {
	between := func(low, high float64) *Paired {
		return &Paired{Median: ptr((low + high) / 2), Low: ptr(low), High: ptr(high), N: 10}
	}
	up, down := econbench.PublishedFigure{Gain: 1.3, UpTo: 1.1}, econbench.PublishedFigure{Gain: 0.74, UpTo: 0.68}
	for _, test := range []struct {
		m    *Paired
		f    econbench.PublishedFigure
		want Reached
	}{
		{between(1.1, 1.2), up, ReachedYes}, {between(1.05, 1.2), up, ReachedUnclear}, {between(1, 1.09), up, ReachedNo},
		{between(0.6, 0.7), down, ReachedYes}, {between(0.7, 0.8), down, ReachedUnclear}, {between(0.75, 0.8), down, ReachedNo},
		{&Paired{Median: ptr(5), N: 3}, up, ReachedUnclear}, {&Paired{Excluded: 3}, up, ReachedUnclear},
	} {
		if got := reached(test.m, test.f); got != test.want {
			t.Errorf("%+v against %+v: %s, want %s", test.m, test.f, got, test.want)
		}
	}
}

// TestPublishedCSV: the published rows are rows of the same table.
func TestPublishedCSV(t *testing.T) {
	rows, err := csv.NewReader(strings.NewReader(render(t, CSV{}, publishedRun()))).ReadAll() // which refuses rows of different lengths
	if err != nil {
		t.Fatal(err)
	}
	published := 0
	for _, row := range rows[1:] {
		if row[len(csvHeader)] != "" {
			published++
		}
	}
	if published != 7 {
		t.Errorf("%d published rows, want 7", published)
	}
}

// TestOwnMetrics: unit and direction come with the run, in every report.
func TestOwnMetrics(t *testing.T) {
	run := publishedRun()
	s, err := Summarise(run)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range s.Cells {
		if c.Workload != "redis" {
			continue
		}
		p95, wakeups := c.Metrics["latency_p95"], c.Metrics["wakeups"]
		if p95.Unit != "s" || p95.Better != econbench.Lower || !p95.Primary || wakeups.Unit != "1/s" || wakeups.Better != econbench.Neither {
			t.Errorf("%s: %+v, %+v", c.Arm, p95, wakeups)
		}
		if c.Arm.String() == "overlay" && p95.Ratio.Verdict != VerdictWorse {
			t.Errorf("overlay: verdict %s", p95.Ratio.Verdict)
		}
	}
	again := publishedRun()
	again.Plan.Programs[0].Metrics[0].Better = "higher"
	if _, err := Compare([]Labelled{{"a", run}, {"b", again}}, CompareOptions{}); err == nil || !strings.Contains(err.Error(), "program redis") {
		t.Errorf("two definitions of one workload are compared: %v", err)
	}
	again.Plan.Programs[0].Metrics[0].Better, again.Plan.Programs[0].Help = "lower", "other words"
	c, err := Compare([]Labelled{{"a", run}, {"b", again}}, CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cell := range c.Pairs[0].Cells {
		if m := cell.Metrics["latency_p95"]; cell.Workload == "redis" && (m.Unit != "s" || m.Better != econbench.Lower) {
			t.Errorf("compared: %+v", m)
		}
	}
}
