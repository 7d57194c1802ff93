// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// gatewayLanes are lanes by the device that the engine gives a container as its way to the gateway (docker_gwbridge), both ways. Nothing
// is made:
//
//	container                      host
//	┌───────────────────────┐     ┌────────────────────────────────────┐
//	│ eth0 ─redirect─► eth1 ┼─────┼─► veth, ingress: from_lane ────────┼─redirect─► NIC
//	│        stack ◄── eth1 ┼─────┼── veth ◄──redirect_peer ───────────┼── NIC, ingress: from_wire
//	└───────────────────────┘     │     └── all else ─► gateway bridge │
//	                              └────────────────────────────────────┘
//
// The container's own traffic to the gateway passes untouched: from_lane knows the fast path's frames by a tag (bpf/lib/tag.h) that nobody
// in a container can forge. So what it could do by this device with CAP_NET_RAW is what it could do before.
//
// What it costs against the others: a trip through the backlog on the way out. Rules for the gateway's device may not judge what arrives by
// it, so it relies on owndevice.go more than they do. An --internal network's containers have no such device.
type gatewayLanes struct{}

func (gatewayLanes) kind() string    { return laneGateway }
func (gatewayLanes) possible() error { return nil }

func (g gatewayLanes) make(at laneSite) (lane, error) {
	h, c, done, err := at.handles()
	if err != nil {
		return nil, err
	}
	defer done()
	inner, outer, err := gatewayPair(at, h, c)
	if err != nil {
		return nil, err
	}
	name := inner.Attrs().Name
	for _, l := range []netlink.Link{inner, outer} {
		if mtu := l.Attrs().MTU; mtu < at.mtu {
			return nil, noLane(fmt.Sprintf("the MTU of %s or its other end, %d, is smaller than %d, that of %s", name, mtu, at.mtu, at.device))
		}
	}
	if strict, err := strictSource(at.container, name); err != nil || strict {
		if err != nil {
			return nil, err
		}
		return nil, noLane(fmt.Sprintf("net.ipv4.conf.%s.rp_filter is 1 in it: what arrives that way would be dropped", name))
	}
	made := &builtLane{name: g.kind(), lane: inner.Attrs().Index, outer: outer.Attrs().Index, bridge: outer.Attrs().MasterIndex, hook: ebpf.AttachTCXIngress}
	made.peer, err = endOf(c, name)
	return made, err
}

// strictSource says whether a device takes in only what would be answered by it: the larger of two settings is in force.
func strictSource(ns netns.NsHandle, device string) (bool, error) {
	strictest := "0"
	for _, of := range []string{"all", device} {
		v, err := tune.SysctlIn(ns, "net.ipv4.conf."+of+".rp_filter")
		if err != nil {
			return false, fmt.Errorf("device %s: %w", device, err)
		}
		strictest = max(strictest, v)
	}
	return strictest == "1", nil
}

// gatewayPair finds the container's device whose other end is a port of a bridge in the host's namespace.
func gatewayPair(at laneSite, h, c *netlink.Handle) (inner, outer netlink.Link, err error) {
	const none = noLane("it has no device on a gateway bridge, as on an --internal network")
	id, err := c.GetNetNsIdByFd(int(at.host))
	if err != nil {
		return nil, nil, fmt.Errorf("host's namespace as the container knows it: %w", err)
	}
	if id < 0 {
		return nil, nil, none // nothing in it leads there
	}
	links, err := netspace.Whole(c.LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("container's devices: %w", err)
	}
	for _, l := range links {
		if l.Type() != "veth" || l.Attrs().NetNsID != id || l.Attrs().Flags&net.FlagUp == 0 || l.Attrs().Index == at.ifindex {
			continue
		}
		end, err := h.LinkByIndex(l.Attrs().ParentIndex)
		if err != nil || end.Type() != "veth" || end.Attrs().ParentIndex != l.Attrs().Index || end.Attrs().MasterIndex == 0 {
			continue
		}
		return l, end, nil
	}
	return nil, nil, none
}
