// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

// nightly makes nights of tcp_rr on host and overlay. The overlay's ratio is 0.6 times shape(night); levels of whole nights drift by
// several percent, which ratios do not see; blocks have 0.5 % of noise of their own.
func nightly(seed uint64, nights int, cv float64, shape func(night int) float64) (runs []*econbench.Run) {
	random := rand.New(rand.NewPCG(seed, 60))
	noise := func(cv float64) float64 { return math.Exp(cv * random.NormFloat64()) }
	for i := range nights {
		level, ratio := 5e4*noise(0.04), 0.6*shape(i)*noise(cv)
		var host, overlay []float64
		for range 8 {
			v := level * noise(0.01)
			host, overlay = append(host, v), append(overlay, v*ratio*noise(0.005))
		}
		run := rrRun(host, overlay)
		run.Started = run.Started.AddDate(0, 0, i)
		run.ID = run.Started.Format("20060102-150405") + fmt.Sprintf("-%04x", i)
		runs = append(runs, run)
	}
	return runs
}

// steps is 1 up to the first night named, then the product of the factors of the nights passed.
func steps(at map[int]float64) func(int) float64 {
	return func(night int) float64 {
		v := 1.0
		for first, f := range at {
			if night >= first {
				v *= f
			}
		}
		return v
	}
}

var flat = steps(nil)

func nightsOfRuns(t testing.TB, runs []*econbench.Run, o HistoryOptions) (list []Night) {
	t.Helper()
	for _, r := range runs {
		n, err := NewNight("nights/"+r.ID, r, o)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

func historyOf(t testing.TB, runs []*econbench.Run, o HistoryOptions) *History {
	t.Helper()
	h, err := NewHistory(nightsOfRuns(t, runs, o), o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func nightsApart(a, b int) int { return max(a-b, b-a) }

func seriesNamed(t testing.TB, h *History, arm, metric string) *HistorySeries {
	t.Helper()
	for i := range h.Series {
		if s := &h.Series[i]; s.Arm.String() == arm && s.Metric == metric {
			return s
		}
	}
	t.Fatalf("no series %s %s", arm, metric)
	return nil
}

func renderHistory(t testing.TB, h *History, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := h.Render(&b, format); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestHistoryPlanted is what the issue asks for: 60 nights with noise of 1 %, a loss of 5 % at night 21 and a gain of 4 % at night 43,
// 100 times. docs/history.md has the rates that this asserts; seeds are fixed, so that nothing about them is left to chance.
func TestHistoryPlanted(t *testing.T) {
	const seeds = 100
	exact, near, other := 0, 0, 0
	for seed := range uint64(seeds) {
		h := historyOf(t, nightly(seed, 60, 0.01, steps(map[int]float64{21: 0.95, 43: 1.04})), HistoryOptions{})
		c := seriesNamed(t, h, "overlay", "transactions").Tracks[0].Changes
		switch {
		case len(c) != 2 || nightsApart(c[0].Night, 21) > 1 || nightsApart(c[1].Night, 43) > 1:
			other++
			t.Logf("seed %d: %+v", seed, c)
		case c[0].Verdict != VerdictWorse || c[1].Verdict != VerdictBetter:
			t.Errorf("seed %d: verdicts %s, %s", seed, c[0].Verdict, c[1].Verdict)
		case c[0].Night == 21 && c[1].Night == 43:
			exact++
		default:
			near++
		}
	}
	t.Logf("both changes and no other: at the very nights in %d, one of them a night off in %d, anything else in %d of %d", exact, near, other, seeds)
	if exact+near < 97 || exact < 88 {
		t.Errorf("found %d at the very nights, %d within one, %d otherwise", exact, near, other)
	}
}

// TestHistoryFalseAlarms: equal nights show a change no more often than alpha says, however they are distributed; those that are
// correlated do, and are warned of.
func TestHistoryFalseAlarms(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const histories, series, nights = 200, 20, 60
	gauss := func(r *rand.Rand) float64 { return r.NormFloat64() }
	for _, c := range []struct {
		name  string
		noise func(*rand.Rand) float64
		most  float64 // share of histories with any change
	}{
		{"Gaussian", gauss, 0.02},
		{"uniform", func(r *rand.Rand) float64 { return r.Float64() }, 0.02},
		{"Student's t, 3 degrees of freedom", studentT3, 0.04},
		{"whole steps", func(r *rand.Rand) float64 { return math.Round(r.NormFloat64()) }, 0.02},
		{"one spike of 10 σ in a hundred", spiked(0.01), 0.04},
		{"autocorrelation of 0.3", correlatedNoise(0.3), 0.1},
	} {
		alarms := 0
		for seed := range uint64(histories) {
			random := rand.New(rand.NewPCG(seed, 20))
			any := false
			for range series {
				x := make([]float64, nights)
				for i := range x {
					x[i] = c.noise(random)
				}
				any = len(changePoints(x, DefaultMinSegment, DefaultHistoryAlpha/float64(series*places(nights, DefaultMinSegment)))) > 0 || any
			}
			if any {
				alarms++
			}
		}
		share := float64(alarms) / histories
		t.Logf("%s: %.1f%% of %d histories of %d series with %d nights show any change", c.name, 100*share, histories, series, nights)
		if share > c.most {
			t.Errorf("%s: false alarms in %.1f%%, want %.0f%% at most", c.name, 100*share, 100*c.most)
		}
	}
}

// correlatedNoise is AR(1) with a variance of 1.
func correlatedNoise(rho float64) func(*rand.Rand) float64 {
	last := 0.0
	return func(r *rand.Rand) float64 {
		last = rho*last + math.Sqrt(1-rho*rho)*r.NormFloat64()
		return last
	}
}

func studentT3(r *rand.Rand) float64 {
	var squares float64
	for range 3 {
		squares += math.Pow(r.NormFloat64(), 2)
	}
	return r.NormFloat64() / math.Sqrt(squares/3)
}

// TestChangePoints: what is to be found and what is not, in series that are easily looked through.
func TestChangePoints(t *testing.T) {
	wiggle := func(n int, at map[int]float64) []float64 {
		x := make([]float64, n)
		level := 0.0
		for i := range x {
			level += at[i]
			x[i] = level + []float64{0, 0.01, -0.01, 0.005, -0.006, 0.002}[i%6]
		}
		return x
	}
	spike := func(x []float64, at int, size float64) []float64 { x[at] += size; return x }
	for name, c := range map[string]struct {
		x    []float64
		want []int
	}{
		"none":                 {nil, nil},
		"one night":            {[]float64{1}, nil},
		"equal nights":         {repeat(40, 1), nil},
		"steps without noise":  {slices.Concat(repeat(10, 1), repeat(10, 2)), []int{10}},
		"nothing":              {wiggle(60, nil), nil},
		"one":                  {wiggle(60, map[int]float64{30: 0.1}), []int{30}},
		"two":                  {wiggle(60, map[int]float64{20: -0.1, 40: 0.1}), []int{20, 40}},
		"came and went":        {wiggle(300, map[int]float64{200: -0.1, 206: 0.1}), []int{200, 206}},
		"newest three":         {wiggle(33, map[int]float64{30: -0.1}), []int{30}},
		"newest two":           {wiggle(32, map[int]float64{30: -0.1}), nil},
		"spike":                {spike(wiggle(60, nil), 30, 5), nil},
		"spike in the newest":  {spike(wiggle(60, nil), 59, -5), nil},
		"spike before newest":  {spike(wiggle(60, nil), 58, -5), nil},
		"first night":          {spike(wiggle(60, nil), 0, 5), nil},
		"change beside spikes": {spike(spike(wiggle(60, map[int]float64{30: 0.1}), 10, 5), 50, -5), []int{30}},
		"many":                 {wiggle(1000, map[int]float64{100: 0.1, 250: -0.2, 400: 0.05, 401: 0.05, 700: 0.1}), []int{100, 250, 400, 700}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int
			for _, cut := range changePoints(c.x, DefaultMinSegment, DefaultHistoryAlpha/float64(20*max(1, places(len(c.x), DefaultMinSegment)))) {
				got = append(got, cut.at)
			}
			if name == "many" && len(got) == len(c.want) && nightsApart(got[2], 400) <= 1 {
				got[2] = 400 // two steps in two nights are one change at either
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %d, want %d", got, c.want)
			}
		})
	}
}

// TestBestSplit holds the running sums against the definition.
func TestBestSplit(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 9))
	for round := range 200 {
		x := make([]float64, 6+random.IntN(20))
		for i := range x {
			x[i] = random.NormFloat64() + float64(i/(4+round%9))
		}
		if got, want := bestSplit(x, 3), slowSplit(x, 3); got != want {
			t.Fatalf("%v: split at %d, want %d", x, got, want)
		}
	}
}

// slowSplit is equations (5) to (7) of arXiv:1306.4933 with α = 1, word by word.
func slowSplit(x []float64, least int) (at int) {
	mean := func(a, b []float64, pairs float64) (sum float64) {
		for _, v := range a {
			for _, w := range b {
				sum += math.Abs(v - w)
			}
		}
		return sum / pairs
	}
	best := math.Inf(-1)
	for i := least; i <= len(x)-least; i++ {
		a, b := x[:i], x[i:]
		n, m := float64(len(a)), float64(len(b))
		if q := n * m / (n + m) * (2*mean(a, b, n*m) - mean(a, a, n*(n-1)) - mean(b, b, m*(m-1))); q > best+1e-12 {
			best, at = q, i
		}
	}
	return at
}

// TestShiftP: without outliers it is Student's test.
func TestShiftP(t *testing.T) {
	// Student's sleep data [Biometrika 6, 1908], taken as independent: R's t.test(var.equal = TRUE) gives 0.07919.
	x, y := []float64{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0, 2}, []float64{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4}
	near(t, "p", shiftP(x, y, 1), 0.07919, 1e-5)
	y[6] = 1e6 // one value far off does not hide that the others are not, nor does it make a difference by itself
	near(t, "p with an outlier", shiftP(x, y, 1), 0.05, 0.04)
	if p := shiftP([]float64{1}, y, 1); p != 1 {
		t.Errorf("one value: %v", p)
	}
}

// withKernel gives hosts a fingerprint.
func withKernel(run *econbench.Run, kernel, program string) {
	facts := func() econbench.HostFacts {
		return econbench.HostFacts{Kernel: kernel, Fingerprint: econbench.Fingerprint{"kernel.release": kernel, "bpf.econ": program, "econbench.version": "v1"}}
	}
	run.Hosts = map[string]econbench.HostFacts{econbench.ClientHost: facts(), econbench.ServerHost: facts()}
}

// historyGateCase is forty nights, and what a gate makes of them.
type historyGateCase struct {
	shape   map[int]float64
	o       HistoryOptions
	change  func([]*econbench.Run)
	exit    int
	says    string
	regress []int
}

func historyGateCases() map[string]historyGateCase {
	ack := func(night string, change func(*Acknowledgement)) HistoryOptions {
		a := Acknowledgement{Place: "known.yaml:2", Night: night, Tolerance: 2, Reason: "GRO is off"}
		if change != nil {
			change(&a)
		}
		return HistoryOptions{Acknowledged: []Acknowledgement{a}}
	}
	date := func(night int) string {
		return time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC).AddDate(0, 0, night).Format(time.DateOnly)
	}
	return map[string]historyGateCase{
		"nothing":              {nil, HistoryOptions{}, nil, 0, "gate: passed", nil},
		"worse":                {map[int]float64{30: 0.93}, HistoryOptions{}, nil, 2, "regression: overlay tcp_rr", []int{30}},
		"worse in three":       {map[int]float64{37: 0.93}, HistoryOptions{}, nil, 2, "regression: overlay tcp_rr", []int{37}},
		"better":               {map[int]float64{30: 1.08}, HistoryOptions{}, nil, 0, "", nil},
		"won back":             {map[int]float64{15: 0.93, 28: 1 / 0.93}, HistoryOptions{}, nil, 0, "", nil},
		"won back half":        {map[int]float64{15: 0.90, 28: 1.05}, HistoryOptions{}, nil, 2, "", []int{15}},
		"won and lost":         {map[int]float64{15: 1.08, 28: 1 / 1.08}, HistoryOptions{}, nil, 2, "", []int{28}},
		"creeping":             {map[int]float64{14: 0.985, 27: 0.985}, HistoryOptions{}, nil, 2, "", []int{14, 27}},
		"too small":            {map[int]float64{20: 0.988}, HistoryOptions{}, nil, 0, "is less than the least difference", nil},
		"known by date":        {map[int]float64{30: 0.93}, ack(date(30), nil), nil, 0, "acknowledged: GRO is off (known.yaml:2)", nil},
		"known, a night off":   {map[int]float64{30: 0.93}, ack(date(31), nil), nil, 0, "", nil},
		"known, elsewhere":     {map[int]float64{30: 0.93}, ack(date(25), nil), nil, 2, "the entry may be removed", []int{30}},
		"known by pattern":     {map[int]float64{30: 0.93}, ack(date(30), func(a *Acknowledgement) { a.Arm, a.Workload = "over*", "tcp_*" }), nil, 0, "", nil},
		"known of another":     {map[int]float64{30: 0.93}, ack(date(30), func(a *Acknowledgement) { a.Arm = "host" }), nil, 2, "", []int{30}},
		"known and a new one":  {map[int]float64{15: 0.93, 30: 0.94}, ack(date(15), nil), nil, 2, "", []int{30}},
		"known, won back, new": {map[int]float64{12: 0.93, 22: 1 / 0.93, 32: 0.95}, ack(date(12), nil), nil, 2, "", []int{32}},
		"another kernel": {map[int]float64{30: 0.93}, HistoryOptions{}, func(runs []*econbench.Run) {
			for i, r := range runs {
				withKernel(r, []string{"6.1.0", "6.8.0"}[i/30], "aa")
			}
		}, 0, `fingerprint changed from setup 1: kernel.release of client: "6.8.0", was "6.1.0"`, nil},
		"across kernels": {map[int]float64{30: 0.93}, HistoryOptions{Across: []string{"kernel.*"}}, func(runs []*econbench.Run) {
			for i, r := range runs {
				withKernel(r, []string{"6.1.0", "6.8.0"}[i/30], "aa")
			}
		}, 2, `changed with it: kernel.release of client: "6.8.0", was "6.1.0"`, []int{30}},
		"another program": {map[int]float64{30: 0.93}, HistoryOptions{}, func(runs []*econbench.Run) {
			for i, r := range runs {
				withKernel(r, "6.1.0", []string{"aa", "bb"}[i/30])
			}
		}, 2, `bpf.econ of client: "bb", was "aa"`, []int{30}},
		"another duration": {map[int]float64{30: 0.93}, HistoryOptions{}, func(runs []*econbench.Run) {
			for _, r := range runs[30:] {
				r.Plan.Duration = 9
			}
		}, 0, "setup 2: 10 nights", nil},
		"two machines by turns": {nil, HistoryOptions{}, func(runs []*econbench.Run) {
			for i, r := range runs {
				withKernel(r, []string{"6.1.0", "6.8.0"}[i%2], "aa")
				if i%2 == 1 {
					scaleArm(r, "overlay", 0.8)
				}
			}
		}, 0, "setup 2: 20 nights", nil},
		"interrupted": {nil, HistoryOptions{}, func(runs []*econbench.Run) { runs[39].Status = econbench.StatusInterrupted }, 1, "could not measure: run 2026", nil},
		"killed":      {nil, HistoryOptions{}, func(runs []*econbench.Run) { runs[39].Status = econbench.StatusRunning }, 1, "not finished", nil},
		"an older one killed": {nil, HistoryOptions{}, func(runs []*econbench.Run) { runs[38].Status = econbench.StatusRunning },
			0, "", nil},
		"invalid": {nil, HistoryOptions{}, func(runs []*econbench.Run) { invalidate(runs[39], "overlay") }, 1, "could not measure: overlay tcp_rr request=1 response=1 transactions: all 8 trials invalid", nil},
		"no baseline that night": {nil, HistoryOptions{}, func(runs []*econbench.Run) { invalidate(runs[39], "host") },
			1, "no valid trial of the baseline", nil},
		"half invalid": {nil, HistoryOptions{}, func(runs []*econbench.Run) {
			for i := range runs[39].Trials {
				tr := &runs[39].Trials[i]
				tr.Valid = tr.Block < 3
			}
		}, 1, "only 3 of 8 blocks have a value", nil},
		"both": {map[int]float64{30: 0.93}, HistoryOptions{}, func(runs []*econbench.Run) { runs[39].Status = econbench.StatusFailed }, 2,
			"gate: failed: 1 unacknowledged regression; the newest night could not be measured", []int{30}},
		"failed before it knew its hosts": {map[int]float64{30: 0.93}, HistoryOptions{}, func(runs []*econbench.Run) {
			machines(runs)
			failEarly(runs[39])
		}, 2, "gate: failed: 1 unacknowledged regression; the newest night could not be measured", []int{30}},
		"failed early, nothing lost": {nil, HistoryOptions{}, func(runs []*econbench.Run) {
			machines(runs)
			failEarly(runs[39])
			runs[39].Plan = econbench.Plan{}
		}, 1, "could not measure: run 2026", nil},
		"all failed early": {nil, HistoryOptions{}, func(runs []*econbench.Run) {
			for _, r := range runs {
				failEarly(r)
			}
		}, 1, "failed after 0 of 16 trials: no engine", nil},
		"killed before its first trial": {map[int]float64{30: 0.93}, HistoryOptions{}, func(runs []*econbench.Run) {
			machines(runs, "a", "b")
			runs[39].Status, runs[39].Trials = econbench.StatusRunning, nil
		}, 2, "1 unacknowledged regression; the newest night could not be measured", []int{31}},
		"known on another machine": {map[int]float64{20: 0.93}, ack("20260122-030405-0014", nil), func(runs []*econbench.Run) {
			machines(runs, "a", "b") // b's first is night 21
		}, 2, "", []int{21}},
		"known on this machine": {map[int]float64{21: 0.93}, ack("20260123-030405-0015", nil), func(runs []*econbench.Run) {
			machines(runs, "a", "b")
		}, 0, "acknowledged: GRO is off", nil},
		"known, two of its nights off": {map[int]float64{21: 0.93}, ack("20260127-030405-0019", nil), func(runs []*econbench.Run) {
			machines(runs, "a", "b")
		}, 0, "acknowledged: GRO is off", nil},
		"known, three of its nights off": {map[int]float64{21: 0.93}, ack("20260129-030405-001b", nil), func(runs []*econbench.Run) {
			machines(runs, "a", "b")
		}, 2, "the entry may be removed", []int{21}},
		"another arm since five nights": {nil, HistoryOptions{}, func(runs []*econbench.Run) {
			for _, r := range runs[35:] {
				addArm(r, "overlay+econ", 1.2)
			}
		}, 0, "overlay+econ tcp_rr request=1 response=1 transactions: 5 nights with a value on setup 1; a change can be found from 10 on", nil},
		"an arm that is measured no more": {nil, HistoryOptions{}, func(runs []*econbench.Run) {
			for i, r := range runs[:36] {
				addArm(r, "overlay+econ", []float64{1.2, 1}[i/20])
			}
		}, 0, "not in the newest plan; last planned on 2026-02-06", nil},
		"and one that still is": {nil, HistoryOptions{}, func(runs []*econbench.Run) {
			for i, r := range runs {
				addArm(r, "overlay+econ", []float64{1.2, 1}[i/20])
			}
		}, 2, "regression: overlay+econ", nil},
		"too old": {nil, HistoryOptions{Now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), MaxAge: 36 * time.Hour}, nil, 1, "want 36h0m0s at most", nil},
		"levels":  {nil, HistoryOptions{}, func(runs []*econbench.Run) { slowNights(runs[20:], 0.7) }, 0, "none", nil},
		"levels, absolute": {nil, HistoryOptions{Absolute: true}, func(runs []*econbench.Run) { slowNights(runs[20:], 0.7) }, 2,
			"2 unacknowledged regressions", []int{20}},
		"nothing to judge": {nil, HistoryOptions{Arms: []econbench.Arm{arm("host")}}, nil, 1, "nothing of the newest run is judged", nil},
	}
}

// TestHistoryGate: what fails, and what does not.
func TestHistoryGate(t *testing.T) {
	for name, c := range historyGateCases() {
		t.Run(name, func(t *testing.T) {
			runs := nightly(12, 40, 0.004, steps(c.shape))
			if c.change != nil {
				c.change(runs)
			}
			h := historyOf(t, runs, c.o)
			text := renderHistory(t, h, "text")
			if h.Gate.Exit != c.exit {
				t.Errorf("exit %d, want %d", h.Gate.Exit, c.exit)
			}
			if !strings.Contains(unwrapped(text), c.says) {
				t.Errorf("want %q in it", c.says)
			}
			var nights []int
			for _, r := range h.Gate.Regressions {
				if r.Arm.String() == "overlay" {
					nights = append(nights, r.Nights...)
				}
			}
			if !slices.Equal(nights, c.regress) {
				t.Errorf("regressed at %d, want %d", nights, c.regress)
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// machines gives nights hosts: one machine, or those named by turns.
func machines(runs []*econbench.Run, by ...string) {
	by = append(by, "6.1.0")[:max(1, len(by))]
	for i, r := range runs {
		withKernel(r, by[i%len(by)], "aa")
	}
}

// failEarly makes a run one that failed before its lab was open: it knows its plan and nothing else.
func failEarly(r *econbench.Run) {
	r.Status, r.Error, r.Hosts, r.Lab, r.Image, r.Trials = econbench.StatusFailed, "no engine", nil, "", "", nil
}

// addArm adds an arm that is by a factor above overlay.
func addArm(r *econbench.Run, name string, factor float64) {
	r.Plan.Arms = append(slices.Clone(r.Plan.Arms), arm(name))
	for _, t := range slices.Clone(r.Trials) {
		if t.Arm.String() == "overlay" {
			t.Arm = arm(name)
			t.Metrics = map[string]*float64{"transactions": ptr(factor * *t.Metrics["transactions"])}
			r.Trials = append(r.Trials, t)
		}
	}
}

func unwrapped(text string) string { return strings.Join(strings.Fields(text), " ") }

func invalidate(run *econbench.Run, arm string) {
	for i := range run.Trials {
		if tr := &run.Trials[i]; tr.Arm.String() == arm {
			tr.Valid, tr.Invalid = false, []string{"vxlan stayed flat"}
		}
	}
}

func scaleArm(run *econbench.Run, arm string, by float64) {
	for _, tr := range run.Trials {
		if tr.Arm.String() == arm {
			*tr.Metrics["transactions"] *= by
		}
	}
}

// slowNights makes whole nights slower.
func slowNights(runs []*econbench.Run, by float64) {
	for _, r := range runs {
		scaleArm(r, "host", by)
		scaleArm(r, "overlay", by)
	}
}

// TestHistoryLower: of a metric of which less is better more is a regression.
func TestHistoryLower(t *testing.T) {
	for factor, exit := range map[float64]int{1.1: 2, 0.9: 0} {
		runs := nightly(2, 40, 0.004, steps(map[int]float64{25: factor}))
		for _, r := range runs {
			r.Plan.Workloads[0].Primary = "latency_p99"
			for i := range r.Trials {
				r.Trials[i].Metrics = map[string]*float64{"latency_p99": r.Trials[i].Metrics["transactions"]}
			}
		}
		if h := historyOf(t, runs, HistoryOptions{}); h.Gate.Exit != exit {
			t.Errorf("factor %v: exit %d, want %d", factor, h.Gate.Exit, exit)
		} else if exit == 2 {
			near(t, "factor", h.Gate.Regressions[0].Factor, 1.1, 0.01)
		}
	}
}

// TestHistoryGaps: nights without a value are gaps, not zeros, and changes are found beside them.
func TestHistoryGaps(t *testing.T) {
	runs := nightly(5, 40, 0.004, steps(map[int]float64{20: 0.93}))
	for _, i := range []int{3, 19, 20, 30} {
		invalidate(runs[i], "overlay")
	}
	runs[31].Trials[1].Metrics["transactions"] = nil
	runs = slices.Delete(runs, 10, 12)
	h := historyOf(t, runs, HistoryOptions{})
	track := seriesNamed(t, h, "overlay", "transactions").Tracks[0]
	if track.Gaps != 4 || track.Nights != 34 || len(track.Changes) != 1 {
		t.Fatalf("%+v", track)
	}
	if c := track.Changes[0]; c.Night != 19 || c.Before != 16 { // two nights are not there
		t.Errorf("change at %d after %d", c.Night, c.Before)
	}
	if text := unwrapped(renderHistory(t, h, "text")); !strings.Contains(text, "all 8 trials invalid: overlay tcp_rr") || !strings.Contains(text, "34/38") {
		t.Error(text)
	}
}

// TestHistoryUnread: what could not be read is named; unless a newer night could be, the newest was not measured.
func TestHistoryUnread(t *testing.T) {
	list := nightsOfRuns(t, nightly(5, 10, 0.01, flat), HistoryOptions{})
	torn := errors.New("read nights/x/run.json:1: unexpected end of JSON input")
	for name, c := range map[string]struct {
		began time.Time
		exit  int
	}{
		"older": {list[3].run.Started.Add(time.Hour), 0}, "newest": {list[9].run.Started.Add(time.Hour), 1}, "no telling": {time.Time{}, 1},
	} {
		h, err := NewHistory(append([]Night{UnreadNight("nights/x", c.began, torn)}, list...), HistoryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if h.Gate.Exit != c.exit {
			t.Errorf("%s: exit %d, want %d", name, h.Gate.Exit, c.exit)
		}
		for _, format := range HistoryFormats() {
			if out := renderHistory(t, h, format); format != "csv" && !strings.Contains(out, "unexpected end of JSON input") {
				t.Errorf("%s: %s does not name it", name, format)
			}
		}
	}
	if _, err := NewHistory([]Night{UnreadNight("nights/x", time.Time{}, torn)}, HistoryOptions{}); err == nil || !strings.Contains(err.Error(), torn.Error()) {
		t.Errorf("nothing but an unreadable one: %v", err)
	}
	if _, err := NewHistory(nil, HistoryOptions{}); err == nil {
		t.Error("nothing at all is a history")
	}
}

func TestHistoryNames(t *testing.T) {
	list := nightsOfRuns(t, nightly(5, 3, 0.01, flat), HistoryOptions{})
	for want, o := range map[string]HistoryOptions{
		`history: unknown arm "ovrlay": did you mean`:         {Arms: []econbench.Arm{arm("ovrlay")}},
		`history: unknown workload "tcp_r": did you mean`:     {Workloads: []string{"tcp_r"}},
		`history: unknown metric "transaction": did you mean`: {Metrics: []string{"transaction"}},
		`history: unknown fact "wir": did you mean "wire"`:    {Across: []string{"wir"}},
	} {
		if _, err := NewHistory(list, o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestHistoryTwice: a run that is named twice counts once.
func TestHistoryTwice(t *testing.T) {
	runs := nightly(5, 10, 0.01, flat)
	h := historyOf(t, append(runs, runs...), HistoryOptions{})
	if len(h.Nights) != 10 || len(h.Warnings) != 10 {
		t.Errorf("%d nights, %d warnings", len(h.Nights), len(h.Warnings))
	}
}

// TestHistoryOrder: the order in which runs are named changes nothing.
func TestHistoryOrder(t *testing.T) {
	runs := nightly(5, 30, 0.004, steps(map[int]float64{20: 0.93}))
	want := renderHistory(t, historyOf(t, runs, HistoryOptions{}), "json")
	slices.Reverse(runs)
	if diff := cmp.Diff(want, renderHistory(t, historyOf(t, runs, HistoryOptions{}), "json")); diff != "" {
		t.Error(diff)
	}
}

// TestHistoryCorrelated: nights that resemble the night before are warned of.
func TestHistoryCorrelated(t *testing.T) {
	random, v := rand.New(rand.NewPCG(4, 4)), 0.0
	shape := make([]float64, 60)
	for i := range shape {
		v = 0.85*v + 0.01*random.NormFloat64()
		shape[i] = math.Exp(v)
	}
	if text := renderHistory(t, historyOf(t, nightly(5, 60, 0.001, func(i int) float64 { return shape[i] }), HistoryOptions{}), "text"); !strings.Contains(text, "resemble the night before") {
		t.Error(text)
	}
	if text := renderHistory(t, historyOf(t, nightly(5, 60, 0.01, steps(map[int]float64{20: 0.9})), HistoryOptions{}), "text"); strings.Contains(text, "resemble the night before") {
		t.Error(text)
	}
}

// historyWith shows all that a history has to say.
func historyWith(t testing.TB) *History {
	runs := nightly(8, 60, 0.01, steps(map[int]float64{10: 0.94, 40: 0.95}))
	for i, r := range runs {
		r.Version = []string{"v0.1.0", "v0.2.0"}[i/40]
		withKernel(r, []string{"6.1.0", "6.8.0"}[min(1, i/20)], []string{"aa", "bb"}[i/40])
	}
	invalidate(runs[33], "overlay")
	runs[59].Status = econbench.StatusInterrupted
	runs[58].Warnings = []string{"trials.jsonl:43: last line is torn"}
	o := HistoryOptions{Metrics: []string{"latency_p99"}, Acknowledged: []Acknowledgement{
		{Place: "known.yaml:2", Night: "2026-01-12", Workload: "tcp_*", Tolerance: 2, Reason: "GRO is off", Link: "https://example.org/1"},
		{Place: "known.yaml:6", Night: "2026-01-20", Arm: "overlay+econ", Tolerance: 2, Reason: "forgotten"}}}
	for _, r := range runs {
		for i := range r.Trials {
			r.Trials[i].Metrics["latency_p99"] = ptr(1.6 / *r.Trials[i].Metrics["transactions"])
		}
	}
	list := append(nightsOfRuns(t, runs, o), UnreadNight("nights/20260122-030405-dead", time.Date(2026, 1, 22, 3, 4, 5, 0, time.UTC), errors.New("read run.json: it is torn")))
	h, err := NewHistory(list, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// manyChanges has as many setups and changes as a plot shows words of, on top of each other.
func manyChanges(t testing.TB) *History {
	runs := nightly(3, 400, 0.002, func(night int) float64 { return []float64{1, 0.9, 0.8, 1.1}[night/12%4] })
	for i, r := range runs {
		withKernel(r, fmt.Sprint(max(0, i-388)), "aa")
	}
	h := historyOf(t, runs, HistoryOptions{})
	if n := len(seriesNamed(t, h, "overlay", "transactions").Tracks[0].Changes); n < 30 || len(h.Setups) != 12 {
		t.Fatalf("%d changes, %d setups", n, len(h.Setups))
	}
	return h
}

// TestHistoryUnreadNight: what could not be read has no numbers.
func TestHistoryUnreadNight(t *testing.T) {
	n := UnreadNight("nights/x", time.Time{}, errors.New("torn"))
	b, err := json.Marshal(n.shown())
	if want := `{"label":"nights/x","run":"","started":null,"version":"","planned":null,"attempted":null,"valid":null,"setup":0,"unread":"torn","warnings":[]}`; err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

func TestHistoryGolden(t *testing.T) {
	h := historyWith(t)
	for _, format := range HistoryFormats() {
		got := renderHistory(t, h, format)
		if format == "text" {
			checkWidth(t, got)
		}
		if format == "html" { // fonts' outlines and a page's style say nothing that the others do not
			continue
		}
		golden(t, "history."+format, got)
	}
}

// TestHistoryFacts: what makes a setup can be looked across.
func TestHistoryFacts(t *testing.T) {
	run := rrRun([]float64{1}, []float64{1})
	run.Plan.Programs = []econbench.Program{{Name: "text"}}
	withKernel(run, "6.1.0", "aa")
	night := nightsOfRuns(t, []*econbench.Run{run}, HistoryOptions{})[0]
	known := make(map[string]bool)
	night.facts(known)
	var full, bare econbench.Plan
	fill(reflect.ValueOf(&full).Elem(), true)
	full.Placement, full.Wire, full.CPU = "text", "text", "text" // none of their words is the zero value's
	bare.Workloads, bare.Programs = full.Workloads, []econbench.Program{{Name: full.Programs[0].Name}}
	decisive, _ := planDifferences(bare, full)
	if len(decisive) < 12 {
		t.Errorf("only %d facts differ: %v", len(decisive), decisive)
	}
	for _, d := range append(decisive, RunDifference{Fact: "lab"}, RunDifference{Fact: "image"}, RunDifference{Fact: "kernel.release of client"}) {
		if fact, _, _ := strings.Cut(d.Fact, " of "); !known[fact] {
			t.Errorf("%q makes a setup, and --across does not know it", fact)
		}
	}
	if _, err := NewHistory([]Night{night}, HistoryOptions{Across: []string{"program *"}}); err != nil {
		t.Error(err)
	}
}

// TestHistoryAcknowledgeText: the lines that are printed to be pasted are YAML of the names, and nothing in them moves a cursor.
func TestHistoryAcknowledgeText(t *testing.T) {
	for _, name := range []string{"tcp_rr", "no", "", "a\"b: c\n#", "\u009b31m\u202ex\x1b\x7f\u2028", "\u00e9 ```", "-", "1e3", "a\\b*", "\U0001f600\U000e0001"} {
		text := yamlText(literally(name))
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: %q has what can't be seen", name, text)
		}
		var got struct{ Name string }
		if err := yaml.Unmarshal([]byte("name: "+text+"\n"), &got); err != nil || got.Name != literally(name) {
			t.Errorf("%q is written %s and read %q, %v", name, text, got.Name, err)
		}
	}
}

// TestHistoryGitHub: GitHub shows nothing of a summary above 1 MiB.
func TestHistoryGitHub(t *testing.T) {
	h := historyWith(t)
	for range 1000 {
		h.Series = append(h.Series, h.Series[:3]...)
	}
	text := renderHistory(t, h, "github")
	if len(text) > 1<<20 || len(text) < 1<<19 || !strings.Contains(text, "Left out, for GitHub takes 1 MiB: ") || !strings.Contains(text, "```yaml\nchanges:\n") {
		t.Errorf("%d B: %.300s", len(text), text)
	}
}

// TestHistoryPage: the page stands by itself, is the same each time, and says in words what it shows.
func TestHistoryPage(t *testing.T) {
	h := historyWith(t)
	page := renderHistory(t, h, "html")
	if again := renderHistory(t, historyWith(t), "html"); again != page {
		t.Error("another page from the same nights")
	}
	if n := strings.Count(page, `<svg class="plot"`); n != len(h.Series) {
		t.Errorf("%d plots of %d series", n, len(h.Series))
	}
	for _, want := range []string{"prefers-color-scheme:dark", ">-5.1% worse</text>", "worse, known</text>", ">setup 2</text>", "var(--worse)", "var(--arm2)", "changes:\n  - night: 2026-02-11", "acknowledged: GRO is off"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q", want)
		}
	}
	checkPage(t, page)
}

// TestHistoryPageSize: many nights of many series are a page that a browser opens.
func TestHistoryPageSize(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	h := historyOf(t, nightly(5, 1000, 0.01, steps(map[int]float64{600: 0.95})), HistoryOptions{})
	for range 49 {
		h.Series = append(h.Series, h.Series[:2]...)
	}
	began := time.Now()
	page := renderHistory(t, h, "html")
	if took := time.Since(began); len(page) > 10<<20 || took > 20*time.Second {
		t.Errorf("%d B, %s", len(page), took)
	} else {
		t.Logf("100 series: %d B, %s", len(page), took)
	}
}

// TestHistoryOdd: whatever names and numbers a run has, every format is well-formed.
func TestHistoryOdd(t *testing.T) {
	evil := "a\"b,c\n<script>|`*\x00é́ \xff'&]]>"
	for name, change := range map[string]func(*econbench.Run){
		"names": func(r *econbench.Run) {
			r.ID, r.Version, r.Error, r.Plan.Workloads[0].Name = r.ID+evil, evil, evil, evil
			r.Plan.Workloads[0].Params = econbench.Params{evil: evil}
			r.Warnings = []string{evil}
			for i := range r.Trials {
				r.Trials[i].Workload, r.Trials[i].Params, r.Trials[i].Run = evil, r.Plan.Workloads[0].Params, r.ID
			}
		},
		"no trials": func(r *econbench.Run) { r.Trials = nil },
		"no plan":   func(r *econbench.Run) { r.Plan = econbench.Plan{} },
		"no time":   func(r *econbench.Run) { r.Started = time.Time{} },
		"NaN":       func(r *econbench.Run) { scaleArm(r, "overlay", math.NaN()) },
		"infinite": func(r *econbench.Run) {
			scaleArm(r, "overlay", math.Inf(1))
			r.Plan.Duration = econbench.Seconds(math.NaN())
		},
		"zero":      func(r *econbench.Run) { scaleArm(r, "overlay", 0) },
		"zero host": func(r *econbench.Run) { scaleArm(r, "host", 0) },
		"negative":  func(r *econbench.Run) { scaleArm(r, "overlay", -1) },
		"tiny":      func(r *econbench.Run) { scaleArm(r, "overlay", 1e-300) },
		"huge":      func(r *econbench.Run) { scaleArm(r, "overlay", 1e300) },
		"tiny to huge": func(r *econbench.Run) {
			scaleArm(r, "overlay", map[bool]float64{true: 1e-300, false: 1e300}[r.Started.Day() < 9])
		},
		"no status":  func(r *econbench.Run) { r.Status = "" },
		"no primary": func(r *econbench.Run) { r.Plan.Workloads[0].Primary = "" },
	} {
		t.Run(name, func(t *testing.T) {
			for _, which := range []string{"all", "some", "half", "newest"} {
				runs := nightly(5, 14, 0.01, flat)
				for i, r := range runs {
					if which == "all" || which == "some" && i%3 == 0 || which == "half" && i >= 7 || i == len(runs)-1 {
						change(r)
					}
				}
				h := historyOf(t, runs, HistoryOptions{Metrics: []string{"transactions"}[:min(1, len(runs[0].Trials)+len(runs[1].Trials))]})
				wellFormed(t, h)
			}
		})
	}
}

// wellFormed renders in all formats.
func wellFormed(t *testing.T, h *History) {
	t.Helper()
	if err := json.Unmarshal([]byte(renderHistory(t, h, "json")), new(map[string]any)); err != nil {
		t.Errorf("json: %v", err)
	}
	rows, err := csv.NewReader(strings.NewReader(renderHistory(t, h, "csv"))).ReadAll()
	if err != nil || len(rows[0]) != len(historyHeader) {
		t.Errorf("csv: %v", err)
	}
	checkWidth(t, renderHistory(t, h, "text"))
	if md := renderHistory(t, h, "markdown"); strings.Contains(md, "<script>") {
		t.Error("markdown: HTML got through")
	}
	page := renderHistory(t, h, "html")
	d := xml.NewDecoder(strings.NewReader(page)) // the page is XML too, so that this finds what is not closed or not escaped
	d.Strict, d.Entity = true, xml.HTMLEntity
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Errorf("html: %v", err)
			break
		}
	}
	checkPage(t, page)
	if text := renderHistory(t, h, "github"); strings.Contains(text, "<script>") {
		t.Error("github: HTML got through")
	}
}

// TestHistoryManySetups: where every night has a kernel of its own nothing can be found, and it is said what would help.
func TestHistoryManySetups(t *testing.T) {
	runs := nightly(5, 400, 0.004, steps(map[int]float64{300: 0.93}))
	for i, r := range runs {
		withKernel(r, fmt.Sprintf("6.%d.0", i), "aa")
		for n := range 200 {
			for _, host := range r.Hosts {
				host.Fingerprint[fmt.Sprintf("sysctl.%d", n)] = "1"
			}
		}
	}
	began := time.Now()
	h := historyOf(t, runs, HistoryOptions{})
	text := unwrapped(renderHistory(t, h, "text"))
	if len(h.Setups) != 400 || h.Gate.Exit != 0 || !strings.Contains(text, "setup 400 has 1 night; a change can be found from 10 on") || !strings.Contains(text, "--across") {
		t.Error(text)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	if h = historyOf(t, runs, HistoryOptions{Across: []string{"kernel.release"}}); h.Gate.Exit != 2 || h.Gate.Regressions[0].Nights[0] != 300 {
		t.Errorf("%+v", h.Gate)
	}
}

// TestFewestNights: no shorter history has a change, whatever it has.
func TestFewestNights(t *testing.T) {
	for least, want := range map[int]int{2: 10, 3: 10, 5: 10, 6: 12} {
		if got := fewestNights(least); got != want {
			t.Errorf("segments of %d: %d nights, want %d", least, got, want)
		}
		for n := range want {
			x := slices.Concat(repeat(n/2, 1, 1.01), repeat(n-n/2, 9, 9.01))
			if got := changePoints(x, least, 1); len(got) != 0 {
				t.Errorf("segments of %d: %d nights have %v", least, n, got)
			}
		}
	}
}

// TestHistorySize: 1,000 nights of 200 series take seconds.
func TestHistorySize(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	random := rand.New(rand.NewPCG(1, 1))
	began := time.Now()
	for range 200 {
		x := make([]float64, 1000)
		for i := range x {
			x[i] = random.NormFloat64() + float64(i/300)*4
		}
		if got := changePoints(x, DefaultMinSegment, 1e-6); len(got) != 3 {
			t.Fatalf("%+v", got)
		}
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %s", took)
	} else {
		t.Logf("took %s", took)
	}
}
