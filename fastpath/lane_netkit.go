// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench/internal/tune"
)

// netkitLanes are lanes of one netkit pair, both ways (Linux 6.7, CONFIG_NETKIT):
//
//	container                      host
//	┌───────────────────────┐     ┌──────────────────────────────────┐
//	│ eth0 ─redirect─► peer ┼─────┼─► from_lane ──────────redirect───┼─► NIC
//	│        stack ◄── peer ┼─────┼── primary ◄────redirect_peer ────┼── NIC, ingress: from_wire
//	└───────────────────────┘     └──────────────────────────────────┘
//
// What the peer transmits meets the programs of its hook in the sender's context, as if on the primary: no trip through a softirq
// backlog, and no device in between. The policy of both ends is to drop: what from_lane does not send on, or anything at all once the
// agent and with it that program is gone, reaches nobody. Into the primary end goes what comes from next door alone (to_lane).
type netkitLanes struct{ journal *tune.Journal }

func (netkitLanes) kind() string { return laneNetkit }

func netkitPair(primary, peer netlink.LinkAttrs) *netlink.Netkit {
	pair := &netlink.Netkit{LinkAttrs: primary, Mode: netlink.NETKIT_MODE_L2, Policy: netlink.NETKIT_POLICY_BLACKHOLE, PeerPolicy: netlink.NETKIT_POLICY_BLACKHOLE,
		Scrub: netlink.NETKIT_SCRUB_DEFAULT, PeerScrub: netlink.NETKIT_SCRUB_DEFAULT}
	pair.SetPeerAttrs(&peer)
	return pair
}

func (netkitLanes) possible() error {
	return offered(laneNetkit, "Linux 6.7 or newer with CONFIG_NETKIT", func() error {
		return netlink.LinkAdd(netkitPair(netlink.LinkAttrs{Name: "primary"}, netlink.LinkAttrs{Name: "peer"}))
	})
}

func (n netkitLanes) make(at laneSite) (_ lane, err error) {
	h, c, done, err := at.handles()
	if err != nil {
		return nil, err
	}
	defer done()
	primary := laneName()
	peer := primary + "l"
	inside := attrs(peer, at.mtu+headroom)
	inside.Namespace = netlink.NsFd(at.container)
	pair, err := n.journal.Link(primary, func() error { return h.LinkAdd(netkitPair(attrs(primary, at.mtu+headroom), inside)) })
	if err != nil {
		return nil, fmt.Errorf("netkit pair: %w", err)
	}
	made := &builtLane{name: n.kind(), hook: ebpf.AttachNetkitPeer, undo: at.undo(primary, pair)}
	defer func() {
		if err != nil {
			err = errors.Join(err, made.close())
		}
	}()
	if made.outer, err = indexOf(h, primary); err != nil {
		return nil, err
	}
	if made.peer, err = endOf(c, peer); err != nil {
		return nil, err
	}
	made.lane = made.peer.index
	err = errors.Join(quieten(at.host, h, primary), quieten(at.container, c, peer))
	return made, errors.Join(err, awaitUp(h, primary), awaitUp(c, peer))
}
