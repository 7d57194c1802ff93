// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"maps"
	"slices"

	"github.com/econbench/econbench"
)

// baselines knows which cells of two runs have a baseline to be compared by.
type baselines struct {
	old, new           econbench.Arm
	oneRun             bool // both are one and the same run, whose arms' levels have drifted together
	oldCells, newCells map[cellKey]*cellData
	o                  CompareOptions
}

// missing says why no cell has ratios that could be compared; "" where some may.
func (b baselines) missing() string {
	has := func(cells map[cellKey]*cellData, arm econbench.Arm) bool {
		for k, d := range cells {
			if k.arm == arm.String() && d.valid > 0 {
				return true
			}
		}
		return false
	}
	switch {
	case !b.sameBaseline():
		return "the baseline is " + b.new.String() + ", was " + b.old.String()
	case !has(b.oldCells, b.old):
		return "the old run has no valid trial of its baseline " + b.old.String()
	case !has(b.newCells, b.new):
		return "the new run has no valid trial of its baseline " + b.new.String()
	}
	return ""
}

// sameBaseline says whether ratios mean the same in both runs: their baselines are one arm, or are to be compared as one.
func (b baselines) sameBaseline() bool {
	if b.old.String() == b.new.String() {
		return true
	}
	return slices.ContainsFunc(b.o.Arms, func(p ArmPair) bool {
		return p.Old.String() == b.old.String() && p.New.String() == b.new.String()
	})
}

// of finds the baseline's cells for a pair of cells; nil, nil where ratios can't be compared.
func (b baselines) of(old, new econbench.Cell) (oldBase, newBase *cellData) {
	if old.Arm.String() == b.old.String() || new.Arm.String() == b.new.String() || !b.sameBaseline() {
		return nil, nil
	}
	oldBase, newBase = b.oldCells[keyOf(withArm(old, b.old))], b.newCells[keyOf(withArm(new, b.new))]
	if oldBase == nil || newBase == nil {
		return nil, nil
	}
	return oldBase, newBase
}

func (b baselines) compareCell(old, new *cellData) ComparedCell {
	c := ComparedCell{
		Arm: old.cell.Arm, NewArm: new.cell.Arm, Workload: old.cell.Workload, Params: old.cell.Params,
		Metrics: make(map[string]MetricChange), primary: new.primary, old: old, new: new,
	}
	if c.Params == nil {
		c.Params = econbench.Params{}
	}
	if c.primary == "" {
		c.primary = old.primary
	}
	oldBase, newBase := b.of(old.cell, new.cell)
	names := maps.Clone(old.seen)
	maps.Copy(names, new.seen)
	for name := range names {
		known := new.metric(name)
		if known.Unit == "" {
			known = old.metric(name) // only the old run may have its definition
		}
		m := MetricChange{Unit: known.Unit, Better: known.Better, Primary: name == c.primary, Carrier: CarrierAbsolute}
		x, y := old.perBlock(name), new.perBlock(name)
		m.Old, m.New = levelOf(known, valuesOf(x), b.o.Options), levelOf(known, valuesOf(y), b.o.Options)
		m.Absolute = changeOf(valuesOf(x), valuesOf(y), 0, b.o.Options)
		if oldBase != nil {
			oldByBlock, skipped := pairedRatios(x, oldBase.perBlock(name))
			newByBlock, skippedToo := pairedRatios(y, newBase.perBlock(name))
			oldRatios, newRatios := valuesOf(oldByBlock), valuesOf(newByBlock)
			if len(oldRatios)+skipped > 0 && len(newRatios)+skippedToo > 0 {
				m.Ratio = changeOf(oldRatios, newRatios, skipped+skippedToo, b.o.Options)
				m.Old.Ratio, m.New.Ratio = medianOf(oldRatios), medianOf(newRatios)
			}
		}
		if m.Ratio != nil && !b.o.Absolute {
			m.Carrier = CarrierRatio
		}
		m.levels = m.Carrier == CarrierAbsolute && !b.o.Absolute && !b.oneRun
		c.Metrics[name] = m
	}
	return c
}

func levelOf(known econbench.Metric, values []float64, o Options) Level {
	m := newMetric(known, values, o)
	return Level{Median: m.Median, Low: m.Low, High: m.High, Coverage: m.Coverage, N: m.N}
}

func valuesOf(byBlock map[int]float64) []float64 { return slices.Collect(maps.Values(byBlock)) }

func medianOf(values []float64) *float64 {
	if len(values) == 0 {
		return nil
	}
	return number(median(values))
}
