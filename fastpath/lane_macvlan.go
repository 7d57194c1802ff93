// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench/internal/tune"
)

// macvlanLanes are lanes of a macvlan device upon the host's end of a private veth pair:
//
//	container                      host
//	┌───────────────────────┐     ┌────────────────────────────┐
//	│ eth0 ─redirect─► lane ┼─────┼─► vph, egress: from_lane ──┼─redirect─► NIC
//	│        stack ◄── vpc ─┼─────┼── vph ◄──redirect_peer ────┼── NIC, ingress: from_wire
//	└───────────────────────┘     └────────────────────────────┘
//
// A macvlan transmits on the device below it in the same call, in whatever namespace that is, so vph's egress hook runs on
// the host's side without the trip through a softirq backlog that a veth costs. Three designs were measured as
// prototypes (tcp_rr as a share of the host's): the gateway bridge's veth .87, this one .86, a macvlan upon the NIC itself a
// little more; but the last is an open door, since a container's frames are the NIC's before any program sees them.
//
// None of the three devices has an address, a route, ARP or IPv6. Private mode: the lane hears nothing. What the container
// sends into vpc is dropped where it comes out, by a filter that belongs to vph and stays if the agent is killed: it would
// come up in the host's stack otherwise. What it sends into the lane is judged by from_lane; with the agent and that program
// gone it ends up at vpc, in the container itself.
type macvlanLanes struct{ journal *tune.Journal }

func (macvlanLanes) kind() string { return laneMacvlan }

func (macvlanLanes) possible() error {
	below := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "below"}, PeerName: "peer"}
	return offered("macvlan", "CONFIG_MACVLAN", func() error {
		if err := netlink.LinkAdd(below); err != nil {
			return err
		}
		return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "lane", ParentIndex: below.Index}, Mode: netlink.MACVLAN_MODE_PRIVATE})
	})
}

func (m macvlanLanes) make(at laneSite) (_ lane, err error) {
	h, c, done, err := at.handles()
	if err != nil {
		return nil, err
	}
	defer done()
	guard, err := at.progs.drop(at.local, at.number)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	vph, mtu := laneName(), at.mtu+headroom
	vpc, inside := vph+"p", vph+"l"
	pair, err := m.journal.Link(vph, func() error {
		return h.LinkAdd(&netlink.Veth{LinkAttrs: attrs(vph, mtu), PeerName: vpc, PeerNamespace: netlink.NsFd(at.container), PeerMTU: uint32(mtu)})
	})
	if err != nil {
		return nil, fmt.Errorf("veth pair: %w", err)
	}
	made := &builtLane{name: m.kind(), hook: ebpf.AttachTCXEgress, undo: at.undo(vph, pair)}
	defer func() {
		if err != nil {
			err = errors.Join(err, made.close())
		}
	}()
	if made.outer, err = indexOf(h, vph); err != nil {
		return nil, err
	}
	lane := attrs(inside, mtu)
	lane.ParentIndex, lane.Namespace = made.outer, netlink.NsFd(at.container)
	if err := h.LinkAdd(&netlink.Macvlan{LinkAttrs: lane, Mode: netlink.MACVLAN_MODE_PRIVATE}); err != nil {
		return nil, fmt.Errorf("macvlan: %w", err)
	}
	if made.lane, err = indexOf(c, inside); err != nil {
		return nil, err
	}
	if made.peer, err = endOf(c, vpc); err != nil {
		return nil, err
	}
	// None of the devices is up before this filter stands.
	if _, err := addFilter(h, point{at.host, made.outer, ebpf.AttachTCXIngress}, guard.Programs[progDrop], vph); err != nil {
		return nil, err
	}
	err = errors.Join(quieten(at.host, h, vph), quieten(at.container, c, vpc), quieten(at.container, c, inside))
	return made, errors.Join(err, awaitUp(h, vph), awaitUp(c, vpc), awaitUp(c, inside))
}
