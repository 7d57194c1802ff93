// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
)

// lookFlags are what the user said about arms that are looked at while they work: trace and profile.
type lookFlags struct {
	labFlags
	arms      []string
	params    []string
	placement string
	wire      string
	internal  bool
	attach    econbench.AttachOptions
	dir       string // to leave what was seen in; "": nowhere
	quiet     bool
}

// register takes the words that differ: what is done to the arms, what is left of each, and what is printed beside progress.
func (f *lookFlags) register(cmd *cobra.Command, verb, left, printed string) {
	fl := cmd.Flags()
	f.labFlags.register(cmd)
	fl.StringSliceVar(&f.arms, "arm", []string{"host", "overlay", "overlay+oncache"}, "`arms` to "+verb+": TOPOLOGY or TOPOLOGY+FASTPATH")
	fl.StringArrayVarP(&f.params, "param", "p", nil, "workload parameter, `NAME.KEY=VALUE`, as in tcp_rr.request=128; repeatable")
	fl.StringVar(&f.placement, "placement", string(econbench.Split), "split: each host has CPUs of its own; shared: both on one CPU")
	fl.StringVar(&f.wire, "wire", string(econbench.WireDefault), "default: the underlay's offloads as they are; mtu-frames: no frame larger than the MTU")
	fl.BoolVar(&f.internal, "internal", false, "make the overlay network an --internal one")
	registerAttach(cmd, &f.attach)
	fl.StringVarP(&f.dir, "output", "o", "", "`folder` for each arm's "+left)
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no progress; the "+printed+" alone")
}

// plan checks all that the user said, and starts nothing. The first arm is the baseline unless one is named.
func (f *lookFlags) plan(name, baseline string, workloads []string, warmup, duration time.Duration) (p econbench.Plan, err error) {
	s, err := loadSuite("quick")
	if err != nil {
		return p, err
	}
	p = s.plan
	if p.Arms, err = parseArms(f.arms); err != nil {
		return p, err
	}
	if len(p.Arms) > 0 {
		p.Baseline = p.Arms[0]
	}
	if baseline != "" {
		if p.Baseline, err = econbench.ParseArm(baseline); err != nil {
			return p, err
		}
	}
	p.Suite, p.Blocks, p.RebuildEvery, p.Internal, p.Attach = name, 1, 1, f.internal, f.attach
	p.Warmup, p.Duration = econbench.SecondsOf(warmup), econbench.SecondsOf(duration)
	p.Placement, p.Wire = econbench.Placement(f.placement), econbench.Wire(f.wire)
	p.Workloads = chooseWorkloads(p.Workloads, workloads)
	if err := setParams(&p, f.params); err != nil {
		return p, err
	}
	return resolve(p)
}

// open opens the lab, has it looked at and closes it again.
func (f *lookFlags) open(cmd *cobra.Command, plan econbench.Plan, look func(context.Context, *session, *engine.Engine) error) (err error) {
	var logs func(string) io.Writer
	if f.dir != "" {
		logs = agentLogs(f.dir)
	}
	ctx := cmd.Context()
	p := newProgress(cmd.ErrOrStderr(), f.quiet)
	id := newRunID()
	s, err := openSession(ctx, sessionOptions{
		labFlags: f.labFlags, run: id, placement: plan.Placement, needs: parts().Needs(plan), progress: p.Stepf, agentLog: logs,
	})
	if err != nil {
		return cause(ctx, err)
	}
	defer func() {
		p.Stepf("taking everything down")
		err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	}()
	ctx, stop := s.watch(ctx)
	defer stop()
	if err := s.lab.Prepare(ctx, plan.Wire); err != nil {
		return cause(ctx, err)
	}
	return s.explain(cause(ctx, look(ctx, s, &engine.Engine{Parts: parts(), Lab: s.lab, Progress: p, RunID: id})))
}
