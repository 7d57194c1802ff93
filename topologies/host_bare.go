// SPDX-License-Identifier: Apache-2.0

package topologies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/nft"
	"github.com/econbench/econbench/internal/tune"
)

// HostBare is Host without netfilter: while a trial runs, no rule of the hosts' is in effect and connections between them are
// not tracked. What Docker's rules cost is the difference; a fast path that passes them by has this to be held against.
//
//	client host                        server host
//	┌─────────────────────┐            ┌─────────────────────┐
//	│ ┌────────┐  no rules│            │no rules  ┌────────┐ │
//	│ │ client │──── NIC ─┼────────────┼─ NIC ────│ server │ │
//	│ └────────┘          │    wire    │          └────────┘ │
//	└─────────────────────┘            └─────────────────────┘
//
// It is Host's testbed, containers and servers included, and all topologies stand all the time, so rules are taken out of effect
// trial by trial. Tables are made dormant and their rules stay as they are, so an engine may add some meanwhile (internal/tune/nft.go). Packets pass what
// can't be unhooked from outside: connection tracking, which lets them go at once, and defragmentation. IPv6, bridges and ingress
// hooks of devices keep their rules, for no packet of a trial meets them.
//
// For these seconds a host's own firewall is out of effect with Docker's. A host whose engine runs others' containers is
// refused, one with rules that can't be put back at once likewise.
type HostBare struct{}

var (
	_ econbench.Topology = HostBare{}
	_ econbench.Based    = HostBare{}
)

// Name is what the user types.
func (HostBare) Name() string { return "host-bare" }

// Help is one line for lists.
func (HostBare) Help() string {
	return "host, with all iptables and nft rules for IPv4 out of effect and nothing tracked while a trial runs"
}

// Base is the topology that it changes.
func (HostBare) Base() string { return Host{}.Name() }

// Build activates once, so that what can't be taken out of effect is found before anything is measured.
func (HostBare) Build(ctx context.Context, _ econbench.Lab, o econbench.BuildOptions) (econbench.Testbed, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, buildTimeout, fmt.Errorf("not built in %v", buildTimeout))
	defer cancel()
	b := bareBed{&testbed{client: o.Base.Client(), others: econbench.ClientsOf(o.Base)[1:], server: o.Base.Server(), path: o.Base.Path()}}
	if err := b.rehearse(ctx); err != nil {
		return nil, fmt.Errorf("topology host-bare: %w", err)
	}
	return b, nil
}

// bareBed is the testbed of HostBare. Closing it leaves that of Host as it is.
type bareBed struct{ *testbed }

var _ econbench.Activated = bareBed{}

func (b bareBed) rehearse(ctx context.Context) error {
	a, err := b.Activate(ctx)
	if err != nil {
		return err
	}
	return errors.Join(b.reach(ctx), a.Close(context.WithoutCancel(ctx)))
}

// Activate takes the rules of both hosts out of effect.
func (b bareBed) Activate(ctx context.Context) (_ econbench.Attachment, err error) {
	a := &testbed{} // for its list of what to undo
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close(context.WithoutCancel(ctx)))
		}
	}()
	for _, pair := range [][2]econbench.Endpoint{{b.client, b.server}, {b.server, b.client}} {
		h, peer := pair[0].Host, pair[1].Addr
		others, err := h.OtherContainers(ctx)
		if err != nil {
			return nil, err
		}
		if len(others) > 0 {
			return nil, fmt.Errorf("%s: its engine runs containers that are not econbench's, which would be without their rules: %s",
				h.Name(), strings.Join(others, ", "))
		}
		if err := a.tune(ctx, h, tune.Dormant(0), tune.NoTrack(0, peer)); err != nil {
			return nil, err
		}
	}
	return noRules{a}, nil
}

// noRules are in effect until it is closed.
type noRules struct{ undo *testbed }

var _ econbench.Prover = noRules{}

func (n noRules) Close(ctx context.Context) error { return n.undo.Close(ctx) }
func (noRules) Handle(string) int                 { return 0 }

// Prove holds what was in effect at the end of the window against what should have been: the table that says notrack alone.
func (noRules) Prove(w econbench.Window) (failures []string) {
	for _, h := range ends(w) {
		switch {
		case !h.known:
			failures = append(failures, h.name+": which nft tables were in effect is not known")
		case !slices.Equal(h.tables, []string{nft.OwnTable}):
			failures = append(failures, fmt.Sprintf("%s: nft tables in effect are %q, want %s alone", h.name, h.tables, nft.OwnTable))
		}
	}
	return failures
}

// end is what was noted of one host's rules.
type end struct {
	name   string
	known  bool
	tables []string // in effect
}

func ends(w econbench.Window) []end {
	list := []end{{name: econbench.ClientHost}, {name: econbench.ServerHost}}
	for i, h := range []econbench.HostWindow{w.Client, w.Server} {
		note, ok := h.Notes[econbench.NoteNetfilter]
		if list[i].known = ok; note != "" {
			list[i].tables = strings.Split(note, ", ")
		}
	}
	return list
}
