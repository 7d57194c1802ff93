// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench"
)

// runFlags are what the user said about a run.
type runFlags struct {
	labFlags
	suite        string
	arms         []string
	baseline     string
	workloads    []string
	params       []string
	blocks       int
	duration     time.Duration
	warmup       time.Duration
	rebuildEvery int
	seed         uint64
	placement    string
	wire         string
	congestion   string
	cpu          string
	histograms   bool
	internal     bool
	attach       econbench.AttachOptions
	out          string
	resume       string
	profile      bool
	against      againstFlags
	dryRun       bool
	quiet        bool
	silent       bool // the table is somebody else's business
}

func (f *runFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.labFlags.register(cmd)
	fl.StringVar(&f.suite, "suite", "quick", "embedded suite or YAML `file` that the other flags change")
	fl.StringSliceVar(&f.arms, "arm", nil, "`arms` to compare: TOPOLOGY or TOPOLOGY+FASTPATH, as in host,overlay; with --baseline-run also OLDARM=NEWARM")
	fl.StringVar(&f.baseline, "baseline", "", "`arm` that ratios are taken to (default: the suite's, else the first)")
	fl.StringSliceVar(&f.workloads, "workload", nil, "`workloads` to run, with the suite's parameters where it has them")
	fl.StringArrayVarP(&f.params, "param", "p", nil, "workload parameter, `NAME.KEY=VALUE`, as in tcp_rr.request=128; repeatable")
	fl.IntVar(&f.blocks, "blocks", 0, "`number` of blocks; each measures every cell once, in shuffled order")
	fl.DurationVar(&f.duration, "duration", 0, "counting window of one trial, as in 1.5s")
	fl.DurationVar(&f.warmup, "warmup", 0, "time between a trial's first payload and its window")
	fl.IntVar(&f.rebuildEvery, "rebuild-every", 0, "`blocks` between two builds of the topologies")
	fl.Uint64Var(&f.seed, "seed", 0, "seed of the order (default: random, recorded)")
	fl.StringVar(&f.placement, "placement", "", "split: each host has CPUs of its own; shared: both on one CPU")
	fl.StringVar(&f.wire, "wire", "", "default: the underlay's offloads as they are; mtu-frames: no frame larger than the MTU")
	fl.StringVar(&f.congestion, "congestion-control", "", "TCP `algorithm` in all arms")
	fl.StringVar(&f.cpu, "cpu", "", "stat: CPU time as the kernel counts it; exact: beside it every change of context timed, at some cost to the rate")
	fl.BoolVar(&f.histograms, "histograms", false, "count in the kernel how long softirqs and received packets wait, at some cost to the rate")
	fl.BoolVar(&f.internal, "internal", false, "make the overlay network an --internal one")
	registerAttach(cmd, &f.attach)
	fl.StringVar(&f.attach.Without, "without", "", "attach fast paths without a `part`, to see the path proof fail: egress, ingress, learning")
	fl.StringVarP(&f.out, "out", "o", "", "run `directory` (default: econbench-runs/ID)")
	fl.StringVar(&f.resume, "resume", "", "go on with the run in `directory`, which has its plan; with it go only flags of hosts and output")
	fl.BoolVar(&f.profile, "profile", false, "behind the blocks, put each cell to work once more and sample CPU stacks: profiles/ in the run directory")
	f.against.register(cmd)
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the plan and about how long it takes; start nothing")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "no progress; the table alone")
}

// plan is the suite with the flags that were given on top.
func (f *runFlags) plan(cmd *cobra.Command) (p econbench.Plan, err error) {
	s, err := loadSuite(f.suite)
	if err != nil {
		return p, err
	}
	if s.gaps {
		return p, s.errors()[0]
	}
	p = s.plan
	given := cmd.Flags().Changed
	if given("arm") {
		arms, err := f.against.pairArms(f.arms)
		if err == nil {
			p.Arms, err = parseArms(arms)
		}
		if err != nil {
			return p, err
		}
	}
	if err := f.setBaseline(&p, given("arm")); err != nil {
		return p, err
	}
	if given("workload") {
		p.Workloads = chooseWorkloads(p.Workloads, f.workloads)
	}
	if err := setParams(&p, f.params); err != nil {
		return p, err
	}
	set(given("blocks"), &p.Blocks, f.blocks)
	set(given("duration"), &p.Duration, econbench.SecondsOf(f.duration))
	set(given("warmup"), &p.Warmup, econbench.SecondsOf(f.warmup))
	set(given("rebuild-every"), &p.RebuildEvery, f.rebuildEvery)
	set(given("placement"), &p.Placement, econbench.Placement(f.placement))
	set(given("wire"), &p.Wire, econbench.Wire(f.wire))
	set(given("congestion-control"), &p.CongestionControl, f.congestion)
	set(given("cpu"), &p.CPU, econbench.CPUMethod(f.cpu))
	set(given("histograms"), &p.Histograms, f.histograms)
	set(given("internal"), &p.Internal, f.internal)
	p.Attach = f.attach
	p.Seed = rand.Uint64()
	set(given("seed"), &p.Seed, f.seed)
	resolved, err := resolve(p)
	if err != nil {
		return p, s.blame(err)
	}
	return resolved, nil
}

// set overrides a suite's value by a flag that was given.
func set[T any](given bool, to *T, value T) {
	if given {
		*to = value
	}
}

// setBaseline takes the flag's arm, else the suite's. Arms that the user chose may lack that one: then the first is it.
func (f *runFlags) setBaseline(p *econbench.Plan, chosen bool) (err error) {
	switch {
	case f.baseline != "":
		p.Baseline, err = econbench.ParseArm(f.baseline)
	case chosen && len(p.Arms) > 0 && !slices.Contains(p.Arms, p.Baseline):
		p.Baseline = p.Arms[0]
	}
	return err
}

// chooseWorkloads keeps the suite's entries of those names, with their parameters; a workload that the suite lacks gets its
// defaults.
func chooseWorkloads(suite []econbench.PlannedWorkload, names []string) (chosen []econbench.PlannedWorkload) {
	for _, name := range names {
		before := len(chosen)
		for _, w := range suite {
			if w.Name == name {
				chosen = append(chosen, econbench.PlannedWorkload{Name: name, Params: maps.Clone(w.Params)})
			}
		}
		if len(chosen) == before {
			chosen = append(chosen, econbench.PlannedWorkload{Name: name, Params: econbench.Params{}})
		}
	}
	return chosen
}

// setParams applies NAME.KEY=VALUE to all workloads of that name.
func setParams(p *econbench.Plan, list []string) error {
	for _, s := range list {
		at, value, ok := strings.Cut(s, "=")
		name, key, dot := strings.Cut(at, ".")
		if !ok || !dot || name == "" || key == "" {
			return fmt.Errorf("param %q: want NAME.KEY=VALUE, as in tcp_rr.request=128", s)
		}
		found := false
		for i, w := range p.Workloads {
			if w.Name == name {
				p.Workloads[i].Params[key], found = value, true
			}
		}
		if !found {
			return fmt.Errorf("param %q: the plan has no workload %q", s, name)
		}
	}
	return nil
}

// labFlags say which hosts to use.
type labFlags struct {
	hosts    []string
	underlay []string
	tlsDir   string
	cacheDir string
}

func (f *labFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringSliceVar(&f.hosts, "hosts", nil, "two engines, client's and server's: `A,B`, each unix:///path, tcp://name:port or ssh://[user@]name (default: two started on this machine)")
	fl.StringSliceVar(&f.underlay, "underlay", nil, "`addresses` of the two hosts on the network between them (default: found out)")
	fl.StringVar(&f.tlsDir, "tls-dir", "", "`folder` with ca.pem, cert.pem and key.pem for tcp:// (default: $DOCKER_CERT_PATH, ~/.docker)")
	fl.StringVar(&f.cacheDir, "cache-dir", "", "`folder` for packages and images (default: $ECONBENCH_CACHE, /var/cache/econbench, ~/.cache/econbench)")
}

// addresses parses --underlay.
func (f *labFlags) addresses() (pair [2]netip.Addr, err error) {
	if len(f.underlay) == 0 {
		return pair, nil
	}
	if len(f.underlay) != 2 {
		return pair, fmt.Errorf("underlay %q: want two addresses, got %d", strings.Join(f.underlay, ","), len(f.underlay))
	}
	for i, s := range f.underlay {
		if pair[i], err = netip.ParseAddr(s); err != nil || !pair[i].Is4() {
			return pair, fmt.Errorf("underlay address %q: want an IPv4 address", s)
		}
	}
	if pair[0] == pair[1] {
		return pair, fmt.Errorf("underlay %q: both are %s: want the addresses of two hosts", strings.Join(f.underlay, ","), pair[0])
	}
	return pair, nil
}
