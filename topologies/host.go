// SPDX-License-Identifier: Apache-2.0

package topologies

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/econbench/econbench"
)

// Host puts both containers into their hosts' own network namespaces, as the engine leaves those: with its iptables and
// conntrack rules.
//
//	client host                        server host
//	┌─────────────────────┐            ┌─────────────────────┐
//	│ ┌────────┐          │            │          ┌────────┐ │
//	│ │ client │──── NIC ─┼────────────┼─ NIC ────│ server │ │
//	│ └────────┘          │    wire    │          └────────┘ │
//	└─────────────────────┘            └─────────────────────┘
type Host struct{}

var _ econbench.Topology = Host{}

// Name is what the user types.
func (Host) Name() string { return "host" }

// Help is one line for lists.
func (Host) Help() string {
	return "containers in the hosts' own network namespaces, engine's iptables rules included"
}

// Build starts a container on each host and tunes the hosts towards each other.
func (Host) Build(ctx context.Context, lab econbench.Lab, o econbench.BuildOptions) (_ econbench.Testbed, err error) {
	t := &testbed{path: econbench.Path{Devices: wires(lab), Through: []string{RoleWire}}}
	ctx, cancel := context.WithTimeoutCause(ctx, buildTimeout, fmt.Errorf("not built in %v", buildTimeout))
	defer cancel()
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("topology host: %w", err), t.Close(context.WithoutCancel(ctx)))
		}
	}()
	ends := []*econbench.Endpoint{&t.client, &t.server}
	hosts := []econbench.Host{lab.Client(), lab.Server()}
	for i, h := range hosts {
		addr, err := netip.ParseAddr(h.Facts().Underlay)
		if err != nil {
			return nil, fmt.Errorf("%s: underlay address: %w", h.Name(), err)
		}
		if *ends[i], err = t.start(ctx, h, econbench.ContainerSpec{Name: name(o, "host-"+h.Name())}); err != nil {
			return nil, err
		}
		ends[i].Addr = addr
	}
	for i, h := range hosts {
		if err := t.tuneEnd(ctx, h, 0, ends[1-i].Addr, o.CongestionControl); err != nil {
			return nil, err
		}
	}
	return t, t.reach(ctx)
}
