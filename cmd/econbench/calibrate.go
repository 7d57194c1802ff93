// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// plants are the handicaps' nominal sizes beyond one that burns nothing, in shares of what the path with that takes for a frame.
var plants = []float64{0.01, 0.03, 0.10}

// leastStep is by how much plants differ at the least: a handicap's time is whole turns of some 2 ns, and its proof allows for 5 ns.
const leastStep = 5 * time.Nanosecond

// resampling are the flags that change nothing about what is measured.
var resampling = []string{"format", "runs", "no-store", "quiet"}

const (
	pilotBlocks  = 3
	poolRebuild  = 10               // blocks that a build of the topologies lasts in a pool
	defaultSpend = 12 * time.Minute // some 30 blocks
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
	noStore   bool
	quiet     bool
}

func calibrateCommand() *cobra.Command {
	var f calibrateFlags
	cmd := &cobra.Command{
		Use:   "calibrate [POOL …]",
		Short: "measure the ruler: false alarms, planted effects found, the smallest effect that this machine sees",
		Long: `calibrate measures one arm under two names, and the same arm with handicaps: one that burns nothing, to see what being attached
costs, and three that burn 1, 3 and 10 % of the path's cost more than that one. From this pool of trials it resamples runs
of 1, 2, 5, 10 and 30 minutes: how many tell the arm from itself, how many find the handicaps, and which effect is the smallest
that they find nearly always.

Each workload's pool is a run directory of its own, which report and run --resume take like any other. Given the
directories of pools, calibrate measures nothing and resamples those.

What comes of a pool is stored, in the place of what came of it before: in $ECONBENCH_STATE/calibrations, else in
/var/lib/econbench/calibrations for root, else in econbench/calibrations of $XDG_STATE_HOME or ~/.local/state. Later runs on hosts
of the same fingerprint, with the same window and warm-up, record what the newest one says, and their reports quote it.`,
		Example: `  econbench calibrate --workload tcp_rr --for 20m
  econbench calibrate --placement shared
  econbench calibrate econbench-runs/calibrate-ID/*-pool -f json --no-store`,
		RunE: func(cmd *cobra.Command, pools []string) error {
			if f.format != "text" && f.format != "json" {
				return names.Unknown("calibration format", f.format, []string{"text", "json"})
			}
			if f.runs < 1 || f.runs > 1_000_000 {
				return fmt.Errorf("runs %d: want 1 to 1000000", f.runs)
			}
			if len(pools) > 0 {
				if err := onlyBeside(cmd, "", resampling, "does not go with pools, which are measured already"); err != nil {
					return err
				}
				return f.show(cmd, pools)
			}
			pools, err := f.measure(cmd)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "pools: %s\n\n", f.out)
			return f.show(cmd, pools)
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
	fl.BoolVar(&f.noStore, "no-store", false, "show only: later runs and reports won't quote it")
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
	// All is sound before anything starts. What a frame takes changes no plan's length.
	if _, err := f.pool(f.workloads, base, frameCost{path: time.Microsecond}); err != nil {
		return nil, err
	}
	if f.out == "" {
		f.out = filepath.Join("econbench-runs", "calibrate-"+newRunID())
	}
	for _, w := range f.workloads {
		dir, err := f.calibrate(cmd, w, base)
		if err != nil {
			return pools, err
		}
		pools = append(pools, dir)
	}
	return pools, nil
}

// calibrate fills one workload's pool, having found out by a pilot what a frame takes.
func (f *calibrateFlags) calibrate(cmd *cobra.Command, workload string, base econbench.Arm) (pool string, err error) {
	plan, err := f.pilot([]string{workload}, base)
	if err != nil {
		return "", err
	}
	pilot := filepath.Join(f.out, workload+"-pilot")
	if err := f.fill(cmd, pilot, plan); err != nil {
		return "", err
	}
	frame, err := frameCostOf(pilot)
	if err != nil {
		return "", err
	}
	if plan, err = f.pool([]string{workload}, base, frame); err != nil {
		return "", err
	}
	pool = filepath.Join(f.out, workload+"-pool")
	return pool, f.fill(cmd, pool, plan)
}

// plan is what pilots and pools have in common.
func (f *calibrateFlags) plan(workloads []string, base econbench.Arm) (p econbench.Plan, err error) {
	s, err := loadSuite("quick")
	if err != nil {
		return p, err
	}
	p = s.plan
	p.Suite, p.Baseline, p.Seed = "calibrate", base, rand.Uint64()
	p.Workloads = chooseWorkloads(p.Workloads, workloads)
	p.Placement, p.Wire = econbench.Placement(f.placement), econbench.Wire(f.wire)
	return p, nil
}

func handicapped(base econbench.Arm, burn time.Duration) econbench.Arm {
	return econbench.Arm{Topology: base.Topology, Fastpath: "handicap", Setting: burn.String()}
}

// pilot counts frames by a handicap that burns nothing.
func (f *calibrateFlags) pilot(workloads []string, base econbench.Arm) (econbench.Plan, error) {
	p, err := f.plan(workloads, base)
	if err != nil {
		return p, err
	}
	p.Arms, p.Blocks = []econbench.Arm{base, handicapped(base, 0)}, pilotBlocks
	return resolve(p)
}

// pool holds an arm against itself and against handicaps, for as many blocks as the time for one workload has room for. The
// handicap that burns nothing is what the others are held against: to be attached costs a path 0.6 to 3 % by itself.
func (f *calibrateFlags) pool(workloads []string, base econbench.Arm, frame frameCost) (econbench.Plan, error) {
	p, err := f.plan(workloads, base)
	if err != nil {
		return p, err
	}
	again := base
	again.Copy = 2
	p.Arms, p.RebuildEvery, p.Blocks = []econbench.Arm{base, again, handicapped(base, 0)}, poolRebuild, reports.LeastPool
	for _, burn := range frame.plants() {
		p.Arms = append(p.Arms, handicapped(base, burn))
	}
	if p, err = resolve(p); err != nil {
		return p, err
	}
	one := p
	one.Workloads = p.Workloads[:1]
	if least := parts().Estimate(one); least > f.spend {
		return p, fmt.Errorf("for %v: want %v or more, which %d blocks take", f.spend, least.Round(time.Second), one.Blocks)
	}
	for parts().Estimate(one) <= f.spend {
		one.Blocks++
	}
	p.Blocks = one.Blocks - 1
	return p, nil
}

// fill measures a plan into a directory and prints nothing. Trials that are not valid count nowhere in a pool either.
func (f *calibrateFlags) fill(cmd *cobra.Command, dir string, plan econbench.Plan) error {
	run := runFlags{labFlags: f.labFlags, out: dir, quiet: f.quiet, silent: true}
	err := run.run(cmd, plan, nil)
	if errors.Is(err, errInvalid) && !errors.Is(err, errInterrupted) {
		fmt.Fprintln(cmd.ErrOrStderr(), "econbench:", err)
		return nil
	}
	return err
}

// frameCost is what a frame takes where a handicap is attached that burns nothing.
type frameCost struct {
	path    time.Duration // between two frames, both hosts' together
	program time.Duration // of the handicap's program by itself, which is part of every handicap's time
}

// plants are the times of the handicaps that are planted, no two the same however little a frame takes.
func (c frameCost) plants() (burn []time.Duration) {
	last := c.program
	for _, share := range plants {
		last = max(last+leastStep, c.program+time.Duration(share*float64(c.path)))
		burn = append(burn, last)
	}
	return burn
}

// frameCostOf reads a pilot. What passes between two frames is their cost in a closed loop, and on a CPU that is never idle:
// what is added to each frame adds as much to it.
func frameCostOf(dir string) (c frameCost, err error) {
	run, err := rundir.Load(dir)
	if err != nil {
		return c, err
	}
	var frames, seconds, burnt float64
	for _, t := range run.Trials {
		if t.Arm.Fastpath != "handicap" || !t.Valid {
			continue
		}
		for _, h := range t.Hosts {
			frames += h.Counters["fastpath"]["frames"]
			burnt += h.Counters["fastpath"]["burnt"]
			seconds += float64(h.Seconds) / float64(len(t.Hosts))
		}
	}
	if frames == 0 {
		return c, fmt.Errorf("pilot %s: no valid trial counted frames", dir)
	}
	each := func(s float64) time.Duration { return econbench.Seconds(s / frames).Duration() }
	return frameCost{path: each(seconds), program: each(burnt)}, nil
}

// show resamples pools, prints what comes of each and stores it.
func (f *calibrateFlags) show(cmd *cobra.Command, pools []string) (err error) {
	w := cmd.OutOrStdout()
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
			e = c.RenderJSON(w)
		} else {
			if i > 0 {
				fmt.Fprintln(w)
			}
			e = c.RenderText(w)
		}
		err = errors.Join(err, e)
		if !f.noStore {
			err = errors.Join(err, f.store(cmd.ErrOrStderr(), c))
		}
	}
	return err
}

// store keeps a calibration and says where. Without the machine's key nobody could find it.
func (f *calibrateFlags) store(stderr io.Writer, c *reports.Calibration) error {
	if c.Machine == "" {
		fmt.Fprintf(stderr, "pool %s: its hosts have no fingerprints: not stored\n", c.Run)
		return nil
	}
	path, err := storeCalibration(c)
	if err == nil {
		fmt.Fprintf(stderr, "stored: %s\n", path)
	}
	return err
}
