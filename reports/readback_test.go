// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/perf/benchfmt"

	"github.com/econbench/econbench"
)

// What stands in this file reads formats back as those do who are given them, each with the reader of its format.

// readKey is a metric of a cell. Formats that write names in another way have theirs in it.
type readKey struct{ arm, workload, params, metric string }

// readFigures are what a format says of it; "" and NaN: nothing.
type readFigures struct {
	unit, better          string
	median, low, high     float64
	ratio, verdict        string // the ratio to the last digit
	ratioLow, ratioHigh   string
	valid, invalid, pairs string
}

type readRun map[readKey]readFigures

func number64(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// truth is what the summary has.
func truth(s *Summary) readRun {
	run := make(readRun)
	for _, c := range s.Cells {
		for name, m := range c.Metrics {
			f := readFigures{unit: m.Unit, better: string(m.Better), median: number64(m.Median), low: number64(m.Low), high: number64(m.High),
				valid: strconv.Itoa(c.Valid), invalid: strconv.Itoa(c.Invalid)}
			if r := m.Ratio; r != nil {
				f.ratio, f.ratioLow, f.ratioHigh, f.verdict, f.pairs = exact(r.Median), exact(r.Low), exact(r.High), string(r.Verdict), strconv.Itoa(r.N)
			}
			run[readKey{c.Arm.String(), c.Workload, c.Params.String(), name}] = f
		}
	}
	return run
}

// buildReadmetrics builds the reader that has Prometheus' parsers in it.
func buildReadmetrics(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds Prometheus' parsers")
	}
	path := filepath.Join(t.TempDir(), "readmetrics")
	if out, err := exec.Command("go", "build", "-C", "../tools", "-o", path, "./readmetrics").CombinedOutput(); err != nil {
		t.Fatalf("build readmetrics: %v: %s", err, out)
	}
	return path
}

type readFamily struct {
	Type, Unit, Help string
	Samples          []struct {
		Labels map[string]string
		Value  float64
	}
}

// prometheus reads a text as Prometheus does ("openmetrics"), or as node_exporter's textfile collector ("text").
func prometheus(t *testing.T, reader, as, text string) map[string]readFamily {
	t.Helper()
	cmd := exec.Command(reader, "-as", as)
	cmd.Stdin = strings.NewReader(text)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s as %s: %s", err, as, stderr.String())
	}
	var families map[string]readFamily
	if err := json.Unmarshal(out, &families); err != nil {
		t.Fatal(err)
	}
	return families
}

func readPrometheus(families map[string]readFamily) readRun {
	run := make(readRun)
	key := func(l map[string]string, metric string) readKey {
		return readKey{l["arm"], l["workload"], l["params"], metric}
	}
	counts := make(map[readKey][2]string)
	for at, family := range []string{"econbench_valid_trials", "econbench_invalid_trials"} {
		for _, s := range families[family].Samples {
			k := key(s.Labels, "")
			pair := counts[k]
			pair[at] = strconv.Itoa(int(s.Value))
			counts[k] = pair
		}
	}
	for _, about := range families["econbench_metric_info"].Samples {
		better := about.Labels["better"]
		if better == econbench.BetterNeither {
			better = ""
		}
		for _, s := range families[about.Labels["family"]].Samples {
			k := key(s.Labels, about.Labels["metric"])
			f, ok := run[k]
			if !ok {
				f = readFigures{unit: about.Labels["unit"], better: better, median: math.NaN(), low: math.NaN(), high: math.NaN()}
				f.valid, f.invalid = counts[key(s.Labels, "")][0], counts[key(s.Labels, "")][1]
			}
			*map[string]*float64{"median": &f.median, "low": &f.low, "high": &f.high}[s.Labels["quantity"]] = s.Value
			run[k] = f
		}
	}
	change := func(family string, set func(*readFigures, map[string]string, float64)) {
		for _, s := range families[family].Samples {
			k := key(s.Labels, s.Labels["metric"])
			if f, ok := run[k]; ok { // one without a median has no family's samples
				set(&f, s.Labels, s.Value)
				run[k] = f
			}
		}
	}
	change("econbench_baseline_ratio", func(f *readFigures, l map[string]string, v float64) {
		*map[string]*string{"median": &f.ratio, "low": &f.ratioLow, "high": &f.ratioHigh}[l["quantity"]] = exact(&v)
	})
	change("econbench_baseline_ratio_pairs", func(f *readFigures, _ map[string]string, v float64) { f.pairs = strconv.Itoa(int(v)) })
	change("econbench_verdict", func(f *readFigures, l map[string]string, v float64) {
		if v == 1 {
			f.verdict += l["verdict"]
		}
	})
	return run
}

func readCSV(t *testing.T, text string) readRun {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	run := make(readRun)
	for _, row := range rows[1:] {
		of := func(name string) string { return row[slices.Index(rows[0], name)] }
		number := func(name string) float64 {
			v, err := strconv.ParseFloat(of(name), 64)
			if err != nil {
				return math.NaN()
			}
			return v
		}
		if of("valid") == "" { // a published figure
			continue
		}
		run[readKey{of("arm"), of("workload"), of("params"), of("metric")}] = readFigures{
			unit: of("unit"), better: of("better"), median: number("median"), low: number("low"), high: number("high"), valid: of("valid"), invalid: of("invalid"),
			ratio: of("ratio"), ratioLow: of("ratio_low"), ratioHigh: of("ratio_high"), verdict: of("verdict"), pairs: of("ratio_n"),
		}
	}
	return run
}

func readJUnit(t testing.TB, text string) junitReport {
	t.Helper()
	var report junitReport
	d := xml.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&report); err != nil {
		t.Fatalf("%v in %.2000s", err, text)
	}
	return report
}

func figuresOfJUnit(report junitReport) readRun {
	run := make(readRun)
	for _, suite := range report.Suites[1:] {
		workload, params, _ := strings.Cut(suite.Name, " ")
		for _, c := range suite.Cases {
			values := make(map[string]string)
			for _, p := range suite.Properties.List {
				if name, mine := strings.CutPrefix(p.Name, c.Name+"/"); mine {
					values[name] = p.Value
				}
			}
			number := func(name string) float64 {
				v, err := strconv.ParseFloat(values[name], 64)
				if err != nil {
					return math.NaN()
				}
				return v
			}
			for property := range values {
				metric, isMetric := strings.CutSuffix(property, ".n")
				if !isMetric {
					continue
				}
				better := values[metric+".better"]
				if better == econbench.BetterNeither {
					better = ""
				}
				run[readKey{c.Name, workload, params, metric}] = readFigures{
					unit: values[metric+".unit"], better: better, median: number(metric + ".median"), low: number(metric + ".low"), high: number(metric + ".high"),
					ratio: values[metric+".ratio"], ratioLow: values[metric+".ratio_low"], ratioHigh: values[metric+".ratio_high"], pairs: values[metric+".ratio_n"],
					verdict: values[metric+".verdict"], valid: values["valid"], invalid: values["invalid"],
				}
			}
		}
	}
	return run
}

// readBenchfmt gives values by name and unit, and the directions of units.
func readBenchfmt(t testing.TB, text string) (values map[[2]string][]float64, better map[string]string, config map[string]string) {
	t.Helper()
	values, better, config = make(map[[2]string][]float64), make(map[string]string), make(map[string]string)
	r := benchfmt.NewReader(strings.NewReader(text), "report")
	for r.Scan() {
		switch record := r.Result().(type) {
		case *benchfmt.Result:
			seen := make(map[string]bool)
			for _, v := range record.Values {
				if seen[v.Unit] {
					t.Errorf("%s has unit %s twice", record.Name, v.Unit)
				}
				seen[v.Unit] = true
				k := [2]string{string(record.Name), v.Unit}
				values[k] = append(values[k], v.Value)
			}
			for _, c := range record.Config {
				config[c.Key] = string(c.Value)
			}
		case *benchfmt.UnitMetadata:
			better[record.Unit] = record.Value
		case *benchfmt.SyntaxError:
			t.Errorf("%v", record)
		}
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	return values, better, config
}

func readAction(t testing.TB, text string) []actionBenchmark {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var list []actionBenchmark
	if err := d.Decode(&list); err != nil || list == nil {
		t.Fatalf("%v: %s", err, text)
	}
	return list
}

var sampleLine = regexp.MustCompile(`^[a-z_][a-zA-Z0-9_]*(\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? -?[0-9.]+(e[+-][0-9]+)?$`)

// checkFormat fails where a reader of the format would. What a format says is not its business.
func checkFormat(t testing.TB, format, text string) {
	t.Helper()
	if !utf8.ValidString(text) && format != "csv" { // which says what stands there, whatever it is
		t.Errorf("%s is not UTF-8", format)
	}
	if strings.ContainsAny(text, "\x00\x1b\a") && format != "csv" {
		t.Errorf("%s has control characters", format)
	}
	switch format {
	case "json":
		if !json.Valid([]byte(text)) {
			t.Errorf("not JSON: %s", text)
		}
	case "csv":
		if _, err := csv.NewReader(strings.NewReader(text)).ReadAll(); err != nil {
			t.Error(err)
		}
	case "benchfmt":
		readBenchfmt(t, text)
	case "openmetrics":
		if !strings.HasSuffix(text, "\n# EOF\n") || strings.Count(text, "\n# EOF") != 1 {
			t.Errorf("no end: %q", text[max(0, len(text)-100):])
		}
		for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			if !strings.HasPrefix(line, "# ") && !sampleLine.MatchString(line) {
				t.Errorf("line %q", line)
			}
		}
	case "junit":
		checkJUnitReport(t, text)
	case "github":
		if len(text) > 1<<20 {
			t.Errorf("%d bytes", len(text))
		}
		if opened, closed := strings.Count(text, "<details>"), strings.Count(text, "</details>"); opened != closed {
			t.Errorf("%d details, %d of them closed", opened, closed)
		}
		if !strings.HasPrefix(text, "## ") {
			t.Errorf("begins with %.100q", text)
		}
	case "github-bigger", "github-smaller":
		names := make(map[string]bool)
		for _, b := range readAction(t, text) {
			if names[b.Name] || b.Name == "" {
				t.Errorf("name %q is empty, or there twice", b.Name)
			}
			names[b.Name] = true
		}
	}
}

// checkJUnitReport holds the report against what the schemas of Jenkins' xUnit plugin and of Ant have in common: which elements and attributes there are, in which
// order, and that the counts are those of the cases.
func checkJUnitReport(t testing.TB, text string) {
	t.Helper()
	children := map[string][]string{ // in this order
		"testsuites": {"testsuite"}, "testsuite": {"properties", "testcase", "system-out"}, "properties": {"property"},
		"testcase": {"skipped", "error", "failure", "system-out"}, "property": nil, "skipped": nil, "error": nil, "failure": nil, "system-out": nil,
	}
	many := []string{"testsuite", "testcase", "property"}
	attributes := map[string]string{
		"testsuites": "name tests failures errors", "testsuite": "name tests failures errors skipped time timestamp", "testcase": "name classname time",
		"property": "name value", "skipped": "message", "error": "message type", "failure": "message type",
	}
	type open struct {
		name  string
		place int // in children of the last child
	}
	var stack []open
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %.2000s", err, text)
		}
		switch e := token.(type) {
		case xml.StartElement:
			name := e.Name.Local
			if len(stack) == 0 && name != "testsuites" {
				t.Errorf("root %s", name)
			} else if len(stack) > 0 {
				parent := &stack[len(stack)-1]
				place := slices.Index(children[parent.name], name)
				if place < 0 || place+1 < parent.place || place+1 == parent.place && !slices.Contains(many, name) {
					t.Errorf("%s in %s, behind %d", name, parent.name, parent.place)
				}
				parent.place = place + 1
			}
			for _, a := range e.Attr {
				if !slices.Contains(strings.Fields(attributes[name]), a.Name.Local) {
					t.Errorf("%s has an attribute %s", name, a.Name.Local)
				}
			}
			stack = append(stack, open{name: name})
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		}
	}
	countJUnit(t, readJUnit(t, text))
}

func countJUnit(t testing.TB, report junitReport) {
	t.Helper()
	tests, failures, errs := 0, 0, 0
	for _, s := range report.Suites {
		f, e, skipped := 0, 0, 0
		for _, c := range s.Cases {
			outcomes := 0
			for _, o := range []*junitOutcome{c.Failure, c.Error, c.Skipped} {
				if o != nil {
					outcomes++
					if o.Message == "" {
						t.Errorf("%s %s does not say why", c.Class, c.Name)
					}
				}
			}
			if outcomes > 1 {
				t.Errorf("%s %s has %d outcomes", c.Class, c.Name, outcomes)
			}
			f, e, skipped = f+count(c.Failure), e+count(c.Error), skipped+count(c.Skipped)
		}
		if s.Tests != len(s.Cases) || s.Failures != f || s.Errors != e || s.Skipped != skipped {
			t.Errorf("suite %s: counts %d %d %d %d, cases %d %d %d %d", s.Name, s.Tests, s.Failures, s.Errors, s.Skipped, len(s.Cases), f, e, skipped)
		}
		tests, failures, errs = tests+s.Tests, failures+f, errs+e
	}
	if report.Tests != tests || report.Failures != failures || report.Errors != errs {
		t.Errorf("report: counts %d %d %d, suites have %d %d %d", report.Tests, report.Failures, report.Errors, tests, failures, errs)
	}
}

func count(o *junitOutcome) int {
	if o == nil {
		return 0
	}
	return 1
}

// markdownRows are the cells of all tables' rows, escapes taken back.
func markdownRows(text string) (rows [][]string) {
	plain := strings.NewReplacer(`\\`, `\`, `\|`, "¦", `\*`, "*", `\_`, "_", "\\`", "`", "&lt;", "<", "&amp;", "&", `\[`, "[", `\]`, "]", `\~`, "~", `\#`, "#")
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		var row []string
		for _, cell := range strings.Split(strings.Trim(plain.Replace(line), "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		rows = append(rows, row)
	}
	return rows
}
