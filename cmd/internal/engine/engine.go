// SPDX-License-Identifier: Apache-2.0

// Package engine measures: it turns what the user asked for into a plan, a plan into blocks of trials in shuffled order,
// and every trial into a record. It sees roles, never parts: which topologies, workloads, collectors and fast paths
// there are it is told.
package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// Parts are what plans can be made of.
type Parts struct {
	Topologies []econbench.Topology
	Fastpaths  []econbench.Fastpath
	Workloads  []econbench.Workload
	Collectors []econbench.Collector
}

// Recorder keeps what was measured.
type Recorder interface {
	Append(econbench.Trial) error
	WriteLog(name string, body []byte) (path string, err error)
	// Replan records what became known of the plan before its first trial: the rates of its workloads.
	Replan(econbench.Plan) error
}

// Lab is what the engine needs of a lab beyond its two hosts.
type Lab interface {
	econbench.Lab
	SharedKernel() bool
	// RoundTrip is what it takes from here to the hosts' agents and back. Their windows may begin that much later than planned.
	RoundTrip() time.Duration
	// Doubts are doubts about the lab itself, which every trial's warnings repeat.
	Doubts() []string
	// Steer decides whose CPUs do the softirq work of frames that arrive, for a kind of workload, and says whether each
	// host's CPUs then do that host's work alone.
	Steer(ctx context.Context, bulk bool) (apart bool, err error)
	Healthy(context.Context) error
}

// Progress is told what goes on. Its methods must return at once.
type Progress interface {
	Step(text string)
	Trial(done, total int, t econbench.Trial)
}

// Tally is what a run came to.
type Tally struct {
	Planned, Valid, Invalid int
}

// ErrUnhealthy says that the lab can't be measured on any more.
var ErrUnhealthy = errors.New("lab is unhealthy")

// maxFailures in a row end a run if every workload is among them: what fails that often is not noise. A workload that fails by
// itself does not end the others.
const maxFailures = 6

// Engine runs one plan on one lab.
type Engine struct {
	Parts    Parts
	Lab      Lab
	Recorder Recorder
	Progress Progress
	RunID    string
	Done     Done // what earlier parts of the run have measured

	plan     econbench.Plan
	beds     map[string]*bed // by topology
	builds   int
	tally    Tally
	unpaced  map[string]error // why the pace of a load could not be found
	failures int              // in a row
	failing  map[string]bool  // workloads that those were of
	extra    bool             // blocks beyond the plan's are being measured
	stuck    error            // of the trial's testbed, which is what it is to the trials after it too
}

// Run measures every cell of the plan once a block, but for the blocks that are done. What was measured is recorded whatever
// happens; trials that failed are recorded as invalid and the run goes on, until the lab is gone or nothing works any more.
func (e *Engine) Run(ctx context.Context, plan econbench.Plan) (_ Tally, err error) {
	e.plan, e.beds, e.builds = plan, map[string]*bed{}, e.Done.Builds
	e.tally = Tally{plan.Blocks * len(plan.Cells()), e.Done.Valid, e.Done.Invalid}
	if err := e.probe(ctx); err != nil {
		return e.tally, err
	}
	defer func() { err = errors.Join(err, e.tearDown(context.WithoutCancel(ctx))) }()
	if err := e.pace(ctx); err != nil {
		return e.tally, err
	}
	for block := range plan.Blocks {
		if block > 0 && block%plan.RebuildEvery == 0 { // those that paces were found on are as good as new ones
			if err := e.tearDown(ctx); err != nil {
				return e.tally, err
			}
		}
		if e.Done.Blocks[block] {
			continue
		}
		for position, cell := range Order(plan, block) {
			if err := e.measure(ctx, block, position, cell); err != nil {
				return e.tally, err
			}
		}
	}
	return e.tally, nil
}

// probeTimeout bounds what a host takes to find out whether it can read what the plan asks for.
const probeTimeout = 20 * time.Second

// probe asks the hosts whether they can read what the plan asks for beyond what every run reads, before anything is built.
func (e *Engine) probe(ctx context.Context) error {
	var asked []econbench.Collector
	for _, c := range e.collectors() {
		if _, costly := c.(econbench.Costly); costly {
			asked = append(asked, c)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, fmt.Errorf("no answer in %v", probeTimeout))
	defer cancel()
	for _, host := range []econbench.Host{e.Lab.Client(), e.Lab.Server()} {
		args := agentproto.ProbeArgs{Scope: econbench.Scope{Side: host.Name(), CPUs: host.Facts().CPUs}, Readers: namesOf(asked)}
		if err := host.Agent().Call(ctx, agentproto.OpProbe, args, nil); err != nil {
			return fmt.Errorf("%s: %w", host.Name(), err)
		}
	}
	return nil
}

// collectors are those that the plan has: all but the costly ones that it does not want.
func (e *Engine) collectors() []econbench.Collector {
	return slices.DeleteFunc(slices.Clone(e.Parts.Collectors), func(c econbench.Collector) bool {
		costly, ok := c.(econbench.Costly)
		return ok && !costly.Wanted(e.plan)
	})
}

// measure does one trial and records it.
func (e *Engine) measure(ctx context.Context, block, position int, cell econbench.Cell) error {
	if err := e.build(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx) // whatever it was that could not be built any more
		}
		return err
	}
	start := time.Now()
	t := econbench.Trial{
		Schema: econbench.Schema, Run: e.RunID, Block: block, Position: position, Build: e.builds - 1, Extra: e.extra, Cell: cell, Start: start.UTC(),
		Warnings: slices.Clone(e.Lab.Doubts()),
	}
	log, failed := e.try(ctx, &t)
	if ctx.Err() != nil {
		return context.Cause(ctx) // the user's wish to stop is no failure of the trial
	}
	if failed != nil {
		t.Invalid = append(t.Invalid, failed.Error())
		var said *econbench.ProgramError
		if errors.As(failed, &said) {
			log = append(log, said.Log...)
		}
	}
	t.Valid = len(t.Invalid) == 0
	t.Elapsed = econbench.SecondsOf(time.Since(start))
	t.Overhead = t.Elapsed - t.Phases.Warmup - t.Phases.Window
	if err := e.record(&t, log); err != nil {
		return err
	}
	if t.Valid {
		e.failures, e.failing = 0, nil
		return nil
	}
	return e.recover(ctx, cell, failed)
}

// record appends the trial and counts it.
func (e *Engine) record(t *econbench.Trial, log []byte) (err error) {
	if len(log) > 0 {
		name := fmt.Sprintf("%03d-%02d-%s-%s.txt", t.Block, t.Position, t.Workload, t.Arm)
		if t.Log, err = e.Recorder.WriteLog(name, log); err != nil {
			return err
		}
	}
	if err := e.Recorder.Append(*t); err != nil {
		return err
	}
	if t.Valid {
		e.tally.Valid++
	} else {
		e.tally.Invalid++
	}
	e.Progress.Trial(e.tally.Valid+e.tally.Invalid, e.tally.Planned, *t)
	return nil
}

// recover decides whether to go on after a trial that does not count. Whatever made a program fail may have broken its
// topology, which is made anew.
func (e *Engine) recover(ctx context.Context, cell econbench.Cell, failed error) error {
	e.failures++
	if e.failing == nil {
		e.failing = map[string]bool{}
	}
	e.failing[cell.Workload] = true
	if e.stuck != nil {
		return fmt.Errorf("%w: the trial's topology could not be undone for those after it: %w", ErrUnhealthy, e.stuck)
	}
	if err := e.Lab.Healthy(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%w: %w", ErrUnhealthy, err)
	}
	if e.failures >= maxFailures && len(e.failing) == len(workloadsOf(e.plan)) {
		return fmt.Errorf("%d trials in a row failed: giving up", e.failures)
	}
	if failed == nil || errors.Is(failed, errNotServed) {
		return nil
	}
	e.Progress.Step("a trial failed: making the topologies anew")
	if err := e.tearDown(ctx); err != nil {
		e.Progress.Step(err.Error()) // what could not be removed is removed when the lab is swept
	}
	return nil
}

// workloadsOf names a plan's workloads, each once.
func workloadsOf(p econbench.Plan) (names []string) {
	for _, w := range p.Workloads {
		if !slices.Contains(names, w.Name) {
			names = append(names, w.Name)
		}
	}
	return names
}
