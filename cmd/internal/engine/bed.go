// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/econbench/econbench"
)

// serveTimeout bounds the start of a server program.
const serveTimeout = 20 * time.Second

// bed is a topology that stands, with the servers that run in it.
type bed struct {
	econbench.Testbed
	servers []econbench.Process
}

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
	b := &bed{Testbed: tb}
	e.beds[name] = b
	if ok {
		return nil
	}
	if err := e.serve(ctx, b); err != nil {
		return fmt.Errorf("topology %s: %w", name, err)
	}
	return nil
}

// serve starts each workload's server once, however often the plan names it.
func (e *Engine) serve(ctx context.Context, b *bed) error {
	var started []string
	for _, w := range e.plan.Workloads {
		if slices.Contains(started, w.Name) {
			continue
		}
		started = append(started, w.Name)
		ctx, cancel := context.WithTimeoutCause(ctx, serveTimeout, fmt.Errorf("not up in %v", serveTimeout))
		server, err := named(e.Parts.Workloads, w.Name).Serve(ctx, b)
		cancel()
		if err != nil {
			return fmt.Errorf("server of %s: %w", w.Name, err)
		}
		b.servers = append(b.servers, server)
	}
	return nil
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
			_ = s.Close(ctx) // gives back the connection; the program has died with its container
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
