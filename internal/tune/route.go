// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
)

// Congestion control is set by route: the sysctl net.ipv4.tcp_congestion_control may be set in a network namespace only
// to what the first namespace allows, and it would change every connection of the host. A host route with RTAX_CC_ALGO
// (Linux 4.0) touches the connections to one address.

// routeProtocol marks our routes, so that undoing deletes those and no other. Numbers from 192 up are not used by
// routing daemons (/etc/iproute2/rt_protos; include/uapi/linux/rtnetlink.h).
const routeProtocol netlink.RouteProtocol = 236

// CongestionControlOf tells which algorithm a new connection from pid's network namespace (0: the calling thread's own)
// to an address would use, unless its program asks for another.
func CongestionControlOf(pid int, destination netip.Addr) (algorithm string, err error) {
	read := func() error {
		algorithm, err = congestionControl(destination)
		return err
	}
	if pid == 0 {
		return algorithm, read()
	}
	ns, _, err := netspace.OfProcess(pid)
	if err != nil {
		return "", fmt.Errorf("congestion control to %s: process %d: %w", destination, pid, err)
	}
	defer ns.Close()
	err = netspace.In(ns, read)
	return algorithm, err
}

func congestionControl(destination netip.Addr) (string, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return "", fmt.Errorf("congestion control to %s: %w", destination, err)
	}
	defer h.Close()
	routes, err := h.RouteGet(destination.AsSlice())
	if err != nil || len(routes) == 0 {
		return "", fmt.Errorf("congestion control to %s: route: %w", destination, orNone(err))
	}
	if routes[0].Congctl != "" {
		return routes[0].Congctl, nil
	}
	return readSysctl("net/ipv4/tcp_congestion_control")
}

// routeChange finds the route that a congestion control tuning changes, in the calling thread's network namespace.
func routeChange(t Tuning) ([]*change, error) {
	route, err := matchingRoute(t.Destination)
	if err != nil {
		return nil, err
	}
	before, err := readRoute(t.Destination.String(), route.Table)
	if err != nil {
		return nil, err
	}
	if before == "" && isHostRoute(route, t.Destination) {
		return nil, fmt.Errorf("congestion control to %s: a host route is there already (%s); want none, or one to a network", t.Destination, route)
	}
	return []*change{{Kind: KindCongestionControl, Name: t.Destination.String(), Table: route.Table, Before: before, After: t.Algorithm}}, nil
}

// matchingRoute is the route that the kernel uses for an address, as it was configured: without the path MTU and
// metrics that it has learned since.
func matchingRoute(destination netip.Addr) (*netlink.Route, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("congestion control to %s: %w", destination, err)
	}
	defer h.Close()
	routes, err := h.RouteGetWithOptions(destination.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err != nil || len(routes) == 0 {
		return nil, fmt.Errorf("congestion control to %s: route: %w", destination, orNone(err))
	}
	if routes[0].Type != unix.RTN_UNICAST {
		return nil, fmt.Errorf("congestion control to %s: route %s: want one to another host", destination, routes[0])
	}
	return &routes[0], nil
}

func orNone(err error) error {
	if err == nil {
		return unix.ENETUNREACH
	}
	return err
}

func isHostRoute(r *netlink.Route, a netip.Addr) bool {
	return r.Dst != nil && r.Priority == 0 && r.Tos == 0 && r.Dst.String() == netip.PrefixFrom(a, 32).String()
}

// readRoute returns the congestion control of our own route to an address, "" when we have none there.
func readRoute(destination string, table int) (string, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return "", fmt.Errorf("congestion control to %s: %w", destination, err)
	}
	defer h.Close()
	routes, err := ourRoutes(h, destination, table)
	if err != nil || len(routes) == 0 {
		return "", err
	}
	return routes[0].Congctl, nil
}

func ourRoutes(h *netlink.Handle, destination string, table int) ([]netlink.Route, error) {
	filter := &netlink.Route{Dst: hostNet(destination), Table: table, Protocol: routeProtocol}
	routes, err := netspace.Whole(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("congestion control to %s: routes: %w", destination, err)
	}
	return routes, nil
}

func hostNet(destination string) *net.IPNet {
	return &net.IPNet{IP: net.ParseIP(destination).To4(), Mask: net.CIDRMask(32, 32)}
}

// writeRoute takes our route to an address away and, unless algorithm is "", adds one made from the route that the
// kernel uses then.
func writeRoute(destination string, table int, algorithm string) error {
	address, err := netip.ParseAddr(destination)
	if err != nil || !address.Is4() {
		return fmt.Errorf("congestion control to %q: want an IPv4 address", destination)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("congestion control to %s: %w", destination, err)
	}
	defer h.Close()
	routes, err := ourRoutes(h, destination, table)
	if err != nil {
		return err
	}
	for i := range routes {
		if err := h.RouteDel(&routes[i]); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("congestion control to %s: delete route: %w", destination, err)
		}
	}
	if algorithm == "" {
		return nil
	}
	route, err := matchingRoute(address)
	if err != nil {
		return err
	}
	return addRoute(h, route, destination, algorithm)
}

func addRoute(h *netlink.Handle, route *netlink.Route, destination, algorithm string) error {
	ours := *route
	ours.Dst = hostNet(destination)
	ours.Protocol = routeProtocol
	ours.Priority = 0
	ours.Flags &= unix.RTNH_F_ONLINK // the others are states
	ours.Congctl = algorithm
	err := h.RouteAdd(&ours)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // tcp_ca_get_key_by_name found none
		if available, readErr := readSysctl("net/ipv4/tcp_available_congestion_control"); readErr == nil {
			return fmt.Errorf("congestion control to %s: algorithm %q: %w; net.ipv4.tcp_available_congestion_control has: %s", destination, algorithm, err, available)
		}
	}
	if err != nil {
		return fmt.Errorf("congestion control to %s: add route with congctl %s (CAP_NET_ADMIN): %w", destination, algorithm, err)
	}
	return nil
}

// checkRoute makes sure that a connection would use our route: a routing rule may lead elsewhere.
func checkRoute(destination, algorithm string) error {
	address, err := netip.ParseAddr(destination)
	if err != nil {
		return fmt.Errorf("congestion control to %q: %w", destination, err)
	}
	found, err := congestionControl(address)
	if err != nil {
		return err
	}
	if found != algorithm {
		return fmt.Errorf("congestion control to %s: route with congctl %s added, new connections would use %s all the same", destination, algorithm, found)
	}
	return nil
}
