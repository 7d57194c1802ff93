// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/netspace"
)

// dockerBridge matches the bridges that an engine makes and names by itself. One that was given a name by its user looks
// like any other bridge, and a host may well have its own address on one.
var dockerBridge = regexp.MustCompile(`^(docker0|docker_gwbridge|br-[0-9a-f]{12})$`)

// Underlay lists the IPv4 addresses of the calling thread's network namespace that may be the host's end of the wire:
// of global scope, on devices that are up and neither the loopback nor made by an engine for its containers. Those that
// the default route leaves by come first.
func Underlay() ([]agentproto.Address, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("underlay addresses: %w", err)
	}
	defer h.Close()
	links, err := netspace.Whole(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("underlay addresses: devices: %w", err)
	}
	defaults, err := defaultDevices(h)
	if err != nil {
		return nil, err
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("underlay addresses: %w", err)
	}
	defer e.Close()
	addresses := []agentproto.Address{}
	for _, link := range links {
		if !mayBeWire(link) {
			continue
		}
		found, err := netspace.Whole(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_V4) })
		if err != nil {
			return nil, fmt.Errorf("underlay addresses: %s: %w", link.Attrs().Name, err)
		}
		for _, a := range found {
			if a.Scope != int(netlink.SCOPE_UNIVERSE) {
				continue
			}
			addresses = append(addresses, agentproto.Address{
				Prefix: a.IPNet.String(), Device: link.Attrs().Name, Driver: driver(e, link),
				MTU: link.Attrs().MTU, Default: slices.Contains(defaults, link.Attrs().Index),
			})
		}
	}
	slices.SortFunc(addresses, func(a, b agentproto.Address) int {
		if a.Default != b.Default {
			return map[bool]int{true: -1, false: 1}[a.Default]
		}
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.Prefix, b.Prefix))
	})
	return addresses, nil
}

// mayBeWire leaves out what carries no packets to another host, and what an engine made.
func mayBeWire(link netlink.Link) bool {
	a := link.Attrs()
	if a.Flags&net.FlagUp == 0 || a.Flags&net.FlagLoopback != 0 || a.RawFlags&unix.IFF_LOWER_UP == 0 { // the last: no carrier
		return false
	}
	switch link.Type() {
	case "bridge":
		return !dockerBridge.MatchString(a.Name)
	case "veth":
		return a.MasterIndex == 0 // a port of a bridge is a container's
	case "vxlan":
		return false
	}
	return true
}

// driver is what ethtool says, and for a device that ethtool knows nothing of, its kind.
func driver(e *ethtool.Ethtool, link netlink.Link) string {
	if name, err := e.DriverName(link.Attrs().Name); err == nil && name != "" {
		return name
	}
	return link.Type()
}

// defaultDevices are the devices that the IPv4 default route of the main table leaves by: of several such routes the
// one with the lowest metric counts, as it does for the kernel.
func defaultDevices(h *netlink.Handle) ([]int, error) {
	routes, err := netspace.Whole(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("underlay addresses: routes: %w", err)
	}
	var best *netlink.Route
	for i, r := range routes {
		if isDefault(r) && r.Type == unix.RTN_UNICAST && (best == nil || r.Priority < best.Priority) {
			best = &routes[i]
		}
	}
	if best == nil {
		return nil, nil
	}
	devices := []int{best.LinkIndex}
	for _, hop := range best.MultiPath {
		devices = append(devices, hop.LinkIndex)
	}
	return devices, nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}
