// SPDX-License-Identifier: Apache-2.0

package topologies

import (
	"context"
	"errors"
	"fmt"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/netspace"
)

// Overlay joins both containers to an attachable swarm overlay network, VXLAN between the hosts, built by Docker and left
// as Docker builds it.
//
//	client host                                        server host
//	┌────────────────────────────────────┐            ┌────────────────────────────────────┐
//	│ ┌────────┐   network's sandbox     │            │     network's sandbox   ┌────────┐ │
//	│ │ client │  ┌──────────────────┐   │            │   ┌──────────────────┐  │ server │ │
//	│ │  eth0 ─┼──┼─veth─br0─vxlan0 ─┼ NIC ──────────── NIC ┼─ vxlan0─br0─veth─┼──┼─ eth0  │ │
//	│ └────────┘  └──────────────────┘   │    wire    │   └──────────────────┘  └────────┘ │
//	└────────────────────────────────────┘            └────────────────────────────────────┘
type Overlay struct{}

var _ econbench.Topology = Overlay{}

// Name is what the user types.
func (Overlay) Name() string { return "overlay" }

// Help is one line for lists.
func (Overlay) Help() string {
	return "containers on an attachable swarm overlay network (VXLAN), as Docker builds it"
}

// Build makes the network, starts the containers on each host, tunes both and finds the tunnel's devices.
func (Overlay) Build(ctx context.Context, lab econbench.Lab, o econbench.BuildOptions) (_ econbench.Testbed, err error) {
	t := &testbed{path: econbench.Path{Devices: wires(lab), Through: []string{RoleWire, RoleVXLAN}}}
	ctx, cancel := context.WithTimeoutCause(ctx, buildTimeout, fmt.Errorf("not built in %v", buildTimeout))
	defer cancel()
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("topology overlay: %w", err), t.Close(context.WithoutCancel(ctx)))
		}
	}()
	net, err := lab.Client().CreateOverlay(ctx, econbench.OverlaySpec{
		Name: name(o, "overlay"), Internal: o.Internal, MTU: min(lab.Client().Facts().MTU, lab.Server().Facts().MTU),
	})
	if err != nil {
		return nil, err
	}
	t.undo = append(t.undo, net.Close)
	if t.client, err = t.join(ctx, lab.Client(), net, name(o, "overlay-client")); err != nil {
		return nil, err
	}
	for i := 1; i < o.Clients; i++ {
		end, err := t.dwell(ctx, lab.Client(), net, clientName(o, "overlay-client", i))
		if err != nil {
			return nil, err
		}
		t.others = append(t.others, end)
	}
	if t.server, err = t.join(ctx, lab.Server(), net, name(o, "overlay-server")); err != nil {
		return nil, err
	}
	if err := t.tuneContainers(ctx, o.CongestionControl); err != nil {
		return nil, err
	}
	return t, t.reach(ctx)
}

// dwell starts a container on the network.
func (t *testbed) dwell(ctx context.Context, h econbench.Host, net econbench.Overlay, name string) (econbench.Endpoint, error) {
	end, err := t.start(ctx, h, econbench.ContainerSpec{Name: name, Overlay: net})
	if err == nil && !end.Addr.IsValid() {
		err = fmt.Errorf("%s: container has no address on network %s", h.Name(), net.Name())
	}
	return end, err
}

// join starts a host's first container on the network and finds the host's end of the tunnel.
func (t *testbed) join(ctx context.Context, h econbench.Host, net econbench.Overlay, name string) (econbench.Endpoint, error) {
	end, err := t.dwell(ctx, h, net, name)
	if err != nil {
		return end, err
	}
	tunnel := []econbench.Device{{Role: RoleVXLAN, Netns: netspace.Sandbox(end.Container.Sandboxes(), net.ID()), Kind: "vxlan"}}
	if err := h.Agent().Call(ctx, agentproto.OpDevices, tunnel, &tunnel); err != nil {
		return end, err
	}
	t.path.Devices[h.Name()] = append(t.path.Devices[h.Name()], tunnel...)
	return end, nil
}
