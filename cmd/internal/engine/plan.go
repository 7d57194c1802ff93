// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// Order is a block's cells in the order they are measured: workloads shuffled, and within each its arms, so that trials
// that are compared with each other stand side by side: four trials apart they differ by half as much again and more
// (docs/measuring.md). It depends on the plan's seed and the block's number alone, so that any block's order can be had again.
func Order(p econbench.Plan, block int) (cells []econbench.Cell) {
	random := rand.New(rand.NewPCG(p.Seed, uint64(block)))
	for _, w := range random.Perm(len(p.Workloads)) {
		for _, a := range random.Perm(len(p.Arms)) {
			cells = append(cells, econbench.Cell{Arm: p.Arms[a], Workload: p.Workloads[w].Name, Params: p.Workloads[w].Params})
		}
	}
	return cells
}

// PlanError is one thing that is wrong with a plan, and where in the plan.
type PlanError struct {
	Place
	Err error
}

func (e *PlanError) Error() string { return e.Err.Error() }
func (e *PlanError) Unwrap() error { return e.Err }

// Place is a part of a plan, in the words of run.json and of suites. Its zero value is the plan as a whole.
type Place struct {
	Key   string // "arms", "blocks"
	Item  int    // of a list, from 1; 0: all of it
	Field string // of a workload: "name", or a parameter's name
	Name  bool   // the field's name is wrong, not what it is set to
	Under string // of a field that has parts of its own: which, with dots, items of lists by their number from 1: "2.regexp"
}

// Resolve completes a plan and checks it: every name must be known, every number in range. Nothing is started.
func (parts Parts) Resolve(p econbench.Plan) (econbench.Plan, error) {
	p, wrong := parts.Check(p)
	if len(wrong) > 0 {
		return p, wrong[0]
	}
	return p, nil
}

// Check completes a plan as far as it is sound, and lists all that is wrong with it.
func (parts Parts) Check(p econbench.Plan) (econbench.Plan, []*PlanError) {
	c := checker{parts: parts}
	if p.CPU == "" {
		p.CPU = econbench.CPUStat
	}
	c.arms(p)
	p.Workloads = c.workloads(p.Workloads)
	c.numbers(p)
	c.attach(p)
	return p, c.wrong
}

// checker collects what is wrong with a plan.
type checker struct {
	parts Parts
	wrong []*PlanError
}

func (c *checker) add(at Place, format string, args ...any) {
	c.wrong = append(c.wrong, &PlanError{at, fmt.Errorf(format, args...)})
}

func (c *checker) arms(p econbench.Plan) {
	if len(p.Arms) == 0 {
		c.add(Place{Key: "arms"}, "no arms given: allowed are those of econbench list -o json")
		return
	}
	for i, a := range p.Arms {
		at := Place{Key: "arms", Item: i + 1}
		if err := c.parts.CheckArm(a); err != nil {
			c.add(at, "arm %q: %w", a, err)
		} else if slices.Contains(p.Arms[:i], a) {
			c.add(at, "arm %q: given twice; %q is the same arm a second time", a, again(a, p.Arms))
		}
	}
	if !slices.Contains(p.Arms, p.Baseline) {
		c.add(Place{Key: "baseline"}, "baseline %q: is not one of the arms: %s", p.Baseline, join(p.Arms))
	}
}

// again is the next free copy of an arm.
func again(a econbench.Arm, arms []econbench.Arm) econbench.Arm {
	for a.Copy = 2; slices.Contains(arms, a); a.Copy++ {
	}
	return a
}

// CheckArm says what is wrong with an arm by itself.
func (parts Parts) CheckArm(a econbench.Arm) error {
	f := named(parts.Fastpaths, a.Fastpath)
	switch {
	case named(parts.Topologies, a.Topology) == nil:
		return names.Unknown("topology", a.Topology, namesOf(parts.Topologies))
	case f == nil:
		return names.Unknown("fast path", a.Fastpath, namesOf(parts.Fastpaths))
	case !slices.Contains(parts.topologiesOf(f), a.Topology):
		return fmt.Errorf("fast path %s can't be attached to topology %q: allowed: %s", a.Fastpath, a.Topology, strings.Join(parts.topologiesOf(f), ", "))
	}
	if s, ok := f.(econbench.Settable); ok {
		return s.CheckSetting(a.Setting)
	}
	if a.Setting != "" {
		return fmt.Errorf("fast path %s has no setting, got %q", a.Fastpath, a.Setting)
	}
	return nil
}

// topologiesOf are those that a fast path can be attached to.
func (parts Parts) topologiesOf(f econbench.Fastpath) []string {
	if b, ok := f.(econbench.Bound); ok {
		return b.Topologies()
	}
	return namesOf(parts.Topologies)
}

// workloads returns the list with every parameter written out.
func (c *checker) workloads(given []econbench.PlannedWorkload) []econbench.PlannedWorkload {
	if len(given) == 0 {
		c.add(Place{Key: "workloads"}, "no workload given: allowed: %s", strings.Join(namesOf(c.parts.Workloads), ", "))
	}
	list := slices.Clone(given)
	for i, w := range list {
		at := Place{Key: "workloads", Item: i + 1}
		if w.Name == "" {
			c.add(at, "workload %d: has no name: allowed: %s", i+1, strings.Join(namesOf(c.parts.Workloads), ", "))
			continue
		}
		part := named(c.parts.Workloads, w.Name)
		if part == nil {
			at.Field = "name"
			c.add(at, "%w", names.Unknown("workload", w.Name, namesOf(c.parts.Workloads)))
			continue
		}
		full, err := part.Params(w.Params)
		if err != nil {
			c.params(at, part, w.Params, err)
			continue
		}
		list[i] = econbench.PlannedWorkload{Name: w.Name, Params: full, Primary: part.Primary()}
		for _, before := range list[:i] {
			if before.Name == w.Name && before.Params.String() == full.String() {
				c.add(at, "workload %s %s: given twice", w.Name, full)
			}
		}
	}
	return list
}

// params finds out which parameters are wrong. A workload says so in words, so each is tried alone; one that is wrong
// only beside others leaves the workload itself to blame.
func (c *checker) params(at Place, part econbench.Workload, given econbench.Params, whole error) {
	known, _ := part.Params(nil) // the defaults are sound
	found := false
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if _, err := part.Params(econbench.Params{key: given[key]}); err != nil {
			_, isKnown := known[key]
			c.add(Place{Key: at.Key, Item: at.Item, Field: key, Name: !isKnown}, "workload %s: %w", part.Name(), err)
			found = true
		}
	}
	if !found {
		c.add(at, "workload %s: %w", part.Name(), whole)
	}
}

func (c *checker) numbers(p econbench.Plan) {
	for _, n := range []struct {
		key, flag      string
		got, low, high float64
		unit           string
	}{
		{"blocks", "blocks", float64(p.Blocks), 1, 100_000, ""},
		{"duration", "duration", float64(p.Duration), 0.1, 3600, " s"},
		{"warmup", "warmup", float64(p.Warmup), 0, 600, " s"},
		{"rebuild_every", "rebuild-every", float64(p.RebuildEvery), 1, 100_000, ""},
	} {
		if !(n.got >= n.low && n.got <= n.high) { // NaN is neither
			c.add(Place{Key: n.key}, "%s %v%s: want %v%s to %v%s", n.flag, n.got, n.unit, n.low, n.unit, n.high, n.unit)
		}
	}
	c.choice("placement", string(p.Placement), string(econbench.Split), string(econbench.Shared))
	c.choice("cpu", string(p.CPU), string(econbench.CPUStat), string(econbench.CPUExact))
	c.choice("wire", string(p.Wire), string(econbench.WireDefault), string(econbench.WireMTUFrames))
}

// attach looks at how the arms' fast paths are to be attached.
func (c *checker) attach(p econbench.Plan) {
	var used []string
	for _, a := range p.Arms {
		used = append(used, a.Fastpath)
	}
	c.wrong = append(c.wrong, c.parts.CheckAttach(used, p.Attach)...)
}

// CheckAttach lists what is wrong with how fast paths are to be attached.
func (parts Parts) CheckAttach(fastpaths []string, o econbench.AttachOptions) []*PlanError {
	c := checker{parts: parts}
	if o.Hook != "" {
		c.choice("hook", o.Hook, econbench.HookTCX, econbench.HookFilter)
	}
	if leftOut := []string{econbench.Egress, econbench.Ingress, econbench.WithoutLearning}; o.Without != "" && !slices.Contains(leftOut, o.Without) {
		c.add(Place{Key: "without"}, "%w", names.Unknown("part to go without", o.Without, leftOut))
	}
	var kinds []string
	for _, name := range fastpaths {
		if b, ok := named(parts.Fastpaths, name).(econbench.Bound); ok {
			kinds = append(kinds, b.Lanes()...)
		}
	}
	slices.Sort(kinds)
	switch kinds = slices.Compact(kinds); {
	case o.Lane != "" && len(kinds) == 0:
		c.add(Place{Key: "lane"}, "lane %q: nothing that takes one is to be attached", o.Lane)
	case o.Lane != "":
		c.choice("lane", o.Lane, kinds...)
	}
	switch n := o.MaxFlows; {
	case n != 0 && len(kinds) == 0:
		c.add(Place{Key: "max_flows"}, "max flows %d: nothing that remembers flows is to be attached", n)
	case n != 0 && (n < econbench.LeastFlows || n > econbench.MostFlows):
		c.add(Place{Key: "max_flows"}, "max flows %d: want %d to %d", n, econbench.LeastFlows, econbench.MostFlows)
	}
	return c.wrong
}

func (c *checker) choice(key, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		c.add(Place{Key: key}, "%w", names.Unknown(key, got, allowed))
	}
}

// What steps take besides warm-up and window, measured on two virtual cores that others used too (docs/measuring.md); for estimates alone.
const (
	trialOverhead = 250 * time.Millisecond // the client's start through the engine, its flows' appearance, readings, the client's end
	attachTime    = 450 * time.Millisecond // of a fast path, on both hosts, and back
	buildTime     = 5 * time.Second        // all topologies, with their servers
)

// Estimate is about how long the plan's trials take, topologies and the finding of paces included, the lab not. What many flows, or a
// database's tables, take to be set up is not in it.
func (parts Parts) Estimate(p econbench.Plan) time.Duration {
	block, pacing := time.Duration(0), time.Duration(0)
	paced := map[string]bool{} // closed loops that shares are of
	for _, w := range p.Workloads {
		arms := time.Duration(0)
		for _, a := range p.Arms {
			arms += parts.trialTime(p, econbench.Cell{Arm: a, Workload: w.Name, Params: w.Params})
		}
		block += arms
		_, closed, ok := parts.share(w.Name, w.Params)
		if load := w.Name + " " + closed.String(); ok && w.Rate == 0 && !paced[load] {
			paced[load] = true
			pacing += pilots * arms
		}
	}
	builds := (p.Blocks + p.RebuildEvery - 1) / p.RebuildEvery
	return time.Duration(p.Blocks)*block + pacing + time.Duration(builds)*buildTime
}

// trialTime is about how long a trial takes on topologies that are there.
func (parts Parts) trialTime(p econbench.Plan, c econbench.Cell) time.Duration {
	w := named(parts.Workloads, c.Workload)
	run := p.Warmup.Duration() + p.Duration.Duration()
	if e, ok := w.(econbench.Endable); !ok || !e.Endable(c.Params) {
		run = (run + marginOf(w) + time.Second - 1).Truncate(time.Second) // most tools run for whole seconds
	}
	if c.Arm.Fastpath != econbench.NoFastpath {
		run += attachTime
	}
	return run + trialOverhead
}

// EstimateExtra is about how long it takes to measure what is left of blocks beyond the plan's, whose paces are known.
func (parts Parts) EstimateExtra(p econbench.Plan, x Extra) time.Duration {
	left, block := x.Blocks-len(x.Done.Blocks), time.Duration(0)
	for _, c := range x.Cells {
		block += parts.trialTime(p, c)
	}
	builds := (left + p.RebuildEvery - 1) / p.RebuildEvery
	return time.Duration(left)*block + time.Duration(builds)*buildTime
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

// Needs are what a plan's endpoints have to be able to do.
type Needs struct {
	Image     string // recipe of what they run; "": the usual one
	Generator bool   // they have econbench itself, to put load on a server with
}

// Needs finds out what the plan's workloads need. There are two images, of which the other one has all that the usual one has.
func (parts Parts) Needs(p econbench.Plan) (n Needs) {
	for _, planned := range p.Workloads {
		w := named(parts.Workloads, planned.Name)
		if i, ok := w.(econbench.Imaged); ok && i.Image() != "" {
			n.Image = i.Image()
		}
		if g, ok := w.(econbench.Generating); ok && g.Generates() {
			n.Generator = true
		}
	}
	return n
}
