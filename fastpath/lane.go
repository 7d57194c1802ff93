// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// Kinds of lanes, by the names that users type, in the order of enum lane_kind in bpf/lib/overlay.h.
const (
	laneMacvlan = "macvlan"
	laneGateway = "gateway"
	laneNetkit  = "netkit"
)

func laneKinds() []string { return []string{laneMacvlan, laneGateway, laneNetkit} }

// lane is a container's way around its network's sandbox, in which no program can send a packet on: between the container's
// namespace and the host's, in both directions. Each kind has a file, with its drawing.
type lane interface {
	kind() string
	// inside is the device in the container that its own device's frames are redirected to.
	inside() int
	// outside is the device in the host's namespace where they come out, and at which hook.
	outside() (ifindex int, hook ebpf.AttachType)
	// into is the device in the host's namespace whose peer in the container takes frames in (bpf_redirect_peer).
	into() int
	// receiver is that peer, mac its hardware address.
	receiver() int
	mac() [6]byte
	// asked is into and receiver for what to_container has to look at: those, or others.
	asked() (into int, receiver end)
	// private says whether its devices are its own: nothing else hangs on them, and they go with it.
	private() bool
	// intact says whether it still leads there: a device may go, or become another's, while the container stays.
	intact(host *netlink.Handle) bool
	// close removes the lane; one that went with its container is fine.
	close() error
}

// laneMaker makes lanes of one kind.
type laneMaker interface {
	kind() string
	// possible says what the kernel lacks for them.
	possible() error
	make(at laneSite) (lane, error)
}

// laneSite is where a lane is to be.
type laneSite struct {
	host, container netns.NsHandle
	local
	number uint32
	progs  overlayPrograms
	apart  bool // what to_container has to look at comes by devices of its own, where the kind has any
}

// noLane says why a container can have no lane of a kind. It is no fault: another kind may do.
type noLane string

func (n noLane) Error() string { return string(n) }

// end is a device in a container.
type end struct {
	index int
	mac   [6]byte
}

// builtLane is one whose frames come out at the device that takes frames in, as with all kinds so far.
type builtLane struct {
	name   string
	lane   int // in the container
	outer  int // in the host's namespace
	bridge int // that it is a port of; 0: none
	hook   ebpf.AttachType
	peer   end // outer's other end
	apart  int // in the host's namespace, for what to_container has to look at; 0: outer does
	asks   end // and its other end
	undo   func() error
}

func (b *builtLane) kind() string                    { return b.name }
func (b *builtLane) inside() int                     { return b.lane }
func (b *builtLane) outside() (int, ebpf.AttachType) { return b.outer, b.hook }
func (b *builtLane) into() int                       { return b.outer }
func (b *builtLane) receiver() int                   { return b.peer.index }
func (b *builtLane) mac() [6]byte                    { return b.peer.mac }
func (b *builtLane) private() bool                   { return b.undo != nil }
func (b *builtLane) asked() (int, end) {
	if b.apart == 0 {
		return b.outer, b.peer
	}
	return b.apart, b.asks
}
func (b *builtLane) close() error {
	if b.undo == nil {
		return nil
	}
	return b.undo()
}

func (b *builtLane) intact(host *netlink.Handle) bool {
	link, err := host.LinkByIndex(b.outer)
	if err == nil && b.apart != 0 {
		_, err = host.LinkByIndex(b.apart)
	}
	return err == nil && link.Attrs().MasterIndex == b.bridge
}

// headroom is how much larger than the container's MTU that of the lane's devices is, in bytes: bpf_skb_adjust_room grows no
// frame past the MTU of the device that it is on.
const headroom = 64

// awaitUp waits until a device that was brought up carries packets: the kernel activates its queue when it has seen the carrier, a
// while later and in a work queue of its own (linkwatch), and until then drops what is sent on it. On a machine at load 20 that lost one
// of the first packets in 10 % of 100 attachments.
func awaitUp(h *netlink.Handle, name string) error { return comesUp(h, name, 5*time.Second) }

// comesUp is awaitUp for as long as one may wait.
func comesUp(h *netlink.Handle, name string, wait time.Duration) error {
	const again = time.Millisecond
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
	e, err := endOf(h, name)
	return e.mac, err
}

func endOf(h *netlink.Handle, name string) (e end, err error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return e, fmt.Errorf("device %s: %w", name, err)
	}
	mac, ok := macOf(link.Attrs().HardwareAddr)
	if !ok {
		return e, fmt.Errorf("device %s: hardware address %q: want one of Ethernet", name, link.Attrs().HardwareAddr)
	}
	return end{link.Attrs().Index, mac}, nil
}

// linkAlias tells people, and the next agent, whose a device is.
const linkAlias = "econbench fast path"

func attrs(name string, mtu int) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name, a.MTU, a.Alias = name, mtu, linkAlias
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
	err = tune.SetSysctls(ns,
		[2]string{"net.ipv6.conf." + name + ".disable_ipv6", "1"},
		[2]string{"net.ipv4.conf." + name + ".rp_filter", "0"},
		[2]string{"net.ipv4.conf." + name + ".forwarding", "0"},
		[2]string{"net.ipv4.conf." + name + ".arp_ignore", "8"},
	)
	if err != nil {
		return fmt.Errorf("device %s: %w", name, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("device %s: up: %w", name, err)
	}
	return nil
}

// laneName is one for a lane's device in the host's namespace; those in the container begin with it.
func laneName() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return tune.LinkPrefix + hex.EncodeToString(b)
}

// undo removes a lane by its device in the host's namespace. The journal, which does one thing at a time, finds it gone: most of what the kernel waits for when
// a device goes many can wait for at once.
func (at laneSite) undo(name string, made *tune.Applied) func() error {
	return func() error { return removeLink(at.host, name, made) }
}

func removeLink(ns netns.NsHandle, name string, made *tune.Applied) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	if link, err := h.LinkByName(name); err == nil {
		_ = h.LinkDel(link) // the journal says what it could not do
	}
	return made.Undo()
}

// handles opens netlink in both namespaces.
func (at laneSite) handles() (host, container *netlink.Handle, done func(), err error) {
	if host, err = netlink.NewHandleAt(at.host, unix.NETLINK_ROUTE); err != nil {
		return nil, nil, nil, err
	}
	if container, err = netlink.NewHandleAt(at.container, unix.NETLINK_ROUTE); err != nil {
		host.Close()
		return nil, nil, nil, err
	}
	return host, container, func() { host.Close(); container.Close() }, nil
}

// lanes are the kinds that there are, the preferred one first.
//
// macvlan is the fastest where it was measured, by 4 % over gateway (TestCosts; docs/fastpath.md has the table), and serves --internal
// networks and old kernels too. gateway comes last: it shares its device with other traffic and with the container's rules for that.
func lanes(j *tune.Journal) []laneMaker {
	return []laneMaker{macvlanLanes{j}, netkitLanes{j}, gatewayLanes{}}
}

// lanesOf are the makers of a kind that is asked for; "": of all that the kernel has, the preferred one first.
func lanesOf(j *tune.Journal, kind string) (found []laneMaker, err error) {
	if kind != "" && !slices.Contains(laneKinds(), kind) {
		return nil, names.Unknown("lane", kind, laneKinds())
	}
	var lacking []error
	for _, m := range lanes(j) {
		if kind != "" && m.kind() != kind {
			continue
		}
		if err := m.possible(); err != nil {
			lacking = append(lacking, fmt.Errorf("lane %s: %w", m.kind(), err))
			continue
		}
		found = append(found, m)
	}
	if len(found) == 0 {
		return nil, errors.Join(lacking...)
	}
	return found, nil
}

// makeLane makes the first of the kinds that the container can have.
func makeLane(makers []laneMaker, at laneSite) (lane, error) {
	var why []string
	for _, m := range makers {
		l, err := m.make(at)
		var unfit noLane
		switch {
		case err == nil:
			return l, nil
		case !errors.As(err, &unfit):
			return nil, fmt.Errorf("lane %s: %w", m.kind(), err)
		}
		why = append(why, fmt.Sprintf("lane %s: %s", m.kind(), unfit))
	}
	return nil, noLane(strings.Join(why, "; "))
}

// offers remembers what the kernel has and what it lacks, which does not change while an agent lives. Whatever else went wrong may pass.
var offers sync.Map // kind → *error

// offered asks the kernel for a kind of device by making one, in a namespace of its own that is gone with the call.
func offered(kind, option string, make func() error) error {
	if known, ok := offers.Load(kind); ok {
		return *known.(*error)
	}
	own, _, err := netspace.Own()
	if err != nil {
		return err
	}
	defer own.Close()
	err = netspace.In(own, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return make()
	})
	lacks := errors.Is(err, unix.EOPNOTSUPP)
	if lacks {
		err = fmt.Errorf("this kernel has no %s devices: %s is needed", kind, option)
	}
	if lacks || err == nil {
		offers.Store(kind, &err)
	}
	return err
}
