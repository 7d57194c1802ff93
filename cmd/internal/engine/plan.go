// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// Order is a block's cells in the order they are measured: a shuffle that depends on the plan's seed and the block's
// number alone, so that any block's order can be had again.
func Order(p econbench.Plan, block int) []econbench.Cell {
	cells := p.Cells()
	rand.New(rand.NewPCG(p.Seed, uint64(block))).Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
	return cells
}

// Resolve completes a plan and checks it: every name must be known, every number in range. Nothing is started.
func (parts Parts) Resolve(p econbench.Plan) (econbench.Plan, error) {
	for i, a := range p.Arms {
		if err := parts.checkArm(a); err != nil {
			return p, err
		}
		if slices.Contains(p.Arms[:i], a) {
			return p, fmt.Errorf("arm %q: given twice", a)
		}
	}
	if !slices.Contains(p.Arms, p.Baseline) {
		return p, fmt.Errorf("baseline %q: is not one of the arms: %s", p.Baseline, join(p.Arms))
	}
	p.Workloads = slices.Clone(p.Workloads)
	for i, w := range p.Workloads {
		part := named(parts.Workloads, w.Name)
		if part == nil {
			return p, names.Unknown("workload", w.Name, namesOf(parts.Workloads))
		}
		full, err := part.Params(w.Params)
		if err != nil {
			return p, fmt.Errorf("workload %s: %w", w.Name, err)
		}
		p.Workloads[i] = econbench.PlannedWorkload{Name: w.Name, Params: full, Primary: part.Primary()}
		for _, before := range p.Workloads[:i] {
			if before.Name == w.Name && before.Params.String() == full.String() {
				return p, fmt.Errorf("workload %s %s: given twice", w.Name, full)
			}
		}
	}
	if len(p.Workloads) == 0 {
		return p, fmt.Errorf("no workload given: allowed: %v", namesOf(parts.Workloads))
	}
	return p, checkNumbers(p)
}

func (parts Parts) checkArm(a econbench.Arm) error {
	if named(parts.Topologies, a.Topology) == nil {
		return fmt.Errorf("arm %q: %w", a, names.Unknown("topology", a.Topology, namesOf(parts.Topologies)))
	}
	fp := named(parts.Fastpaths, a.Fastpath)
	if fp == nil {
		return fmt.Errorf("arm %q: %w", a, names.Unknown("fast path", a.Fastpath, namesOf(parts.Fastpaths)))
	}
	if b, ok := fp.(econbench.Bound); ok && !slices.Contains(b.Topologies(), a.Topology) {
		return fmt.Errorf("arm %q: fast path %s can't be attached to topology %q; allowed: %v", a, a.Fastpath, a.Topology, b.Topologies())
	}
	return nil
}

func checkNumbers(p econbench.Plan) error {
	inRange := func(what string, got, low, high float64, unit string) error {
		if got >= low && got <= high { // NaN is neither
			return nil
		}
		return fmt.Errorf("%s %v%s: want %v%s to %v%s", what, got, unit, low, unit, high, unit)
	}
	for _, err := range []error{
		inRange("blocks", float64(p.Blocks), 1, 100_000, ""),
		inRange("duration", float64(p.Duration), 0.1, 3600, " s"),
		inRange("warmup", float64(p.Warmup), 0, 600, " s"),
		inRange("rebuild-every", float64(p.RebuildEvery), 1, 100_000, ""),
	} {
		if err != nil {
			return err
		}
	}
	if p.Placement != econbench.Split && p.Placement != econbench.Shared {
		return names.Unknown("placement", string(p.Placement), []string{string(econbench.Split), string(econbench.Shared)})
	}
	if p.Wire != econbench.WireDefault && p.Wire != econbench.WireMTUFrames {
		return names.Unknown("wire", string(p.Wire), []string{string(econbench.WireDefault), string(econbench.WireMTUFrames)})
	}
	return checkAttach(p.Attach)
}

// checkAttach knows what is allowed of hooks and parts; kinds of lanes are the agents' to know.
func checkAttach(a econbench.AttachOptions) error {
	if hooks := []string{econbench.HookTCX, econbench.HookFilter}; a.Hook != "" && !slices.Contains(hooks, a.Hook) {
		return names.Unknown("hook", a.Hook, hooks)
	}
	if leftOut := []string{econbench.Egress, econbench.Ingress, econbench.WithoutLearning}; a.Without != "" && !slices.Contains(leftOut, a.Without) {
		return names.Unknown("part to go without", a.Without, leftOut)
	}
	return nil
}

// What steps take besides the window, measured on two virtual cores; for estimates alone.
const (
	trialOverhead = 30 * time.Millisecond // the tools start while the margin runs
	buildTime     = 5 * time.Second
)

// Estimate is about how long the plan's trials take, topologies included, the lab not.
func Estimate(p econbench.Plan) time.Duration {
	run := p.Warmup.Duration() + p.Duration.Duration() + margin
	whole := run.Truncate(time.Second) // tools run for whole seconds
	if whole < run {
		whole += time.Second
	}
	builds := (p.Blocks + p.RebuildEvery - 1) / p.RebuildEvery
	return time.Duration(p.Blocks*len(p.Cells()))*(whole+trialOverhead) + time.Duration(builds)*buildTime
}

func join(arms []econbench.Arm) string {
	text := ""
	for i, a := range arms {
		if i > 0 {
			text += ", "
		}
		text += a.String()
	}
	return text
}
