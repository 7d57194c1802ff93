// SPDX-License-Identifier: Apache-2.0

package topologies

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/nft"
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
	if t.server, err = t.lodge(ctx, lab.Server(), name(o, "host-server")); err != nil {
		return nil, err
	}
	for i := range max(1, o.Clients) {
		end, err := t.lodge(ctx, lab.Client(), clientName(o, "host-client", i))
		if err != nil {
			return nil, err
		}
		if t.others = append(t.others, end); i == 0 {
			t.client, t.others = end, nil
		}
	}
	if err := t.tuneEnd(ctx, lab.Client(), 0, o.CongestionControl, t.server); err != nil {
		return nil, err
	}
	if err := t.tuneEnd(ctx, lab.Server(), 0, o.CongestionControl, t.client); err != nil { // the others have its address
		return nil, err
	}
	return hostBed{t}, t.reach(ctx)
}

// lodge starts a container in its host's own namespaces.
func (t *testbed) lodge(ctx context.Context, h econbench.Host, name string) (end econbench.Endpoint, err error) {
	addr, err := netip.ParseAddr(h.Facts().Underlay)
	if err != nil {
		return end, fmt.Errorf("%s: underlay address: %w", h.Name(), err)
	}
	end, err = t.start(ctx, h, econbench.ContainerSpec{Name: name})
	end.Addr = addr
	return end, err
}

// hostBed proves in every trial that what host-bare does was undone.
type hostBed struct{ *testbed }

var _ econbench.Activated = hostBed{}

// Activate does nothing.
func (hostBed) Activate(context.Context) (econbench.Attachment, error) { return rulesInEffect{}, nil }

// rulesInEffect are those that the engine and the host's administrator have made, whichever.
type rulesInEffect struct{}

var _ econbench.Prover = rulesInEffect{}

func (rulesInEffect) Close(context.Context) error { return nil }
func (rulesInEffect) Handle(string) int           { return 0 }

// Prove finds what host-bare left.
func (rulesInEffect) Prove(w econbench.Window) (failures []string) {
	for _, h := range ends(w) {
		if slices.Contains(h.tables, nft.OwnTable) {
			failures = append(failures, fmt.Sprintf("%s: nft table %s is in effect, as if on host-bare", h.name, nft.OwnTable))
		}
	}
	return failures
}
