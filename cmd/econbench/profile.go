// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/profile"
)

// profileFlags are what the user said about profiles.
type profileFlags struct {
	lookFlags
	baseline  string
	workloads []string
	duration  time.Duration
	from      string
}

func profileCommand() *cobra.Command {
	var f profileFlags
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "show which functions take the CPU time of each arm, and what differs from the baseline",
		Long: `profile puts each arm to work in turn, as a trial does, samples the stacks of what both hosts' CPUs do in the middle of it, and
prints for each arm the functions whose own CPU time differs most from the baseline's, in ns per transaction or per kB. The first arm is
the baseline unless --baseline names another. Nothing is measured for a run: to profile the arms of a run behind its blocks, see run --profile.

With --output each arm is also left in a folder, as WORKLOAD-PARAMS-ARM: .folded for flamegraph.pl and its relatives, .svg to look at,
.json with what has to be known of it; and against the baseline .diff.folded, .diff.svg and .diff.txt.
--from makes tables and pictures again of such a folder, on any machine.

The kernel samples by a timer, 999 times a second on each CPU: what runs with interrupts off is seen where they come on again.`,
		Example: `  econbench profile --arm host,overlay,overlay+oncache -o profiles
  econbench profile --arm overlay,overlay+xmasq --workload tcp_stream --wire mtu-frames --duration 10s
  econbench profile --from profiles --baseline overlay`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("from") {
				if err := onlyBeside(cmd, "from", []string{"baseline", "quiet"}, "does not go with --from: nothing is sampled"); err != nil {
					return err
				}
				return remake(cmd.OutOrStdout(), f.from, f.baseline)
			}
			plan, err := f.plan()
			if err == nil {
				err = f.checkHosts()
			}
			if err != nil {
				return err
			}
			return f.profile(cmd, plan)
		},
	}
	f.register(cmd)
	return cmd
}

func (f *profileFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.lookFlags.register(cmd, "profile", "stacks, pictures and tables", "tables")
	fl.StringVar(&f.baseline, "baseline", "", "`arm` that the others are set against (default: the first)")
	fl.StringSliceVar(&f.workloads, "workload", []string{"tcp_rr"}, "`workloads` to put them to")
	fl.DurationVar(&f.duration, "duration", 5*time.Second, "time of sampling, of each arm: 2s or more")
	fl.StringVar(&f.from, "from", "", "sample nothing: make tables and pictures again of what is in `folder`")
}

const (
	// profileFrequency is no divisor of the timer tick's, with which samples would keep step.
	profileFrequency = 999.0 // 1/s on each CPU
	profileWarmup    = 500 * time.Millisecond
	// profileLeast is the shortest window: below it a function that takes a hundredth has fewer than twenty samples on a CPU.
	profileLeast  = 2 * time.Second
	profileAppear = 30 * time.Second // for the flows to carry payload
	// profileSlack is how much longer than its window a profile may take: names are looked up behind it.
	profileSlack = time.Minute
)

// plan checks all that the user said, and starts nothing.
func (f *profileFlags) plan() (p econbench.Plan, err error) {
	if f.duration < profileLeast {
		return p, fmt.Errorf("duration %v: want %v or more", f.duration, profileLeast)
	}
	return f.lookFlags.plan("profile", f.baseline, f.workloads, profileWarmup, f.duration)
}

// profile profiles each cell of the plan.
func (f *profileFlags) profile(cmd *cobra.Command, plan econbench.Plan) error {
	if f.dir != "" {
		if err := makeProfiles(f.dir); err != nil {
			return err
		}
	}
	return f.open(cmd, plan, func(ctx context.Context, s *session, e *engine.Engine) error {
		list, err := profileCells(ctx, s, e, plan)
		return errors.Join(err, tellProfiles(cmd.OutOrStdout(), list, f.dir))
	})
}

// profileCells has each cell of the plan at work once more and samples it. What was sampled before an error is returned with it.
func profileCells(ctx context.Context, s *session, e *engine.Engine, plan econbench.Plan) (list []*profile.Profile, err error) {
	plan.Duration = max(plan.Duration, econbench.SecondsOf(profileLeast))
	long := plan.Warmup.Duration() + plan.Duration.Duration() + profileSlack
	err = e.Watch(ctx, plan, long, func(ctx context.Context, w engine.AtWork) error {
		p, err := profileCell(ctx, s, plan, w)
		if err == nil {
			list = append(list, p)
		}
		return err
	})
	return list, err
}

// profileCell has both agents sample while they count what is done in the same time.
func profileCell(ctx context.Context, s *session, plan econbench.Plan, w engine.AtWork) (*profile.Profile, error) {
	ends := []econbench.Endpoint{w.Testbed.Client(), w.Testbed.Server()}
	var recordings [2]profile.Recording
	var work engine.Work
	limit := plan.Warmup.Duration() + plan.Duration.Duration() + profileSlack
	g, sampling := errgroup.WithContext(ctx)
	sampling, cancel := context.WithTimeoutCause(sampling, limit, fmt.Errorf("not profiled in %v", limit))
	defer cancel()
	g.Go(func() (err error) {
		work, err = w.Work(sampling)
		return err
	})
	for i, end := range ends {
		g.Go(func() error {
			scope := econbench.Scope{PID: end.Container.PID(), Side: end.Host.Name(), Flows: w.Flows, CPUs: end.Host.Facts().CPUs}
			order := profile.Order{Scope: scope, Frequency: profileFrequency, Appear: econbench.SecondsOf(profileAppear), Warmup: plan.Warmup, Duration: plan.Duration}
			return end.Host.Agent().Call(sampling, agentproto.OpProfile, order, &recordings[i])
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() == nil && sampling.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
			return nil, context.Cause(sampling)
		}
		return nil, err
	}
	p := &profile.Profile{
		Schema: profile.Schema, Version: versionString(), Arm: w.Arm, Baseline: plan.Baseline, Workload: w.Workload, Params: w.Params, Lab: s.kind,
		Kernel: ends[0].Host.Facts().Kernel, Placement: plan.Placement, Wire: plan.Wire, Frequency: profileFrequency,
		Window: min(recordings[0].Window, recordings[1].Window), Transactions: work.Transactions, Throughput: work.Throughput, Carried: work.Carried,
	}
	p.Stacks, p.Sampled = profile.Join(recordings[0], recordings[1])
	p.Warnings = p.Doubt()
	if !work.Apart && plan.Placement == econbench.Split {
		p.Warnings = append(p.Warnings, "CPUs did the other host's softirq work too: what stands under a host is what its CPUs did")
	}
	return p, nil
}

// profileAfter profiles the cells of a run's plan, behind its blocks, and leaves them in its directory. What comes of it is the job's:
// the trials are what they are.
func (j *job) profileAfter(ctx context.Context, s *session, e *engine.Engine, p *progress) {
	p.Stepf("profiling each cell once more: nothing of it counts")
	dir := filepath.Join(j.dir.Path(), profilesFolder)
	if j.unprofiled = makeProfiles(dir); j.unprofiled != nil {
		return
	}
	list, err := profileCells(ctx, s, e, j.plan)
	j.profiles, j.unprofiled = list, errors.Join(cause(ctx, err), leaveProfiles(list, dir))
}

// tellProfiles prints the tables of a run's profiles, behind its own.
func (j *job) tellProfiles(stdout, stderr io.Writer) error {
	var err error
	if len(j.profiles) > 0 {
		err = errors.Join(newline(stdout), tellProfiles(stdout, j.profiles, ""))
	}
	if j.unprofiled != nil {
		fmt.Fprintln(stderr, "econbench: warning: not all cells are profiled; the trials are not concerned")
		err = errors.Join(err, fmt.Errorf("profiles: %w", j.unprofiled))
	}
	return err
}
