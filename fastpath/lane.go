// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/tune"
)

// lane is a container's way around its network's sandbox, in which no program can send a packet on: between the container's
// namespace and the host's, in both directions.
type lane interface {
	kind() string
	// inside is the device in the container that its own device's frames are redirected to.
	inside() int
	// outside is the device in the host's namespace where they come out, and at which hook.
	outside() (ifindex int, hook ebpf.AttachType)
	// into is the device in the host's namespace whose peer in the container takes frames in (bpf_redirect_peer).
	into() int
	// end and mac are the index, in the container, and the hardware address of that peer.
	end() int
	mac() [6]byte
	// close removes the lane; one that went with its container is fine.
	close() error
}

// laneMaker makes lanes of one kind.
type laneMaker interface {
	kind() string
	make(host netns.NsHandle, container netns.NsHandle, l local, drop *ebpf.Program) (lane, error)
}

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

func (macvlanLanes) kind() string { return "macvlan" }

type macvlanLane struct {
	made        *tune.Applied
	outer, lane int // indices of vph and of the lane
	inner       int // of vpc
	innerMAC    [6]byte
}

func (*macvlanLane) kind() string                      { return "macvlan" }
func (m *macvlanLane) inside() int                     { return m.lane }
func (m *macvlanLane) outside() (int, ebpf.AttachType) { return m.outer, ebpf.AttachTCXEgress }
func (m *macvlanLane) into() int                       { return m.outer }
func (m *macvlanLane) end() int                        { return m.inner }
func (m *macvlanLane) mac() [6]byte                    { return m.innerMAC }
func (m *macvlanLane) close() error                    { return m.made.Undo() }

// headroom is how much larger than the container's MTU that of the lane's devices is, in bytes: bpf_skb_adjust_room grows no
// frame past the MTU of the device that it is on.
const headroom = 64

func (m macvlanLanes) make(host, container netns.NsHandle, l local, drop *ebpf.Program) (_ lane, err error) {
	h, err := netlink.NewHandleAt(host, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	c, err := netlink.NewHandleAt(container, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	vph := tune.LinkPrefix + hex.EncodeToString(b)
	vpc, inside := vph+"p", vph+"l"
	made := &macvlanLane{}
	made.made, err = m.journal.Link(vph, func() error {
		return h.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs(vph, l.mtu+headroom), PeerName: vpc, PeerNamespace: netlink.NsFd(container), PeerMTU: uint32(l.mtu + headroom),
		})
	})
	if err != nil {
		return nil, fmt.Errorf("veth pair: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, made.close())
		}
	}()
	if made.outer, err = indexOf(h, vph); err != nil {
		return nil, err
	}
	lane := attrs(inside, l.mtu+headroom)
	lane.ParentIndex, lane.Namespace = made.outer, netlink.NsFd(container)
	if err := h.LinkAdd(&netlink.Macvlan{LinkAttrs: lane, Mode: netlink.MACVLAN_MODE_PRIVATE}); err != nil {
		return nil, fmt.Errorf("macvlan: %w", err)
	}
	if made.lane, err = indexOf(c, inside); err != nil {
		return nil, err
	}
	if made.inner, err = indexOf(c, vpc); err != nil {
		return nil, err
	}
	if made.innerMAC, err = hardwareAddress(c, vpc); err != nil {
		return nil, err
	}
	// None of the devices is up before this filter stands.
	if _, err := addFilter(h, point{host, made.outer, ebpf.AttachTCXIngress}, drop, vph); err != nil {
		return nil, err
	}
	err = errors.Join(quieten(host, h, vph), quieten(container, c, vpc), quieten(container, c, inside))
	return made, errors.Join(err, awaitUp(h, vph), awaitUp(c, vpc), awaitUp(c, inside))
}

// awaitUp waits until a device that was brought up carries packets: the kernel activates its queue when it has seen the carrier, a
// while later and in a work queue of its own (linkwatch), and until then drops what is sent on it. On a machine at load 20 that lost one
// of the first packets in 10 % of 100 attachments.
func awaitUp(h *netlink.Handle, name string) error {
	const wait, again = 5 * time.Second, time.Millisecond
	for end := time.Now().Add(wait); ; time.Sleep(again) {
		link, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
		state := link.Attrs().OperState
		if state == netlink.OperUp {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("device %s: its state is %q after %v, want up", name, state, wait)
		}
	}
}

func indexOf(h *netlink.Handle, name string) (int, error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("device %s: %w", name, err)
	}
	return link.Attrs().Index, nil
}

func hardwareAddress(h *netlink.Handle, name string) (mac [6]byte, err error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return mac, fmt.Errorf("device %s: %w", name, err)
	}
	mac, ok := macOf(link.Attrs().HardwareAddr)
	if !ok {
		return mac, fmt.Errorf("device %s: hardware address %q: want one of Ethernet", name, link.Attrs().HardwareAddr)
	}
	return mac, nil
}

func attrs(name string, mtu int) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.Alias = name, mtu, "econbench fast path"
	return a
}

// quieten brings a device up that says and hears nothing by itself, and that takes in addresses which are another device's.
func quieten(ns netns.NsHandle, h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	if err := h.LinkSetARPOff(link); err != nil {
		return fmt.Errorf("device %s: no ARP: %w", name, err)
	}
	for _, s := range []struct{ key, value string }{
		{"net.ipv6.conf." + name + ".disable_ipv6", "1"},
		{"net.ipv4.conf." + name + ".rp_filter", "0"},
		{"net.ipv4.conf." + name + ".forwarding", "0"},
		{"net.ipv4.conf." + name + ".arp_ignore", "8"},
	} {
		if err := tune.SetSysctl(ns, s.key, s.value); err != nil {
			return fmt.Errorf("device %s: %w", name, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: up: %w", name, err)
	}
	return nil
}

// lanes are the kinds that there are, the preferred one first.
func lanes(j *tune.Journal) []laneMaker { return []laneMaker{macvlanLanes{j}} }

func laneKinds() (kinds []string) {
	for _, m := range lanes(nil) {
		kinds = append(kinds, m.kind())
	}
	return kinds
}

// laneOf finds a kind by name; "" is the preferred one.
func laneOf(j *tune.Journal, kind string) (laneMaker, error) {
	all := lanes(j)
	i := slices.IndexFunc(all, func(m laneMaker) bool { return kind == "" || m.kind() == kind })
	if i < 0 {
		return nil, names.Unknown("lane", kind, laneKinds())
	}
	return all[i], nil
}
