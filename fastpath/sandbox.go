// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// What is here reads an overlay network as Docker has built it in one host (libnetwork's overlay driver): a sandbox, which is
// a network namespace with a bridge, on it a vxlan device for each subnet and one end of a veth pair for each container of
// this host. Containers on other hosts stand as static entries in the vxlan device's tables: a neighbour (address → MAC) and
// a forwarding entry (MAC → host). Nothing is changed there.
//
// A network that others have built in the same way in the host's own namespace is read likewise, as if that were its sandbox, but for
// what belongs to other networks: it is known by its vxlan device, and that by its bridge.

// errNoSandbox says that no container of this host is on the network: Docker makes its sandbox with the first.
var errNoSandbox = errors.New("network has no container on this host")

// errNoTunnel is of a sandbox of another kind of network, or of one that Docker is just taking down after its last container.
var errNoTunnel = errors.New("no vxlan device")

// address is an address within an overlay: other subnets and networks may use it too.
type address struct {
	vni  uint32
	addr netip.Addr
}

func (a address) String() string { return fmt.Sprintf("%s (VNI %d)", a.addr, a.vni) }

// remote is a container on another host.
type remote struct {
	mac  [6]byte
	host netip.Addr // outer address
}

// local is a container on this host, by the device that it has on the network.
type local struct {
	name    string // of its namespace, as the engine has it
	vni     uint32
	space   netspace.ID
	ifindex int // of its device, in its namespace
	device  string
	mac     [6]byte
	addr    netip.Addr
	mtu     int

	isolated bool // its bridge lets it talk to no other port that is
}

// form is what of a tunnel's outer headers is its device's choice.
type form struct {
	port        uint16     // of the tunnels
	sourcePorts [2]uint16  // the second is not in it; 0: the namespace's
	underlay    netip.Addr // that it sends from; invalid: the route's choice
	odd         string     // what the programs can't do as the device does
}

// tables is what a sandbox says.
type tables struct {
	form
	remotes map[address]remote
	locals  []local
}

// sandbox is an open one.
type sandbox struct {
	cfg    OverlayConfig
	host   netns.NsHandle // whoever opened it closes this one
	ns     netns.NsHandle
	id     netspace.ID
	handle *netlink.Handle
}

// openSandbox opens a sandbox by its path in the engine's mount namespace, or the host's own namespace for a tunnel in it.
func openSandbox(cfg OverlayConfig, host netns.NsHandle) (*sandbox, error) {
	ns, id, err := cfg.namespace(host)
	if err != nil {
		return nil, err
	}
	s := &sandbox{cfg: cfg, host: host, ns: ns, id: id}
	if s.handle, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", cfg.place(), err), ns.Close())
	}
	return s, nil
}

// namespace opens the namespace that the sandbox is in.
func (cfg OverlayConfig) namespace(host netns.NsHandle) (ns netns.NsHandle, id netspace.ID, err error) {
	at := uintptr(host)
	if cfg.Tunnel == "" {
		f, err := netspace.AtPath(cfg.Sandbox)
		if err != nil {
			return netns.None(), id, fmt.Errorf("%w: %w", errNoSandbox, err)
		}
		defer f.Close()
		at = f.Fd()
	}
	fd, err := unix.FcntlInt(at, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return netns.None(), id, fmt.Errorf("%s: %w", cfg.place(), err)
	}
	ns = netns.NsHandle(fd)
	if id, err = netspace.Identify(ns); err != nil {
		return netns.None(), id, errors.Join(fmt.Errorf("%s: %w", cfg.place(), err), ns.Close())
	}
	return ns, id, nil
}

func (s *sandbox) close() {
	s.handle.Close()
	s.ns.Close()
}

// current says whether the path still leads to this sandbox: Docker makes a network's anew after its last container left.
func (s *sandbox) current() bool {
	ns, id, err := s.cfg.namespace(s.host)
	if err != nil {
		return false
	}
	ns.Close()
	return id == s.id
}

// tunnel is a vxlan device of a sandbox.
type tunnel struct {
	vni   uint32
	index int
	form
}

// read takes down what the tables say now. Containers that are held need not be opened for it.
func (s *sandbox) read(held []*endpoint) (t tables, err error) {
	t.remotes = map[address]remote{}
	links, err := netspace.Whole(s.handle.LinkList)
	if err != nil {
		return t, fmt.Errorf("%s: devices: %w", s.cfg.place(), err)
	}
	tunnels, err := s.tunnels(links)
	if err != nil {
		return t, err
	}
	first := true
	for _, tun := range tunnels {
		if !first && t.form != tun.form {
			return t, fmt.Errorf("%s: tunnels on UDP ports %d and %d: one is supported", s.cfg.place(), t.port, tun.port)
		}
		t.form, first = tun.form, false
		if err := s.readRemotes(tun, t.remotes); err != nil {
			return t, err
		}
	}
	t.locals, err = s.readLocals(links, tunnels, held)
	return t, err
}

// tunnels finds the network's vxlan devices, by the index of their bridges.
func (s *sandbox) tunnels(links []netlink.Link) (map[int]tunnel, error) {
	found := map[int]tunnel{}
	for _, l := range links {
		v, ok := l.(*netlink.Vxlan)
		if !ok || s.cfg.Tunnel != "" && v.Name != s.cfg.Tunnel {
			continue
		}
		found[v.MasterIndex] = tunnel{uint32(v.VxlanId), v.Index, formOf(v)}
	}
	switch {
	case len(found) > 0 && s.cfg.Tunnel != "":
		return found, s.alone(links, found)
	case len(found) > 0:
		return found, nil
	case s.cfg.Tunnel != "":
		return nil, fmt.Errorf("%s: %w of that name in the host's own namespace", s.cfg.place(), errNoTunnel)
	}
	return nil, fmt.Errorf("%s: %w: not an overlay network's", s.cfg.place(), errNoTunnel)
}

// alone makes sure that a tunnel has a bridge to itself, which joins all its ports: Docker's are so made.
func (s *sandbox) alone(links []netlink.Link, found map[int]tunnel) error {
	bridged := false
	for _, l := range links {
		bridge, ok := l.(*netlink.Bridge)
		_, has := found[l.Attrs().Index]
		_, beside := found[l.Attrs().MasterIndex]
		switch {
		case beside && l.Type() == "vxlan" && l.Attrs().Name != s.cfg.Tunnel && l.Attrs().MasterIndex != 0:
			return fmt.Errorf("%s: vxlan device %s is on its bridge as well: want a bridge with one", s.cfg.place(), l.Attrs().Name)
		case ok && has && bridge.VlanFiltering != nil && *bridge.VlanFiltering:
			return fmt.Errorf("%s: its bridge %s tells VLANs apart: want one that does not (vlan_filtering 0)", s.cfg.place(), bridge.Name)
		}
		bridged = bridged || ok && has
	}
	if !bridged {
		return fmt.Errorf("%s: it is on no bridge: want one that containers are on by veth pairs", s.cfg.place())
	}
	return nil
}

// formOf is the form of a tunnel's outer headers. Docker's devices have the kernel's defaults.
func formOf(v *netlink.Vxlan) (f form) {
	f.port, f.sourcePorts = uint16(v.Port), [2]uint16{uint16(v.PortLow), uint16(v.PortHigh)}
	if src, ok := netip.AddrFromSlice(v.SrcAddr); ok {
		f.underlay = src.Unmap()
	}
	switch {
	case v.FlowBased:
		f.odd = "its tunnels are chosen packet by packet (external)"
	case v.GBP:
		f.odd = "it tells groups of packets (gbp)"
	case v.TOS != 0:
		f.odd = fmt.Sprintf("TOS %#x of its own: want 0", v.TOS)
	case v.TTL != 0 && v.TTL != 64:
		f.odd = fmt.Sprintf("TTL %d: want auto or 64", v.TTL)
	}
	return f
}

// readRemotes joins a tunnel's neighbours and forwarding entries. What has one half alone is on its way in or out.
func (s *sandbox) readRemotes(tun tunnel, into map[address]remote) error {
	entries, err := netspace.Whole(func() ([]netlink.Neigh, error) { return s.handle.NeighList(tun.index, unix.AF_BRIDGE) })
	if err != nil {
		return fmt.Errorf("%s: forwarding entries: %w", s.cfg.place(), err)
	}
	hosts := map[[6]byte]netip.Addr{}
	for _, e := range entries {
		mac, ok := macOf(e.HardwareAddr)
		host, also := netip.AddrFromSlice(e.IP)
		if ok && also && host.Unmap().Is4() && e.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
			hosts[mac] = host.Unmap()
		}
	}
	neighbours, err := netspace.Whole(func() ([]netlink.Neigh, error) { return s.handle.NeighList(tun.index, unix.AF_INET) })
	if err != nil {
		return fmt.Errorf("%s: neighbours: %w", s.cfg.place(), err)
	}
	for _, n := range neighbours {
		mac, ok := macOf(n.HardwareAddr)
		addr, also := netip.AddrFromSlice(n.IP)
		host, known := hosts[mac]
		if ok && also && known && addr.Unmap().Is4() && n.State&netlink.NUD_PERMANENT != 0 {
			into[address{tun.vni, addr.Unmap()}] = remote{mac, host}
		}
	}
	return nil
}

func macOf(b net.HardwareAddr) (mac [6]byte, ok bool) {
	if len(b) != len(mac) {
		return mac, false
	}
	return [6]byte(b), true
}

// ours tells containers' namespaces from those that Docker keeps for itself: sandboxes ("1-…"), load balancers ("lb_…") and
// the ingress network's.
func ours(name string) bool {
	return !strings.HasPrefix(name, "1-") && !strings.HasPrefix(name, "lb_") && !strings.HasPrefix(name, "ingress_") && name != "default"
}

// readLocals finds the containers behind the bridges' ports. A port's other end is in a namespace that the sandbox knows by a
// number alone, so the engine's namespaces are asked for theirs.
func (s *sandbox) readLocals(links []netlink.Link, tunnels map[int]tunnel, held []*endpoint) ([]local, error) {
	spaces, err := netspace.Under(s.cfg.spaces())
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, n := range spaces {
			n.Close()
		}
	}()
	byID := map[int]netspace.Named{}
	for _, n := range spaces {
		if !ours(n.Name) {
			continue
		}
		if id, err := s.handle.GetNetNsIdByFd(int(n.Fd())); err == nil && id >= 0 {
			byID[id] = n
		}
	}
	var found []local
	for _, l := range links {
		tun, onBridge := tunnels[l.Attrs().MasterIndex]
		if l.Type() != "veth" || !onBridge {
			continue
		}
		n, ok := byID[l.Attrs().NetNsID]
		if !ok {
			continue // Docker's own, or gone meanwhile
		}
		end, err := readLocal(n, l.Attrs().ParentIndex, held)
		if err != nil {
			continue // without an address yet, or gone meanwhile; whoever changes it is heard of
		}
		end.vni = tun.vni
		if s.cfg.Tunnel != "" { // Docker isolates none
			if end.isolated, err = s.isolated(l); err != nil {
				continue
			}
		}
		found = append(found, end)
	}
	slices.SortFunc(found, func(a, b local) int { return a.addr.Compare(b.addr) })
	return found, nil
}

// isolated says whether a bridge's port may talk to no other that is isolated as well.
func (s *sandbox) isolated(port netlink.Link) (bool, error) {
	p, err := netspace.Whole(func() ([]netlink.Protinfo, error) {
		p, err := s.handle.LinkGetProtinfo(port)
		return []netlink.Protinfo{p}, err
	})
	return err == nil && p[0].Isolated, err
}

// readLocal looks at a container's device.
func readLocal(n netspace.Named, index int, held []*endpoint) (l local, err error) {
	var h *netlink.Handle
	if e := holder(n, held); e != nil {
		l.space, h = e.space, e.look
	} else {
		ns := netns.NsHandle(n.Fd())
		if l.space, err = netspace.Identify(ns); err != nil {
			return l, err
		}
		if h, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE); err != nil {
			return l, err
		}
		defer h.Close()
	}
	link, err := h.LinkByIndex(index)
	if err != nil {
		return l, err
	}
	addrs, err := netspace.Whole(func() ([]netlink.Addr, error) { return h.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return l, err
	}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && !l.addr.IsValid() {
			l.addr = addr.Unmap()
		}
	}
	mac, ok := macOf(link.Attrs().HardwareAddr)
	if !ok || !l.addr.IsValid() {
		return l, fmt.Errorf("device %s of %s: no IPv4 address", link.Attrs().Name, n.Name)
	}
	l.name, l.ifindex, l.device, l.mac, l.mtu = n.Name, index, link.Attrs().Name, mac, link.Attrs().MTU
	return l, nil
}

// holder is the endpoint that holds a namespace. Its inode number is no other namespace's for as long.
func holder(n netspace.Named, held []*endpoint) *endpoint {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.Fd()), &st); err != nil {
		return nil
	}
	i := slices.IndexFunc(held, func(e *endpoint) bool { return e.space.Inode == st.Ino && e.space.Dev == st.Dev && e.look != nil })
	if i < 0 {
		return nil
	}
	return held[i]
}

// open opens the container's namespace again, and makes sure that it is still the same.
func (l local) open(folder string) (netns.NsHandle, error) {
	f, err := netspace.AtPath(path.Join(folder, l.name))
	if err != nil {
		return netns.None(), err
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return netns.None(), err
	}
	ns := netns.NsHandle(fd)
	id, err := netspace.Identify(ns)
	if err == nil && id != l.space {
		err = fmt.Errorf("network namespace %s: another one by now", l.name)
	}
	if err != nil {
		return netns.None(), errors.Join(err, ns.Close())
	}
	return ns, nil
}

// sourcePorts is the range that a vxlan device takes outer source ports from which has none of its own: that of its namespace
// (udp_flow_src_port()).
func sourcePorts(ns netns.NsHandle) (r [2]uint16, err error) {
	const key = "net.ipv4.ip_local_port_range"
	text, err := tune.SysctlIn(ns, key)
	if err != nil {
		return r, err
	}
	low, high, _ := strings.Cut(text, " ")
	for i, s := range []string{low, high} {
		n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
		if err != nil {
			return r, fmt.Errorf("sysctl %s: %q: want two ports", key, text)
		}
		r[i] = uint16(n)
	}
	return r, nil
}
