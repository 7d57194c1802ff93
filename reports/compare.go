// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// ComparisonSchema is the version of a comparison's JSON. Fields may be added to a version; none changes its meaning.
const ComparisonSchema = 1

// DefaultMinEffect is the smallest change that gets a verdict between runs: two boots of one machine, or two builds of one
// source, differ by about as much.
const DefaultMinEffect = 0.02

// Carrier says which figures carry a verdict between runs.
type Carrier string

const (
	CarrierRatio    Carrier = "ratio"    // to the baseline of the same block: levels drift between days and boots
	CarrierAbsolute Carrier = "absolute" // of the baseline itself, where the baseline is missing, or as asked for: levels
)

// Labelled is a run to be compared, under the name that its column has.
type Labelled struct {
	Label string
	Run   *econbench.Run
}

// ArmPair names an arm of the first run and the one of the others that it is compared with.
type ArmPair = econbench.ArmPair

// CompareOptions are choices of a comparison. The zero value of a field stands for its default.
type CompareOptions struct {
	Options             // MinEffect: 0 stands for DefaultMinEffect, a negative one for none
	Absolute  bool      // absolute values carry all verdicts; without it they carry none, but within one run
	Force     bool      // compare runs that differ in what decides figures, and mark the result
	Arms      []ArmPair // compare these alone; none: each arm with itself
	Workloads []string  // compare these alone; none: all
}

func (o CompareOptions) withDefaults() CompareOptions {
	least := o.MinEffect
	if least == 0 {
		least = DefaultMinEffect
	}
	o.Options = o.Options.withDefaults()
	o.MinEffect = max(0, least)
	return o
}

// Comparison is what two runs or more say of each other: each is compared with the first. Its JSON is a contract:
// docs/formats.md.
type Comparison struct {
	Schema     int           `json:"schema"`
	Alpha      float64       `json:"alpha"`
	Confidence float64       `json:"confidence"`
	Threshold  float64       `json:"threshold"`
	MinEffect  float64       `json:"min_effect"`
	Absolute   bool          `json:"absolute_only"`
	Runs       []ComparedRun `json:"runs"` // the first is what the others are compared with
	Pairs      []RunPair     `json:"pairs"`
}

// ComparedRun is a run that takes part.
type ComparedRun struct {
	Label     string           `json:"label"`
	Run       string           `json:"run"`
	Version   string           `json:"version"`
	Lab       string           `json:"lab"`
	Started   time.Time        `json:"started"`
	Status    econbench.Status `json:"status"`
	Error     string           `json:"error,omitempty"`
	Baseline  econbench.Arm    `json:"baseline"`
	Planned   int              `json:"planned"`   // trials
	Attempted int              `json:"attempted"` // trials, valid or not
	Warnings  []Note           `json:"warnings"`

	invalid []Note // those of Warnings that are about trials that do not count
}

// RunPair is one run held against the first.
type RunPair struct {
	Old      string           `json:"old"` // labels
	New      string           `json:"new"`
	Forced   []RunDifference  `json:"forced"` // in what decides figures; not empty: compared by force
	Noted    []RunDifference  `json:"noted"`  // in what does not
	Cells    []ComparedCell   `json:"cells"`
	OnlyOld  []econbench.Cell `json:"only_old"` // cells that the other run has not
	OnlyNew  []econbench.Cell `json:"only_new"`
	Warnings []Note           `json:"warnings"`

	baseline econbench.Arm // of the new run
}

// ComparedCell is an arm under a workload, in both runs.
type ComparedCell struct {
	Arm      econbench.Arm           `json:"arm"`     // of the old run
	NewArm   econbench.Arm           `json:"new_arm"` // the same, unless others were asked for
	Workload string                  `json:"workload"`
	Params   econbench.Params        `json:"params"`
	Metrics  map[string]MetricChange `json:"metrics"`

	primary  string
	old, new *cellData
}

// Level is what a run says of a metric of one cell, one value a block, in base units; null where there is none.
type Level struct {
	Median   *float64 `json:"median"`
	Low      *float64 `json:"low"`
	High     *float64 `json:"high"`
	Coverage float64  `json:"coverage"`
	N        int      `json:"n"`     // blocks
	Ratio    *float64 `json:"ratio"` // median ratio to the baseline of the same block; null for the baseline, and without one
}

// MetricChange is a metric of one cell in both runs.
type MetricChange struct {
	Unit     string           `json:"unit"`
	Better   econbench.Better `json:"better"`
	Primary  bool             `json:"primary"`
	Old      Level            `json:"old"`
	New      Level            `json:"new"`
	Absolute *Change          `json:"absolute"` // of the values
	Ratio    *Change          `json:"ratio"`    // of their ratios to the baseline; null for the baseline, and without one
	Carrier  Carrier          `json:"carrier"`  // which of the two carries the verdict
	PHolm    *float64         `json:"p_holm"`   // its p, adjusted over the workloads' primary metrics of this arm; null for what is not judged
	Verdict  Verdict          `json:"verdict"`
	Reason   string           `json:"reason,omitempty"` // why it is inconclusive or has no verdict, or why a significant change is "~"

	levels bool // what carries it drifts between the two runs
}

// carried is the change that carries the verdict.
func (m MetricChange) carried() *Change {
	if m.Carrier == CarrierRatio {
		return m.Ratio
	}
	return m.Absolute
}

// Compare holds every run against the first. It fails on a run of a schema that it does not know, on runs that differ in
// what decides figures unless forced (ErrDiffer), on names that no run has, and where no cell is in both runs; anything
// odd in the trials is said in warnings.
func Compare(runs []Labelled, o CompareOptions) (*Comparison, error) {
	if len(runs) < 2 {
		return nil, fmt.Errorf("compare runs: %d given, want two or more", len(runs))
	}
	for _, r := range runs {
		if r.Run == nil || r.Run.Schema != econbench.Schema {
			return nil, fmt.Errorf("compare %s: no run of schema %d, the one that this econbench reads", r.Label, econbench.Schema)
		}
	}
	o = o.withDefaults()
	c := &Comparison{
		Schema: ComparisonSchema, Alpha: o.Alpha, Confidence: o.Confidence, Threshold: o.Threshold, MinEffect: o.MinEffect, Absolute: o.Absolute,
	}
	if err := o.refuse(runs); err != nil {
		return nil, err
	}
	data := make([][]*cellData, len(runs))
	for i, r := range runs {
		data[i] = sortIntoCells(r.Run)
	}
	if err := o.checkNames(runs, data); err != nil {
		return nil, err
	}
	for i, r := range runs {
		c.Runs = append(c.Runs, comparedRun(r, data[i], o))
		if i == 0 {
			continue
		}
		p, err := comparePair(runs[0], r, data[0], data[i], o)
		if err != nil {
			return nil, err
		}
		c.Pairs = append(c.Pairs, p)
	}
	return c, nil
}

// refuse holds all runs against the first before anything is computed.
func (o CompareOptions) refuse(runs []Labelled) error {
	if o.Force {
		return nil
	}
	for _, r := range runs[1:] {
		if decisive, _ := differences(runs[0].Run, r.Run); len(decisive) > 0 {
			return refusal(runs[0].Label, r.Label, decisive)
		}
	}
	return nil
}

// checkNames finds arms and workloads asked for that are not there.
func (o CompareOptions) checkNames(runs []Labelled, data [][]*cellData) error {
	known := func(list []*cellData, of func(econbench.Cell) string) (all []string) {
		for _, d := range list {
			if name := of(d.cell); !slices.Contains(all, name) {
				all = append(all, name)
			}
		}
		return all
	}
	arm := func(c econbench.Cell) string { return c.Arm.String() }
	for _, p := range o.Arms {
		for i, list := range data {
			want := p.New.String()
			if i == 0 {
				want = p.Old.String()
			}
			if arms := known(list, arm); !slices.Contains(arms, want) {
				return fmt.Errorf("compare %s: %w", runs[i].Label, names.Unknown("arm", want, arms))
			}
		}
	}
	workloads := known(slices.Concat(data...), func(c econbench.Cell) string { return c.Workload })
	for _, w := range o.Workloads {
		if !slices.Contains(workloads, w) {
			return fmt.Errorf("compare: %w", names.Unknown("workload", w, workloads))
		}
	}
	return nil
}

// wants says whether a cell is to be compared, and if so, with which arm. reverse asks it of a cell of a new run.
func (o CompareOptions) wants(c econbench.Cell, reverse bool) (partners []econbench.Arm) {
	if len(o.Workloads) > 0 && !slices.Contains(o.Workloads, c.Workload) {
		return nil
	}
	if len(o.Arms) == 0 {
		return []econbench.Arm{c.Arm}
	}
	for _, p := range o.Arms {
		from, to := p.Old, p.New
		if reverse {
			from, to = to, from
		}
		if from.String() == c.Arm.String() {
			partners = append(partners, to)
		}
	}
	return partners
}

func comparedRun(r Labelled, data []*cellData, o CompareOptions) ComparedRun {
	plan := finitePlan(r.Run.Plan)
	out := ComparedRun{
		Label: r.Label, Run: r.Run.ID, Version: r.Run.Version, Lab: r.Run.Lab, Started: r.Run.Started, Status: r.Run.Status,
		Error: r.Run.Error, Baseline: plan.Baseline, Planned: len(plan.Cells()) * plan.Blocks, Attempted: len(r.Run.Trials), Warnings: []Note{},
	}
	for _, w := range r.Run.Warnings {
		out.Warnings = append(out.Warnings, Note{Text: w})
	}
	if len(r.Run.Trials) == 0 {
		out.Warnings = append(out.Warnings, Note{Text: "the run has no trials"})
	}
	// One line for what several cells have in common, with the cells, as the run's own report has it.
	s := &Summary{}
	for _, d := range data {
		if len(o.wants(d.cell, false)) > 0 || len(o.wants(d.cell, true)) > 0 {
			s.Cells = append(s.Cells, Cell{Arm: d.cell.Arm, Workload: d.cell.Workload, Warnings: d.notes.list})
		}
	}
	for _, text := range notesOf(s, true) {
		out.invalid = append(out.invalid, Note{Text: text, Invalid: true})
	}
	for _, text := range notesOf(s, false) {
		out.Warnings = append(out.Warnings, Note{Text: text})
	}
	out.Warnings = append(out.Warnings, out.invalid...)
	return out
}

func comparePair(old, new Labelled, oldData, newData []*cellData, o CompareOptions) (RunPair, error) {
	p := RunPair{
		Old: old.Label, New: new.Label, Forced: []RunDifference{}, Noted: []RunDifference{},
		Cells: []ComparedCell{}, OnlyOld: []econbench.Cell{}, OnlyNew: []econbench.Cell{}, Warnings: []Note{}, baseline: new.Run.Plan.Baseline,
	}
	decisive, noted := differences(old.Run, new.Run)
	p.Forced, p.Noted = append(p.Forced, decisive...), append(p.Noted, noted...)
	index := func(data []*cellData) map[cellKey]*cellData {
		m := make(map[cellKey]*cellData, len(data))
		for _, d := range data {
			m[keyOf(d.cell)] = d
		}
		return m
	}
	oldIndex, newIndex := index(oldData), index(newData)
	b := baselines{old: old.Run.Plan.Baseline, new: new.Run.Plan.Baseline, oneRun: sameRun(old.Run, new.Run), oldCells: oldIndex, newCells: newIndex, o: o}
	for _, d := range oldData {
		for _, arm := range o.wants(d.cell, false) {
			if other := newIndex[keyOf(withArm(d.cell, arm))]; other != nil {
				p.Cells = append(p.Cells, b.compareCell(d, other))
			} else {
				p.OnlyOld = append(p.OnlyOld, d.cell)
			}
		}
	}
	for _, d := range newData {
		for _, arm := range o.wants(d.cell, true) {
			if oldIndex[keyOf(withArm(d.cell, arm))] == nil {
				p.OnlyNew = append(p.OnlyNew, d.cell)
			}
		}
	}
	if len(p.Cells) == 0 {
		return p, fmt.Errorf("compare %s with %s: no arm under a workload with its parameters is in both: %s has %s; %s has %s",
			new.Label, old.Label, old.Label, listCells(oldData), new.Label, listCells(newData))
	}
	correctChanges(p.Cells, o.Options)
	p.warn(old.Run, new.Run, b)
	return p, nil
}

func sameRun(a, b *econbench.Run) bool { return a.ID != "" && a.ID == b.ID }

func listCells(data []*cellData) string {
	const most = 4
	var list []string
	for i, d := range data {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(data)-most))
			break
		}
		list = append(list, fmt.Sprintf("%q", d.cell))
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// warn says why there are no verdicts.
func (p *RunPair) warn(old, new *econbench.Run, b baselines) {
	if b.oneRun {
		p.Warnings = append(p.Warnings, Note{Text: "both are one and the same run"})
	}
	if why := b.missing(); why != "" && !b.o.Absolute && !b.oneRun {
		p.Warnings = append(p.Warnings, Note{Text: why + ": absolute values are left, which drift from run to run and are not judged (--absolute judges them)"})
	}
	s := &Summary{} // for one line about what several cells have in common
	for _, c := range p.Cells {
		cell := Cell{Arm: econbench.Arm{Topology: c.name()}, Workload: c.Workload}
		m, ok := c.Metrics[c.primary]
		switch {
		case !ok:
			cell.Warnings = append(cell.Warnings, Note{Text: "no primary metric was collected"})
		case m.Reason != "" && m.Verdict != VerdictNone: // the baseline never has one
			cell.Warnings = append(cell.Warnings, Note{Text: c.primary + " " + string(m.Verdict) + ": " + m.Reason})
		}
		if c.old.primary != c.new.primary && c.old.primary != "" && c.new.primary != "" {
			cell.Warnings = append(cell.Warnings, Note{Text: "the primary metric is " + c.new.primary + ", was " + c.old.primary})
		}
		s.Cells = append(s.Cells, cell)
	}
	for _, text := range notesOf(s, false) {
		p.Warnings = append(p.Warnings, Note{Text: text})
	}
}

// name is the arm, or both where they differ.
func (c ComparedCell) name() string {
	if c.Arm.String() == c.NewArm.String() {
		return c.Arm.String()
	}
	return c.Arm.String() + " → " + c.NewArm.String()
}

// correctChanges applies Holm's correction to each arm's primary metrics and then gives every metric its verdict.
func correctChanges(cells []ComparedCell, o Options) {
	places := make(map[string][]int) // by arm: where its family's cells are
	ps := make(map[string][]float64)
	for i, c := range cells {
		if m, ok := c.Metrics[c.primary]; ok && !m.levels && m.carried() != nil && m.carried().P != nil {
			arm := c.name()
			places[arm], ps[arm] = append(places[arm], i), append(ps[arm], *m.carried().P)
		}
	}
	holms := make(map[int]*float64)
	for arm, list := range places {
		for at, adjusted := range holm(ps[arm]) {
			holms[list[at]] = &adjusted
		}
	}
	for i, c := range cells {
		for _, name := range slices.Sorted(maps.Keys(c.Metrics)) {
			m := c.Metrics[name]
			family := 1
			if name == c.primary {
				m.PHolm, family = holms[i], max(1, len(places[c.name()]))
			}
			m.Verdict, m.Reason = m.judge(family, o)
			c.Metrics[name] = m
		}
	}
}

func (m MetricChange) judge(family int, o Options) (Verdict, string) {
	switch {
	case m.Old.N == 0 && m.New.N == 0:
		return VerdictInconclusive, "no valid trial of either run has it"
	case m.Old.N == 0:
		return VerdictInconclusive, "no valid trial of the old run has it"
	case m.New.N == 0:
		return VerdictInconclusive, "no valid trial of the new run has it"
	}
	c := m.carried()
	if reason := c.lacks(o); reason != "" {
		return VerdictInconclusive, reason
	}
	if m.levels {
		return VerdictNone, drifting
	}
	return c.judge(m.Better, m.PHolm, family, o)
}

// drifting is why a change of levels between two runs has no verdict. The test takes blocks as independent, and what drifts from run to
// run all of a run's blocks have in common: two runs of one thing, minutes apart, came out 3.8 % worse with a p of 0.03. One run a
// side says nothing about how far runs lie apart, so that there is nothing to hold such a change against.
const drifting = "levels drift from run to run, and one run a side does not tell how far; --absolute judges them all the same"
