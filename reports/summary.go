// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/econbench/econbench"
)

// SummarySchema is the version of the JSON report. Fields may be added to a version; none changes its meaning.
const SummarySchema = 1

// Summary is a run in figures. Its JSON is the report format "json" and a contract: docs/formats.md.
type Summary struct {
	Schema    int              `json:"schema"`
	Run       string           `json:"run"`
	Baseline  econbench.Arm    `json:"baseline"`
	Version   string           `json:"version"` // of the econbench that measured
	Lab       string           `json:"lab"`
	Started   time.Time        `json:"started"`
	Status    econbench.Status `json:"status"`
	Error     string           `json:"error,omitempty"`
	Planned   int              `json:"planned"`   // trials
	Attempted int              `json:"attempted"` // trials, valid or not
	Plan      econbench.Plan   `json:"plan"`
	Cells     []Cell           `json:"cells"`
	Means     []Mean           `json:"means"`               // of each arm but the baseline, over the workloads
	Published []Published      `json:"published,omitempty"` // what the plan says was published, beside what was measured
	Warnings  []Note           `json:"warnings"`            // about the run as a whole
}

// Cell is an arm under a workload.
type Cell struct {
	Arm      econbench.Arm     `json:"arm"`
	Workload string            `json:"workload"`
	Params   econbench.Params  `json:"params"`
	Valid    int               `json:"valid"`
	Invalid  int               `json:"invalid"`
	Metrics  map[string]Metric `json:"metrics"`
	Ruler    *Quote            `json:"ruler"` // what such runs see on this machine; null: not known, or nothing to compare
	Warnings []Note            `json:"warnings"`

	primary string
}

// Metric is what a cell's valid trials say of one metric, one value a block, in base units.
type Metric struct {
	Unit     string           `json:"unit"`
	Better   econbench.Better `json:"better"`
	Primary  bool             `json:"primary"`
	Median   *float64         `json:"median"` // null: not collected
	Low      *float64         `json:"low"`    // interval of the median; null with too few blocks
	High     *float64         `json:"high"`
	Coverage float64          `json:"coverage"` // exact coverage of the interval; without one, what minimum to maximum would cover
	Spread   *float64         `json:"spread"`   // half the interval's width / median
	N        int              `json:"n"`        // blocks
	Ratio    *Ratio           `json:"ratio"`    // null for the baseline itself
}

// Summarise computes a run's figures with the default options.
func Summarise(run *econbench.Run) (*Summary, error) { return SummariseWith(run, Options{}) }

// SummariseWith computes a run's figures. It fails only on a run of a schema that it does not know; anything odd in the
// trials is said in warnings.
func SummariseWith(run *econbench.Run, o Options) (*Summary, error) {
	s, _, err := summaryOf(run, o)
	return s, err
}

// summaryOf also gives what the figures were computed from, cell by cell, to formats that show single blocks.
func summaryOf(run *econbench.Run, o Options) (*Summary, []*cellData, error) {
	if run == nil {
		return nil, nil, fmt.Errorf("summarise run: there is none")
	}
	if run.Schema > econbench.Schema {
		return nil, nil, fmt.Errorf("summarise run %s: schema %d is newer than %d, the newest that this econbench reads",
			run.ID, run.Schema, econbench.Schema)
	}
	o = o.withDefaults()
	s := &Summary{
		Schema: SummarySchema, Run: run.ID, Baseline: run.Plan.Baseline, Version: run.Version, Lab: run.Lab,
		Started: run.Started, Status: run.Status, Error: run.Error, Attempted: len(run.Trials),
		Plan: finitePlan(run.Plan), Cells: []Cell{}, Warnings: []Note{},
	}
	s.Planned = len(s.Plan.Cells()) * s.Plan.Blocks
	data := sortIntoCells(run)
	baselines := make(map[cellKey]*cellData)
	for _, d := range data {
		if d.cell.Arm.String() == s.Baseline.String() {
			baselines[keyOf(d.cell)] = d
		}
	}
	for _, d := range data {
		s.Cells = append(s.Cells, newCell(d, baselines[keyOf(withArm(d.cell, s.Baseline))], o))
	}
	correct(s.Cells, o)
	quoteRulers(s.Cells, run.Rulers, o)
	s.Means = means(s, data, baselines, o)
	s.Published = besidePublished(run.Plan, data, o)
	s.collectWarnings(run, data)
	return s, data, nil
}

// metricNames are the metrics that any cell names: econbench's in their order, those of the suite's programs, then those that
// nobody knows, sorted.
func (s *Summary) metricNames() (names []string) {
	named := make(map[string]bool)
	for _, c := range s.Cells {
		for name := range c.Metrics {
			named[name] = true
		}
	}
	for _, m := range slices.Concat(econbench.Metrics(), s.Plan.OwnMetrics()) {
		if named[m.Name] {
			names = append(names, m.Name)
			delete(named, m.Name)
		}
	}
	return append(names, slices.Sorted(maps.Keys(named))...)
}

// withArm is the cell of another arm.
func withArm(c econbench.Cell, arm econbench.Arm) econbench.Cell {
	c.Arm = arm
	return c
}

// finitePlan makes sure that a plan made up in memory can be written as JSON.
func finitePlan(p econbench.Plan) econbench.Plan {
	for _, s := range []*econbench.Seconds{&p.Duration, &p.Warmup} {
		if !isFinite(float64(*s)) {
			*s = 0
		}
	}
	return p
}

func newCell(d, baseline *cellData, o Options) Cell {
	c := Cell{
		Arm: d.cell.Arm, Workload: d.cell.Workload, Params: d.cell.Params, Valid: d.valid, Invalid: d.invalid,
		Metrics: make(map[string]Metric), primary: d.primary,
	}
	if c.Params == nil {
		c.Params = econbench.Params{}
	}
	for name := range d.seen {
		m := newMetric(d.metric(name), d.values[name].values, o)
		m.Primary = name == d.primary
		switch {
		case d == baseline:
		case baseline == nil:
			m.Ratio = new(Ratio)
		default:
			m.Ratio = compare(d.values[name], baseline.values[name], o)
		}
		c.Metrics[name] = m
	}
	return c
}

// newMetric sums up the values, which need not be sorted.
func newMetric(known econbench.Metric, values []float64, o Options) Metric {
	m := Metric{Unit: known.Unit, Better: known.Better, N: len(values)}
	if m.N == 0 {
		return m
	}
	sorted := sortedCopy(values)
	m.Median = number(sortedMedian(sorted))
	iv := sortedInterval(sorted, o.Confidence)
	m.Coverage = iv.coverage
	if iv.ok {
		m.Low, m.High = number(iv.low), number(iv.high)
		m.Spread = number(halfWidth(m.Low, m.High, m.Median))
	}
	return m
}

// correct applies Holm's correction to each arm's primary metrics and then gives every ratio its verdict.
func correct(cells []Cell, o Options) {
	families := make(map[string][]*Ratio)
	for _, c := range cells {
		if r := c.Metrics[c.primary].Ratio; r != nil && r.P != nil {
			families[c.Arm.String()] = append(families[c.Arm.String()], r)
		}
	}
	for _, family := range families {
		p := make([]float64, len(family))
		for i, r := range family {
			p[i] = *r.P
		}
		for i, adjusted := range holm(p) {
			family[i].PHolm = &adjusted
		}
	}
	for _, c := range cells {
		for name, m := range c.Metrics {
			if m.Ratio == nil {
				continue
			}
			size := 1
			if name == c.primary {
				size = max(1, len(families[c.Arm.String()]))
			}
			m.Ratio.judge(m.Better, size, o)
		}
	}
}

// quoteRulers says of each comparison what could be seen by it. Verdicts do not rest on that.
func quoteRulers(cells []Cell, rulers []econbench.Ruler, o Options) {
	for i := range cells {
		c := &cells[i]
		if r := c.Metrics[c.primary].Ratio; r != nil {
			c.Ruler = quote(rulerOf(rulers, c.Workload, c.Params), r.N, o)
		}
	}
}

// collectWarnings moves what was noted into the summary, and adds why a primary metric has no verdict.
func (s *Summary) collectWarnings(run *econbench.Run, data []*cellData) {
	for i, d := range data {
		c := &s.Cells[i]
		if m, ok := c.Metrics[c.primary]; ok && m.N > 0 && m.Ratio != nil && m.Ratio.Reason != "" {
			d.notes.add(Note{Text: c.primary + " " + string(m.Ratio.Verdict) + ": " + m.Ratio.Reason})
		}
		c.Warnings = append([]Note{}, d.notes.list...)
	}
	for _, w := range run.Warnings {
		s.Warnings = append(s.Warnings, Note{Text: w})
	}
	if len(run.Trials) == 0 {
		s.Warnings = append(s.Warnings, Note{Text: "the run has no trials"})
	}
	if s.Baseline.Topology == "" {
		s.Warnings = append(s.Warnings, Note{Text: "the plan names no baseline: no ratios"})
	}
}
