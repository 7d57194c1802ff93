// SPDX-License-Identifier: Apache-2.0

// Package topologies connects a client's and a server's container in the ways that a run compares, and says by which
// devices each way can be told from the others. One file a topology, opening with its drawing; All lists them.
//
// A topology tunes its endpoints (congestion control, route metrics, for host-bare the rules that packets meet), has an engine or the
// hosts' agents build what joins them, and does nothing else: placement and the wire belong to the lab, packets' short cuts to fast paths.
package topologies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/tune"
)

// All lists the topologies.
func All() []econbench.Topology { return []econbench.Topology{Host{}, HostBare{}, Overlay{}, VXLAN{}} }

// Roles of devices in a Path.
const (
	RoleWire  = "wire"  // the underlay's device
	RoleVXLAN = "vxlan" // the tunnel's device in the overlay network's sandbox

	// RolePlainVXLAN is topology vxlan's device, in the host's own namespace: all topologies stand at once, each role is one device's.
	RolePlainVXLAN = "plain-vxlan"
)

// buildTimeout bounds one build or one removal of a topology.
const buildTimeout = time.Minute

// testbed is a topology that stands: what it is, and how to take it down again.
type testbed struct {
	client, server econbench.Endpoint
	others         []econbench.Endpoint // clients beside the first one
	path           econbench.Path
	undo           []func(context.Context) error
}

var _ econbench.Crowded = (*testbed)(nil)

func (t *testbed) Client() econbench.Endpoint { return t.client }
func (t *testbed) Server() econbench.Endpoint { return t.server }
func (t *testbed) Clients() []econbench.Endpoint {
	return append([]econbench.Endpoint{t.client}, t.others...)
}
func (t *testbed) Path() econbench.Path { return t.path }

// Close takes the testbed down in reverse order of building. A second call does nothing.
func (t *testbed) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, buildTimeout, fmt.Errorf("not taken down in %v", buildTimeout))
	defer cancel()
	var errs []error
	for _, undo := range slices.Backward(t.undo) {
		errs = append(errs, undo(ctx))
	}
	t.undo = nil // what failed is the lab's to sweep, by the run's label
	return errors.Join(errs...)
}

// reachTimeout is how long a path may take to carry its first packet. An overlay's hosts learn of each other's containers
// by gossip.
const reachTimeout = 20 * time.Second

// reach returns when each client can talk to the server, both ways.
func (t *testbed) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, reachTimeout, fmt.Errorf("no answer in %v", reachTimeout))
	defer cancel()
	for _, c := range t.Clients() {
		args := agentproto.ReachArgs{PID: c.Container.PID(), Addr: t.server.Addr}
		if err := c.Host.Agent().Call(ctx, agentproto.OpReach, args, nil); err != nil {
			return fmt.Errorf("%s does not reach %s: %w", c.Host.Name(), t.server.Addr, err)
		}
	}
	return nil
}

// name is unique among everything that econbench makes.
func name(o econbench.BuildOptions, what string) string {
	return fmt.Sprintf("econbench-%s-%d-%s", o.Run, o.Build, what)
}

// tuneEnd sets congestion control towards the peers and keeps the kernel from carrying a path's metrics over to the next
// connection, in the namespace of pid (0: the host's own).
func (t *testbed) tuneEnd(ctx context.Context, h econbench.Host, pid int, algorithm string, peers ...econbench.Endpoint) error {
	want := []tune.Tuning{tune.Sysctl(pid, "net.ipv4.tcp_no_metrics_save", "1")}
	for _, p := range peers {
		if algorithm != "" {
			want = append(want, tune.CongestionControl(pid, p.Addr, algorithm))
		}
	}
	return t.tune(ctx, h, want...)
}

// tuneContainers tunes the two ends, where each container has a namespace of its own.
func (t *testbed) tuneContainers(ctx context.Context, algorithm string) error {
	for _, c := range t.Clients() {
		if err := t.tuneEnd(ctx, c.Host, c.Container.PID(), algorithm, t.server); err != nil {
			return err
		}
	}
	return t.tuneEnd(ctx, t.server.Host, t.server.Container.PID(), algorithm, t.Clients()...)
}

// tune changes a host until the testbed is closed.
func (t *testbed) tune(ctx context.Context, h econbench.Host, want ...tune.Tuning) error {
	return t.change(ctx, h, agentproto.OpTune, want)
}

// change has a host's agent do something that OpUntune undoes, until the testbed is closed.
func (t *testbed) change(ctx context.Context, h econbench.Host, op string, want any) error {
	var done agentproto.TuneReply
	if err := h.Agent().Call(ctx, op, want, &done); err != nil {
		return err
	}
	h.Note(done.Done)
	t.undo = append(t.undo, func(ctx context.Context) error {
		err := h.Agent().Call(ctx, agentproto.OpUntune, agentproto.UntuneArgs{Handle: done.Handle}, nil)
		if errors.Is(err, agentproto.ErrGone) {
			return nil // it undid all when it went, or left a journal; who met its end first has told of it
		}
		return err
	})
	return nil
}

// clientName is the name of a build's client container; the first one's has no number.
func clientName(o econbench.BuildOptions, what string, number int) string {
	if number == 0 {
		return name(o, what)
	}
	return name(o, fmt.Sprintf("%s-%d", what, number+1))
}

// start starts a container and remembers to remove it.
func (t *testbed) start(ctx context.Context, h econbench.Host, s econbench.ContainerSpec) (econbench.Endpoint, error) {
	c, err := h.StartContainer(ctx, s)
	if err != nil {
		return econbench.Endpoint{}, err
	}
	t.undo = append(t.undo, c.Close)
	return econbench.Endpoint{Host: h, Container: c, Addr: c.Addr()}, nil
}

// wires are the two ends of the underlay, which every topology's payload crosses.
func wires(lab econbench.Lab) map[string][]econbench.Device {
	devices := map[string][]econbench.Device{}
	for _, h := range []econbench.Host{lab.Client(), lab.Server()} {
		devices[h.Name()] = []econbench.Device{{Role: RoleWire, Name: h.Facts().WireDevice}}
	}
	return devices
}
