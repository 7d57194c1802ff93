// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"sync"

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
//
// With the setting "direct" there is a second pair beside it, guarded both ways by filters that stay. What to_container has to look at comes by that one,
// so no program stands at vpc, which is 0.05 us of a packet's (docs/speed.md):
//
//	stack ◄── to_container ◄── vqc ─┼── vqh ◄──redirect_peer── NIC, ingress: from_wire
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
	needed := []string{progDrop}
	if at.apart {
		needed = append(needed, progToLane)
	}
	guards, err := at.progs.guards(at.local, at.number, needed...)
	if err != nil {
		return nil, err
	}
	defer guards.Close()
	var pairs []*guardedPair
	made := &builtLane{name: m.kind(), hook: ebpf.AttachTCXEgress, undo: func() error { return removePairs(pairs) }}
	defer func() {
		if err != nil {
			err = errors.Join(err, made.close())
		}
	}()
	p, err := m.pair(at, h, c, guards.Programs[progDrop], &pairs)
	if err != nil {
		return nil, err
	}
	made.outer, made.peer = p.outer, p.inner
	if at.apart {
		q, err := m.pair(at, h, c, guards.Programs[progDrop], &pairs)
		if err != nil {
			return nil, err
		}
		if _, err := addFilter(h, point{at.host, q.outer, ebpf.AttachTCXEgress}, guards.Programs[progToLane], q.name); err != nil {
			return nil, err
		}
		made.apart, made.asks = q.outer, q.inner
	}
	mtu, inside := at.mtu+headroom, p.name+"l"
	lane := attrs(inside, mtu)
	lane.ParentIndex, lane.Namespace = made.outer, netlink.NsFd(at.container)
	if err := h.LinkAdd(&netlink.Macvlan{LinkAttrs: lane, Mode: netlink.MACVLAN_MODE_PRIVATE}); err != nil {
		return nil, fmt.Errorf("macvlan: %w", err)
	}
	if made.lane, err = indexOf(c, inside); err != nil {
		return nil, err
	}
	for _, p := range pairs {
		err = errors.Join(err, quieten(at.host, h, p.name), quieten(at.container, c, p.peer))
	}
	err = errors.Join(err, quieten(at.container, c, inside))
	for _, p := range pairs {
		err = errors.Join(err, awaitUp(h, p.name), awaitUp(c, p.peer))
	}
	return made, errors.Join(err, awaitUp(c, inside))
}

// guardedPair is a pair of veth devices between host and container, by which frames get into the container alone.
type guardedPair struct {
	name, peer string // in the host's namespace, in the container
	outer      int
	inner      end
	remove     func() error
}

// pair makes one, not up yet, and adds it to those that are there as soon as there is something to be removed.
func (m macvlanLanes) pair(at laneSite, h, c *netlink.Handle, guard *ebpf.Program, pairs *[]*guardedPair) (_ *guardedPair, err error) {
	name, mtu := laneName(), at.mtu+headroom
	p := &guardedPair{name: name, peer: name + "p"}
	made, err := m.journal.Link(p.name, func() error {
		return h.LinkAdd(&netlink.Veth{LinkAttrs: attrs(p.name, mtu), PeerName: p.peer, PeerNamespace: netlink.NsFd(at.container), PeerMTU: uint32(mtu)})
	})
	if err != nil {
		return nil, fmt.Errorf("veth pair: %w", err)
	}
	p.remove = at.undo(p.name, made)
	*pairs = append(*pairs, p)
	if p.outer, err = indexOf(h, p.name); err != nil {
		return nil, err
	}
	if p.inner, err = endOf(c, p.peer); err != nil {
		return nil, err
	}
	_, err = addFilter(h, point{at.host, p.outer, ebpf.AttachTCXIngress}, guard, p.name)
	return p, err
}

// removePairs removes pairs beside each other: the kernel waits for much with each.
func removePairs(pairs []*guardedPair) error {
	errs := make([]error, len(pairs))
	var all sync.WaitGroup
	for i, p := range pairs {
		all.Go(func() { errs[i] = p.remove() })
	}
	all.Wait()
	return errors.Join(errs...)
}
