// SPDX-License-Identifier: Apache-2.0

package fastpath

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-address-of-packed-member -I bpf/lib" oncache bpf/oncache.bpf.c

import (
	"context"

	"github.com/econbench/econbench"
)

// Oncache is an encapsulation cache after ONCache (see bpf/oncache.bpf.c for the packets' journey): outer headers by
// destination on the way out, devices by destination on the way in, for established flows of TCP, UDP and ICMP's echo over IPv4.
//
// Eligible is data (no URG, no fragment, no IP options) of a flow that the sender's own socket calls established (TCP) or that has been
// seen in both directions (UDP, echoes), sent by a socket that is bound to no device; on the way in, data of a flow that this host's side
// has sent on as such. What opens and closes a TCP connection, or is of one that is not remembered, is so too, unless rules stand on the
// kernel's path: then it goes there, and with it whatever they ask of new flows.
type Oncache struct{}

var (
	_ econbench.Fastpath = Oncache{}
	_ econbench.Bound    = Oncache{}
	_ econbench.Settable = Oncache{}
)

// Name is what the user types.
func (Oncache) Name() string { return "oncache" }

// Help is one line for lists.
func (Oncache) Help() string {
	return "encapsulation cache (after ONCache): outer header and delivery device by destination, around the network's sandbox; oncache:untracked without connection tracking in containers, oncache:direct without a lane on the way out"
}

// Topologies are those that it can be attached to.
func (Oncache) Topologies() []string { return overlayTopologies() }

// Lanes are the kinds that it can take.
func (Oncache) Lanes() []string { return laneKinds() }

// CheckSetting wants none, "untracked", "direct", or both with a colon.
func (o Oncache) CheckSetting(s string) error { return checkOverlaySetting(o.Name(), s) }

// Attach attaches it on both hosts.
func (o Oncache) Attach(ctx context.Context, tb econbench.Testbed, opt econbench.AttachOptions) (econbench.Attachment, error) {
	return attachOverlay(ctx, o.Name(), tb, opt)
}

var oncacheKind = cacheKind{spec: loadOncache, needs: overlayNeeds, passes: true}
