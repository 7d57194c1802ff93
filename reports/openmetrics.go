// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// OpenMetrics is the summary for Prometheus: OpenMetrics 1.0's text, and at once the older text format, which node_exporter's textfile
// collector reads. So it has what both know: gauges, without timestamps, and no type of OpenMetrics' own (info, stateset); to
// readers of the older format the lines with units and the end are comments.
type OpenMetrics struct{}

var _ econbench.Report = OpenMetrics{}

func (OpenMetrics) Name() string { return "openmetrics" }
func (OpenMetrics) Help() string {
	return "gauges for Prometheus: OpenMetrics 1.0, and a file for node_exporter's textfile collector"
}

// Render writes all families and the end.
func (OpenMetrics) Render(w io.Writer, run *econbench.Run) error {
	s, err := Summarise(run)
	if err != nil {
		return err
	}
	e := exposition{suite: label{"suite", s.Plan.Suite}, taken: make(map[string]bool)}
	e.run(run, s)
	e.cells(s)
	e.metrics(s)
	e.comparisons(s)
	e.b.WriteString("# EOF\n")
	if _, err := w.Write(e.b.Bytes()); err != nil {
		return fmt.Errorf("render openmetrics: %w", err)
	}
	return nil
}

type label struct{ name, value string }

// exposition is the text as it comes about. All samples of a family stand together, as OpenMetrics demands.
type exposition struct {
	b     bytes.Buffer
	head  string          // of a family that has no sample yet
	suite label           // on every sample, so that files of several suites can lie side by side
	taken map[string]bool // names of families
}

// gauge begins a family; its head is written with its first sample. The unit is the end of its name; "" for none.
func (e *exposition) gauge(name, unit, help string) {
	e.taken[name] = true
	e.head = fmt.Sprintf("# TYPE %s gauge\n", name)
	if unit != "" {
		e.head += fmt.Sprintf("# UNIT %s %s\n", name, unit)
	}
	// The two formats differ in how a quotation mark is written here. There is none.
	help = strings.NewReplacer(`\`, "/", `"`, "'").Replace(clean(help))
	e.head += fmt.Sprintf("# HELP %s %s\n", name, help)
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// sample writes one number; nothing where there is none. Labels without a value are left out, which is the same to Prometheus.
func (e *exposition) sample(name string, v *float64, labels ...label) {
	if v == nil {
		return
	}
	e.b.WriteString(e.head + name)
	e.head = ""
	separator := "{"
	for _, l := range append([]label{e.suite}, labels...) {
		if l.value == "" {
			continue
		}
		e.b.WriteString(separator + l.name + `="` + labelEscapes.Replace(visible(l.value)) + `"`)
		separator = ","
	}
	if separator == "," {
		e.b.WriteByte('}')
	}
	e.b.WriteString(" " + strconv.FormatFloat(*v, 'g', -1, 64) + "\n")
}

func (e *exposition) count(name string, n int, labels ...label) {
	v := float64(n)
	e.sample(name, &v, labels...)
}

// run writes what is about the run as a whole.
func (e *exposition) run(run *econbench.Run, s *Summary) {
	e.gauge("econbench_run_info", "", "The run: always 1.")
	e.count("econbench_run_info", 1, label{"run", s.Run}, label{"version", s.Version}, label{"status", string(s.Status)}, label{"lab", s.Lab},
		label{"machine", run.MachineKey()}, label{"baseline", s.Baseline.String()}, label{"placement", string(s.Plan.Placement)},
		label{"wire", string(s.Plan.Wire)}, label{"congestion_control", s.Plan.CongestionControl})
	if !s.Started.IsZero() {
		e.gauge("econbench_run_started_timestamp_seconds", "seconds", "When the run began, since 1970.")
		e.count("econbench_run_started_timestamp_seconds", int(s.Started.Unix()))
	}
	e.gauge("econbench_run_complete", "", "1: every planned trial was attempted; 0: the run failed, was interrupted or killed, or still goes on.")
	complete := 0
	if s.Status == econbench.StatusComplete {
		complete = 1
	}
	e.count("econbench_run_complete", complete)
	e.gauge("econbench_planned_trials", "", "Trials of the run's plan.")
	e.count("econbench_planned_trials", s.Planned)
	e.gauge("econbench_attempted_trials", "", "Trials that were measured, valid or not.")
	e.count("econbench_attempted_trials", s.Attempted)
	e.gauge("econbench_run_warnings", "", "Doubts about the run as a whole.")
	e.count("econbench_run_warnings", len(s.Warnings))
}

// cellLabels name the cell.
func cellLabels(c Cell, more ...label) []label {
	return append([]label{{"arm", c.Arm.String()}, {"workload", c.Workload}, {"params", c.Params.String()}}, more...)
}

func (e *exposition) cells(s *Summary) {
	per := func(name, help string, of func(Cell) int) {
		e.gauge(name, "", help)
		for _, c := range s.Cells {
			e.count(name, of(c), cellLabels(c)...)
		}
	}
	per("econbench_valid_trials", "Trials that count.", func(c Cell) int { return c.Valid })
	per("econbench_invalid_trials", "Trials that do not count, because their path was not proven or they failed.", func(c Cell) int { return c.Invalid })
	per("econbench_cell_warnings", "Different doubts about a cell's trials, reasons why some are invalid left out.", func(c Cell) (n int) {
		for _, note := range c.Warnings {
			if !note.Invalid {
				n++
			}
		}
		return n
	})
}

// metrics writes a family for each metric, and one that says of all what they are.
func (e *exposition) metrics(s *Summary) {
	for _, reserved := range []string{"econbench_metric_info", "econbench_blocks", "econbench_baseline_ratio", "econbench_baseline_ratio_pairs",
		"econbench_verdict", "econbench_geometric_mean_ratio"} {
		e.taken[reserved] = true
	}
	names := s.metricNames()
	families := make(map[string]string)
	for _, name := range names {
		m := s.described(name)
		unit := prometheusUnit(m.Unit)
		known, _ := s.Plan.Metric(name)
		family := e.family(name, unit)
		families[name] = family
		e.gauge(family, unit, strings.TrimSpace(sentenceOf(known.Help)+" Median over the valid trials' blocks, with the ends of its interval."))
		for _, c := range s.Cells {
			m := c.Metrics[name]
			e.sample(family, m.Median, cellLabels(c, label{"quantity", "median"})...)
			e.sample(family, m.Low, cellLabels(c, label{"quantity", "low"})...)
			e.sample(family, m.High, cellLabels(c, label{"quantity", "high"})...)
		}
	}
	e.gauge("econbench_metric_info", "", "A metric: its family here, unit, and which way it should move (neither: it describes). Always 1.")
	for _, name := range names {
		m := s.described(name)
		better := string(m.Better)
		if m.Better == econbench.Neither {
			better = econbench.BetterNeither
		}
		e.count("econbench_metric_info", 1, label{"metric", name}, label{"family", families[name]}, label{"unit", m.Unit}, label{"better", better})
	}
}

// family is a metric's name in Prometheus' style, which ends with the unit.
func (e *exposition) family(metric, unit string) string {
	name := "econbench_" + identifier(metric)
	if unit != "" && !strings.HasSuffix(name, "_"+unit) {
		name += "_" + unit
	}
	if e.taken[name] {
		name = "econbench_" + identifier(metric) + "_" + digest(metric)
		if unit != "" {
			name += "_" + unit
		}
	}
	return name
}

// sentenceOf makes a sentence of a metric's help.
func sentenceOf(help string) string {
	if help == "" {
		return ""
	}
	return upper(strings.TrimSuffix(help, ".")) + "."
}

// prometheusUnit is a base unit in Prometheus' words.
func prometheusUnit(unit string) string {
	known := map[string]string{
		"": "", "B/s": "bytes_per_second", "1/s": "per_second", "s": "seconds", "s/s": "seconds_per_second", "1": "ratio", "cores": "cores", "B": "bytes",
	}
	if word, ok := known[unit]; ok {
		return word
	}
	return identifier(unit)
}

// compared are the cells' metrics that are held against the baseline.
func compared(s *Summary, each func(c Cell, name string, m Metric)) {
	for _, name := range s.metricNames() {
		for _, c := range s.Cells {
			if m := c.Metrics[name]; m.Ratio != nil {
				each(c, name, m)
			}
		}
	}
}

// comparisons writes ratios to the baseline and what they come to.
func (e *exposition) comparisons(s *Summary) {
	about := func(c Cell, name string, more ...label) []label {
		return cellLabels(c, append([]label{{"baseline", s.Baseline.String()}, {"metric", name}}, more...)...)
	}
	e.gauge("econbench_baseline_ratio", "ratio", "Median ratio to the baseline in the same block, with the ends of its interval.")
	compared(s, func(c Cell, name string, m Metric) {
		e.sample("econbench_baseline_ratio", m.Ratio.Median, about(c, name, label{"quantity", "median"})...)
		e.sample("econbench_baseline_ratio", m.Ratio.Low, about(c, name, label{"quantity", "low"})...)
		e.sample("econbench_baseline_ratio", m.Ratio.High, about(c, name, label{"quantity", "high"})...)
	})
	e.gauge("econbench_baseline_ratio_pairs", "", "Blocks that the ratio is of.")
	compared(s, func(c Cell, name string, m Metric) {
		e.count("econbench_baseline_ratio_pairs", m.Ratio.N, about(c, name)...)
	})
	e.gauge("econbench_verdict", "", "What the comparison with the baseline comes to: 1 for that verdict, 0 for the others. Of metrics with a direction.")
	compared(s, func(c Cell, name string, m Metric) {
		if m.Better == econbench.Neither {
			return
		}
		primary := label{"primary", strconv.FormatBool(m.Primary)}
		for _, v := range []Verdict{VerdictBetter, VerdictWorse, VerdictSame, VerdictInconclusive} {
			is := 0
			if m.Ratio.Verdict == v {
				is = 1
			}
			e.count("econbench_verdict", is, about(c, name, primary, label{"verdict", string(v)})...)
		}
	})
	e.gauge("econbench_geometric_mean_ratio", "ratio", "Geometric mean over the workloads of their primary metrics' ratios to the baseline; above 1 is better.")
	for _, m := range s.Means {
		of := []label{{"arm", m.Arm.String()}, {"baseline", s.Baseline.String()}}
		e.sample("econbench_geometric_mean_ratio", m.Median, append(of, label{"quantity", "median"})...)
		e.sample("econbench_geometric_mean_ratio", m.Low, append(of, label{"quantity", "low"})...)
		e.sample("econbench_geometric_mean_ratio", m.High, append(of, label{"quantity", "high"})...)
	}
}
