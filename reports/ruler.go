// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/econbench/econbench"
)

// ReadCalibration is the inverse of Calibration.RenderJSON.
func ReadCalibration(b []byte) (*Calibration, error) {
	// The schema is looked at alone first: a newer one may have given the other fields new types.
	var version struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("read calibration: %w", err)
	}
	switch {
	case version.Schema == nil || *version.Schema < 1:
		return nil, fmt.Errorf("read calibration: no schema in it, or one older than 1; want %d, as `econbench calibrate` writes it", CalibrationSchema)
	case *version.Schema > CalibrationSchema:
		return nil, fmt.Errorf("read calibration: schema %d is newer than %d, the newest that this econbench reads", *version.Schema, CalibrationSchema)
	}
	c := new(Calibration)
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("read calibration: %w", err)
	}
	if c.Run == "" || c.Arm.Topology == "" {
		return nil, fmt.Errorf("read calibration: no pool or no arm in it; want both, as `econbench calibrate` writes them")
	}
	return c, nil
}

// Rulers are what calibrations of the run's machine tell of the plan's workloads: of each that the run has no ruler of yet,
// what the newest calibration says, or the newest of one of the plan's arms if there is any. A calibration is comparable when
// workload, parameters, primary metric and the trial's window and warm-up are equal. That the machine is the same one the
// caller knows, by its key.
func Rulers(run *econbench.Run, known []*Calibration) (rulers []econbench.Ruler) {
	better := func(a, b *Calibration) bool {
		if x, y := slices.Contains(run.Plan.Arms, a.Arm), slices.Contains(run.Plan.Arms, b.Arm); x != y {
			return x
		}
		return a.Started.After(b.Started)
	}
	for _, w := range run.Plan.Workloads {
		if rulerOf(run.Rulers, w.Name, w.Params) != nil {
			continue
		}
		var best *Calibration
		var told CalibratedWorkload
		for _, c := range known {
			if one, ok := c.tells(run.Plan, w); ok && (best == nil || better(c, best)) {
				best, told = c, one
			}
		}
		if best != nil {
			rulers = append(rulers, best.ruler(told))
		}
	}
	return rulers
}

// tells finds what a calibration has to say of a workload as the plan measures it.
func (c *Calibration) tells(p econbench.Plan, w econbench.PlannedWorkload) (one CalibratedWorkload, ok bool) {
	if c.Duration <= 0 || c.Duration != p.Duration || c.Warmup != p.Warmup {
		return one, false
	}
	at := slices.IndexFunc(c.Workloads, func(one CalibratedWorkload) bool {
		return one.Workload == w.Name && one.Params.String() == w.Params.String() && one.Primary == w.Primary
	})
	if at < 0 {
		return one, false
	}
	return c.Workloads[at], true
}

// ruler is as much of a calibration as a run records.
func (c *Calibration) ruler(one CalibratedWorkload) econbench.Ruler {
	r := econbench.Ruler{
		Workload: one.Workload, Params: one.Params, Pool: c.Run, Measured: c.Started, Version: c.Version, Arm: c.Arm,
		Blocks: one.Blocks, Trial: one.Trial, Confidence: c.Confidence, Power: c.Power,
	}
	for _, l := range one.Lengths {
		r.Lengths = append(r.Lengths, econbench.RulerLength{
			Blocks: l.Blocks, Sees: l.Sees, SeesLow: l.SeesLow, SeesHigh: l.SeesHigh, FalseAlarms: l.FalseAlarms.bounded(),
		})
	}
	return r
}

func rulerOf(rulers []econbench.Ruler, workload string, params econbench.Params) *econbench.Ruler {
	at := slices.IndexFunc(rulers, func(r econbench.Ruler) bool { return r.Workload == workload && r.Params.String() == params.String() })
	if at < 0 {
		return nil
	}
	return &rulers[at]
}

// Quote is what a ruler says of a cell: of runs of this workload alone with as many pairs of blocks as the cell has.
type Quote struct {
	Pool         string             `json:"pool"`
	Measured     time.Time          `json:"measured"`
	Version      string             `json:"version"`
	Arm          econbench.Arm      `json:"arm"`          // that was held against itself
	Blocks       int                `json:"blocks"`       // pairs with the baseline's
	Sees         *float64           `json:"sees"`         // smallest effect that Power of the runs find; null: none up to twofold
	SeesLow      *float64           `json:"sees_low"`     // its bounds by the pool's being one of many
	SeesHigh     *float64           `json:"sees_high"`    // null: not known, or beyond twofold
	Extrapolated bool               `json:"extrapolated"` // no calibrated run was as short or as long, or the pool not as long
	FalseAlarms  *econbench.Bounded `json:"false_alarms"` // of the calibrated length that is nearest; null where no verdict is possible
	Power        float64            `json:"power"`

	least int // pairs that a verdict takes
}

// quote reads a ruler at a number of pairs. A cell without any has nothing that could be seen.
func quote(r *econbench.Ruler, pairs int, o Options) *Quote {
	if r == nil || pairs == 0 {
		return nil
	}
	q := &Quote{Pool: r.Pool, Measured: r.Measured, Version: r.Version, Arm: r.Arm, Blocks: pairs, Power: r.Power, least: pairsNeeded(o.Alpha, 1)}
	if pairs < q.least {
		return q
	}
	lengths := slices.DeleteFunc(slices.Clone(r.Lengths), func(l econbench.RulerLength) bool { return l.Blocks < q.least })
	slices.SortFunc(lengths, func(a, b econbench.RulerLength) int { return a.Blocks - b.Blocks })
	q.Sees, q.Extrapolated = seen(lengths, pairs, o)
	q.Extrapolated = q.Extrapolated || q.Sees != nil && pairs > r.Blocks
	q.SeesLow, _ = seen(seeing(lengths, func(l econbench.RulerLength) *float64 { return l.SeesLow }), pairs, o)
	q.SeesHigh, _ = seen(seeing(lengths, func(l econbench.RulerLength) *float64 { return l.SeesHigh }), pairs, o)
	least := math.Inf(1)
	for _, l := range lengths {
		if apart := math.Abs(math.Log(float64(l.Blocks) / float64(pairs))); apart < least {
			least, q.FalseAlarms = apart, &l.FalseAlarms
		}
	}
	return q
}

// seeing are the lengths with another figure in the place of Sees.
func seeing(lengths []econbench.RulerLength, figure func(econbench.RulerLength) *float64) []econbench.RulerLength {
	lengths = slices.Clone(lengths)
	for i, l := range lengths {
		lengths[i].Sees = figure(l)
	}
	return lengths
}

// seen is the smallest effect that runs of n pairs see, by lengths in ascending order. Between two of them it is a straight
// line of logarithms; beyond the first and the last it goes with 1/√n, as an interval's width does, which is extrapolated: of
// runs so short that the test has hardly any room left it says too little.
func seen(lengths []econbench.RulerLength, n int, o Options) (sees *float64, extrapolated bool) {
	var below, above *econbench.RulerLength
	for _, l := range lengths {
		if l.Sees == nil || !(*l.Sees > 0) {
			if l.Blocks >= n && above == nil {
				return nil, false // not even so many blocks saw anything
			}
			continue
		}
		if l.Blocks <= n {
			below = &l
		}
		if l.Blocks >= n && above == nil {
			above = &l
		}
	}
	slope := -0.5
	switch {
	case below == nil && above == nil:
		return nil, false
	case below == nil:
		below, extrapolated = above, true
	case above == nil:
		extrapolated = true
	case below.Blocks < above.Blocks:
		slope = math.Log(*above.Sees / *below.Sees) / math.Log(float64(above.Blocks)/float64(below.Blocks))
	}
	v := *below.Sees * math.Pow(float64(n)/float64(below.Blocks), slope)
	if v > seesAtMost {
		return nil, extrapolated
	}
	return number(max(v, o.MinEffect)), extrapolated // what is smaller gets no verdict, however many blocks there are
}

// rulerLine is the quote below a workload's table; "" without one. Arms that differ in their pairs are summed up by the most
// and the fewest.
func rulerLine(s *Summary, cells []Cell) string {
	var most, fewest *Quote
	for _, c := range cells {
		if q := c.Ruler; q != nil && (most == nil || q.Blocks > most.Blocks) {
			most = q
		}
		if q := c.Ruler; q != nil && (fewest == nil || q.Blocks < fewest.Blocks) {
			fewest = q
		}
	}
	if most == nil {
		return ""
	}
	line := fmt.Sprintf("ruler: in %s this machine sees %s", counted(most.Blocks, "block"), most.show())
	if fewest.Blocks < most.Blocks {
		line += fmt.Sprintf(", in %d %s", fewest.Blocks, fewest.show())
	}
	calibrated := "calibrated "
	if most.Measured.After(s.Started) {
		calibrated += "later, "
	}
	about := []string{clean(most.Arm.String()) + " against itself", calibrated + most.Measured.UTC().Format(time.DateOnly), "pool " + clean(most.Pool)}
	line += " (" + strings.Join(about, ", ")
	if r := most.FalseAlarms; r != nil {
		line += "; false alarms " + showBounded(*r)
	}
	return line + ")"
}

func (q *Quote) show() string {
	switch {
	case q.Blocks < q.least:
		return fmt.Sprintf("nothing: a verdict takes %d", q.least)
	case q.Sees == nil:
		return "nothing up to twofold"
	}
	text := fmt.Sprintf("%.1f%%", 100**q.Sees)
	if q.Extrapolated {
		text = "about " + text
	}
	switch {
	case q.SeesLow == nil:
		return text
	case q.SeesHigh == nil:
		return text + fmt.Sprintf(" [%.1f, >%.0f]", 100**q.SeesLow, 100*seesAtMost)
	}
	return text + fmt.Sprintf(" [%.1f, %.1f]", 100**q.SeesLow, 100**q.SeesHigh)
}

// rulerLegend explains the line where there is one.
func rulerLegend(s *Summary) string {
	at := slices.IndexFunc(s.Cells, func(c Cell) bool { return c.Ruler != nil })
	if at < 0 {
		return ""
	}
	return fmt.Sprintf(" ruler: the smallest effect that %.0f%% of such runs find, each workload judged alone; about: beyond what was calibrated.",
		100*s.Cells[at].Ruler.Power)
}
