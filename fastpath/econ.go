// SPDX-License-Identifier: Apache-2.0

package fastpath

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-address-of-packed-member -I bpf/lib" econ bpf/econ.bpf.c

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/econbench/econbench"
)

// Econ is a cache by flow after ECON (see bpf/econ.bpf.c for the packets' journey): for each flow what its socket sends to and
// what it receives by, in one search each, until the socket is closed. What is eligible is what it is to Oncache.
//
// With the setting "sockets" packets are given their socket too, so that the stack need not look for it (bpf_sk_assign). It is not the
// default: docs/fastpath.md has the figures, and what a socket in a sockmap can't do any more.
type Econ struct{}

var (
	_ econbench.Fastpath = Econ{}
	_ econbench.Bound    = Econ{}
	_ econbench.Settable = Econ{}
)

// econSockets is the setting that spares the lookup of sockets.
const econSockets = "sockets"

// Name is what the user types.
func (Econ) Name() string { return "econ" }

// Help is one line for lists.
func (Econ) Help() string {
	return "cache by flow (after ECON): each flow's socket, device and outer header, until the socket is closed; econ:sockets spares the socket's lookup, too; econ:untracked without connection tracking in containers, econ:direct without a lane on the way out"
}

// Topologies are those that it can be attached to.
func (Econ) Topologies() []string { return overlayTopologies() }

// Lanes are the kinds that it can take.
func (Econ) Lanes() []string { return laneKinds() }

// CheckSetting wants none, or some of "sockets", "untracked" and "direct" with colons.
func (e Econ) CheckSetting(s string) error { return checkOverlaySetting(e.Name(), s, econSockets) }

// Attach attaches it on both hosts.
func (e Econ) Attach(ctx context.Context, tb econbench.Testbed, opt econbench.AttachOptions) (econbench.Attachment, error) {
	a, err := attachOverlay(ctx, e.Name(), tb, opt)
	if err != nil {
		return nil, err
	}
	return &econAttachment{a}, nil
}

// econAttachment is one whose flows end with their sockets.
type econAttachment struct{ *overlayAttachment }

var (
	_ econbench.Carrier   = (*econAttachment)(nil)
	_ econbench.Forgetter = (*econAttachment)(nil)
)

// ForgetsClosed: of tcp_crr's five segments to the server a cache of destinations carries one, the acknowledgement of the response. netserver has
// closed by then: 28 of 46,000 segments were carried inwards, all that were eligible.
func (*econAttachment) ForgetsClosed() {}

// progIntoContainer is for the lane's end in the container, ingress.
const progIntoContainer = "into_container"

var econKind = cacheKind{
	spec:    loadEcon,
	needs:   append([]helperNeed{{asm.FnSkStorageGet, "5.2"}}, overlayNeeds...),
	release: "released",
	gone:    econGone,
	passes:  true,
}

// econOf is its kind with a setting.
func econOf(setting string) cacheKind {
	kind := econKind
	if settingsOf(setting).has(econSockets) {
		kind.inside, kind.counts = progIntoContainer, countsAssigned
	}
	return kind
}

// econGone makes what says whether a flow's socket was closed: its entry goes with the next packet.
func econGone(maps map[string]*ebpf.Map) (func(value []byte) bool, error) {
	living := map[uint64]bool{}
	sockets := make([]uint64, batch)
	if err := readAll(maps["living"], sockets, make([]uint8, batch), false, func(i int) { living[sockets[i]] = true }); err != nil {
		return nil, fmt.Errorf("living: %w", err)
	}
	return func(value []byte) bool {
		socket := binary.NativeEndian.Uint64(value[16:])
		return socket != 0 && !living[socket]
	}, nil
}
