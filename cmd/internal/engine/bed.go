// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/econbench/econbench"
)

// serveTimeout bounds the start of a server program: a database makes its files first.
const serveTimeout = time.Minute

// bed is a topology that stands, with the servers that run in it, by workload. A topology that is based on another one has its.
type bed struct {
	econbench.Testbed
	servers map[string]*serving
}

// serving is a workload's server, or why it is not there.
type serving struct {
	econbench.Process
	failed error
}

// errNotServed says that a workload's server could not be started, which is no fault of the topology's.
var errNotServed = errors.New("server")

// serverEnded says that a server ended which had not been closed.
type serverEnded struct{ error }

func (e *serverEnded) Error() string { return "server ended: " + e.error.Error() }
func (e *serverEnded) Unwrap() error { return e.error }

// build makes the topologies that the plan needs and that do not stand, with every workload's server in them.
func (e *Engine) build(ctx context.Context) error {
	if len(e.beds) > 0 {
		return nil
	}
	e.builds++
	for _, arm := range e.plan.Arms {
		if err := e.buildTopology(ctx, arm.Topology); err != nil {
			return err
		}
	}
	return nil
}

// buildTopology makes one topology, after the one that it is based on, whose servers are its own.
func (e *Engine) buildTopology(ctx context.Context, name string) error {
	if e.beds[name] != nil {
		return nil
	}
	topology := named(e.Parts.Topologies, name)
	o := econbench.BuildOptions{
		Run: e.RunID, Build: e.builds - 1, CongestionControl: e.plan.CongestionControl, Internal: e.plan.Internal,
		Clients: e.Parts.mostClients(e.plan),
	}
	based, ok := topology.(econbench.Based)
	if ok {
		if err := e.buildTopology(ctx, based.Base()); err != nil {
			return err
		}
		o.Base = e.beds[based.Base()].Testbed
	}
	e.Progress.Step("building topology " + name)
	tb, err := topology.Build(ctx, e.Lab, o)
	if err != nil {
		return err
	}
	b := &bed{Testbed: tb, servers: map[string]*serving{}}
	e.beds[name] = b
	if ok {
		b.servers = e.beds[based.Base()].servers
		return nil
	}
	return e.serveAll(ctx, b, name)
}

// serveAll starts the servers of all workloads at once, each once however often the plan names its workload. A workload without one fails
// in its trials, and the others go on.
func (e *Engine) serveAll(ctx context.Context, b *bed, topology string) error {
	workloads := workloadsOf(e.plan)
	started := make([]*serving, len(workloads))
	var all sync.WaitGroup
	for i, w := range workloads {
		all.Go(func() { started[i] = e.serve(ctx, b, w) })
	}
	all.Wait()
	for i, s := range started {
		b.servers[workloads[i]] = s
		if s.failed != nil && ctx.Err() == nil {
			e.Progress.Step(fmt.Sprintf("topology %s: %v", topology, s.failed))
		}
	}
	return context.Cause(ctx)
}

// serve starts a workload's server. What went wrong is kept.
func (e *Engine) serve(ctx context.Context, b *bed, workload string) *serving {
	ctx, cancel := context.WithTimeoutCause(ctx, serveTimeout, fmt.Errorf("not up in %v", serveTimeout))
	defer cancel()
	s := &serving{}
	if s.Process, s.failed = named(e.Parts.Workloads, workload).Serve(ctx, b); s.failed != nil {
		s.failed = fmt.Errorf("%w of %s: %w", errNotServed, workload, s.failed)
	}
	return s
}

// server is a workload's, started once more if it could not be started before.
func (e *Engine) server(ctx context.Context, b *bed, workload string) (econbench.Process, error) {
	if s := b.servers[workload]; s != nil && s.failed == nil {
		return s, nil
	}
	s := e.serve(ctx, b, workload)
	b.servers[workload] = s
	return s, s.failed
}

// tearDown takes down what stands, also when the user wants to stop: each topology has a deadline of its own. It goes on
// after an error; what it leaves the lab sweeps by the run's label when it closes.
func (e *Engine) tearDown(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, b := range e.beds {
		// A topology's end takes the servers with it: a container's removal kills what runs in it.
		errs = append(errs, b.Close(ctx))
		for _, s := range b.servers {
			if s.failed == nil {
				_ = s.Close(ctx) // gives back the connection; the program has died with its container
			}
		}
	}
	e.beds = map[string]*bed{}
	return errors.Join(errs...)
}

// watched are the devices to count on a host in every trial: those of all topologies that stand, whichever is measured.
func (e *Engine) watched(host string) []econbench.Device {
	var all []econbench.Device
	for _, arm := range e.plan.Arms {
		b := e.beds[arm.Topology]
		if b == nil {
			continue
		}
		for _, d := range b.Path().Devices[host] {
			if !slices.Contains(all, d) {
				all = append(all, d)
			}
		}
	}
	return all
}

func named[P interface{ Name() string }](parts []P, name string) (p P) {
	if i := slices.IndexFunc(parts, func(p P) bool { return p.Name() == name }); i >= 0 {
		return parts[i]
	}
	return p
}

func namesOf[P interface{ Name() string }](parts []P) []string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.Name()
	}
	return names
}
