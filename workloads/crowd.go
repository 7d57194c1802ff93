// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/econbench/econbench"
)

// mostClients is how many client containers a workload may come from: their programs share one host's CPUs.
const mostClients = 8

// clientsParam is of workloads whose clients may be several containers.
var clientsParam = param{name: econbench.ParamClients, standard: 1, min: 1, max: mostClients}

// perClient is how much longer programs run for each container beyond the first: each start is an exec through the engine, 50 to
// 100 ms of its CPU, and the first must not end before the last has been counted. On a crowded machine 100 ms were too few for three.
const perClient = 250 * time.Millisecond

var (
	_ econbench.Gathered = netperf{}
	_ econbench.Gathered = TCPStream{}
	_ econbench.Gathered = UDPStream{}
)

func (netperf) Containers(p econbench.Params) int   { return containers(p) }
func (TCPStream) Containers(p econbench.Params) int { return containers(p) }
func (UDPStream) Containers(p econbench.Params) int { return containers(p) }

// containers are as many as full parameters say.
func containers(p econbench.Params) int {
	n, err := number(p, econbench.ParamClients)
	if err != nil {
		return 1
	}
	return n
}

// crowd is client programs at work, one in each of some containers. Any that fails is the load's failure.
type crowd struct {
	name   string
	procs  []econbench.Process
	flows  econbench.Flows
	parse  func([]econbench.Output) (samples []econbench.Sample, warnings []string, err error)
	enough enough
}

// startCrowd starts a program in each of the testbed's first clients, all at once.
func startCrowd(ctx context.Context, tb econbench.Testbed, clients int, argv func(client int) []string) ([]econbench.Process, error) {
	ends := econbench.ClientsOf(tb)
	if len(ends) < clients {
		return nil, fmt.Errorf("topology has %d client containers, want %d", len(ends), clients)
	}
	procs := make([]econbench.Process, clients)
	var g errgroup.Group
	for i := range procs {
		g.Go(func() (err error) {
			procs[i], err = ends[i].Container.Start(ctx, argv(i)...)
			return err
		})
	}
	err := g.Wait()
	if err != nil {
		err = errors.Join(err, closeAll(context.WithoutCancel(ctx), procs))
	}
	return procs, err
}

// closeAll ends the programs that were started.
func closeAll(ctx context.Context, procs []econbench.Process) error {
	var errs []error
	for _, p := range procs {
		if p != nil {
			errs = append(errs, p.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

func (c *crowd) Flows() econbench.Flows          { return c.flows }
func (c *crowd) Close(ctx context.Context) error { return closeAll(ctx, c.procs) }

// Wait waits for all clients. It returns the log even when one failed.
func (c *crowd) Wait(ctx context.Context) (result econbench.Result, err error) {
	outs, err := waitAll(ctx, c.procs)
	for i, out := range outs {
		if len(outs) > 1 {
			result.Log = fmt.Appendf(result.Log, "client container %d:\n", i+1)
		}
		result.Log = append(append(result.Log, out.Stdout...), out.Stderr...)
	}
	if err == nil {
		result.Samples, result.Warnings, err = c.parse(outs)
	}
	if err != nil {
		return result, fmt.Errorf("%s client: %w", c.name, err)
	}
	return result, nil
}

// waitAll waits for the ends of programs. The first error ends the waiting for all.
func waitAll(ctx context.Context, procs []econbench.Process) ([]econbench.Output, error) {
	outs := make([]econbench.Output, len(procs))
	g, ctx := errgroup.WithContext(ctx)
	for i, p := range procs {
		g.Go(func() (err error) {
			outs[i], err = p.Wait(ctx)
			return err
		})
	}
	return outs, g.Wait()
}

// servers are server programs that a workload needs all of.
type servers []econbench.Process

// serveAll starts server programs at once.
func serveAll(ctx context.Context, start ...func(context.Context) (econbench.Process, error)) (econbench.Process, error) {
	all := make(servers, len(start))
	var g errgroup.Group
	for i := range start {
		g.Go(func() (err error) {
			all[i], err = start[i](ctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, all.Close(context.WithoutCancel(ctx)))
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

// Wait waits for the end of any of them, which is the end of what they serve.
func (s servers) Wait(ctx context.Context) (econbench.Output, error) {
	type end struct {
		out econbench.Output
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ends := make(chan end, len(s))
	for _, p := range s {
		go func() {
			out, err := p.Wait(ctx)
			ends <- end{out, err}
		}()
	}
	first := <-ends
	return first.out, first.err
}

// Close ends all of them; it may be called again.
func (s servers) Close(ctx context.Context) error { return closeAll(ctx, s) }
