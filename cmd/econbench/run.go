// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/profile"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "measure arms under workloads in interleaved blocks, and print the table",
		Long: `run measures every arm under every workload once per block, in shuffled order, and prints a table with each arm's
ratio to the baseline. Without --hosts it starts two Docker engines on this machine, each in namespaces of its own, and
takes them down again; it uses the lab of ` + "`econbench lab up`" + ` if that is up.

Each trial is recorded the moment it ends. Ctrl-C ends the run, takes everything down and reports what was measured. At the
end the run directory also has report.html, one page with all that there is to know, and its plots in plots/.
Exit code: 0 all trials are valid; 1 something could not be measured; 2 the gate found a regression; 3 --resume is refused for good.

--resume DIR goes on with a run that was interrupted, failed or was killed: with its plan and its seed, on hosts that are
what they were, by the same econbench. A block that was broken off is measured anew, since its trials are compared with
each other; those of the first attempt stay recorded and count nowhere. Trials that are not valid were attempted and are
not measured again.

--baseline-run DIR holds the run against an older one when it is over, as compare does. With --gate 5% it fails if a workload's primary
metric has lost 5% or more of its ratio to the baseline arm: the planned blocks have to show it significantly, and then --confirm-blocks
extra blocks of what is suspect and its baseline have to show it once more, by themselves. What was not measured well enough to tell is
1, a regression 2, whatever else happened. Improvements pass. On other hosts than the older run's nothing is a regression: the run is
measured, and can't be judged (1). The verdict is in gate.json of the run directory: see econbench gate. --resume keeps the gate; a
--baseline-run beside it says where the same older run is now.

What the newest calibration of this machine says (see calibrate) is recorded with the run, for its reports to quote.`,
		Example: `  econbench run
  econbench run --dry-run --suite quick --blocks 20
  econbench run --arm host,overlay --workload tcp_rr,tcp_stream -p tcp_rr.request=128 -p tcp_stream.streams=8
  econbench run --hosts ssh://root@a,ssh://root@b --wire mtu-frames -o night-1
  econbench run --suite nightly --baseline-run reference --gate 5% -o night-2
  econbench run --resume night-1 --hosts ssh://root@a,ssh://root@b`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("resume") {
				return f.goOn(cmd)
			}
			plan, err := f.plan(cmd)
			if err == nil {
				err = f.checkHosts()
			}
			if err != nil {
				return err
			}
			ref, plan, err := f.against.reference(cmd, plan)
			if err != nil {
				return err
			}
			if f.dryRun {
				ref.print(cmd.OutOrStdout(), plan)
				return printPlan(cmd.OutOrStdout(), plan, engine.Done{})
			}
			return f.run(cmd, plan, ref)
		},
	}
	f.register(cmd)
	return cmd
}

// printPlan shows what a run would do, or the rest of one.
func printPlan(w io.Writer, p econbench.Plan, done engine.Done) error {
	fmt.Fprintf(w, "suite %s: %s\n", p.Suite, extent(p))
	fmt.Fprintf(w, "window %gs after %gs of warm-up, topologies made anew every %d blocks\n", p.Duration, p.Warmup, p.RebuildEvery)
	fmt.Fprintf(w, "placement %s, wire %s, congestion control %s, baseline %s, seed %d\n", p.Placement, p.Wire, p.CongestionControl, p.Baseline, p.Seed)
	if p.CPU != "" && p.CPU != econbench.CPUStat {
		fmt.Fprintf(w, "cpu %s beside stat\n", p.CPU)
	}
	if p.Histograms {
		fmt.Fprintln(w, "histograms of delays, by programs in the kernel")
	}
	fmt.Fprintln(w)
	for block := range p.Blocks {
		if done.Blocks[block] {
			continue
		}
		for position, c := range engine.Order(p, block) {
			if _, err := fmt.Fprintf(w, "block %d.%d  %s\n", block, position, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// newRunID is sortable by time and free of characters that names on engines may not have.
func newRunID() string {
	b := make([]byte, 2)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return time.Now().UTC().Format("20060102-150405-") + hex.EncodeToString(b)
}

// run measures the plan as a new run.
func (f *runFlags) run(cmd *cobra.Command, plan econbench.Plan, ref *reference) error {
	id := newRunID()
	if f.out == "" {
		f.out = filepath.Join("econbench-runs", id)
	}
	r := econbench.Run{
		Schema: econbench.Schema, ID: id, Version: versionString(), Command: os.Args, Started: time.Now().UTC(),
		Status: econbench.StatusRunning, Plan: plan,
	}
	if ref != nil {
		r.Against = &ref.Against
	}
	dir, err := rundir.Create(f.out, &r)
	if err != nil {
		return err
	}
	return f.carryOut(cmd, &job{dir: dir, plan: plan, ref: ref, label: id, begun: true})
}

// job is what is to be measured, and where it is recorded.
type job struct {
	dir   *rundir.Dir
	plan  econbench.Plan
	label string // on engines
	done  engine.Done
	ref   *reference     // what it is held against when it is over; nil: nothing
	extra engine.Tally   // of blocks beyond the plan's
	was   *econbench.Run // a run to go on with; nil: a new one
	begun bool           // recorded as going on

	profiles   []*profile.Profile // with --profile
	unprofiled error              // why there are not as many as there should be
}

// carryOut measures a job and prints the table of whatever was measured.
func (f *runFlags) carryOut(cmd *cobra.Command, j *job) error {
	p := newProgress(cmd.ErrOrStderr(), f.quiet)
	p.before = j.done.Valid + j.done.Invalid
	tally, err := f.measure(cmd.Context(), j, p)
	p.close()
	if !j.begun { // a run that could not be taken up again stays as it was
		return errors.Join(err, j.dir.Close())
	}
	status := econbench.StatusComplete
	switch {
	case errors.Is(err, errInterrupted):
		status = econbench.StatusInterrupted
	case err != nil:
		status = econbench.StatusFailed
	}
	measured := tally.Valid + tally.Invalid
	held, heldErr := j.hold(measured) // before the run is finished: one that is killed here can be taken up again, and is judged then
	if heldErr != nil && status == econbench.StatusComplete {
		status = econbench.StatusFailed // for the same reason: what is complete can't be
	}
	err = errors.Join(err, heldErr)
	err = errors.Join(err, j.dir.Finish(status, err))
	if measured > 0 && !f.silent {
		err = errors.Join(err, printReport(cmd.OutOrStdout(), j.dir.Path(), "text", func(string) {}), held.print(cmd.OutOrStdout())) // said at the beginning
	}
	err = errors.Join(err, j.tellProfiles(cmd.OutOrStdout(), cmd.ErrOrStderr()))
	paged := measured > 0 && !f.silent
	if paged {
		var failed error
		paged, failed = tellPage(cmd.ErrOrStderr(), j.dir.Path())
		err = errors.Join(err, failed)
	}
	rest := tally.Planned + j.extra.Planned - measured - j.extra.Valid - j.extra.Invalid
	if !f.quiet && measured > 0 && (!f.silent || rest > 0) {
		fmt.Fprintf(cmd.ErrOrStderr(), "\nrun directory: %s\n", j.dir.Path())
		if paged {
			fmt.Fprintf(cmd.ErrOrStderr(), "page: %s\n", filepath.Join(j.dir.Path(), rundir.PageFile))
		}
		if rest > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "to measure the rest: %s\n", f.resumeCommand(j.dir.Path()))
		}
	}
	if invalid := tally.Invalid + j.extra.Invalid; err == nil && invalid > 0 {
		err = fmt.Errorf("%d of %d %w: see the table and %s", invalid, tally.Planned+j.extra.Planned, errInvalid,
			filepath.Join(j.dir.Path(), rundir.TrialsFile))
	}
	return held.err(err)
}

// errInvalid says that a run went on to its end, with trials that do not count.
var errInvalid = errors.New("trials are not valid")

// measure opens the lab, carries the job out on it and closes it again.
func (f *runFlags) measure(ctx context.Context, j *job, p *progress) (tally engine.Tally, err error) {
	tally = j.tally()
	if left, err := j.left(); err != nil || !left {
		if f.profile {
			j.unprofiled = errors.New("no trial is left to measure: econbench profile samples without any")
		}
		return tally, errors.Join(err, j.begin(nil, p)) // it was stopped behind its last trial
	}
	s, err := openSession(ctx, sessionOptions{
		labFlags: f.labFlags, run: j.label, placement: j.plan.Placement, needs: partsOf(j.plan).Needs(j.plan), progress: p.Stepf, agentLog: agentLogs(j.dir.Path()),
	})
	if err != nil {
		return tally, cause(ctx, err)
	}
	defer func() {
		p.Stepf("taking everything down")
		err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	}()
	ctx, stop := s.watch(ctx)
	defer stop()
	if err := s.lab.Prepare(ctx, j.plan.Wire); err != nil {
		return tally, cause(ctx, err)
	}
	if err := j.begin(s, p); err != nil {
		return tally, err
	}
	e := engine.Engine{Parts: partsOf(j.plan), Lab: s.lab, Recorder: j.dir, Progress: p, RunID: j.label, Done: j.done}
	j.ref.warnOfHosts(&econbench.Run{Lab: s.kind, Image: s.lab.ImageDigest(), Hosts: s.facts(), Plan: j.plan}, p)
	if tally, err = e.Run(ctx, j.plan); err == nil {
		err = j.confirm(ctx, &e, p)
	}
	if f.profile && err == nil {
		j.profileAfter(ctx, s, &e, p)
	}
	err = s.explain(cause(ctx, err))
	return tally, errors.Join(err, j.noteHosts(s.facts())) // trials tune hosts as well
}

// tally is what was measured before the job.
func (j *job) tally() engine.Tally {
	return engine.Tally{Planned: j.plan.Blocks * len(j.plan.Cells()), Valid: j.done.Valid, Invalid: j.done.Invalid}
}

// begin records what is measured on and what is known of its noise, and that a run is taken up again: only on what it began on.
// s is nil when nothing is left to measure.
func (j *job) begin(s *session, p *progress) error {
	if j.was != nil && s != nil {
		if err := sameLab(j.was, s); err != nil {
			return err
		}
	}
	err := j.dir.Update(func(r *econbench.Run) {
		if j.was != nil {
			takeUp(r, time.Now().UTC())
		}
		if j.ref != nil {
			r.Against = &j.ref.Against // which may lie elsewhere by now
		}
		if s != nil {
			noteLab(r, s.kind, s.lab.ImageDigest(), s.facts(), p.Step)
		}
	})
	if err != nil {
		return err
	}
	j.begun = true
	if s == nil {
		return nil
	}
	return j.noteHosts(s.facts())
}

// noteLab records what a run measures on, once, and what is known of its noise at that moment: with later knowledge the same run
// would be quoted another ruler.
func noteLab(r *econbench.Run, kind, image string, facts map[string]econbench.HostFacts, warn func(string)) {
	if r.Hosts != nil {
		return
	}
	r.Lab, r.Image, r.Hosts = kind, image, facts
	addRulers(r, warn)
}

// noteHosts records what is known of the hosts of the part that goes on.
func (j *job) noteHosts(facts map[string]econbench.HostFacts) error {
	return j.dir.Update(func(r *econbench.Run) {
		if n := len(r.Resumed); n > 0 {
			r.Resumed[n-1].Hosts = facts
		} else {
			r.Hosts = facts
		}
	})
}

// cause puts the reason why a context ended in front of what came of it.
func cause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// agentLogs gives each agent a file for its standard error, made when there is something to write.
func agentLogs(dir string) func(host string) io.Writer {
	return func(host string) io.Writer { return &lateFile{path: filepath.Join(dir, "logs", "agent-"+host+".txt")} }
}

// lateFile is a file that comes into being with its first write.
type lateFile struct {
	path string
	file *os.File
}

func (l *lateFile) Write(p []byte) (int, error) {
	if l.file == nil {
		if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
			return 0, err
		}
		f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return 0, err
		}
		l.file = f
	}
	return l.file.Write(p)
}

// printReport renders a run directory. A workload that the run has no ruler of is quoted what is known by now.
func printReport(w io.Writer, dir, format string, warn func(string)) error {
	report, err := reports.Named(strings.TrimSpace(format))
	if err != nil {
		return err
	}
	r, err := rundir.Load(dir)
	if err != nil {
		return err
	}
	addRulers(r, warn)
	return renderRun(w, report, r, dir)
}
