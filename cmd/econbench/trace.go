// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/trace"
	"github.com/econbench/econbench/internal/wholefile"
)

// traceFlags are what the user said about a trace.
type traceFlags struct {
	lookFlags
	workload string
	events   bool
}

// traceable are the workloads that have one request under way at a time, over a flow that lasts.
var traceable = []string{"tcp_rr", "udp_rr"}

func traceCommand() *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "show which devices, namespaces, hooks and softirqs a request and its response pass",
		Long: `trace has one client and one server exchange requests and responses over each arm in turn, and shows the way that most of them
took through both hosts, from the client's send to its read: network namespaces, devices, netfilter hooks, bridges, tunnels,
fast paths' programs and softirq rounds, with the median time from each stage to the next. So one sees what a fast path cuts out.

Tracing takes time itself, at each stage: the rate with and without it is told. Compare stages with each other, and take figures from run.
On two machines each side's times are those of its own clock, and the wire's are reckoned.

With --output each arm's path is also left in a folder: ARM.svg to look at, ARM.txt, and ARM.json for programs.`,
		Example: `  econbench trace
  econbench trace --arm host,overlay,overlay+oncache --output pictures
  econbench trace --arm overlay --workload udp_rr -p udp_rr.request=1000
  econbench trace --hosts ssh://root@a,ssh://root@b --wire mtu-frames`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := f.plan()
			if err == nil {
				err = f.checkHosts()
			}
			if err != nil {
				return err
			}
			if f.events && f.dir == "" {
				return errors.New("--events: want a folder, too: --output")
			}
			return f.trace(cmd, plan)
		},
	}
	fl := cmd.Flags()
	f.lookFlags.register(cmd, "show", "picture, text and JSON", "paths")
	fl.StringVar(&f.workload, "workload", "tcp_rr", "what is exchanged: "+strings.Join(traceable, ", "))
	fl.BoolVar(&f.events, "events", false, "leave there what the agents recorded, too: ARM.events.json")
	return cmd
}

const (
	traceWarmup = 500 * time.Millisecond // a fast path is established by then
	traceWindow = time.Second            // of counting, before the hooks are attached
	// traceRecording bounds what is recorded; as a rule the room for events ends it sooner.
	traceRecording = time.Second
	// traceEvents is that room, on each host: a thousand transactions that pass a hundred stages each.
	traceEvents = 1 << 17
	// traceLong is how long a client runs at most for the counting and the tracing: attaching some thirty hooks takes a second, and
	// on a crowded machine ten.
	traceLong = time.Minute
)

// plan checks all that the user said, and starts nothing.
func (f *traceFlags) plan() (p econbench.Plan, err error) {
	if !slices.Contains(traceable, f.workload) {
		return p, fmt.Errorf("%w: one that has one request under way at a time", names.Unknown("workload to trace", f.workload, traceable))
	}
	if p, err = f.lookFlags.plan("trace", "", []string{f.workload}, traceWarmup, traceWindow); err != nil {
		return p, err
	}
	for _, name := range []string{"flows", econbench.ParamClients} {
		if n := p.Workloads[0].Params[name]; n != "1" {
			return p, fmt.Errorf("workload %s: %s=%q: want 1: a trace follows one flow", f.workload, name, n)
		}
	}
	return p, nil
}

// trace shows each arm.
func (f *traceFlags) trace(cmd *cobra.Command, plan econbench.Plan) error {
	if f.dir != "" {
		if err := os.MkdirAll(f.dir, 0o755); err != nil {
			return fmt.Errorf("output: %w", err)
		}
	}
	return f.open(cmd, plan, func(ctx context.Context, s *session, e *engine.Engine) error {
		var pictures []*trace.Picture
		err := e.Watch(ctx, plan, traceLong, func(ctx context.Context, w engine.AtWork) error {
			picture, err := f.picture(ctx, s, plan, w)
			if err != nil {
				return err
			}
			pictures = append(pictures, picture)
			return errors.Join(picture.RenderText(cmd.OutOrStdout()), newline(cmd.OutOrStdout()))
		})
		if len(pictures) > 0 {
			err = errors.Join(err, trace.RenderSummary(cmd.OutOrStdout(), pictures), f.leaveAll(pictures))
		}
		return err
	})
}

func newline(w io.Writer) error {
	_, err := fmt.Fprintln(w)
	return err
}

// picture records one arm and finds its path.
func (f *traceFlags) picture(ctx context.Context, s *session, plan econbench.Plan, w engine.AtWork) (*trace.Picture, error) {
	before, carried, err := w.Count(ctx)
	if err != nil {
		return nil, err
	}
	records, skipped, err := recordBoth(ctx, w)
	if err != nil {
		return nil, err
	}
	after, _, err := w.Count(ctx)
	if err != nil {
		return nil, err
	}
	if f.events {
		if err := f.leave(w.Arm, ".events.json", func(to io.Writer) error { return writeJSON(to, records) }); err != nil {
			return nil, err
		}
	}
	path, err := trace.Follow(records[0], records[1], s.lab.SharedKernel())
	if err != nil {
		return nil, err
	}
	return &trace.Picture{
		Schema: trace.Schema, Version: versionString(), Arm: w.Arm, Workload: w.Workload, Params: w.Params, Lab: s.kind,
		Kernel: w.Testbed.Client().Host.Facts().Kernel, Placement: plan.Placement, Wire: plan.Wire,
		Rate: before, RateAfter: after, Carried: carried, Skipped: skipped, Path: path,
	}, nil
}

// recordBoth asks both hosts' agents to attach hooks, and when both have, to record.
func recordBoth(ctx context.Context, w engine.AtWork) (records [2]trace.Record, skipped []trace.Skipped, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, traceLong, fmt.Errorf("not traced in %v", traceLong))
	defer cancel()
	ends := []econbench.Endpoint{w.Testbed.Client(), w.Testbed.Server()}
	var started [2]trace.Started
	g, attaching := errgroup.WithContext(ctx)
	for i, end := range ends {
		g.Go(func() error {
			order, err := orderFor(end, w)
			if err != nil {
				return err
			}
			return end.Host.Agent().Call(attaching, agentproto.OpTrace, order, &started[i])
		})
	}
	if err := g.Wait(); err != nil {
		return records, nil, err
	}
	for _, s := range started {
		for _, missing := range s.Skipped {
			if !slices.Contains(skipped, missing) {
				skipped = append(skipped, missing)
			}
		}
	}
	g, recording := errgroup.WithContext(ctx)
	for i, end := range ends {
		g.Go(func() error {
			args := trace.RecordArgs{Handle: started[i].Handle, Duration: traceRecording.Seconds()}
			return end.Host.Agent().Call(recording, agentproto.OpRecord, args, &records[i])
		})
	}
	return records, skipped, g.Wait()
}

// orderFor is what one host has to be told.
func orderFor(end econbench.Endpoint, w engine.AtWork) (o trace.Order, err error) {
	client, server := w.Testbed.Client(), w.Testbed.Server()
	o = trace.Order{
		Side: end.Host.Name(), PID: end.Container.PID(), Sandboxes: end.Container.Sandboxes(), Events: traceEvents,
		Flow: trace.Flow{Datagrams: w.Flows.Kind == econbench.DatagramFlows, Client: client.Addr, Server: server.Addr, ServerPort: w.Flows.ServerPort},
	}
	for to, facts := range map[*netip.Addr]econbench.HostFacts{&o.Flow.ClientHost: client.Host.Facts(), &o.Flow.ServerHost: server.Host.Facts()} {
		if *to, err = netip.ParseAddr(facts.Underlay); err != nil {
			return o, fmt.Errorf("underlay address: %w", err)
		}
	}
	for _, d := range w.Testbed.Path().Devices[end.Host.Name()] {
		if d.Netns != "" && !slices.Contains(o.Netns, d.Netns) {
			o.Netns = append(o.Netns, d.Netns)
		}
	}
	return o, nil
}

// leave leaves something of an arm in the folder.
func (f *traceFlags) leave(arm econbench.Arm, extension string, render func(io.Writer) error) error {
	var b bytes.Buffer
	if err := render(&b); err != nil {
		return err
	}
	return wholefile.Write(filepath.Join(f.dir, arm.String()+extension), b.Bytes())
}

// leaveAll leaves all pictures in the folder, drawn to one scale.
func (f *traceFlags) leaveAll(pictures []*trace.Picture) error {
	if f.dir == "" {
		return nil
	}
	var span econbench.Seconds
	for _, p := range pictures {
		span = max(span, p.Whole.Seconds)
	}
	for _, p := range pictures {
		err := errors.Join(f.leave(p.Arm, ".txt", p.RenderText), f.leave(p.Arm, ".json", p.RenderJSON),
			f.leave(p.Arm, ".svg", func(w io.Writer) error { return p.RenderSVG(w, span) }))
		if err != nil {
			return err
		}
	}
	return nil
}
