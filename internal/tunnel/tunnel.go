// SPDX-License-Identifier: Apache-2.0

// Package tunnel builds one host's end of a plain VXLAN network by netlink: a bridge in the host's own network namespace, on it a
// vxlan device that learns nothing, and a veth pair from the bridge into each container, which has no other network.
//
//	┌ container ┐     host's own network namespace
//	│    eth0 ──┼──── NAMEv ── NAME (bridge) ── NAMEx (vxlan) ══ UDP ══ the other host's
//	└───────────┘
//
// Containers on other hosts stand as static entries of the vxlan device, as an agent of flannel's or Docker's driver would write
// them: a neighbour (address → hardware address), by which it answers ARP for them, and a forwarding entry (hardware address → host).
// No device of the host's has an address of that network, or any IPv6.
//
// What outlives a killed agent goes through the journal of internal/tune. The package knows no container engine and chooses
// nothing: names, addresses and the network's number are its caller's.
package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// Overhead is what VXLAN over IPv4 takes of the wire's MTU, in bytes.
const Overhead = 50

// Inside is the container's device.
const Inside = "eth0"

// Spec asks for a host's end.
type Spec struct {
	Name     string       `json:"name"` // of the bridge, at most 14 characters, with others 13; the other devices' begin with it
	VNI      uint32       `json:"vni"`
	Port     uint16       `json:"port"`     // UDP; other networks of this host may use it too
	Wire     string       `json:"wire"`     // the underlay's device
	Underlay netip.Addr   `json:"underlay"` // this host's address on it
	MTU      int          `json:"mtu"`      // of the network's devices
	PID      int          `json:"pid"`      // of the container's first process
	Addr     netip.Prefix `json:"addr"`     // of the container
	Others   []Guest      `json:"others,omitempty"`
	Peers    []Peer       `json:"peers"`
}

// Guest is a further container on this host.
type Guest struct {
	PID  int        `json:"pid"` // of its first process
	Addr netip.Addr `json:"addr"`
}

// mostGuests is how many a name has room for.
const mostGuests = 8

// Peer is a container on another host.
type Peer struct {
	Addr netip.Addr `json:"addr"`
	Host netip.Addr `json:"host"`
}

// Bridge and VXLAN are the names of a network's devices in each host.
func (s Spec) Bridge() string { return s.Name }
func (s Spec) VXLAN() string  { return s.Name + "x" }
func (s Spec) port() string   { return s.Name + "v" }

// HardwareAddr is that of a container's device, made from its address as engines do, so that hosts need not tell each other.
func HardwareAddr(addr netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0xec}, addr.AsSlice()...)
}

func (s Spec) check() error {
	switch {
	case s.VNI == 0 || s.VNI >= 1<<24:
		return fmt.Errorf("network %s: VNI %d: want one from 1 to %d", s.Name, s.VNI, 1<<24-1)
	case s.Port == 0:
		return fmt.Errorf("network %s: UDP port 0: want one from 1 to 65535", s.Name)
	case !s.Addr.IsValid() || !s.Addr.Addr().Is4() || !s.Underlay.Is4():
		return fmt.Errorf("network %s: addresses %s upon %s: want IPv4", s.Name, s.Addr, s.Underlay)
	case len(s.Others) > mostGuests:
		return fmt.Errorf("network %s: %d containers beside the first: want %d at most", s.Name, len(s.Others), mostGuests)
	case s.MTU < 68: // RFC 791
		return fmt.Errorf("network %s: MTU %d: want 68 or more", s.Name, s.MTU)
	}
	for _, g := range s.Others {
		if !s.Addr.Contains(g.Addr) || g.Addr == s.Addr.Addr() {
			return fmt.Errorf("network %s: container at %s: want another address of %s", s.Name, g.Addr, s.Addr.Masked())
		}
	}
	for _, p := range s.Peers {
		if !s.Addr.Contains(p.Addr) || p.Addr == s.Addr.Addr() || !p.Host.Is4() {
			return fmt.Errorf("network %s: peer %s on host %s: want another address of %s, and an IPv4 host", s.Name, p.Addr, p.Host, s.Addr.Masked())
		}
	}
	return nil
}

// End is a host's end that stands.
type End struct {
	Done []string // a line for each thing that was made

	steps []*tune.Applied
}

// Undo takes it down, newest first. What is gone with its container is fine.
func (e *End) Undo() error {
	var errs []error
	for _, s := range slices.Backward(e.steps) {
		errs = append(errs, s.Undo())
	}
	return errors.Join(errs...)
}

func (e *End) take(a *tune.Applied, err error) error {
	if err == nil {
		e.steps, e.Done = append(e.steps, a), append(e.Done, a.Done...)
	}
	return err
}

// builder makes the devices of one end.
type builder struct {
	Spec
	*End
	journal       *tune.Journal
	ns            netns.NsHandle
	host          *netlink.Handle // in it
	wire          netlink.Link
	bridge, vxlan netlink.Link
}

// Build makes a host's end in the calling thread's network namespace, which is the journal's, towards a container and the others. When
// it fails nothing is left.
func Build(j *tune.Journal, container netns.NsHandle, s Spec) (_ *End, err error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	b := &builder{Spec: s, End: &End{}, journal: j}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("network %s: %w", s.Name, err), b.Undo())
		}
	}()
	var own netspace.ID
	if b.ns, own, err = netspace.Own(); err != nil {
		return nil, err
	}
	defer b.ns.Close()
	if b.host, err = netlink.NewHandleAt(b.ns, unix.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	defer b.host.Close()
	for _, step := range []func() error{b.findWire, b.makeBridge, b.makeVXLAN, b.introduce} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := b.join(b.port(), container, b.Addr.Addr()); err != nil {
		return nil, err
	}
	for i, g := range s.Others {
		if err := b.joinGuest(fmt.Sprint(b.port(), i+2), own, g); err != nil {
			return nil, fmt.Errorf("container at %s: %w", g.Addr, err)
		}
	}
	return b.End, b.take(j.Forward(s.Bridge()))
}

// joinGuest joins a container that is known by its first process.
func (b *builder) joinGuest(name string, own netspace.ID, g Guest) error {
	container, id, err := netspace.OfProcess(g.PID)
	if err != nil {
		return fmt.Errorf("process %d: %w", g.PID, err)
	}
	defer container.Close()
	if id == own {
		return fmt.Errorf("process %d is in the host's network namespace: want one of a container with its own", g.PID)
	}
	return b.join(name, container, g.Addr)
}

// join makes a pair of devices from the bridge into a container.
func (b *builder) join(name string, container netns.NsHandle, addr netip.Addr) error {
	inside, err := netlink.NewHandleAt(container, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := b.makePair(name, container, addr); err != nil {
		return err
	}
	return b.furnish(container, inside, addr)
}

func (b *builder) findWire() (err error) {
	if b.wire, err = b.host.LinkByName(b.Wire); err != nil {
		return fmt.Errorf("wire %q: %w", b.Wire, err)
	}
	return nil
}

func (b *builder) attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.Alias = name, b.MTU, "econbench topology"
	return a
}

// makeBridge makes one that floods multicast: one that watches it sends reports of its own, which nobody wants.
func (b *builder) makeBridge() error {
	name, watch := b.Bridge(), false
	err := b.take(b.journal.Link(name, func() error {
		return b.host.LinkAdd(&netlink.Bridge{LinkAttrs: b.attrs(name), MulticastSnooping: &watch})
	}))
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	b.bridge, err = b.bringUp(b.ns, b.host, name)
	return err
}

// makeVXLAN makes the tunnel's device: bound to the wire and this host's address, as flannel's is; with an outer checksum, as the
// kernel's default is and Docker's devices do it; answering ARP by its neighbours' table, as Docker's do.
func (b *builder) makeVXLAN() error {
	name, link := b.VXLAN(), b.attrs(b.VXLAN())
	link.MasterIndex = b.bridge.Attrs().Index
	err := b.take(b.journal.Link(name, func() error {
		return b.host.LinkAdd(&netlink.Vxlan{LinkAttrs: link, VxlanId: int(b.VNI), Port: int(b.Port), VtepDevIndex: b.wire.Attrs().Index,
			SrcAddr: b.Underlay.AsSlice(), Proxy: true, UDPCSum: true})
	}))
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("VNI %d on UDP port %d is taken by another network of this host: %w", b.VNI, b.Port, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("vxlan device: %w: this kernel has none", err)
	case err != nil:
		return fmt.Errorf("vxlan device: %w", err)
	}
	if b.vxlan, err = b.bringUp(b.ns, b.host, name); errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("UDP port %d is a program's: %w", b.Port, err)
	}
	return err
}

// introduce writes where the containers of other hosts are.
func (b *builder) introduce() error {
	for _, p := range b.Peers {
		index, mac := b.vxlan.Attrs().Index, HardwareAddr(p.Addr)
		err := b.host.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
			State: netlink.NUD_PERMANENT, IP: p.Host.AsSlice(), HardwareAddr: mac})
		if err != nil {
			return fmt.Errorf("peer %s: forwarding entry: %w", p.Addr, err)
		}
		if err := b.host.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: p.Addr.AsSlice(), HardwareAddr: mac}); err != nil {
			return fmt.Errorf("peer %s: neighbour: %w", p.Addr, err)
		}
	}
	return nil
}

func (b *builder) makePair(name string, container netns.NsHandle, addr netip.Addr) error {
	link := b.attrs(name)
	link.MasterIndex = b.bridge.Attrs().Index
	err := b.take(b.journal.Link(name, func() error {
		return b.host.LinkAdd(&netlink.Veth{LinkAttrs: link, PeerName: Inside, PeerNamespace: netlink.NsFd(container),
			PeerHardwareAddr: HardwareAddr(addr), PeerMTU: uint32(b.MTU)})
	}))
	if err != nil {
		return fmt.Errorf("veth pair: %w", err)
	}
	_, err = b.bringUp(b.ns, b.host, name)
	return err
}

// furnish gives a container's device its address.
func (b *builder) furnish(container netns.NsHandle, inside *netlink.Handle, addr netip.Addr) error {
	link, err := inside.LinkByName(Inside)
	if err != nil {
		return fmt.Errorf("container's %s: %w", Inside, err)
	}
	prefix := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(b.Addr.Bits(), 32)}
	if err := inside.AddrAdd(link, &netlink.Addr{IPNet: prefix}); err != nil {
		return fmt.Errorf("container's %s: address %s: %w", Inside, addr, err)
	}
	_, err = b.bringUp(container, inside, Inside)
	return err
}

// bringUp brings a device up, which would tell of itself by IPv6.
func (b *builder) bringUp(ns netns.NsHandle, h *netlink.Handle, name string) (netlink.Link, error) {
	if err := tune.SetSysctl(ns, "net.ipv6.conf."+name+".disable_ipv6", "1"); err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	link, err := h.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("device %s: up: %w", name, err)
	}
	return link, nil
}
