// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

// rrRun has one workload, tcp_rr, in two arms; values are transactions by arm and block, NaN standing for no trial.
func rrRun(host, overlay []float64) *econbench.Run {
	run := sampleRun(0)
	run.Plan.Arms, run.Plan.Workloads, run.Plan.Blocks = run.Plan.Arms[:2], run.Plan.Workloads[1:], len(host)
	for i, values := range [][]float64{host, overlay} {
		for b, v := range values {
			if math.IsNaN(v) {
				continue
			}
			c := econbench.Cell{Arm: run.Plan.Arms[i], Workload: "tcp_rr", Params: run.Plan.Workloads[0].Params}
			run.Trials = append(run.Trials, econbench.Trial{Schema: 1, Run: run.ID, Block: b, Cell: c, Valid: true,
				Metrics: map[string]*float64{"transactions": ptr(v)}})
		}
	}
	return run
}

func summarise(t testing.TB, run *econbench.Run) *Summary {
	t.Helper()
	s, err := Summarise(run)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func cellOf(t testing.TB, s *Summary, arm, workload string) Cell {
	t.Helper()
	for _, c := range s.Cells {
		if c.Arm.String() == arm && c.Workload == workload {
			return c
		}
	}
	t.Fatalf("no cell %s %s", arm, workload)
	return Cell{}
}

func repeat(n int, v ...float64) []float64 {
	var out []float64
	for i := range n {
		out = append(out, v[i%len(v)])
	}
	return out
}

func TestVerdicts(t *testing.T) {
	nan := math.NaN()
	hundred := repeat(6, 100)
	for name, c := range map[string]struct {
		host, overlay []float64
		verdict       Verdict
		reason        string
	}{
		"worse":          {hundred, []float64{58, 59, 60, 61, 62, 63}, VerdictWorse, ""},
		"better":         {hundred, []float64{101, 102, 103, 104, 105, 106}, VerdictBetter, ""},
		"same":           {hundred, []float64{99, 101, 98, 102.5, 100.5, 99.7}, VerdictSame, ""},
		"identical":      {hundred, hundred, VerdictSame, ""},
		"wide":           {hundred, []float64{60, 140, 90, 110, 105, 95}, VerdictInconclusive, "interval is ±"},
		"five blocks":    {hundred[:5], []float64{58, 59, 60, 61, 62}, VerdictInconclusive, "5 pairs of blocks; an interval takes 6"},
		"one block":      {hundred[:1], []float64{58}, VerdictInconclusive, "1 pair of blocks; an interval takes 6"},
		"holes":          {[]float64{100, nan, 100, 100, 100, 100, 100}, []float64{58, 59, nan, 61, 62, 63, 64}, VerdictInconclusive, "5 pairs"},
		"holes, enough":  {[]float64{100, nan, 100, 100, 100, 100, 100}, []float64{58, 59, 60, 61, 62, 63, 64}, VerdictWorse, ""},
		"zero":           {[]float64{100, 0, 100, 100, 100, 100, 100}, repeat(7, 50), VerdictInconclusive, "1 of 7 pairs of blocks have no ratio"},
		"negative":       {hundred, repeat(6, -50), VerdictInconclusive, "6 of 6 pairs of blocks have no ratio"},
		"ratio overflow": {repeat(6, 1e-300), repeat(6, 1e300), VerdictInconclusive, "6 of 6 pairs of blocks have no ratio"},
		"some equal":     {hundred, []float64{100, 100, 58, 59, 60, 61}, VerdictInconclusive, "4 pairs of blocks that differ"},
		"no baseline":    {nil, repeat(6, 50), VerdictInconclusive, "no block has it in both arms"},
	} {
		t.Run(name, func(t *testing.T) {
			r := cellOf(t, summarise(t, rrRun(c.host, c.overlay)), "overlay", "tcp_rr").Metrics["transactions"].Ratio
			if r.Verdict != c.verdict || !strings.Contains(r.Reason, c.reason) || (c.reason == "") != (r.Reason == "") {
				t.Errorf("%q, %q; want %q, %q", r.Verdict, r.Reason, c.verdict, c.reason)
			}
		})
	}
}

// TestPairing: the baseline drifts by half through the run, the ratio does not.
func TestPairing(t *testing.T) {
	host := []float64{100, 90, 80, 70, 60, 50}
	var overlay []float64
	for i, v := range host {
		overlay = append(overlay, v*(0.9+0.001*float64(i)))
	}
	run := rrRun(host, overlay)
	slices.Reverse(run.Trials)
	m := cellOf(t, summarise(t, run), "overlay", "tcp_rr").Metrics["transactions"]
	near(t, "ratio", *m.Ratio.Median, 0.9025, 1e-12)
	near(t, "low", *m.Ratio.Low, 0.9, 1e-12)
	near(t, "high", *m.Ratio.High, 0.905, 1e-12)
	near(t, "p", *m.Ratio.P, 0.03125, 1e-12)
	near(t, "p_holm", *m.Ratio.PHolm, 0.03125, 1e-12)
	near(t, "coverage", m.Ratio.Coverage, 0.96875, 1e-12)
	if m.Ratio.Verdict != VerdictWorse || m.Ratio.N != 6 || !m.Primary {
		t.Errorf("%+v", m)
	}
}

// TestDirection: more latency is worse.
func TestDirection(t *testing.T) {
	run := rrRun(repeat(6, 1e-5, 1.1e-5), repeat(6, 2e-5, 2.1e-5))
	for i := range run.Trials {
		m := run.Trials[i].Metrics
		m["latency_p99"], m["mystery"] = m["transactions"], m["transactions"]
	}
	c := cellOf(t, summarise(t, run), "overlay", "tcp_rr")
	for name, want := range map[string]Verdict{"transactions": VerdictBetter, "latency_p99": VerdictWorse, "mystery": VerdictInconclusive} {
		if got := c.Metrics[name].Ratio.Verdict; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if r := c.Metrics["latency_p99"].Ratio; r.PHolm != nil {
		t.Error("a described metric has p_holm")
	}
}

// TestNeitherWayIsBetter: fewer cores are no merit by themselves. The difference is shown, without a verdict.
func TestNeitherWayIsBetter(t *testing.T) {
	run := rrRun(repeat(6, 100, 101), repeat(6, 50, 51))
	for i := range run.Trials {
		m := run.Trials[i].Metrics
		for _, name := range []string{"cpu", "cpu_client", "cpu_server", "softirq", "packets"} {
			m[name] = m["transactions"]
		}
	}
	c := cellOf(t, summarise(t, run), "overlay", "tcp_rr")
	for _, name := range []string{"cpu", "cpu_client", "cpu_server", "softirq", "packets"} {
		m := c.Metrics[name]
		if m.Better != "" || m.Ratio.Verdict != VerdictInconclusive || !strings.Contains(m.Ratio.Reason, "neither way is better") {
			t.Errorf("%s: better %q, verdict %s because %q", name, m.Better, m.Ratio.Verdict, m.Ratio.Reason)
		}
	}
	if text := render(t, Text{}, run); !strings.Contains(text, "(0.50×)") || strings.Contains(text, "(?)") {
		t.Errorf("the text hides that the CPU time differs:\n%s", text)
	}
	if text := render(t, JSON{}, run); !strings.Contains(text, `"better": ""`) {
		t.Errorf("JSON has no empty direction:\n%s", text)
	}
}

// TestHolmOverWorkloads: two workloads of six blocks can never be significant together, and the report says so.
func TestHolmOverWorkloads(t *testing.T) {
	for blocks, want := range map[int]Verdict{6: VerdictInconclusive, 7: VerdictWorse} {
		run := sampleRun(blocks)
		s := summarise(t, run)
		for _, w := range []string{"tcp_rr", "tcp_stream"} {
			c := cellOf(t, s, "overlay", w)
			r := c.Metrics[c.primary].Ratio
			near(t, "p_holm", *r.PHolm, 2**r.P, 1e-12)
			if r.Verdict != want {
				t.Errorf("%d blocks, %s: %s (%s), want %s", blocks, w, r.Verdict, r.Reason, want)
			}
			if blocks == 6 && !strings.Contains(fmt.Sprint(c.Warnings), "significance takes 7 (2 workloads)") {
				t.Errorf("warnings %v", c.Warnings)
			}
		}
	}
}

func TestNullsAndInvalids(t *testing.T) {
	run := rrRun(repeat(6, 100), repeat(6, 60))
	for i := range run.Trials {
		run.Trials[i].Metrics["cpu"] = nil
	}
	last := &run.Trials[len(run.Trials)-1]
	last.Valid, last.Invalid, last.Metrics["transactions"], last.Metrics["hit_ratio"] = false, []string{"vxlan stayed flat"}, ptr(1e9), ptr(1)
	c := cellOf(t, summarise(t, run), "overlay", "tcp_rr")
	if m := c.Metrics["transactions"]; *m.Median != 60 || m.N != 5 || c.Valid != 5 || c.Invalid != 1 {
		t.Errorf("invalid trial counted: %+v", c)
	}
	for _, name := range []string{"cpu", "hit_ratio"} {
		if m, ok := c.Metrics[name]; !ok || m.Median != nil || m.N != 0 {
			t.Errorf("%s: %+v, %v; want null", name, m, ok)
		}
	}
	if _, ok := c.Metrics["throughput"]; ok {
		t.Error("throughput is there though no trial named it")
	}
	if len(c.Warnings) == 0 || c.Warnings[0].String() != "invalid: vxlan stayed flat (1 trial)" {
		t.Errorf("warnings %v", c.Warnings)
	}
}

// TestContract reads the JSON as a stranger would who was given issue 2's contract alone.
func TestContract(t *testing.T) {
	var got struct {
		Schema   int
		Run      string
		Baseline string
		Cells    []struct {
			Arm, Workload  string
			Params         map[string]string
			Valid, Invalid *int
			Metrics        map[string]map[string]any
			Warnings       []string
		}
	}
	text := render(t, JSON{}, goldens()["troubled"])
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Schema != 1 || got.Run == "" || got.Baseline != "host" || len(got.Cells) != 6 {
		t.Fatalf("%+v", got)
	}
	for _, c := range got.Cells {
		if c.Arm == "" || c.Workload == "" || len(c.Params) == 0 || c.Valid == nil || c.Invalid == nil || c.Warnings == nil {
			t.Errorf("%+v", c)
		}
		for name, m := range c.Metrics {
			for _, key := range []string{"unit", "better", "primary", "median", "low", "high", "n", "ratio"} {
				if _, ok := m[key]; !ok {
					t.Errorf("%s lacks %s", name, key)
				}
			}
			ratio, _ := m["ratio"].(map[string]any)
			if (ratio == nil) != (c.Arm == "host") {
				t.Errorf("%s of %s: ratio %v", name, c.Arm, m["ratio"])
			}
			if keys := slices.Sorted(maps.Keys(ratio)); ratio != nil {
				for _, key := range []string{"median", "low", "high", "p", "verdict"} {
					if !slices.Contains(keys, key) {
						t.Errorf("ratio lacks %s", key)
					}
				}
			}
		}
	}
}

func TestNewerSchema(t *testing.T) {
	run := sampleRun(1)
	run.Schema = 7
	for _, r := range All() {
		if err := r.Render(io.Discard, run); err == nil || !strings.Contains(err.Error(), "schema 7 is newer than 1") {
			t.Errorf("%s: %v", r.Name(), err)
		}
	}
	if _, err := Summarise(nil); err == nil {
		t.Error("nil run: no error")
	}
}

func TestNamed(t *testing.T) {
	for _, r := range All() {
		if got, err := Named(r.Name()); err != nil || got.Name() != r.Name() || r.Help() == "" {
			t.Errorf("%s: %v, %v", r.Name(), got, err)
		}
	}
	for name, want := range map[string]string{
		"jsno": `did you mean "json"? allowed: text, markdown, csv, json`,
		"md":   `unknown report format "md": allowed:`,
		"Mark": `did you mean "markdown"?`,
		"":     `unknown report format "": allowed:`,
	} {
		if _, err := Named(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", name, err, want)
		}
	}
}

// TestColour: the words are the same with and without, and a buffer is no terminal.
func TestColour(t *testing.T) {
	run := goldens()["complete"]
	plain, coloured := render(t, Text{}, run), render(t, Text{Colour: ColourAlways}, run)
	if strings.Contains(plain, "\x1b") || !strings.Contains(coloured, "\x1b[31mworse\x1b[0m") {
		t.Errorf("plain %q\ncoloured %q", plain, coloured)
	}
	if diff := cmp.Diff(plain, strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(coloured)); diff != "" {
		t.Error(diff)
	}
}

func TestHostileStrings(t *testing.T) {
	run := goldens()["troubled"]
	run.Error = "\x1b[2Jgone\nrm -rf\xff"
	run.Plan.Workloads[0].Name = "evil|\n\x1b]0;x\a" + strings.Repeat("w", 300)
	run.Trials[0].Warnings = []string{strings.Repeat("a b", 200) + "\r\n\x00"}
	run.Trials[1].Arm.Topology = strings.Repeat("t", 200)
	for _, r := range []econbench.Report{Text{}, Markdown{}} {
		out := render(t, r, run)
		if strings.ContainsAny(out, "\x1b\a\r\x00") {
			t.Errorf("%s lets control characters through: %q", r.Name(), out)
		}
		if r.Name() == "text" {
			checkWidth(t, out)
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestWriteError(t *testing.T) {
	for _, r := range All() {
		if err := r.Render(brokenWriter{}, sampleRun(2)); err == nil {
			t.Errorf("%s: no error", r.Name())
		}
	}
}

// TestMillion keeps a run of a million trials from taking minutes.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	run := rrRun(nil, nil)
	run.Plan.Blocks = 500_000
	metrics := []map[string]*float64{{"transactions": ptr(100)}, {"transactions": ptr(60)}, {"transactions": ptr(61)}}
	for b := range run.Plan.Blocks {
		for i, a := range run.Plan.Arms {
			run.Trials = append(run.Trials, econbench.Trial{Block: b, Valid: true, Metrics: metrics[i*(1+b%2)],
				Cell: econbench.Cell{Arm: a, Workload: "tcp_rr", Params: run.Plan.Workloads[0].Params}})
		}
	}
	if out := render(t, Text{}, run); !strings.Contains(out, "worse") {
		t.Error(out)
	}
}

// FuzzRender makes runs out of bytes: any number, missing arms and blocks, invalid trials, no baseline. Every format must
// render them without a panic, the JSON must be JSON, and the text must fit.
func FuzzRender(f *testing.F) {
	f.Add([]byte{}, "transactions", 6)
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz0123456789"), "throughput", 10)
	f.Add(bytes.Repeat([]byte{0, 17, 34, 51, 68, 85, 102, 119, 136, 153}, 12), "steal", -1)
	f.Add(bytes.Repeat([]byte{255, 1, 3, 128, 7, 9, 200}, 30), "\x1b[31m|", 1<<40)
	f.Fuzz(func(t *testing.T, b []byte, primary string, blocks int) {
		run := runOf(b, primary, blocks)
		for _, r := range All() {
			out := render(t, r, run)
			if checkFormat(t, r.Name(), out); r.Name() == "text" {
				checkWidth(t, out)
			}
			if again := render(t, r, run); again != out {
				t.Errorf("%s is not the same twice:\n%s", r.Name(), cmp.Diff(out, again))
			}
		}
	})
}

var oddValues = []*float64{nil, ptr(0), ptr(-1), ptr(math.NaN()), ptr(math.Inf(1)), ptr(math.Inf(-1)), ptr(1e-320), ptr(-1e308), ptr(1e308),
	ptr(math.SmallestNonzeroFloat64), ptr(1), ptr(1.01), ptr(0.5), ptr(5e4), ptr(4e9), ptr(math.MaxFloat64)}

// runOf takes two bytes for a trial: which cell and block, which values.
func runOf(b []byte, primary string, blocks int) *econbench.Run {
	run := sampleRun(0)
	run.Plan.Blocks = blocks
	run.Plan.Workloads[1].Primary = primary
	run.Plan.Duration = econbench.Seconds(*oddValues[1+len(b)%15])
	if len(b) > 0 && b[0]%5 == 0 {
		run.Plan.Baseline = econbench.Arm{}
	}
	if len(b) > 0 && b[0]%7 == 0 {
		run.Plan.Workloads = nil
	}
	cells := sampleRun(0).Plan.Cells()
	for i := 0; i+1 < len(b); i += 2 {
		t := econbench.Trial{Block: int(b[i]) / 16, Cell: cells[int(b[i])%len(cells)], Valid: b[i+1]&7 != 7, Metrics: map[string]*float64{}}
		for j, name := range []string{primary, "cpu", "cpu_per_transaction", "latency_p50", "latency_p99", "hit_ratio", "throughput"} {
			t.Metrics[name] = oddValues[(int(b[i+1])+j*(i+3))%len(oddValues)]
		}
		run.Trials = append(run.Trials, t)
	}
	return run
}
