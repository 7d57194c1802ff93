// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
)

// badRuns are what a report may be asked for.
func badRuns(t *testing.T) map[string]*econbench.Run {
	t.Helper()
	change := func(run *econbench.Run, f func(i int, tr *econbench.Trial)) *econbench.Run {
		for i := range run.Trials {
			f(i, &run.Trials[i])
		}
		return run
	}
	runs := map[string]*econbench.Run{
		"nothing":     {},
		"plan alone":  sampleRun(0),
		"no workload": {Plan: econbench.Plan{Arms: []econbench.Arm{arm("host")}, Baseline: arm("host"), Blocks: 3}, Status: econbench.StatusComplete},
		"no valid trial": change(sampleRun(6), func(_ int, tr *econbench.Trial) {
			tr.Valid, tr.Invalid = false, []string{"it \"failed\" <here> & there,\n]]> \x00 \ufffe \U0010ffff"}
		}),
		"no reason": change(sampleRun(6), func(_ int, tr *econbench.Trial) { tr.Valid, tr.Invalid = false, nil }),
		"not a number": change(sampleRun(6), func(i int, tr *econbench.Trial) {
			tr.Elapsed = econbench.Seconds(math.NaN())
			for name := range tr.Metrics {
				tr.Metrics[name] = oddValues[i%len(oddValues)]
			}
		}),
		"infinite": change(sampleRun(6), func(i int, tr *econbench.Trial) {
			for name := range tr.Metrics {
				tr.Metrics[name] = ptr(math.Inf(1 - 2*(i%2)))
			}
		}),
		"zero": change(sampleRun(6), func(_ int, tr *econbench.Trial) {
			tr.Metrics = map[string]*float64{"transactions": ptr(0), "throughput": ptr(0)}
		}),
		"only nulls": change(sampleRun(6), func(_ int, tr *econbench.Trial) {
			tr.Metrics = map[string]*float64{"transactions": nil, "throughput": nil}
		}),
		"no metrics":      change(sampleRun(6), func(_ int, tr *econbench.Trial) { tr.Metrics = nil }),
		"no baseline":     sampleRun(6),
		"other baseline":  sampleRun(6),
		"interrupted":     sampleRun(8),
		"unplanned cells": sampleRun(6),
		"one block":       sampleRun(1),
		"negative block":  change(sampleRun(6), func(_ int, tr *econbench.Trial) { tr.Block -= 3 }),
		"twice":           sampleRun(6),
		"strange names":   runOfStrangeNames(),
		"clashing names":  clashingRun(),
		"torn on disk":    tornRun(t),
	}
	runs["no baseline"].Plan.Baseline = econbench.Arm{}
	runs["other baseline"].Plan.Baseline = arm("wan")
	runs["interrupted"].Status, runs["interrupted"].Trials = econbench.StatusInterrupted, runs["interrupted"].Trials[:7]
	runs["unplanned cells"].Plan.Workloads, runs["unplanned cells"].Plan.Arms = nil, nil
	runs["twice"].Trials = append(runs["twice"].Trials, runs["twice"].Trials...)
	return runs
}

// strange are names that mean something to one format or another.
var strange = []string{
	`quo"te'back\slash`, "comma,semi;colon", "new\nline\r\ttab", "<b>&amp;</b>]]>--><!--", "ünïcödé 日本 \u202e\u00a0\u2028", "\x1b[31m\x00\x07\xff\xfe", "|`*_#~[x](y)",
	"/slash=equals/arm=x-4", "%41 %", "{brace=\"}", "-16", "# EOF", "Benchmark", "Unit", "", " ", strings.Repeat("long", 2_000),
}

// runOfStrangeNames has them everywhere.
func runOfStrangeNames() *econbench.Run {
	run := sampleRun(0)
	run.ID, run.Version, run.Lab, run.Error = strange[0], strange[1], strange[2], strange[3]
	run.Status, run.Plan.Suite, run.Plan.CongestionControl = "weird\n", strange[4]+strange[5], strange[6]
	run.Plan.Placement, run.Plan.Wire, run.Warnings = econbench.Placement(strange[7]), econbench.Wire(strange[9]), strange
	run.Command = strange
	run.Plan.Arms, run.Plan.Workloads, run.Plan.Blocks = []econbench.Arm{arm("host")}, nil, 7
	for i, name := range strange {
		run.Plan.Arms = append(run.Plan.Arms, econbench.Arm{Topology: "t" + name, Fastpath: name})
		if i%4 == 0 {
			run.Plan.Workloads = append(run.Plan.Workloads, econbench.PlannedWorkload{Name: name + "w", Params: econbench.Params{name: strange[(i+5)%len(strange)], "k": "-4"}, Primary: name})
		}
	}
	for block := range run.Plan.Blocks {
		for i, c := range run.Plan.Cells() {
			tr := econbench.Trial{Schema: 1, Run: run.ID, Block: block, Cell: c, Valid: i%11 != 10, Invalid: strange, Warnings: strange, Metrics: make(map[string]*float64)}
			for j, name := range strange {
				tr.Metrics[name] = ptr(float64(1 + i + j + block))
			}
			run.Trials = append(run.Trials, tr)
		}
	}
	return run
}

// clashingRun has metrics whose names are the same once a format has changed them, or are those of the format itself.
func clashingRun() *econbench.Run {
	run := sampleRun(7)
	program := econbench.Program{Name: "own", Server: []string{"server"}, Client: []string{"client"}, Params: econbench.Params{}}
	names := []string{"a-b", "a_b", "a b", "a.b", "verdict", "run_info", "blocks", "baseline_ratio", "valid_trials", "metric_info", "ns", "MB", "x", "x_seconds", "geomean"}
	for i, name := range names {
		program.Metrics = append(program.Metrics, econbench.ProgramMetric{Name: name, Unit: []string{"s", "", "foo bar", "1", "ns", "%"}[i%6], Better: "lower"})
	}
	program.Metrics[13].Unit = "" // x_seconds, beside x in seconds
	program.Metrics[12].Unit = "s"
	run.Plan.Programs = []econbench.Program{program}
	for i := range run.Trials {
		for j, name := range names {
			run.Trials[i].Metrics[name] = ptr(float64(1 + i + j))
		}
	}
	return run
}

// tornRun is read from a folder whose last line was never finished.
func tornRun(t *testing.T) *econbench.Run {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "torn")
	run := sampleRun(6)
	d, err := rundir.Create(dir, run)
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range run.Trials {
		if err := d.Append(tr); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, rundir.TrialsFile)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-40); err != nil {
		t.Fatal(err)
	}
	return loadRun(t, dir)
}

// TestBadRuns: whatever there is, every format is one, the same twice, and nothing panics.
func TestBadRuns(t *testing.T) {
	reader := ""
	if !testing.Short() {
		reader = buildReadmetrics(t)
	}
	for name, run := range badRuns(t) {
		for _, r := range All() {
			t.Run(name+"/"+r.Name(), func(t *testing.T) {
				out := render(t, r, run)
				checkFormat(t, r.Name(), out)
				if out != render(t, r, run) {
					t.Error("not the same twice")
				}
				if r.Name() == "openmetrics" && reader != "" {
					both := [2]map[string]readFamily{prometheus(t, reader, "openmetrics", out), prometheus(t, reader, "text", out)}
					for family, read := range both[0] {
						if len(read.Samples) == 0 || len(both[1][family].Samples) != len(read.Samples) {
							t.Errorf("%s: %d samples to OpenMetrics, %d to the text format", family, len(read.Samples), len(both[1][family].Samples))
						}
					}
				}
			})
		}
	}
}

// TestBadRunsSay: a run without figures is told from one that went well, by every format that can say so.
func TestBadRunsSay(t *testing.T) {
	runs := badRuns(t)
	for _, c := range []struct {
		run, format string
		wants       []string
	}{
		{"plan alone", "junit", []string{`<skipped message="the run has no trials"`, `failures="0" errors="0"`}},
		{"plan alone", "github", []string{"## econbench: nothing was measured"}},
		{"plan alone", "benchfmt", []string{"# warning: the run has no trials"}},
		{"plan alone", "github-bigger", []string{"[]"}},
		{"plan alone", "openmetrics", []string{"econbench_attempted_trials{suite=\"quick\"} 0\n", "econbench_run_warnings{suite=\"quick\"} 1\n"}},
		{"nothing", "junit", []string{`errors="1"`, "status not recorded"}},
		{"nothing", "openmetrics", []string{"econbench_run_complete 0\n"}},
		{"nothing", "github", []string{"the run is not complete"}},
		{"no valid trial", "junit", []string{`failures="6" errors="0"`, "6 of 6 trials invalid: it &#34;failed&#34;"}},
		{"no valid trial", "github", []string{"36 invalid trials"}},
		{"no reason", "junit", []string{"no reason was recorded"}},
		{"only nulls", "junit", []string{`failures="0" errors="6"`, "primary metric throughput was not collected"}},
		{"interrupted", "junit", []string{`errors="1"`, "interrupted after 7 of 48 trials"}},
		{"interrupted", "github", []string{"the run is not complete"}},
		{"torn on disk", "junit", []string{"last line is torn"}},
		{"torn on disk", "benchfmt", []string{"# warning: ", "last line is torn"}},
		{"torn on disk", "github", []string{"last line is torn"}},
	} {
		r, err := Named(c.format)
		if err != nil {
			t.Fatal(err)
		}
		out := render(t, r, runs[c.run])
		for _, want := range c.wants {
			if !strings.Contains(strings.ReplaceAll(out, `\_`, "_"), want) {
				t.Errorf("%s of %s lacks %q:\n%.3000s", c.format, c.run, want, out)
			}
		}
	}
}

// TestGitHubCommand: the command can be pasted, and has a seed if that is one of its flags.
func TestGitHubCommand(t *testing.T) {
	run := sampleRun(2)
	for want, command := range map[string][]string{
		"\n\n```\neconbench run --suite 'a b' --seed=7\n```\n":             {"/opt/bin/econbench", "run", "--suite", "a b"},
		"\n\n```\neconbench run --seed 3\n```\n":                           {"econbench", "run", "--seed", "3"},
		"To measure it again</summary>\n\n```\neconbench calibrate\n```\n": {"econbench", "calibrate"},
		"\n````\neconbench run $'a\\x0a```' --seed=7\n````\n":              {"econbench", "run", "a\n```"},
	} {
		run.Command = command
		if out := render(t, GitHub{}, run); !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out[max(0, len(out)-300):])
		}
	}
}

// TestGitHubLimit: what does not fit into a step's summary is left out and said, and the verdicts stand.
func TestGitHubLimit(t *testing.T) {
	run := sampleRun(7)
	for i := range 4000 {
		run.Warnings = append(run.Warnings, strings.Repeat(string(rune('a'+i%26)), i)+" of unusual length")
	}
	out := render(t, GitHub{}, run)
	checkFormat(t, "github", out)
	if len(out) < summaryLimit/2 || !strings.Contains(out, "Left out, for GitHub takes 1 MiB: ") || !strings.Contains(out, "4 worse") && !strings.Contains(out, "3 worse") {
		t.Errorf("%d bytes, end %q", len(out), out[len(out)-300:])
	}
	wide := sampleRun(0)
	for i := range 20_000 {
		wide.Plan.Arms = append(wide.Plan.Arms, econbench.Arm{Topology: fmt.Sprint("arm", i), Fastpath: "none"})
	}
	out = render(t, GitHub{}, wide)
	checkFormat(t, "github", out)
	if !strings.Contains(out, "Left out, for GitHub takes 1 MiB: tables") || !strings.Contains(out, "nothing was measured") {
		t.Errorf("%d bytes, end %q", len(out), out[len(out)-300:])
	}
}
