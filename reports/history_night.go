// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/econbench/econbench"
)

// Night is a run, reduced to what a history needs of it: of a thousand nights the trials would not fit into memory.
type Night struct {
	Label string // how the user calls it

	run      *econbench.Run // without its trials; nil: could not be read
	unread   error
	when     time.Time // of one that could not be read; zero: not known
	setup    int       // from 1
	cells    []nightCell
	seen     map[string]bool // all metrics that a trial names
	trials   int
	valid    int
	warnings []Note
}

// nightCell is an arm under a workload in one night.
type nightCell struct {
	cell     econbench.Cell
	primary  string
	order    []string // metrics: the primary one, then those asked for
	readings map[string]reading
}

// reading is a metric of one cell in one night.
type reading struct {
	metric   econbench.Metric
	level    estimate
	ratio    estimate // to the baseline of the same block
	hasRatio bool     // the plan has a baseline for it
	baseline string
}

// estimate is a median over blocks with its interval; without one, gap says why.
type estimate struct {
	value, low, high *float64
	n                int
	gap              string
}

// NewNight takes from a run what a history needs: its primary metrics, and those named. The run is not kept.
func NewNight(label string, run *econbench.Run, o HistoryOptions) (Night, error) {
	if run == nil || run.Schema != econbench.Schema {
		return Night{}, fmt.Errorf("history %s: no run of schema %d, the one that this econbench reads", label, econbench.Schema)
	}
	o = o.withDefaults()
	n := Night{Label: label, trials: len(run.Trials), seen: make(map[string]bool)}
	data := sortIntoCells(run)
	index := make(map[cellKey]*cellData, len(data))
	for _, d := range data {
		index[keyOf(d.cell)] = d
		n.valid += d.valid
	}
	for _, d := range data {
		maps.Copy(n.seen, d.seen)
		n.cells = append(n.cells, newNightCell(d, index[keyOf(withArm(d.cell, run.Plan.Baseline))], run.Plan, o))
	}
	for _, w := range run.Warnings {
		n.warnings = append(n.warnings, Note{Text: w})
	}
	header := *run
	header.Plan = finitePlan(run.Plan)
	header.Trials, header.Extra, header.Superseded, header.Warnings = nil, nil, nil, nil
	n.run = &header
	return n, nil
}

// UnreadNight is one that could not be read. began is when it began as far as is known, say by its folder's name.
func UnreadNight(label string, began time.Time, why error) Night {
	return Night{Label: label, unread: why, when: began}
}

func newNightCell(d, baseline *cellData, plan econbench.Plan, o HistoryOptions) nightCell {
	c := nightCell{cell: d.cell, primary: d.primary, readings: make(map[string]reading)}
	for _, name := range append([]string{d.primary}, o.Metrics...) {
		if _, twice := c.readings[name]; twice || name == "" || name != d.primary && !d.seen[name] {
			continue
		}
		r := reading{metric: d.metric(name), hasRatio: plan.Baseline.Topology != "" && d != baseline, baseline: plan.Baseline.String()}
		values := d.perBlock(name)
		r.level = estimateOf(valuesOf(values), d.lacking(name), o.Options)
		if r.hasRatio {
			r.ratio = ratioEstimate(values, baseline, name, d.lacking(name), o.Options)
		}
		c.order, c.readings[name] = append(c.order, name), r
	}
	return c
}

// lacking says why a cell may have no value of a metric.
func (d *cellData) lacking(name string) string {
	switch {
	case d.valid+d.invalid == 0:
		return "no trials"
	case d.valid == 0:
		return fmt.Sprintf("all %s invalid", counted(d.invalid, "trial"))
	}
	return clean(name) + " was not collected"
}

func estimateOf(values []float64, lacking string, o Options) estimate {
	if len(values) == 0 {
		return estimate{gap: lacking}
	}
	e := estimate{value: number(median(values)), n: len(values)}
	if iv := medianInterval(values, o.Confidence); iv.ok {
		e.low, e.high = number(iv.low), number(iv.high)
	}
	return e
}

func ratioEstimate(values map[int]float64, baseline *cellData, name, lacking string, o Options) estimate {
	switch {
	case len(values) == 0:
		return estimate{gap: lacking}
	case baseline == nil:
		return estimate{gap: "no trials of the baseline"}
	}
	ratios, excluded := pairedRatios(values, baseline.perBlock(name))
	if excluded > 0 { // to drop the zeros of some blocks would bias the rest
		return estimate{gap: fmt.Sprintf("%d of %d pairs of blocks have no ratio, a value is zero or negative", excluded, len(ratios)+excluded)}
	}
	if len(ratios) == 0 && baseline.valid == 0 {
		return estimate{gap: "no valid trial of the baseline"}
	}
	return estimateOf(valuesOf(ratios), "no block has it in both arms", o)
}

// began is when the night began; zero: not known.
func (n *Night) began() time.Time {
	if n.run != nil {
		return n.run.Started
	}
	return n.when
}

// shown is the night as the history lists it.
func (n *Night) shown() HistoryNight {
	out := HistoryNight{Label: n.Label, Setup: n.setup, Warnings: append([]Note{}, n.warnings...)}
	if t := n.began(); !t.IsZero() {
		out.Started = &t
	}
	if n.run == nil {
		out.Unread = n.unread.Error()
		return out
	}
	out.Run, out.Version, out.Status = n.run.ID, n.run.Version, n.run.Status
	planned := len(n.run.Plan.Cells()) * n.run.Plan.Blocks
	out.Planned, out.Attempted, out.Valid = &planned, &n.trials, &n.valid
	return out
}

// facts adds the names of what decides figures.
func (n *Night) facts(all map[string]bool) {
	for _, h := range n.run.Hosts {
		for name := range h.Named() {
			all[name] = true
		}
	}
	for _, name := range []string{"lab", "image", "placement", "wire", "congestion_control", "internal", "duration", "warmup", "cpu", "histograms",
		"attach.lane", "attach.hook", "attach.max_flows", "attach.without"} {
		all[name] = true
	}
	for _, p := range n.run.Plan.Programs {
		all["program "+p.Name] = true
	}
}

// seriesKey tells series apart. Values of another baseline, or absolute ones, are other values.
type seriesKey struct {
	cell             cellKey
	metric, baseline string
}

// collect lines nights up into series: those of the newest plan first, in its order.
func (b *historian) collect() {
	index := make(map[seriesKey]int)
	for i := len(b.nights) - 1; i >= 0; i-- {
		for _, c := range b.nights[i].cells {
			if !b.wants(c.cell) {
				continue
			}
			for _, name := range c.order {
				r := c.readings[name]
				k, s := b.seriesOf(c, name, r)
				at, known := index[k]
				if !known {
					at = len(b.h.Series)
					index[k] = at
					b.h.Series = append(b.h.Series, s)
				}
				b.h.Series[at].Points = append(b.h.Series[at].Points, r.point(i, s.Carrier))
			}
		}
	}
	for i := range b.h.Series {
		s := &b.h.Series[i]
		slices.Reverse(s.Points)
		if last := s.Points[len(s.Points)-1].Night; s.Judged && last != b.newestPlan() {
			s.Warnings = append(s.Warnings, Note{Text: fmt.Sprintf("not in the newest plan; last planned on %s", b.h.Nights[last].name())})
		}
	}
}

// newest is the newest night that could be read.
func (b *historian) newest() int {
	for i := len(b.nights) - 1; i >= 0; i-- {
		if b.nights[i].run != nil {
			return i
		}
	}
	return -1
}

// newestPlan is the newest night whose plan has anything; -1: none has. A run that failed before it knew its plan takes nothing from it.
func (b *historian) newestPlan() int {
	for i := len(b.nights) - 1; i >= 0; i-- {
		if len(b.nights[i].cells) > 0 {
			return i
		}
	}
	return -1
}

func (b *historian) wants(c econbench.Cell) bool {
	arm := func(a econbench.Arm) bool { return a.String() == c.Arm.String() }
	return (len(b.o.Workloads) == 0 || slices.Contains(b.o.Workloads, c.Workload)) && (len(b.o.Arms) == 0 || slices.ContainsFunc(b.o.Arms, arm))
}

func (b *historian) seriesOf(c nightCell, name string, r reading) (seriesKey, HistorySeries) {
	s := HistorySeries{
		Arm: c.cell.Arm, Workload: c.cell.Workload, Params: c.cell.Params, Metric: name, Unit: r.metric.Unit, Better: r.metric.Better,
		Primary: name == c.primary, Carrier: CarrierAbsolute, Points: []HistoryPoint{}, Tracks: []HistoryTrack{}, Warnings: []Note{},
	}
	if s.Params == nil {
		s.Params = econbench.Params{}
	}
	if r.hasRatio && !b.o.Absolute {
		s.Carrier, s.Baseline = CarrierRatio, r.baseline
	}
	s.Judged = s.Primary && (s.Carrier == CarrierRatio || b.o.Absolute) && s.Better != econbench.Neither
	return seriesKey{keyOf(c.cell), name, s.Baseline}, s
}

// point is the night's place in a series. Of what is zero or negative there is no factor.
func (r reading) point(night int, carrier Carrier) HistoryPoint {
	e := r.level
	if carrier == CarrierRatio {
		e = r.ratio
	}
	p := HistoryPoint{Night: night, Value: e.value, Low: e.low, High: e.high, N: e.n, Level: r.level.value, Gap: e.gap}
	if e.value != nil && !(*e.value > 0) {
		p.Value, p.Low, p.High, p.Gap = nil, nil, nil, "zero or negative: it has no ratio to other nights"
	}
	if p.Value != nil && math.Abs(math.Log10(*p.Value)) > 100 { // the ratio of two such levels may be no number
		p.Value, p.Low, p.High, p.Gap = nil, nil, nil, "no figure that anything can have"
	}
	if p.Value == nil && p.Gap == "" {
		p.Gap = "not a finite number"
	}
	return p
}

// title names a series on one line.
func (s *HistorySeries) title() string {
	return clean(strings.Join(nonEmpty([]string{s.Arm.String(), s.Workload, s.Params.String(), s.Metric}), " "))
}
