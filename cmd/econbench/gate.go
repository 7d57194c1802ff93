// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// exitGate is the exit code of a gate that failed.
const exitGate = 2

// againstFlags are what the user said about the run to hold a new one against.
type againstFlags struct {
	dir           string
	gate          share
	confirmBlocks int
	pairs         []econbench.ArmPair // of --arm OLD=NEW
}

func (f *againstFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "baseline-run", "", "compare with the run in `directory` when it is over; rates that are shares are that run's")
	fl.Var(&f.gate, "gate", "fail with exit code 2 if a primary metric loses this `share` against --baseline-run, confirmed by extra blocks")
	fl.IntVar(&f.confirmBlocks, "confirm-blocks", 0, "`number` of extra blocks for what the gate suspects (default: as many as --blocks)")
}

// pairArms takes OLD=NEW apart: the plan has NEW.
func (f *againstFlags) pairArms(list []string) (arms []string, err error) {
	for _, s := range list {
		old, new, two := strings.Cut(s, "=")
		if !two {
			arms = append(arms, s)
			continue
		}
		if f.dir == "" {
			return nil, fmt.Errorf("arm %q: OLDARM=NEWARM goes with --baseline-run DIR, which has OLDARM", s)
		}
		pair, err := parsePair(old, new)
		if err != nil {
			return nil, fmt.Errorf("arm %q: %w", s, err)
		}
		f.pairs = append(f.pairs, pair)
		arms = append(arms, new)
	}
	return arms, nil
}

func parsePair(old, new string) (p econbench.ArmPair, err error) {
	if p.Old, err = econbench.ParseArm(old); err == nil {
		p.New, err = econbench.ParseArm(new)
	}
	return p, err
}

// reference is the run that a new one is held against.
type reference struct {
	econbench.Against
	old *econbench.Run
}

// reference reads the run to hold the plan against, and checks it before anything is started; nil: none was asked for. The plan
// that it returns has the rates of that run: at another load than then, a latency says nothing.
func (f *againstFlags) reference(cmd *cobra.Command, plan econbench.Plan) (*reference, econbench.Plan, error) {
	given := cmd.Flags().Changed
	gated := given("gate")
	switch {
	case f.dir == "" && given("baseline-run"):
		return nil, plan, fmt.Errorf("flag --baseline-run: want the directory of a run, got none")
	case f.dir == "" && (gated || given("confirm-blocks")):
		name := map[bool]string{true: "gate", false: "confirm-blocks"}[gated]
		return nil, plan, fmt.Errorf("flag --%s: wants --baseline-run DIR beside it, the run to compare with", name)
	case f.dir == "":
		return nil, plan, nil
	case gated && f.gate <= 0:
		return nil, plan, fmt.Errorf("flag --gate: %q: want more than 0", f.gate.String())
	case given("confirm-blocks") && !gated:
		return nil, plan, fmt.Errorf("flag --confirm-blocks: wants --gate beside it")
	case given("confirm-blocks") && (f.confirmBlocks < 1 || f.confirmBlocks > 100_000):
		return nil, plan, fmt.Errorf("confirm-blocks %d: want 1 to 100000", f.confirmBlocks)
	}
	a := econbench.Against{Dir: f.dir, Arms: f.pairs}
	if gated {
		a.Gate, a.ConfirmBlocks = float64(f.gate), plan.Blocks
		set(given("confirm-blocks"), &a.ConfirmBlocks, f.confirmBlocks)
	}
	ref, err := loadReference(a, plan)
	if err != nil {
		return nil, plan, err
	}
	ref.Run = ref.old.ID
	if ref.Dir, err = f.absolute(); err != nil {
		return nil, plan, err
	}
	plan.Workloads = ratesOf(ref.old.Plan, plan)
	return ref, plan, nil
}

// absolute is the directory's path: the run may be taken up again from elsewhere.
func (f *againstFlags) absolute() (string, error) {
	dir, err := filepath.Abs(f.dir)
	if err != nil {
		return "", fmt.Errorf("baseline run %s: %w", f.dir, err)
	}
	return dir, nil
}

// again is the reference of a run that is taken up again; nil: it has none. It may lie elsewhere by now, and has to be the same run.
func (f *againstFlags) again(cmd *cobra.Command, was *econbench.Run) (*reference, error) {
	moved := cmd.Flags().Changed("baseline-run")
	switch {
	case moved && was.Against == nil:
		return nil, fmt.Errorf("flag --baseline-run: run %s began without one", was.ID)
	case was.Against == nil:
		return nil, nil
	case moved && f.dir == "":
		return nil, fmt.Errorf("flag --baseline-run: want the directory of run %s, got none", was.Against.Run)
	}
	a := *was.Against
	if !moved {
		ref, err := loadReference(a, was.Plan)
		if err != nil {
			return nil, refusal{fmt.Errorf("%w; --baseline-run says where run %s is now", err, a.Run)}
		}
		return ref, nil
	}
	var err error
	if a.Dir, err = f.absolute(); err != nil {
		return nil, err
	}
	return loadReference(a, was.Plan)
}

// loadReference reads the run that is to be held against, and checks whether it can be.
func loadReference(a econbench.Against, plan econbench.Plan) (*reference, error) {
	old, err := rundir.Load(a.Dir)
	if err != nil {
		return nil, fmt.Errorf("baseline run: %w", err)
	}
	if a.Run != "" && old.ID != a.Run {
		return nil, fmt.Errorf("baseline run %s: it is run %s, and was %s when this run began", a.Dir, old.ID, a.Run)
	}
	if err := reports.CheckReference(old, plan, a); err != nil {
		return nil, fmt.Errorf("baseline run %s: %w", a.Dir, err)
	}
	return &reference{a, old}, nil
}

// ratesOf are the plan's workloads with the rates that shares came to in the old run.
func ratesOf(old, plan econbench.Plan) []econbench.PlannedWorkload {
	list := append([]econbench.PlannedWorkload(nil), plan.Workloads...)
	for i, w := range list {
		for _, was := range old.Workloads {
			if was.Name == w.Name && was.Params.String() == w.Params.String() {
				list[i].Rate = was.Rate
			}
		}
	}
	return list
}

// print says what a run would be held against, and what that may cost at most.
func (r *reference) print(w io.Writer, plan econbench.Plan) {
	if r == nil {
		return
	}
	fmt.Fprintf(w, "baseline run %s: %s, %s, %d blocks, econbench %s\n", r.Dir, r.old.ID, r.old.Status, r.old.Plan.Blocks, r.old.Version)
	for _, p := range r.Arms {
		fmt.Fprintf(w, "arm %s is compared with its %s\n", p.New, p.Old)
	}
	if r.Gate > 0 {
		judged := (len(plan.Arms) - 1) * len(plan.Workloads)
		fmt.Fprintf(w, "gate %.4g%%: of %d cells; suspects are measured in %d extra blocks, which takes about %v more at most, if all are suspect\n",
			100*r.Gate, judged, r.ConfirmBlocks, r.worst(plan).Round(time.Second))
	}
}

// worst is about how long the extra blocks take if all cells are suspect.
func (r *reference) worst(plan econbench.Plan) time.Duration {
	plan.Blocks = r.ConfirmBlocks
	plan.Workloads = append([]econbench.PlannedWorkload(nil), plan.Workloads...)
	for i := range plan.Workloads {
		plan.Workloads[i].Rate = 1 // whatever it is, it is known by then
	}
	return partsOf(plan).Estimate(plan)
}

// labelled are both runs.
func (r *reference) labelled(run *econbench.Run) (old, new reports.Labelled) {
	return reports.Labelled{Label: "old", Run: r.old}, reports.Labelled{Label: "new", Run: run}
}

func (r *reference) gate(run *econbench.Run) (*reports.Gate, error) {
	old, new := r.labelled(run)
	pairs, _ := reports.GateArms(r.old.Plan, run.Plan, r.Arms)
	return reports.NewGate(old, new, reports.GateOptions{Share: r.Gate, Arms: pairs})
}

// warnOfHosts tells before the first trial that the hosts are not those of the old run. The run is measured all the same: its figures are
// those of this machine, and the next one may be held against them.
func (r *reference) warnOfHosts(run *econbench.Run, p *progress) {
	if r == nil {
		return
	}
	if d := reports.Decisive(r.old, run); len(d) > 0 {
		p.Stepf("can't be compared with run %s, and is measured all the same: %s", r.old.ID, strings.Join(some(differences(d)), "; "))
	}
}

// left says whether anything is to be measured yet: of the plan's blocks, or of those that confirm what they made suspect.
func (j *job) left() (bool, error) {
	if t := j.tally(); t.Planned > t.Valid+t.Invalid {
		return true, nil
	}
	_, x, err := j.suspects()
	return len(x.Done.Blocks) < x.Blocks, err
}

// suspects are the cells that the planned blocks made suspect, and what is to be measured to confirm them, with what is already; no
// blocks: nothing is.
func (j *job) suspects() (run *econbench.Run, x engine.Extra, err error) {
	if j.ref == nil || j.ref.Gate == 0 {
		return nil, x, nil
	}
	if run, err = rundir.Load(j.dir.Path()); err != nil {
		return nil, x, err
	}
	g, err := j.ref.gate(run)
	if err != nil {
		return nil, x, err
	}
	if _, x.Cells = g.Suspects(run.Plan.Baseline); len(x.Cells) > 0 {
		x.Blocks = j.ref.ConfirmBlocks
		x.Done, err = engine.ExtraDoneBy(run, x.Cells)
	}
	return run, x, err
}

// confirm measures in extra blocks what the planned ones made suspect.
func (j *job) confirm(ctx context.Context, e *engine.Engine, p *progress) error {
	run, x, err := j.suspects()
	if err != nil || x.Blocks == 0 {
		return err
	}
	for _, c := range x.Cells {
		if c.Arm != run.Plan.Baseline {
			p.Stepf("suspect: %s", c)
		}
	}
	p.Stepf("measuring again what is suspect, and its baseline, in %d extra blocks", x.Blocks)
	p.again(x.Done.Valid + x.Done.Invalid)
	j.extra, err = e.Extra(ctx, run.Plan, x)
	return err
}

// outcome is what holding a run against another one came to.
type outcome struct {
	comparison *reports.Comparison // nil: they can't be compared
	gate       *reports.Gate       // nil: there is none
	refused    error               // why there is no comparison, without a gate
	alone      []econbench.Arm     // of the run, which the old one has no partner for
}

// hold compares what was measured with the old run, and records the gate's verdict; nil: there is nothing to compare.
func (j *job) hold(measured int) (*outcome, error) {
	if j.ref == nil || measured == 0 {
		return nil, nil
	}
	run, err := rundir.Load(j.dir.Path())
	if err != nil {
		return nil, err
	}
	if j.ref.Gate == 0 {
		old, new := j.ref.labelled(run)
		pairs, alone := reports.GateArms(j.ref.old.Plan, run.Plan, j.ref.Arms)
		c, err := reports.Compare([]reports.Labelled{old, new}, reports.CompareOptions{Arms: pairs})
		return &outcome{comparison: c, refused: err, alone: alone}, nil
	}
	g, err := j.ref.gate(run)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if err := g.Render(&body, "json"); err != nil {
		return nil, err
	}
	return &outcome{comparison: g.Comparison, gate: g}, j.dir.WriteFile(rundir.GateFile, body.Bytes())
}

// print shows the comparison and the gate behind a run's own table.
func (o *outcome) print(w io.Writer) error {
	if o == nil {
		return nil
	}
	if o.refused != nil {
		_, err := fmt.Fprintf(w, "\nnot compared with the baseline run: %v\n", o.refused)
		return err
	}
	if o.comparison != nil {
		if err := errors.Join(newline(w), o.comparison.Render(w, "text")); err != nil {
			return err
		}
	}
	for _, a := range o.alone {
		if _, err := fmt.Fprintf(w, "not compared: arm %s: the baseline run has not got it\n", a); err != nil {
			return err
		}
	}
	if o.gate == nil {
		return nil
	}
	return errors.Join(newline(w), o.gate.Render(w, "text"))
}

// err is what the exit code has to say: 2 for a regression, whatever else went wrong, else 1 for what could not be judged.
func (o *outcome) err(others error) error {
	if o == nil || o.gate == nil {
		return others
	}
	return gateError(o.gate, others)
}

// gateError puts what a gate came to beside other errors.
func gateError(g *reports.Gate, others error) error {
	switch {
	case g.Failed():
		failed := fmt.Errorf("gate: %s: lost %.4g%% or more against run %s, confirmed by extra blocks", strings.Join(g.Regressions(), "; "), 100*g.Share, g.Old.Run)
		if !g.Measured() {
			failed = errors.Join(failed, unmeasured(g))
		}
		return exitError{exitGate, errors.Join(failed, others)}
	case !g.Measured():
		return errors.Join(others, unmeasured(g))
	}
	return others
}

// unmeasured is what a gate could not judge, on one line.
func unmeasured(g *reports.Gate) error {
	if g.Verdict == reports.GateIncomparable {
		return fmt.Errorf("gate: the run can't be compared with run %s, so nothing is a regression: %s", g.Old.Run, strings.Join(some(differences(g.Differences)), "; "))
	}
	return fmt.Errorf("gate: could not be judged against run %s: %s", g.Old.Run, strings.Join(some(g.Unjudged()), "; "))
}

func differences(list []reports.RunDifference) (lines []string) {
	for _, d := range list {
		lines = append(lines, d.String())
	}
	return lines
}

// some are the first lines of a list; all of it is in the table.
func some(lines []string) []string {
	const most = 3
	if n := len(lines); n > most {
		return append(lines[:most:most], fmt.Sprintf("and %d more", n-most))
	}
	return lines
}
