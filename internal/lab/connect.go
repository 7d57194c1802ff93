// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/docker"
)

// OverlayPool is where the overlay networks of a swarm that econbench makes take their addresses from, /24 each. It is
// the lower half of the upper half of RFC 2544's benchmarking range: no address in use anywhere collides with it.
var OverlayPool = netip.MustParsePrefix("198.19.0.0/17")

// ToolImage is the image that agents and endpoints run.
type ToolImage struct {
	Ref     string
	Digest  string // SHA-256 of the tar; "" when only the engines know
	Open    func() (io.ReadCloser, error)
	Changes []string
}

// ConnectOptions say how to make a lab of two engines.
type ConnectOptions struct {
	Run       string
	Holder    string // shown to those who find the engines leased
	TLSDir    string
	Image     ToolImage
	Binary    string        // this program, as the agents run it
	Generator bool          // endpoints have it too, to put load on a server with
	Underlay  [2]netip.Addr // of client and server; invalid: found out
	Placement econbench.Placement
	SweepOnly bool                             // lease, remove what dead runs left, and stop there: no swarm is made
	Progress  func(format string, args ...any) // nil: silent
	AgentLog  func(host string) io.Writer      // where an agent's standard error goes; nil: dropped
}

// Lab is two leased engines with an agent each, in one swarm. It implements econbench.Lab.
type Lab struct {
	opt    ConnectOptions
	hosts  [2]*Host // client, server
	swarm  *membership
	shared bool // the hosts are one machine
	wire   econbench.Wire

	roundTrip time.Duration
	mu        sync.Mutex // guards doubts while both hosts are prepared
	doubts    []string
	swept     int // things of dead runs that were removed from the engines

	closing sync.Once
	closed  error
}

var _ econbench.Lab = (*Lab)(nil)

// Client is the host whose programs send requests.
func (l *Lab) Client() econbench.Host { return l.hosts[0] }

// Server is the host that answers.
func (l *Lab) Server() econbench.Host { return l.hosts[1] }

// SharedKernel says whether both hosts run on one kernel, as those of an emulated lab do.
func (l *Lab) SharedKernel() bool { return l.shared }

// ImageDigest is the content of the tool image that both engines run.
func (l *Lab) ImageDigest() string { return l.opt.Image.Digest }

// Swept is how many things dead runs had left on the engines and in their hosts.
func (l *Lab) Swept() int {
	n := l.swept
	for _, h := range l.hosts {
		n += len(h.hello.Undone)
	}
	return n
}

// Connect leases two engines, starts their agents, removes what dead runs left and joins them in a swarm. What it took
// is given back by Close, and by Connect itself when it fails.
func Connect(ctx context.Context, engines [2]string, opt ConnectOptions) (*Lab, error) {
	if opt.Progress == nil {
		opt.Progress = func(string, ...any) {}
	}
	l := &Lab{opt: opt}
	steps := []func(context.Context, [2]string) error{l.dial, l.loadImage, l.startAgents, l.sweep, l.place, l.joinSwarm, l.look}
	if opt.SweepOnly {
		steps = steps[:4]
	}
	for _, step := range steps {
		if err := step(ctx, engines); err != nil {
			return nil, errors.Join(err, l.Close(context.WithoutCancel(ctx)))
		}
	}
	return l, nil
}

// both does something for the two hosts at once.
func (l *Lab) both(ctx context.Context, do func(ctx context.Context, h *Host) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range l.hosts {
		g.Go(func() error { return do(ctx, h) })
	}
	return g.Wait()
}

func (l *Lab) dial(ctx context.Context, engines [2]string) error {
	for i, name := range []string{econbench.ClientHost, econbench.ServerHost} {
		e, err := docker.Dial(ctx, engines[i], l.opt.TLSDir)
		if err != nil {
			return err
		}
		l.hosts[i] = &Host{lab: l, name: name, engine: e}
		if e.Architecture() != runtime.GOARCH {
			return fmt.Errorf("engine %s: its machine is %s, this program was built for %s", engines[i], e.Architecture(), runtime.GOARCH)
		}
	}
	if a, b := l.hosts[0].engine, l.hosts[1].engine; a.ID() == b.ID() {
		return fmt.Errorf("hosts %s and %s: both are the engine %q: two different engines are needed", engines[0], engines[1], a.Name())
	}
	return nil
}

// LoadInto brings the image to an engine that lacks it, or has another of that name.
func (t ToolImage) LoadInto(ctx context.Context, e *docker.Engine, progress func(format string, args ...any)) error {
	have, err := e.ImageDigest(ctx, t.Ref)
	if err != nil || have == t.Digest {
		return err
	}
	progress("loading image %s into %s", t.Ref, e.Host())
	tar, err := t.Open()
	if err != nil {
		return fmt.Errorf("image %s: %w", t.Ref, err)
	}
	defer tar.Close() // sending it has closed it already, unless that failed early
	return e.ImportImage(ctx, t.Ref, t.Digest, tar, t.Changes)
}

// loadImage sees to it that both engines have the same tool image.
func (l *Lab) loadImage(ctx context.Context, _ [2]string) error {
	return l.both(ctx, func(ctx context.Context, h *Host) error { return l.opt.Image.LoadInto(ctx, h.engine, l.opt.Progress) })
}

// startAgents leases the engines, one after the other in the order of their ids: two controllers that want the same two
// engines can't each get one.
func (l *Lab) startAgents(ctx context.Context, _ [2]string) error {
	order := slices.Clone(l.hosts[:])
	slices.SortFunc(order, func(a, b *Host) int {
		if a.engine.ID() < b.engine.ID() {
			return -1
		}
		return 1
	})
	for _, h := range order {
		if err := h.lease(ctx); err != nil {
			return err
		}
	}
	return l.both(ctx, func(ctx context.Context, h *Host) error { return h.startAgent(ctx) })
}

// place decides which CPUs belong to whom.
func (l *Lab) place(context.Context, [2]string) error {
	a, b := l.hosts[0], l.hosts[1]
	l.shared = a.hello.Facts.BootID == b.hello.Facts.BootID
	var err error
	a.facts.CPUs, b.facts.CPUs, err = placeCPUs(l.opt.Placement, l.shared, a.hello.Facts.OnlineCPUs, b.hello.Facts.OnlineCPUs)
	return err
}

// placeCPUs splits one machine's CPUs in two halves, or gives both hosts its first; two machines keep all of theirs.
func placeCPUs(p econbench.Placement, oneKernel bool, a, b []int) (forA, forB []int, err error) {
	switch {
	case p == econbench.Shared && !oneKernel:
		return nil, nil, fmt.Errorf("placement %q: the hosts are two machines and cannot share a CPU; allowed is %q", p, econbench.Split)
	case p == econbench.Shared:
		return a[:1], a[:1], nil
	case !oneKernel:
		return a, b, nil
	case len(a) < 2:
		return nil, nil, fmt.Errorf("placement %q: this machine has %d CPU, want 2 or more; allowed is %q", p, len(a), econbench.Shared)
	}
	return a[:len(a)/2], a[len(a)/2:], nil
}

// Close gives everything back, in reverse order: swarm, agents (which put back what they changed), leases.
func (l *Lab) Close(ctx context.Context) error {
	l.closing.Do(func() { l.closed = l.close(ctx) })
	return l.closed
}

func (l *Lab) close(ctx context.Context) error {
	var errs []error
	if l.swarm != nil {
		// What an interrupted step made without hearing of it is known to the engines by this run's label.
		errs = append(errs, l.sweepOwn(ctx), l.swarm.restore(ctx))
	}
	for _, h := range slices.Backward(l.hosts[:]) {
		if h != nil {
			errs = append(errs, h.close(ctx))
		}
	}
	return errors.Join(errs...)
}

// look measures what the lab can't choose, and says what it found to measure on.
func (l *Lab) look(ctx context.Context, _ [2]string) error {
	for range 3 {
		start := time.Now()
		if err := l.Healthy(ctx); err != nil {
			return err
		}
		l.roundTrip = max(l.roundTrip, time.Since(start))
	}
	a, b := l.hosts[0].facts, l.hosts[1].facts
	l.opt.Progress("wire: %s %s, %s %s; %v to the agents and back", a.WireDevice, a.Underlay, b.WireDevice, b.Underlay, l.roundTrip.Round(time.Millisecond))
	return nil
}

// RoundTrip is the longest of a few times to engines and agents and back.
func (l *Lab) RoundTrip() time.Duration { return l.roundTrip }

// Doubts are what every number measured on this lab suffers from.
func (l *Lab) Doubts() []string { return l.doubts }

// Healthy asks both engines and agents whether they still answer.
func (l *Lab) Healthy(ctx context.Context) error {
	limit := agentproto.HeartbeatDeadline
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w in %v", docker.ErrSilent, limit))
	defer cancel()
	return l.both(ctx, func(ctx context.Context, h *Host) error {
		if err := h.engine.Ping(ctx); err != nil {
			return err
		}
		return h.agent.Call(ctx, agentproto.OpPing, nil, nil)
	})
}

// poll calls ready every few milliseconds until it says yes or fails.
func poll(ctx context.Context, what string, deadline time.Duration, ready func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("%s: not in %v", what, deadline))
	defer cancel()
	for {
		ok, err := ready(ctx)
		if ok || (err != nil && ctx.Err() == nil) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(30 * time.Millisecond):
		}
	}
}
