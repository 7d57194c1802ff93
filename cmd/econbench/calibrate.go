// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// plants are the handicaps' nominal sizes, in shares of what the path takes for a frame.
var plants = []float64{0.01, 0.03, 0.10}

const (
	pilotBlocks  = 3
	poolRebuild  = 10 // blocks that a build of the topologies lasts in a pool
	defaultSpend = 10 * time.Minute
)

// calibrateFlags are what the user says to `calibrate`.
type calibrateFlags struct {
	labFlags
	workloads []string
	arm       string
	placement string
	wire      string
	spend     time.Duration
	out       string
	format    string
	runs      int
	quiet     bool
}

func calibrateCommand() *cobra.Command {
	var f calibrateFlags
	cmd := &cobra.Command{
		Use:   "calibrate [POOL …]",
		Short: "measure the ruler: false alarms, planted effects found, the smallest effect that this machine sees",
		Long: `calibrate measures one arm under two names, and the same arm with handicaps of 1, 3 and 10 % of its cost. From this pool of
trials it resamples runs of 1, 5, 10 and 30 minutes: how many tell the arm from itself, how many find the handicaps, and
which effect is the smallest that they find nearly always.

Each workload's pool is a run directory of its own, which report and run --resume take like any other. Given the
directories of pools, calibrate measures nothing and resamples those.`,
		Example: `  econbench calibrate --workload tcp_rr --for 20m
  econbench calibrate --placement shared
  econbench calibrate econbench-runs/calibrate-ID/*-pool -f json`,
		RunE: func(cmd *cobra.Command, pools []string) error {
			if f.format != "text" && f.format != "json" {
				return names.Unknown("calibration format", f.format, []string{"text", "json"})
			}
			if f.runs < 1 || f.runs > 1_000_000 {
				return fmt.Errorf("runs %d: want 1 to 1000000", f.runs)
			}
			if len(pools) == 0 {
				var err error
				if pools, err = f.measure(cmd); err != nil {
					return err
				}
			}
			return f.show(cmd.OutOrStdout(), pools)
		},
	}
	fl := cmd.Flags()
	f.labFlags.register(cmd)
	fl.StringSliceVar(&f.workloads, "workload", []string{"tcp_rr", "udp_rr", "tcp_stream"}, "`workloads` to calibrate")
	fl.StringVar(&f.arm, "arm", "overlay", "topology that is held against itself")
	fl.StringVar(&f.placement, "placement", string(econbench.Split), "split: each host has CPUs of its own; shared: both on one CPU")
	fl.StringVar(&f.wire, "wire", string(econbench.WireDefault), "default, or mtu-frames")
	fl.DurationVar(&f.spend, "for", defaultSpend, "time for each workload's pool")
	fl.StringVarP(&f.out, "out", "o", "", "`directory` for the pools (default: econbench-runs/calibrate-ID)")
	fl.StringVarP(&f.format, "format", "f", "text", "`format`: text, json")
	fl.IntVar(&f.runs, "runs", 1000, "`number` of runs resampled for each rate")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no progress")
	return cmd
}

// measure fills a pool for each workload and returns their directories.
func (f *calibrateFlags) measure(cmd *cobra.Command) (pools []string, err error) {
	if err := f.checkHosts(); err != nil {
		return nil, err
	}
	base, err := econbench.ParseArm(f.arm)
	if err != nil {
		return nil, err
	}
	if base.Fastpath != econbench.NoFastpath || base.Copy != 0 {
		return nil, fmt.Errorf("arm %q: want a topology alone: the handicap takes the fast path's place", base)
	}
	if f.spend > 24*time.Hour {
		return nil, fmt.Errorf("for %v: want 24h at most", f.spend)
	}
	pilots := make([]econbench.Plan, len(f.workloads))
	for i, w := range f.workloads { // all are sound before anything starts
		if pilots[i], err = f.plan(w, base, 0); err != nil {
			return nil, err
		}
		if _, err := f.plan(w, base, time.Microsecond); err != nil { // what a frame takes changes no plan's length
			return nil, err
		}
	}
	if f.out == "" {
		f.out = filepath.Join("econbench-runs", "calibrate-"+newRunID())
	}
	for i, w := range f.workloads {
		pilot := filepath.Join(f.out, w+"-pilot")
		if err := f.fill(cmd, pilot, pilots[i]); err != nil {
			return pools, err
		}
		frame, err := frameTime(pilot)
		if err != nil {
			return pools, err
		}
		plan, err := f.plan(w, base, frame)
		if err != nil {
			return pools, err
		}
		pool := filepath.Join(f.out, w+"-pool")
		if err := f.fill(cmd, pool, plan); err != nil {
			return pools, err
		}
		pools = append(pools, pool)
	}
	return pools, nil
}

// plan is a workload's pool, or its pilot when it is not known yet what a frame takes.
func (f *calibrateFlags) plan(workload string, base econbench.Arm, frame time.Duration) (p econbench.Plan, err error) {
	s, err := loadSuite("quick")
	if err != nil {
		return p, err
	}
	p = s.plan
	p.Suite, p.Baseline, p.Seed = "calibrate", base, rand.Uint64()
	p.Workloads = chooseWorkloads(p.Workloads, []string{workload})
	p.Placement, p.Wire = econbench.Placement(f.placement), econbench.Wire(f.wire)
	handicap := func(d time.Duration) econbench.Arm {
		return econbench.Arm{Topology: base.Topology, Fastpath: "handicap", Setting: d.String()}
	}
	if frame == 0 {
		p.Arms, p.Blocks = []econbench.Arm{base, handicap(0)}, pilotBlocks
		return parts().Resolve(p)
	}
	again := base
	again.Copy = 2
	p.Arms, p.RebuildEvery, p.Blocks = []econbench.Arm{base, again}, poolRebuild, 1
	for _, share := range plants {
		p.Arms = append(p.Arms, handicap(max(time.Nanosecond, time.Duration(share*float64(frame)))))
	}
	for p.Blocks = reports.LeastPool; engine.Estimate(p) <= f.spend; p.Blocks++ {
	}
	if p.Blocks > reports.LeastPool {
		p.Blocks--
	} else if least := engine.Estimate(p); least > f.spend {
		return p, fmt.Errorf("for %v: want %v or more, which %d blocks take", f.spend, least.Round(time.Second), p.Blocks)
	}
	return parts().Resolve(p)
}

// fill measures a plan into a directory and prints nothing. Trials that are not valid count nowhere in a pool either.
func (f *calibrateFlags) fill(cmd *cobra.Command, dir string, plan econbench.Plan) error {
	run := runFlags{labFlags: f.labFlags, out: dir, quiet: f.quiet, silent: true}
	err := run.run(cmd, plan)
	if errors.Is(err, errInvalid) && !errors.Is(err, errInterrupted) {
		fmt.Fprintln(cmd.ErrOrStderr(), "econbench:", err)
		return nil
	}
	return err
}

// frameTime is how much time passes between two frames of a pilot, both hosts' together: in a closed loop, and on a CPU that
// is never idle, what is added to each frame adds as much to it.
func frameTime(dir string) (time.Duration, error) {
	run, err := rundir.Load(dir)
	if err != nil {
		return 0, err
	}
	var frames, seconds float64
	for _, t := range run.Trials {
		if t.Arm.Fastpath != "handicap" || !t.Valid {
			continue
		}
		for _, h := range t.Hosts {
			frames += h.Counters["fastpath"]["frames"]
			seconds += float64(h.Seconds) / float64(len(t.Hosts))
		}
	}
	if frames == 0 {
		return 0, fmt.Errorf("pilot %s: no valid trial counted frames", dir)
	}
	return time.Duration(seconds / frames * float64(time.Second)), nil
}

// show resamples pools and prints what comes of it.
func (f *calibrateFlags) show(w io.Writer, pools []string) (err error) {
	for i, dir := range pools {
		run, e := rundir.Load(dir)
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		c, e := reports.Calibrate(run, reports.CalibrationOptions{Runs: f.runs})
		if e != nil {
			err = errors.Join(err, e)
			continue
		}
		if f.format == "json" {
			err = errors.Join(err, c.RenderJSON(w))
			continue
		}
		if i > 0 {
			fmt.Fprintln(w)
		}
		err = errors.Join(err, c.RenderText(w))
	}
	if !f.quiet && len(pools) > 0 && f.out != "" {
		fmt.Fprintf(os.Stderr, "\npools: %s\n", f.out)
	}
	return err
}
