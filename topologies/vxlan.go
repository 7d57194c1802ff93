// SPDX-License-Identifier: Apache-2.0

package topologies

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/tunnel"
)

// VXLAN joins the containers by a bridge and a vxlan device in each host's own network namespace, made by hand: no swarm, no network
// of Docker's, no sandbox. What flannel and its like do about tunnels, it does: static forwarding entries and neighbours, nothing learnt,
// flannel's port. What it does not do as flannel: containers of both hosts are on one segment, as Docker's overlay has it, where
// flannel routes between a segment for each host.
//
//	client host                              server host
//	┌───────────────────────────────┐        ┌───────────────────────────────┐
//	│ ┌────────┐                    │        │                    ┌────────┐ │
//	│ │ client │                    │        │                    │ server │ │
//	│ │  eth0 ─┼─ veth─bridge─vxlan ┼ NIC ──── NIC ┼ vxlan─bridge─veth ─┼─ eth0  │ │
//	│ └────────┘                    │  wire  │                    └────────┘ │
//	└───────────────────────────────┘        └───────────────────────────────┘
//
// In the host's own namespace frames that cross a bridge meet the host's rules, where br_netfilter is loaded: connection tracking, and
// iptables' chains. A rule for this bridge lets them pass FORWARD, whose policy Docker makes to drop (internal/tune/forward.go). In a
// sandbox there are no rules: that is a part of what tells this topology from overlay.
type VXLAN struct{}

var _ econbench.Topology = VXLAN{}

// Name is what the user types.
func (VXLAN) Name() string { return "vxlan" }

// Help is one line for lists.
func (VXLAN) Help() string {
	return "containers on a plain Linux bridge and vxlan device in each host's own namespace, static entries, no network of Docker's"
}

// vxlanPort is flannel's, and the kernel's for who names none: 4789 belongs to Docker on these hosts. Networks of several numbers
// may share a port, so a flannel beside this one does no harm.
const vxlanPort = 8472

// vxlanPool is what containers get their addresses from, a /24 for each build. It belongs to nothing else of an emulated lab's, so that
// no rule which Docker makes for a network of its own means them. No device of a host has such an address, and no route.
var vxlanPool = netip.MustParsePrefix("198.18.128.0/17")

// Build starts a container on each host, has the hosts' agents join both, and tunes them.
func (v VXLAN) Build(ctx context.Context, lab econbench.Lab, o econbench.BuildOptions) (_ econbench.Testbed, err error) {
	t := &testbed{path: econbench.Path{Devices: wires(lab), Through: []string{RoleWire, RolePlainVXLAN}}}
	ctx, cancel := context.WithTimeoutCause(ctx, buildTimeout, fmt.Errorf("not built in %v", buildTimeout))
	defer cancel()
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("topology vxlan: %w", err), t.Close(context.WithoutCancel(ctx)))
		}
	}()
	client, server, err := plainSpecs(lab, o)
	if err != nil {
		return nil, err
	}
	for i := 1; i < o.Clients; i++ {
		end, err := t.start(ctx, lab.Client(), econbench.ContainerSpec{Name: clientName(o, "vxlan-client", i), Alone: true})
		if err != nil {
			return nil, err
		}
		end.Addr = netip.AddrFrom4(clientAddr(client.Addr.Addr(), i))
		client.Others = append(client.Others, tunnel.Guest{PID: end.Container.PID(), Addr: end.Addr})
		server.Peers = append(server.Peers, tunnel.Peer{Addr: end.Addr, Host: client.Underlay})
		t.others = append(t.others, end)
	}
	if t.client, err = t.plug(ctx, lab.Client(), o, client); err != nil {
		return nil, err
	}
	if t.server, err = t.plug(ctx, lab.Server(), o, server); err != nil {
		return nil, err
	}
	if err := t.tuneContainers(ctx, o.CongestionControl); err != nil {
		return nil, err
	}
	return t, t.reach(ctx)
}

// plainSpecs are the two ends of a build's network. Its number and its devices' names are made from run and build: the upper half
// of the numbers is left alone by Docker, which counts from 4096 on, and by flannel, whose is 1.
func plainSpecs(lab econbench.Lab, o econbench.BuildOptions) (client, server tunnel.Spec, err error) {
	sum := fnv.New32a()
	fmt.Fprintf(sum, "%s %d", o.Run, o.Build)
	number := sum.Sum32()
	pool := vxlanPool.Addr().As4()
	pool[2] |= byte(o.Build) & 0x7f
	addr := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{pool[0], pool[1], pool[2], last}) }
	end := func(h econbench.Host, own byte) (s tunnel.Spec, err error) {
		s = tunnel.Spec{Name: fmt.Sprintf("econb%08x", number), VNI: 1<<23 | number>>9, Port: vxlanPort, Wire: h.Facts().WireDevice,
			MTU: min(lab.Client().Facts().MTU, lab.Server().Facts().MTU) - tunnel.Overhead, Addr: netip.PrefixFrom(addr(own), 24)}
		if s.Underlay, err = netip.ParseAddr(h.Facts().Underlay); err != nil {
			return s, fmt.Errorf("%s: underlay address: %w", h.Name(), err)
		}
		return s, nil
	}
	if client, err = end(lab.Client(), 2); err != nil {
		return client, server, err
	}
	if server, err = end(lab.Server(), 3); err != nil {
		return client, server, err
	}
	client.Peers = []tunnel.Peer{{Addr: server.Addr.Addr(), Host: server.Underlay}}
	server.Peers = []tunnel.Peer{{Addr: client.Addr.Addr(), Host: client.Underlay}}
	return client, server, nil
}

// clientAddr is the address of a client beside the first, whose own is the second of its network: the server's is the third.
func clientAddr(first netip.Addr, number int) [4]byte {
	addr := first.As4()
	addr[3] += byte(number + 1)
	return addr
}

// plug starts a container without a network and has its host's agent join it to the tunnel.
func (t *testbed) plug(ctx context.Context, h econbench.Host, o econbench.BuildOptions, s tunnel.Spec) (econbench.Endpoint, error) {
	end, err := t.start(ctx, h, econbench.ContainerSpec{Name: name(o, "vxlan-"+h.Name()), Alone: true})
	if err != nil {
		return end, err
	}
	s.PID, end.Addr = end.Container.PID(), s.Addr.Addr()
	if err := t.change(ctx, h, agentproto.OpTunnel, s); err != nil {
		return end, err
	}
	t.path.Devices[h.Name()] = append(t.path.Devices[h.Name()], econbench.Device{Role: RolePlainVXLAN, Name: s.VXLAN(), Kind: "vxlan"})
	return end, nil
}
