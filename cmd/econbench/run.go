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

Each trial is recorded the moment it ends. Ctrl-C ends the run, takes everything down and reports what was measured.
Exit code: 0 all trials are valid; 1 something could not be measured.`,
		Example: `  econbench run
  econbench run --dry-run --suite quick --blocks 20
  econbench run --arm host,overlay --workload tcp_rr,tcp_stream -p tcp_rr.request=128 -p tcp_stream.streams=8
  econbench run --hosts ssh://root@a,ssh://root@b --wire mtu-frames -o night-1`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := f.plan(cmd)
			if err == nil {
				err = f.checkHosts()
			}
			if err != nil {
				return err
			}
			if f.dryRun {
				return printPlan(cmd.OutOrStdout(), plan)
			}
			return f.run(cmd, plan)
		},
	}
	f.register(cmd)
	return cmd
}

// printPlan shows what a run would do.
func printPlan(w io.Writer, p econbench.Plan) error {
	fmt.Fprintf(w, "suite %s: %s\n", p.Suite, extent(p))
	fmt.Fprintf(w, "window %gs after %gs of warm-up, topologies made anew every %d blocks\n", p.Duration, p.Warmup, p.RebuildEvery)
	fmt.Fprintf(w, "placement %s, wire %s, congestion control %s, baseline %s, seed %d\n\n", p.Placement, p.Wire, p.CongestionControl, p.Baseline, p.Seed)
	for block := range p.Blocks {
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

// run measures the plan and prints the table of whatever was measured.
func (f *runFlags) run(cmd *cobra.Command, plan econbench.Plan) error {
	id := newRunID()
	if f.out == "" {
		f.out = filepath.Join("econbench-runs", id)
	}
	dir, err := rundir.Create(f.out, &econbench.Run{
		Schema: econbench.Schema, ID: id, Version: versionString(), Command: os.Args, Started: time.Now().UTC(),
		Status: econbench.StatusRunning, Plan: plan,
	})
	if err != nil {
		return err
	}
	p := newProgress(cmd.ErrOrStderr(), f.quiet)
	tally, err := f.measure(cmd.Context(), id, plan, dir, p)
	p.close()
	status := econbench.StatusComplete
	switch {
	case errors.Is(err, errInterrupted):
		status = econbench.StatusInterrupted
	case err != nil:
		status = econbench.StatusFailed
	}
	err = errors.Join(err, dir.Finish(status, err))
	if tally.Valid+tally.Invalid > 0 {
		err = errors.Join(err, printReport(cmd.OutOrStdout(), f.out, "text"))
	}
	if !f.quiet && tally.Valid+tally.Invalid > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "\nrun directory: %s\n", f.out)
	}
	if err == nil && tally.Invalid > 0 {
		err = fmt.Errorf("%d of %d trials are not valid: see the table and %s", tally.Invalid, tally.Planned, filepath.Join(f.out, "trials.jsonl"))
	}
	return err
}

// measure opens the lab, runs the plan on it and closes it again.
func (f *runFlags) measure(ctx context.Context, id string, plan econbench.Plan, dir *rundir.Dir, p *progress) (tally engine.Tally, err error) {
	s, err := openSession(ctx, sessionOptions{
		labFlags: f.labFlags, run: id, placement: plan.Placement, progress: p.Stepf, agentLog: agentLogs(dir.Path()),
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
	if err := s.lab.Prepare(ctx, plan.Wire); err != nil {
		return tally, cause(ctx, err)
	}
	err = dir.Update(func(r *econbench.Run) { r.Lab, r.Image, r.Hosts = s.kind, s.lab.ImageDigest(), s.facts() })
	if err != nil {
		return tally, err
	}
	e := engine.Engine{Parts: parts(), Lab: s.lab, Recorder: dir, Progress: p, RunID: id}
	tally, err = e.Run(ctx, plan)
	err = s.explain(cause(ctx, err))
	return tally, errors.Join(err, dir.Update(func(r *econbench.Run) { r.Hosts = s.facts() })) // trials tune hosts as well
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

// printReport renders a run directory.
func printReport(w io.Writer, dir, format string) error {
	report, err := reports.Named(strings.TrimSpace(format))
	if err != nil {
		return err
	}
	r, err := rundir.Load(dir)
	if err != nil {
		return err
	}
	return report.Render(w, r)
}
