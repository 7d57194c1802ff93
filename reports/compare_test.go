// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// secondRun is sampleRun on another day: all levels are lower by a tenth, and overlay's tcp_rr has lost 7 % more.
func secondRun(blocks int) *econbench.Run {
	run := sampleRun(0)
	run.ID, run.Version, run.Plan.Blocks = "20260103-030405-cd34", "v0.2.0", blocks
	run.Started = run.Started.AddDate(0, 0, 1)
	random := rand.New(rand.NewPCG(5, 6))
	for b := range blocks {
		for i, c := range run.Plan.Cells() {
			t := sampleTrial(run.ID, b, i, c, random)
			for _, name := range []string{"throughput", "transactions"} {
				if v := t.Metrics[name]; v != nil {
					if *v *= 0.9; c.Arm.String() == "overlay" && c.Workload == "tcp_rr" {
						*v *= 0.93
					}
				}
			}
			run.Trials = append(run.Trials, t)
		}
	}
	return run
}

func compareRuns(t testing.TB, old, new *econbench.Run, o CompareOptions) *Comparison {
	t.Helper()
	c, err := Compare([]Labelled{{"old", old}, {"new", new}}, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func renderComparison(t testing.TB, c *Comparison, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Render(&b, format); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func comparedCell(t testing.TB, c *Comparison, arm, workload string) ComparedCell {
	t.Helper()
	for _, cell := range c.Pairs[0].Cells {
		if cell.Arm.String() == arm && cell.Workload == workload {
			return cell
		}
	}
	t.Fatalf("no cell %s %s", arm, workload)
	return ComparedCell{}
}

// comparisons show what a comparison has to say.
func comparisons(t *testing.T) map[string]*Comparison {
	t.Helper()
	forced, third := secondRun(10), secondRun(7)
	forced.Plan.Placement, forced.Plan.Duration = econbench.Shared, 3
	forced.Hosts = map[string]econbench.HostFacts{econbench.ClientHost: {Kernel: "6.8.0"}}
	hostless := secondRun(10)
	hostless.Plan.Arms = append(hostless.Plan.Arms[1:2:2], arm("overlay+xmasq"))
	hostless.Trials = slices.DeleteFunc(hostless.Trials, func(tr econbench.Trial) bool { return tr.Arm.String() != "overlay" })
	for i := range hostless.Trials {
		if hostless.Trials[i].Block == 3 {
			hostless.Trials[i].Valid, hostless.Trials[i].Invalid = false, []string{"vxlan stayed flat"}
		}
	}
	third.ID = "20260104-030405-ef56"
	third.Warnings = []string{`third/trials.jsonl:43: last line is torn, its trial is lost: "{"`}
	many, err := Compare([]Labelled{{"monday", sampleRun(10)}, {"tuesday", secondRun(10)}, {"wednesday", third}}, CompareOptions{Workloads: []string{"tcp_rr"}})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*Comparison{
		"compare":         compareRuns(t, sampleRun(10), secondRun(10), CompareOptions{}),
		"compare-forced":  compareRuns(t, sampleRun(10), forced, CompareOptions{Force: true, Absolute: true}),
		"compare-missing": compareRuns(t, sampleRun(10), hostless, CompareOptions{}),
		"compare-many":    many,
		"compare-arms": compareRuns(t, sampleRun(10), sampleRun(10),
			CompareOptions{Arms: []ArmPair{{Old: arm("overlay"), New: arm("overlay+oncache")}}}),
	}
}

func TestCompareGolden(t *testing.T) {
	for name, c := range comparisons(t) {
		for _, format := range ComparisonFormats() {
			if name != "compare" && format != "text" {
				continue // the same words in other frames
			}
			got := renderComparison(t, c, format)
			if format == "text" {
				checkWidth(t, got)
			}
			golden(t, name+"."+format, got)
		}
	}
}

// TestCompareByRatio: a day on which everything is a tenth slower changes the baseline's level and no ratio.
func TestCompareByRatio(t *testing.T) {
	c := compareRuns(t, sampleRun(10), secondRun(10), CompareOptions{})
	for _, want := range []struct {
		arm, workload, metric string
		verdict               Verdict
		carrier               Carrier
	}{
		{"host", "tcp_rr", "transactions", VerdictNone, CarrierAbsolute},
		{"overlay", "tcp_rr", "transactions", VerdictWorse, CarrierRatio},
		{"overlay+oncache", "tcp_rr", "transactions", VerdictSame, CarrierRatio},
	} {
		m := comparedCell(t, c, want.arm, want.workload).Metrics[want.metric]
		if m.Verdict != want.verdict || m.Carrier != want.carrier || (m.PHolm == nil) != (want.arm == "host") || !m.Primary || (m.Ratio == nil) != (want.arm == "host") {
			t.Errorf("%s %s: %+v", want.arm, want.workload, m)
		}
	}
	m := comparedCell(t, c, "overlay", "tcp_rr").Metrics["transactions"]
	near(t, "change of the value", *m.Absolute.Factor, 0.9*0.93, 0.02)
	near(t, "change of the ratio", *m.Ratio.Factor, 0.93, 0.02)
	near(t, "ratio before", *m.Old.Ratio, 0.59, 0.02)
	stream := comparedCell(t, c, "overlay", "tcp_stream").Metrics["throughput"]
	ps := holm([]float64{*stream.Ratio.P, *m.Ratio.P})
	near(t, "p_holm", *stream.PHolm, ps[0], 1e-15)
	near(t, "p_holm", *m.PHolm, ps[1], 1e-15)
	if cpu := comparedCell(t, c, "overlay", "tcp_rr").Metrics["cpu_per_transaction"]; cpu.PHolm != nil || cpu.Primary {
		t.Errorf("a described metric has p_holm: %+v", cpu)
	}
	absolute := compareRuns(t, sampleRun(10), secondRun(10), CompareOptions{Absolute: true})
	if m := comparedCell(t, absolute, "overlay+oncache", "tcp_rr").Metrics["transactions"]; m.Carrier != CarrierAbsolute || m.Verdict != VerdictWorse || m.Ratio == nil {
		t.Errorf("absolute: %+v", m)
	}
}

// TestCompareSwapped: the other way round every factor is the reciprocal, and verdicts are mirrored.
func TestCompareSwapped(t *testing.T) {
	mirror := map[Verdict]Verdict{VerdictBetter: VerdictWorse, VerdictWorse: VerdictBetter}
	there, back := compareRuns(t, sampleRun(10), secondRun(9), CompareOptions{}), compareRuns(t, secondRun(9), sampleRun(10), CompareOptions{})
	for i, c := range there.Pairs[0].Cells {
		for name, m := range c.Metrics {
			n := back.Pairs[0].Cells[i].Metrics[name]
			want := m.Verdict
			if mirrored, ok := mirror[want]; ok {
				want = mirrored
			}
			if n.Verdict != want {
				t.Errorf("%s %s: %s one way, %s the other", c.name(), name, m.Verdict, n.Verdict)
			}
			if a, b := m.carried(), n.carried(); a.Factor != nil {
				near(t, name, *a.Factor**b.Factor, 1, 1e-9)
				near(t, name+" low", *a.Low**b.High, 1, 1e-9)
				near(t, name+" p", *a.P, *b.P, 1e-12)
			}
		}
	}
}

// TestCompareVerdicts: values of the baseline, whose level carries the verdict as asked for; NaN stands for no trial.
func TestCompareVerdicts(t *testing.T) {
	nan := math.NaN()
	seven := []float64{99.1, 99.4, 99.7, 100, 100.3, 100.6, 100.9}
	times := func(f float64) (out []float64) {
		for _, v := range seven {
			out = append(out, v*f)
		}
		return out
	}
	for name, c := range map[string]struct {
		old, new []float64
		verdict  Verdict
		reason   string
	}{
		"better":       {seven, times(1.1), VerdictBetter, ""},
		"worse":        {seven, times(0.9), VerdictWorse, ""},
		"same":         {seven, times(1.0001), VerdictSame, ""},
		"itself":       {seven, seven, VerdictSame, ""},
		"constant":     {repeat(7, 100), repeat(7, 100), VerdictSame, ""},
		"small":        {seven, times(1.019), VerdictSame, "significant, but 1.9% is less than the least difference that counts, 2%"},
		"wide":         {seven, []float64{80, 90, 95, 100, 105, 110, 120}, VerdictInconclusive, "interval is ±"},
		"three":        {seven[:3], times(2)[:3], VerdictInconclusive, "3+3 blocks; an interval takes 4+4"},
		"four":         {seven[:4], times(2)[:4], VerdictBetter, ""},
		"two of many":  {seven, times(2)[:2], VerdictInconclusive, "7+2 blocks; an interval takes 4+4"},
		"three enough": {seven, times(2)[:3], VerdictBetter, ""},
		"one block":    {seven[:1], times(2)[:1], VerdictInconclusive, "1+1 blocks"},
		"zero":         {seven, []float64{0, 100, 101, 102, 103, 104, 105}, VerdictInconclusive, "1 of 14 values have no ratio: zero or negative"},
		"negative":     {times(-1), seven, VerdictInconclusive, "7 of 14 values"},
		"NaN":          {seven, repeat(7, nan), VerdictInconclusive, "no valid trial of the new run has it"},
		"no old":       {nil, seven, VerdictInconclusive, "no valid trial of the old run has it"},
		"neither":      {nil, nil, VerdictInconclusive, ""},
		"infinite":     {seven, repeat(7, math.Inf(1)), VerdictInconclusive, "no valid trial of the new run"},
		"extreme":      {repeat(7, 1e-300), repeat(7, 1e300), VerdictInconclusive, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cell := comparedCell(t, compareRuns(t, rrRun(c.old, nil), rrRun(c.new, nil), CompareOptions{Absolute: true}), "host", "tcp_rr")
			m, ok := cell.Metrics["transactions"]
			if name == "neither" {
				if ok {
					t.Errorf("a metric out of nothing: %+v", m)
				}
				return
			}
			if m.Verdict != c.verdict || !strings.Contains(m.Reason, c.reason) || c.reason == "" && c.verdict != VerdictInconclusive && m.Reason != "" {
				t.Errorf("%q, %q; want %q, %q", m.Verdict, m.Reason, c.verdict, c.reason)
			}
		})
	}
}

// TestCompareLevels: levels of two runs carry no verdict, however far they lie apart, unless that is asked for; nor do they count in
// a family. Those of one run's arms drift together, and what a run lacks is said all the same.
func TestCompareLevels(t *testing.T) {
	level := func(id string, factor float64) *econbench.Run {
		run := rrRun([]float64{99 * factor, 100 * factor, 101 * factor, 102 * factor, 103 * factor}, []float64{49, 50, 51, 52, 53})
		run.ID = id
		return run
	}
	zero := level("c", 1)
	*zero.Trials[0].Metrics["transactions"] = 0
	alone := level("d", 0.5)
	alone.Plan.Baseline = arm("overlay")
	swapped := CompareOptions{Arms: []ArmPair{{Old: arm("host"), New: arm("overlay")}}}
	for name, c := range map[string]struct {
		new     *econbench.Run
		o       CompareOptions
		verdict Verdict
		reason  string
	}{
		"half":             {level("b", 0.5), CompareOptions{}, VerdictNone, "levels drift from run to run"},
		"same":             {level("b", 1), CompareOptions{}, VerdictNone, "--absolute"},
		"as asked for":     {level("b", 0.5), CompareOptions{Absolute: true}, VerdictWorse, ""},
		"within one run":   {level("a", 1), swapped, VerdictWorse, ""},
		"of two runs":      {level("b", 1), swapped, VerdictNone, "levels drift"},
		"a zero":           {zero, CompareOptions{}, VerdictInconclusive, "1 of 10 values have no ratio"},
		"no trials":        {rrRun(nil, nil), CompareOptions{}, VerdictInconclusive, "no valid trial of the new run"},
		"another baseline": {alone, CompareOptions{}, VerdictNone, "levels drift"},
	} {
		p := compareRuns(t, level("a", 1), c.new, c.o).Pairs[0]
		m := p.Cells[0].Metrics["transactions"]
		if m.Verdict != c.verdict || !strings.Contains(m.Reason, c.reason) || c.reason == "" && m.Reason != "" {
			t.Errorf("%s: %q, %q; want %q, %q", name, m.Verdict, m.Reason, c.verdict, c.reason)
		}
		if c.verdict == VerdictNone && (m.PHolm != nil || m.Absolute.P == nil || m.Absolute.Factor == nil || m.Absolute.Low == nil) {
			t.Errorf("%s: %+v, %+v; want change, interval and p, and no p of a family", name, m, m.Absolute)
		}
	}
}

// TestCompareFamily: two workloads of four blocks can't be significant together, and that is said.
func TestCompareFamily(t *testing.T) {
	for blocks, want := range map[int]Verdict{4: VerdictInconclusive, 5: VerdictWorse} {
		c := compareRuns(t, sampleRun(blocks), secondRun(blocks), CompareOptions{})
		m := comparedCell(t, c, "overlay", "tcp_rr").Metrics["transactions"]
		if m.Verdict != want || blocks == 4 && !strings.Contains(m.Reason, "4+4 blocks; significance takes 5+5 (2 workloads)") {
			t.Errorf("%d blocks: %s %q, want %s", blocks, m.Verdict, m.Reason, want)
		}
	}
}

// TestCompareRefuses: what decides figures is named, all of it; what does not is no reason to refuse.
func TestCompareRefuses(t *testing.T) {
	facts := func() map[string]econbench.HostFacts {
		return map[string]econbench.HostFacts{
			econbench.ClientHost: {Kernel: "6.1.0", CPUModel: "X", MTU: 1500, BootID: "a"}, econbench.ServerHost: {Kernel: "6.1.0", CPUModel: "X", MTU: 1500, BootID: "b"},
		}
	}
	change := func(f func(*econbench.HostFacts)) func(*econbench.Run) {
		return func(r *econbench.Run) {
			h := r.Hosts[econbench.ServerHost]
			f(&h)
			r.Hosts[econbench.ServerHost] = h
		}
	}
	for want, f := range map[string]func(*econbench.Run){
		`kernel.release of server: "6.1.0" in old, "6.8.0" in new`:  change(func(h *econbench.HostFacts) { h.Kernel = "6.8.0" }),
		`nic.mtu of server: "1500" in old, "9000" in new`:           change(func(h *econbench.HostFacts) { h.MTU = 9000 }),
		`facts of server: "recorded" in old, "not recorded" in new`: func(r *econbench.Run) { delete(r.Hosts, econbench.ServerHost) },
		`facts of client: "recorded" in old, "not recorded" in new`: func(r *econbench.Run) { r.Hosts = nil },
		`lab: "emulated" in old, "real" in new`:                     func(r *econbench.Run) { r.Lab = "real" },
		`image: "" in old, "sha256:2" in new`:                       func(r *econbench.Run) { r.Image = "sha256:2" },
		`placement: "split" in old, "shared" in new`:                func(r *econbench.Run) { r.Plan.Placement = econbench.Shared },
		`wire: "default" in old, "mtu-frames" in new`:               func(r *econbench.Run) { r.Plan.Wire = econbench.WireMTUFrames },
		`congestion_control: "cubic" in old, "bbr" in new`:          func(r *econbench.Run) { r.Plan.CongestionControl = "bbr" },
		`internal: "false" in old, "true" in new`:                   func(r *econbench.Run) { r.Plan.Internal = true },
		`duration: "2s" in old, "3s" in new`:                        func(r *econbench.Run) { r.Plan.Duration = 3 },
		`warmup: "500ms" in old, "0s" in new`:                       func(r *econbench.Run) { r.Plan.Warmup = 0 },
		`attach.hook: "" in old, "filter" in new`:                   func(r *econbench.Run) { r.Plan.Attach.Hook = econbench.HookFilter },
		`attach.lane: "" in old, "macvlan" in new`:                  func(r *econbench.Run) { r.Plan.Attach.Lane = "macvlan" },
		`attach.max_flows: "0" in old, "4096" in new`:               func(r *econbench.Run) { r.Plan.Attach.MaxFlows = 4096 },
		`attach.without: "" in old, "ingress" in new`:               func(r *econbench.Run) { r.Plan.Attach.Without = econbench.Ingress },
		"": change(func(h *econbench.HostFacts) { h.BootID, h.Hostname = "c", "elsewhere" }),
	} {
		old, new := sampleRun(5), secondRun(5)
		old.Hosts, new.Hosts = facts(), facts()
		f(new)
		runs := []Labelled{{"old", old}, {"new", new}}
		_, err := Compare(runs, CompareOptions{})
		if want == "" {
			if err != nil {
				t.Errorf("another boot: %v", err)
			}
			continue
		}
		if !errors.Is(err, ErrDiffer) || !strings.Contains(err.Error(), "\n  "+want) || !strings.Contains(err.Error(), "--force") {
			t.Errorf("%v; want %s", err, want)
			continue
		}
		c, err := Compare(runs, CompareOptions{Force: true})
		if err != nil || len(c.Pairs[0].Forced) == 0 {
			t.Errorf("%s: forced: %v, %+v", want, err, c)
			continue
		}
		for _, format := range ComparisonFormats() {
			out := renderComparison(t, c, format)
			fact, _, _ := strings.Cut(want, ":")
			if marked := strings.ReplaceAll(out, `\_`, "_"); !strings.Contains(marked, "forced") || !strings.Contains(marked, fact) {
				t.Errorf("%s: %s is not marked:\n%s", want, format, out)
			}
		}
	}
}

func TestCompareMatching(t *testing.T) {
	cells := func(list []econbench.Cell) string { return strings.Join(cellLines(list), "; ") }
	missing := comparisons(t)["compare-missing"].Pairs[0]
	if len(missing.Cells) != 2 || cells(missing.OnlyNew) != "overlay+xmasq tcp_stream message=131072 streams=1; overlay+xmasq tcp_rr request=1 response=1" ||
		len(missing.OnlyOld) != 4 || !strings.Contains(fmt.Sprint(missing.Warnings), "the new run has no valid trial of its baseline host: absolute values are left") {
		t.Errorf("%d cells, only old %s, only new %s, %v", len(missing.Cells), cells(missing.OnlyOld), cells(missing.OnlyNew), missing.Warnings)
	}
	old, new := sampleRun(5), secondRun(5)
	new.Plan.Baseline = arm("overlay")
	c := compareRuns(t, old, new, CompareOptions{Workloads: []string{"tcp_rr"}})
	if m := c.Pairs[0].Cells[2].Metrics["transactions"]; m.Carrier != CarrierAbsolute || m.Ratio != nil || len(c.Pairs[0].Cells) != 3 ||
		!strings.Contains(fmt.Sprint(c.Pairs[0].Warnings), "the baseline is overlay, was host") {
		t.Errorf("%+v, %v", m, c.Pairs[0].Warnings)
	}
	// overlay's ratios to host against those of a third arm: the pair has its own name, and the rest is not missing.
	c = compareRuns(t, old, secondRun(5), CompareOptions{Arms: []ArmPair{{Old: arm("overlay"), New: arm("overlay+oncache")}}})
	p := c.Pairs[0]
	if m := p.Cells[1].Metrics["transactions"]; len(p.Cells) != 2 || m.Carrier != CarrierRatio || m.Verdict != VerdictBetter || len(p.OnlyOld)+len(p.OnlyNew) > 0 {
		t.Errorf("%+v", p)
	}
	for want, o := range map[string]CompareOptions{
		`compare old: unknown arm "overlai": did you mean "overlay"?`: {Arms: []ArmPair{{Old: arm("overlai"), New: arm("overlay")}}},
		`compare new: unknown arm "hosts": did you mean "host"?`:      {Arms: []ArmPair{{Old: arm("host"), New: arm("hosts")}}},
		`unknown workload "tcp_r": did you mean "tcp_rr"?`:            {Workloads: []string{"tcp_r"}},
	} {
		if _, err := Compare([]Labelled{{"old", old}, {"new", secondRun(5)}}, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	other := secondRun(5)
	other.Plan.Workloads, other.Trials = []econbench.PlannedWorkload{{Name: "udp_rr", Primary: "transactions"}}, nil
	if _, err := Compare([]Labelled{{"old", old}, {"new", other}}, CompareOptions{}); err == nil || !strings.Contains(err.Error(), "is in both: old has ") {
		t.Errorf("nothing in common: %v", err)
	}
	for _, runs := range [][]Labelled{{{"old", old}}, {{"old", old}, {"new", nil}}, {{"old", old}, {"new", &econbench.Run{Schema: 2}}}} {
		if _, err := Compare(runs, CompareOptions{}); err == nil {
			t.Errorf("%d runs: no error", len(runs))
		}
	}
}

// TestCompareEmpty: a run without trials is compared, and every cell says why it has no verdict.
func TestCompareEmpty(t *testing.T) {
	for _, runs := range [][2]*econbench.Run{{sampleRun(5), sampleRun(0)}, {sampleRun(0), sampleRun(5)}, {sampleRun(0), sampleRun(0)}} {
		c := compareRuns(t, runs[0], runs[1], CompareOptions{})
		out := renderComparison(t, c, "text")
		checkWidth(t, out)
		if !strings.Contains(out, "the run has no trials") || strings.Contains(out, "  better  ") || len(c.Pairs[0].Cells) != 6 {
			t.Error(out)
		}
		for _, cell := range c.Pairs[0].Cells {
			for name, m := range cell.Metrics {
				if m.Verdict != VerdictInconclusive || !strings.Contains(m.Reason, "no valid trial") {
					t.Errorf("%s: %s %q", name, m.Verdict, m.Reason)
				}
			}
		}
	}
}

// FuzzCompare makes runs out of bytes as FuzzRender does. No format may panic, and JSON and CSV must be such.
func FuzzCompare(f *testing.F) {
	f.Add([]byte{}, []byte{}, "transactions", false)
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz0123456789"), []byte("zyxwvutsrqponmlkjihgfedcba9876543210"), "throughput", true)
	f.Add(bytes.Repeat([]byte{0, 17, 34, 51, 68, 85, 102, 119, 136, 153}, 12), bytes.Repeat([]byte{1, 3, 128, 7, 9, 200}, 30), "steal", false)
	f.Fuzz(func(t *testing.T, a, b []byte, primary string, absolute bool) {
		runs := []Labelled{{"\x1b[2J|", runOf(a, primary, 5)}, {"new", runOf(b, primary, 6)}}
		c, err := Compare(runs, CompareOptions{Force: true, Absolute: absolute})
		if err != nil {
			if !strings.Contains(err.Error(), "is in both") {
				t.Error(err)
			}
			return
		}
		for _, format := range ComparisonFormats() {
			out := renderComparison(t, c, format)
			if checkFormat(t, format, out); format == "text" {
				checkWidth(t, out)
			}
			again, err := Compare(runs, CompareOptions{Force: true, Absolute: absolute})
			if err != nil || renderComparison(t, again, format) != out {
				t.Errorf("%s is not the same twice: %v", format, err)
			}
		}
	})
}
