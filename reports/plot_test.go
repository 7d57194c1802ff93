// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"image/color"
	"image/png"
	"io"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// TestPlotFiles: every plot is there as a well-formed SVG and as a PNG of twice its size, under a name that any file system takes.
func TestPlotFiles(t *testing.T) {
	runs := oddRuns()
	for name, run := range badRuns(t) {
		runs["bad: "+name] = run
	}
	runs["page"], runs["many arms"] = pageRun(6), manyArms()
	for name, run := range runs {
		t.Run(name, func(t *testing.T) {
			files, err := Plots(run)
			if err != nil {
				t.Fatal(err)
			}
			seen := make(map[string]bool)
			for _, f := range files {
				if seen[f.Name] || filepath.Base(f.Name) != f.Name || len(f.Name) > 140 || strings.ContainsAny(f.Name, "<>\"'\n /") {
					t.Errorf("name %q", f.Name)
				}
				seen[f.Name] = true
				if strings.HasSuffix(f.Name, ".png") {
					picture, err := png.Decode(bytes.NewReader(f.Data))
					if err != nil {
						t.Errorf("%s: %v", f.Name, err)
					} else if got := picture.Bounds().Dx(); got != 960 {
						t.Errorf("%s: %d px wide, want 960", f.Name, got)
					}
					continue
				}
				checkXML(t, f)
			}
			if name == "page" && (len(files) != 2*(1+6*2+4) || !seen["overview.svg"] || !seen["tcp_rr-clients=1_flows=1_request=1_response=1-latency.png"]) {
				t.Errorf("%d files: %v", len(files), seen)
			}
		})
	}
}

func checkXML(t *testing.T, f PlotFile) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(f.Data))
	title := ""
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "title" {
			if err := d.DecodeElement(&title, &start); err != nil {
				t.Fatalf("%s: %v", f.Name, err)
			}
		}
	}
	if strings.TrimSpace(title) == "" || strings.Contains(string(f.Data), "NaN") || strings.Contains(string(f.Data), "Inf,") {
		t.Errorf("%s: title %q, or a place that is none", f.Name, title)
	}
}

// manyArms has more arms than there are colours.
func manyArms() *econbench.Run {
	run := gapRun()
	run.Plan.Arms, run.Trials = nil, nil
	for i := range 20 {
		a := arm("overlay")
		if i > 0 {
			a.Copy = i + 1
		}
		run.Plan.Arms = append(run.Plan.Arms, a)
	}
	run.Plan.Baseline = run.Plan.Arms[0]
	for block := range run.Plan.Blocks {
		for i, c := range run.Plan.Cells() {
			run.Trials = append(run.Trials, econbench.Trial{Block: block, Cell: c, Valid: true, Metrics: map[string]*float64{
				"transactions": ptr(1000 + float64(i*block)), "latency_p50": ptr(1e-5), "latency_p99": ptr(2e-5 * float64(i+1))}})
		}
	}
	return run
}

// TestLooks: no two arms look the same, and every colour stands out from its ground in both schemes (WCAG 2.2, 1.4.11 and 1.4.3).
func TestLooks(t *testing.T) {
	type looks struct {
		variable string
		shape    shape
	}
	seen := make(map[looks]bool)
	for n := range 42 {
		l := lookOf(n)
		if key := (looks{l.ink.variable, l.shape}); seen[key] {
			t.Errorf("arm %d looks like another one: %v", n, key)
		} else {
			seen[key] = true
		}
	}
	hexes := make(map[string]string)
	for _, i := range inks() {
		if other, taken := hexes[hexOf(i)]; taken {
			t.Errorf("%s and %s are one light colour: the page can't tell them apart", i.variable, other)
		}
		hexes[hexOf(i)] = i.variable
	}
	for _, i := range armInks {
		if l, d := contrast(i.light, inkGround.light), contrast(i.dark, inkGround.dark); l < 3 || d < 3 {
			t.Errorf("%s: contrast %.2f in light, %.2f in dark: want 3", i.variable, l, d)
		}
	}
	for _, i := range []ink{inkText, inkSoft, inkWorse} {
		if l, d := contrast(i.light, inkGround.light), contrast(i.dark, inkGround.dark); l < 4.5 || d < 4.5 {
			t.Errorf("%s: contrast %.2f in light, %.2f in dark: want 4.5", i.variable, l, d)
		}
	}
}

func contrast(a, b color.RGBA) float64 {
	luminance := func(c color.RGBA) float64 {
		part := func(v uint8) float64 {
			s := float64(v) / 255
			if s <= 0.04045 {
				return s / 12.92
			}
			return math.Pow((s+0.055)/1.055, 2.4)
		}
		return 0.2126*part(c.R) + 0.7152*part(c.G) + 0.0722*part(c.B)
	}
	x, y := luminance(a), luminance(b)
	return (math.Max(x, y) + 0.05) / (math.Min(x, y) + 0.05)
}

// TestStripNotes: what a plot of trials says of those that it does not show is true of them.
func TestStripNotes(t *testing.T) {
	trials := func(n, invalid int, more ...float64) (c cellTrials) {
		for i := range n {
			c.values = append(c.values, trialValue{i, 100 + float64(i%7), i >= invalid})
		}
		for i, v := range more {
			c.values = append(c.values, trialValue{n + i, v, true})
		}
		return c
	}
	lacking := trials(8, 1)
	lacking.lacking = 2
	for want, c := range map[string]cellTrials{
		"6 trials; each arm's blocks from top to bottom":                                                                                             trials(6, 0),
		"6 trials; each arm's blocks from top to bottom; × invalid, do not count (2)":                                                                trials(6, 2),
		"5 of 6 trials drawn; each arm's blocks from top to bottom; 1 value beyond any axis":                                                         trials(5, 0, 1e200),
		"8 of 10 trials drawn; each arm's blocks from top to bottom; 2 without a value; × invalid, do not count (1)":                                 lacking,
		"400 of 900 trials drawn, evenly spaced, least and greatest among them; each arm's blocks from top to bottom":                                trials(900, 0),
		"400 of 900 trials drawn, evenly spaced, least and greatest among them; each arm's blocks from top to bottom; × invalid, do not count (500)": trials(900, 500),
	} {
		r := strip{}
		r.values, r.counts = c.shown()
		f, ok := stripFigure("x", "transactions", Metric{}, []strip{r})
		got := f.note
		if len(r.values) < 400 && strings.Contains(want, "400 of") { // thin may keep some fewer
			want = strings.Replace(want, "400 of", fmt.Sprintf("%d of", len(r.values)), 1)
		}
		if !ok || got != want {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
	if _, ok := stripFigure("x", "transactions", Metric{}, []strip{{counts: stripCounts{all: 3, lacking: 3}}}); ok {
		t.Error("a plot of nothing")
	}
}

func TestThin(t *testing.T) {
	var all []trialValue
	for i := range 10_007 {
		all = append(all, trialValue{block: i, v: float64(i % 100), valid: true})
	}
	all[7000].v, all[33].v = 1e9, -1e9
	some := thin(all, maxPoints)
	low, high := false, false
	for i, v := range some {
		low, high = low || v.v == -1e9, high || v.v == 1e9
		if i > 0 && v.block <= some[i-1].block {
			t.Fatal("out of order")
		}
	}
	if len(some) > maxPoints || len(some) < maxPoints-2 || !low || !high || some[0].block != 0 || some[len(some)-1].block != 10_006 {
		t.Errorf("%d kept, extremes %v %v", len(some), low, high)
	}
	if len(thin(all[:maxPoints], maxPoints)) != maxPoints {
		t.Error("few are all kept")
	}
}

func TestTicks(t *testing.T) {
	labels := func(low, high float64) string {
		var list []string
		for _, t := range niceTicks(low, high, 5) {
			list = append(list, t.Label)
		}
		return strings.Join(list, " ")
	}
	for _, c := range []struct {
		low, high float64
		want      string
	}{
		{0, 2.06, "0 0.5 1.0 1.5 2.0"}, {12.1, 24, "14 16 18 20 22 24"}, {-1, 1, "-1.0 -0.5 0 0.5 1.0"}, {0, 0, ""}, {0.0001, 0.0006, "0.0001 0.0002 0.0003 0.0004 0.0005 0.0006"}, {0, 5e6, "0 1e+06 2e+06 3e+06 4e+06 5e+06"},
	} {
		if got := labels(c.low, c.high); got != c.want {
			t.Errorf("%g to %g: %q, want %q", c.low, c.high, got, c.want)
		}
	}
	for _, c := range []struct{ low, high, from float64 }{{10, 20, 0}, {19, 20, 18.94}, {0, 5, 0}, {-1, 1, -1.12}, {5, 5, 4.75}, {0, 0, 0}} {
		if from, to := axisRange(c.low, c.high); math.Abs(from-c.from) > 1e-9 || to <= c.high && c.high != c.low || to <= from {
			t.Errorf("%g to %g: from %g to %g, want from %g", c.low, c.high, from, to, c.from)
		}
	}
}

// TestCPUSplit adds up by hand what the page stacks.
func TestCPUSplit(t *testing.T) {
	run := rrRun(nil, nil)
	run.Hosts = map[string]econbench.HostFacts{
		econbench.ClientHost: {BootID: "a", CPUs: []int{0, 1}}, econbench.ServerHost: {BootID: "a", CPUs: []int{1, 2}}, // CPU 1 is both's
	}
	c := run.Plan.Cells()[0]
	stat := econbench.Counters{
		"cpu0.user": 1, "cpu0.nice": 0.5, "cpu0.system": 2, "cpu0.softirq": 0.25, "cpu0.guest": 1,
		"cpu1.user": 1, "cpu1.system": 1, "cpu1.softirq": 0.75, "cpu2.user": 3, "cpu2.system": 1, "cpu2.softirq": 1, "cpu3.user": 100,
	}
	window := econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"stat": stat}}
	trial := econbench.Trial{Cell: c, Valid: true, Hosts: map[string]econbench.HostWindow{econbench.ClientHost: window, econbench.ServerHost: window}}
	invalid := trial
	invalid.Valid = false
	without := econbench.Trial{Cell: c, Valid: true, Metrics: map[string]*float64{"cpu_of_client": ptr(1), "cpu_of_server": ptr(1), "cpu_of_rest": ptr(1)}}
	run.Trials = []econbench.Trial{trial, invalid, without}
	split := splitCPU(run)[c.Workload+" "+c.Params.String()]
	if got := strings.Join(split.parts, " "); got != "user system softirq" { // no irq, no steal: not even named
		t.Fatalf("parts %q", got)
	}
	row := split.rows[keyOf(c)]
	if row.trials != 1 {
		t.Errorf("%d trials", row.trials)
	}
	for part, want := range []float64{(1 + 0.5 + 1 + 3) / 2., (2 + 1 + 1) / 2., (0.25 + 0.75 + 1) / 2.} {
		near(t, split.parts[part], row.mean(part), want, 1e-12)
	}
	exact := trial
	exact.Metrics = map[string]*float64{"cpu_exact_task": ptr(1), "cpu_exact_softirq": ptr(0.5), "cpu_exact_irq": ptr(0.25)}
	run.Trials = append(run.Trials, exact)
	if got := splitCPU(run)[c.Workload+" "+c.Params.String()]; !strings.Contains(got.note, "exact") || got.rows[keyOf(c)].trials != 1 {
		t.Errorf("the better way is not taken: %+v", got)
	}
	run.Trials = run.Trials[1:2]
	if got := splitCPU(run); len(got) != 0 {
		t.Errorf("of invalid trials: %+v", got)
	}
}
