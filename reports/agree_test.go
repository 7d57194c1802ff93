// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

// equalRuns compares what was read with what is true.
func equalRuns(t *testing.T, format string, got, want readRun) {
	t.Helper()
	nan := cmp.Comparer(func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) })
	if diff := cmp.Diff(want, got, nan, cmp.AllowUnexported(readFigures{}, readKey{})); diff != "" {
		t.Errorf("%s: -true +read:\n%s", format, diff)
	}
	if len(got) == 0 && len(want) > 0 {
		t.Errorf("%s: nothing was read", format)
	}
}

// TestAgree reads each format back, with the reader that it is made for: the same metrics, units, directions, medians, intervals,
// ratios and verdicts stand in all of them.
func TestAgree(t *testing.T) {
	reader := buildReadmetrics(t)
	for name, run := range goldens() {
		t.Run(name, func(t *testing.T) {
			s := summarise(t, run)
			want := truth(s)
			equalRuns(t, "json", readJSON(t, render(t, JSON{}, run)), want)
			equalRuns(t, "csv", readCSV(t, render(t, CSV{}, run)), want)
			equalRuns(t, "junit", figuresOfJUnit(readJUnit(t, render(t, JUnit{}, run))), want)

			collected := make(readRun) // gauges have no sample for what is not there, and verdicts on what has a direction alone
			for k, f := range want {
				if f.better == "" {
					f.verdict = ""
				}
				if !math.IsNaN(f.median) {
					collected[k] = f
				}
			}
			text := render(t, OpenMetrics{}, run)
			for _, as := range []string{"openmetrics", "text"} {
				equalRuns(t, as, readPrometheus(prometheus(t, reader, as, text)), collected)
			}
			agreeBenchfmt(t, s, run)
			agreeAction(t, s, run)
			agreeTables(t, s, run)
		})
	}
}

func readJSON(t *testing.T, text string) readRun {
	t.Helper()
	var s struct {
		Cells []struct {
			Arm, Workload  string
			Params         econbench.Params
			Valid, Invalid int
			Metrics        map[string]struct {
				Unit, Better      string
				Median, Low, High *float64
				Ratio             *struct {
					Median, Low, High *float64
					N                 int
					Verdict           string
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	run := make(readRun)
	for _, c := range s.Cells {
		for name, m := range c.Metrics {
			f := readFigures{unit: m.Unit, better: m.Better, median: number64(m.Median), low: number64(m.Low), high: number64(m.High),
				valid: strconv.Itoa(c.Valid), invalid: strconv.Itoa(c.Invalid)}
			if r := m.Ratio; r != nil {
				f.ratio, f.ratioLow, f.ratioHigh, f.verdict, f.pairs = exact(r.Median), exact(r.Low), exact(r.High), r.Verdict, strconv.Itoa(r.N)
			}
			run[readKey{c.Arm, c.Workload, c.Params.String(), name}] = f
		}
	}
	return run
}

func agreeBenchfmt(t *testing.T, s *Summary, run *econbench.Run) {
	t.Helper()
	values, better, config := readBenchfmt(t, render(t, Benchfmt{}, run))
	read := 0
	for _, c := range s.Cells {
		name := "Trial" + benchmarkName(econbench.Cell{Arm: c.Arm, Workload: c.Workload, Params: c.Params})
		for metric, m := range c.Metrics {
			unit := benchmarkUnit(metric, m.Unit)
			got := values[[2]string{name, unit}]
			if len(got) != m.N || m.N > 0 && median(got) != *m.Median {
				t.Errorf("benchfmt: %s %s: %d values, want %d with median %v", name, unit, len(got), m.N, m.Median)
			}
			if better[unit] != string(m.Better) {
				t.Errorf("benchfmt: %s: better %q, want %q", unit, better[unit], m.Better)
			}
			if read += len(got); m.N > 0 && (config["lab"] != s.Lab || config["placement"] != string(s.Plan.Placement)) {
				t.Errorf("benchfmt: configuration %v", config)
			}
		}
	}
	all := 0
	for _, v := range values {
		all += len(v)
	}
	if all != read {
		t.Errorf("benchfmt: %d values, %d of them are known", all, read)
	}
}

func agreeAction(t *testing.T, s *Summary, run *econbench.Run) {
	t.Helper()
	type entry struct {
		unit   string
		value  float64
		better econbench.Better
	}
	read := make(map[string]entry)
	extra := make(map[string]string)
	for _, f := range []GitHubBenchmark{{econbench.Higher}, {econbench.Lower}} {
		for _, b := range readAction(t, render(t, f, run)) {
			read[b.Name], extra[b.Name] = entry{b.Unit, b.Value, f.Better}, b.Extra
		}
	}
	known := 0
	for _, c := range s.Cells {
		for metric, m := range c.Metrics {
			name := strings.TrimSpace(c.Workload+" "+c.Params.String()) + " | " + c.Arm.String() + " | " + metric
			got, ok := read[name]
			if m.Primary && m.Median != nil && !ok {
				t.Errorf("action: no %s", name)
			}
			if !ok {
				continue
			}
			known++
			if want := (entry{m.Unit, *m.Median, m.Better}); got != want {
				t.Errorf("action: %s: %+v, want %+v", name, got, want)
			}
			if r := m.Ratio; r != nil && r.Median != nil {
				name += " vs " + s.Baseline.String()
				known++
				if want := (entry{"×", *r.Median, m.Better}); read[name] != want || !strings.Contains(extra[name], string(r.Verdict)) {
					t.Errorf("action: %s: %+v %q, want %+v", name, read[name], extra[name], want)
				}
			}
		}
	}
	if known != len(read) {
		t.Errorf("action: %d entries, %d of them are known", len(read), known)
	}
}

// agreeTables: the tables for people show the primary metric's median, scaled, its ratio and its verdict.
func agreeTables(t *testing.T, s *Summary, run *econbench.Run) {
	t.Helper()
	for _, format := range []econbench.Report{Markdown{}, GitHub{}, Text{}} {
		text := render(t, format, run)
		rows := markdownRows(text)
		if format.Name() == "text" {
			for _, line := range strings.Split(text, "\n") {
				rows = append(rows, []string{strings.TrimSpace(line)})
			}
		}
		for _, c := range s.Cells {
			m := c.Metrics[c.primary]
			want := []string{c.Arm.String(), show(c.primary, m.Unit, m.Median), showRatio(m.Ratio), showVerdict(c, c.primary)}
			if !slices.ContainsFunc(rows, func(row []string) bool {
				line := strings.Join(row, "  ")
				return strings.HasPrefix(line, want[0]+" ") && !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(line, w) })
			}) {
				t.Errorf("%s: no row with %q", format.Name(), want)
			}
		}
	}
}

// TestBenchstatReads gives a report to benchstat itself: its columns are the arms, the baseline first, and its medians ours.
func TestBenchstatReads(t *testing.T) {
	if testing.Short() {
		t.Skip("builds benchstat")
	}
	runs := goldens()
	runs["baseline last"] = sampleRun(7)
	slices.Reverse(runs["baseline last"].Plan.Arms)
	for name, run := range runs {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(render(t, Benchfmt{}, run)), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("go", "tool", "-modfile=../tools/go.mod", "benchstat", "-format=csv", "-col=/arm", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := benchstatMedians(t, string(out), run.Plan.Baseline.String())
		s := summarise(t, run)
		want := 0
		for _, c := range s.Cells {
			row := strings.Replace("Trial"+benchmarkName(econbench.Cell{Arm: c.Arm, Workload: c.Workload, Params: c.Params}), "/arm="+c.Arm.String(), "", 1)
			for metric, m := range c.Metrics {
				if m.N == 0 {
					continue
				}
				want++
				if v, ok := got[[3]string{row, c.Arm.String(), benchmarkUnit(metric, m.Unit)}]; !ok || math.Abs(v / *m.Median - 1) > 1e-12 {
					t.Errorf("%s: %s %s %s: benchstat has %v, %v; want %v", name, row, c.Arm, metric, v, ok, *m.Median)
				}
			}
		}
		if len(got) != want {
			t.Errorf("%s: benchstat has %d figures, want %d", name, len(got), want)
		}
	}
}

// benchstatMedians reads benchstat's tables: by row, column and unit.
func benchstatMedians(t *testing.T, text, baseline string) map[[3]string]float64 {
	t.Helper()
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	medians := make(map[[3]string]float64)
	var arms, units []string
	for _, row := range rows {
		switch {
		case len(row) < 2 || row[0] == "geomean":
		case row[0] == "" && strings.Contains(strings.Join(row, ","), ",CI"):
			units = row
		case row[0] == "":
			if arms = row; row[1] != baseline {
				t.Errorf("the first column is %s, want the baseline", row[1])
			}
		default:
			for i := 1; i < len(row); i++ {
				if i < len(arms) && arms[i] != "" && row[i] != "" {
					v, err := strconv.ParseFloat(row[i], 64)
					if err != nil {
						t.Fatalf("%q: %v", row, err)
					}
					medians[[3]string{row[0], arms[i], units[i]}] = v
				}
			}
		}
	}
	return medians
}
