// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
)

// laneKind has the tests that do not say by which lane run by one kind: whatever holds for the preferred one has to hold for all.
var laneKind = flag.String("lane", "", "kind of lane for tests that do not ask for one; default: the preferred one")

// gatewayNames are those of the gateway bridge beside a host's network, and of a container's port of it.
func (host *testHost) gatewayNames(inner netip.Addr) (bridge, port string) {
	return fmt.Sprintf("gw%d", host.vni), fmt.Sprintf("p%d-%d", host.vni, inner.As4()[3])
}

// gateway gives a container what an engine gives it besides its overlay, until it is removed: a device on a bridge of the host's, and the
// default route.
func (host *testHost) gateway(t *testing.T, container netns.NsHandle, inner netip.Addr) (remove func()) {
	t.Helper()
	name, port := host.gatewayNames(inner)
	prefix, n := fmt.Sprintf("198.18.%d.", 78+host.vni-4242), inner.As4()[3]
	do(t, host.host, func(h *netlink.Handle) error {
		bridge, err := h.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			if err = h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err == nil {
				err = up(h, name, prefix+"1/24")
			}
			if err == nil {
				bridge, err = h.LinkByName(name)
			}
		}
		return steps(func() error { return err },
			func() error {
				return h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port, MasterIndex: bridge.Attrs().Index}, PeerName: "eth1", PeerNamespace: netlink.NsFd(container)})
			},
			func() error { return up(h, port, "") })
	})
	do(t, container, func(h *netlink.Handle) error {
		return steps(func() error { return up(h, "eth1", fmt.Sprintf("%s%d/24", prefix, n)) },
			func() error {
				gw := netip.MustParseAddr(prefix + "1")
				return h.RouteAdd(&netlink.Route{Gw: gw.AsSlice()})
			})
	})
	return func() {
		do(t, host.host, func(h *netlink.Handle) error {
			link, err := h.LinkByName(port)
			if err != nil {
				return err
			}
			return h.LinkDel(link)
		})
	}
}

// laneDevices are the kind of a host's first lane and its devices: the host's end, its other end in the container, and the device that the
// container's own redirects to.
func laneDevices(t *testing.T, host *testHost) (kind, outer, inner, lane string) {
	t.Helper()
	l := host.attached.(*overlay).endpoints[0].lane
	do(t, host.host, func(h *netlink.Handle) error {
		link, err := h.LinkByIndex(l.into())
		if err == nil {
			outer = link.Attrs().Name
		}
		return err
	})
	do(t, host.container, func(h *netlink.Handle) error {
		link, err := h.LinkByIndex(l.inside())
		if err != nil {
			return err
		}
		lane = link.Attrs().Name
		links, err := netspace.Whole(h.LinkList)
		for _, other := range links {
			if other.Attrs().Index == l.receiver() {
				inner = other.Attrs().Name
			}
		}
		return err
	})
	return l.kind(), outer, inner, lane
}

// eachWayIn runs a test with every kind of lane, and with one of two pairs.
func eachWayIn(t *testing.T, test func(t *testing.T, k fastKind, lane string)) {
	eachLane(t, func(t *testing.T, lane string) { test(t, fastKinds()[0], lane) })
	t.Run("two pairs", func(t *testing.T) { test(t, twoPairs(), laneMacvlan) })
}

// twoPairs is a fast path whose lanes of kind macvlan have two.
func twoPairs() fastKind { return fastKind{"oncache:" + settingDirect, oncacheKind, settingDirect} }

// waysIn are the pairs of devices by which frames get into a host's container, the host's end first.
func waysIn(t *testing.T, host *testHost) (ways [][2]string) {
	t.Helper()
	l := host.attached.(*overlay).endpoints[0].lane
	into, asked := l.asked()
	for _, way := range [][2]int{{l.into(), l.receiver()}, {into, asked.index}} {
		var names [2]string
		for i, ns := range []netns.NsHandle{host.host, host.container} {
			do(t, ns, func(h *netlink.Handle) error {
				link, err := h.LinkByIndex(way[i])
				if err == nil {
					names[i] = link.Attrs().Name
				}
				return err
			})
		}
		if !slices.Contains(ways, names) {
			ways = append(ways, names)
		}
	}
	return ways
}

// TestNextDoorByItsDevice has a neighbour's packets arrive on the container's own device, as its rules want.
func TestNextDoorByItsDevice(t *testing.T) {
	eachWayIn(t, func(t *testing.T, k fastKind, lane string) {
		host := twoHosts(t, k)[0]
		near, leave := host.join(t, "decaf", netip.MustParseAddr("198.19.77.44"), net.HardwareAddr{2, 66, 198, 19, 77, 44})
		t.Cleanup(leave)
		host.attach(t, econbench.AttachOptions{Lane: lane})
		host.arrivesByItsDevice(t)
		tap := packetSocket(t, host.container, "eth0", 100*time.Millisecond)
		stream(t, near, host, 1_000_001, "")
		pingPong(t, near, host, 300, 1422)
		if c := host.counters(t); c["egress.hits"] < 0.8*c["egress.seen"] || c["egress.hits"] < 600 || c["lost.refused"]+c["lost.failed"] != 0 {
			t.Errorf("%v", c)
		}
		b, seen := make([]byte, 70_000), 0
		for {
			n, from, err := unix.Recvfrom(tap, b, 0)
			if err != nil {
				break
			}
			if at, ok := from.(*unix.SockaddrLinklayer); ok && at.Pkttype != unix.PACKET_OUTGOING && n > 1000 {
				seen++
			}
		}
		if seen < 300 {
			t.Errorf("%d long frames arrived on the container's own device, want at least the datagrams", seen)
		}
	})
}

// arrivesByItsDevice has what arrives by lanes go on to the containers' own devices from now on, as for a rule that asks for devices.
func (host *testHost) arrivesByItsDevice(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is missing")
	}
	do(t, host.container, func(*netlink.Handle) error {
		out, err := exec.Command("nft", "add table ip t { chain c { type filter hook input priority 0; iifname nosuch drop; }; }").CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
	host.waitArrives(t, "device")
}

// waitArrives waits until the first container's lane leads where it should, by the container's rules.
func (host *testHost) waitArrives(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(patience); host.status(t).Containers[0].Arrives != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the lane leads to %+v, want %s", host.status(t).Containers[0], want)
		}
	}
}

// hooks are those that this kernel has. By its version: one that should have tcx and does not let it be used fails a test.
func hooks() []string {
	if v, err := features.LinuxVersionCode(); err == nil && v < 6<<16|6<<8 {
		return []string{econbench.HookFilter}
	}
	return []string{econbench.HookTCX, econbench.HookFilter}
}

// eachLane runs a test by each kind of lane that this kernel has.
func eachLane(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range laneKinds() {
		t.Run(kind, func(t *testing.T) {
			if os.Geteuid() != 0 {
				t.Skip("needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make network namespaces")
			}
			if _, err := lanesOf(nil, kind); err != nil {
				t.Skip(err)
			}
			test(t, kind)
		})
	}
}

// TestLaneKinds has a maker for each name, and names in the order of the programs' enum.
func TestLaneKinds(t *testing.T) {
	spec, err := loadOncache()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("lane_kind", &enum); err != nil {
		t.Fatal(err)
	}
	for i, kind := range laneKinds() {
		if want := "LANE_" + strings.ToUpper(kind); enum.Values[i].Name != want || enum.Values[i].Value != uint64(i) {
			t.Errorf("%s is %+v, want %s = %d", kind, enum.Values[i], want, i)
		}
		if !slices.ContainsFunc(lanes(nil), func(m laneMaker) bool { return m.kind() == kind }) {
			t.Errorf("nothing makes lanes of kind %s", kind)
		}
	}
}

// TestLanes carries data by each kind in all directions, next door's too, and both hooks.
func TestLanes(t *testing.T) { eachKind(t, testLanes) }

func testLanes(t *testing.T, k fastKind) {
	eachLane(t, func(t *testing.T, kind string) {
		for _, hook := range hooks() {
			t.Run(hook, func(t *testing.T) {
				hosts := twoHosts(t, k)
				near, leave := hosts[0].join(t, "decaf", netip.MustParseAddr("198.19.77.44"), net.HardwareAddr{2, 66, 198, 19, 77, 44})
				t.Cleanup(leave)
				for _, h := range hosts {
					h.attach(t, econbench.AttachOptions{Hook: hook, Lane: kind})
					for _, c := range h.status(t).Containers {
						if c.Lane != kind {
							t.Errorf("container %s has lane %s", c.Address, c.Lane)
						}
					}
				}
				stream(t, hosts[0], near, 3_000_001, "")
				pingPong(t, near, hosts[0], 300, 1422)
				next := hosts[0].counters(t)
				if next["egress.hits"] < 0.95*next["egress.seen"] || next["egress.hits"] < 600 || next["lost.refused"]+next["lost.failed"] != 0 {
					t.Errorf("next door: %v", next)
				}
				stream(t, hosts[0], hosts[1], 3_000_001, "")
				pingPong(t, hosts[1], hosts[0], 300, 1422)
				for i, h := range hosts {
					c := h.counters(t)
					if c["egress.hits"] < 0.95*c["egress.seen"] || c["ingress.hits"] < 0.95*c["ingress.seen"] || c["ingress.hits"] < 300 || c["lost.refused"]+c["lost.failed"] != 0 {
						t.Errorf("host %d: %v", i, c)
					}
				}
			})
		}
	})
}

// TestLanesBeside has neighbours with lanes of different kinds, as where one of them has no gateway: each reaches the other.
func TestLanesBeside(t *testing.T) {
	eachLane(t, func(t *testing.T, kind string) {
		hosts := twoHosts(t, fastKinds()[0])
		near, leave := hosts[0].join(t, "decaf", netip.MustParseAddr("198.19.77.44"), net.HardwareAddr{2, 66, 198, 19, 77, 44})
		t.Cleanup(leave)
		hosts[0].attach(t, econbench.AttachOptions{Lane: kind})
		o := hosts[0].attached.(*overlay)
		o.mu.Lock()
		defer o.mu.Unlock()
		if _, err := closeAll(o.endpoints[1:]); err != nil {
			t.Fatal(err)
		}
		e := &endpoint{local: o.endpoints[1].local, number: o.endpoints[1].number}
		o.endpoints[1] = e
		before := o.lanes
		defer func() { o.lanes = before }()
		var err error
		for _, other := range laneKinds() {
			if o.lanes, err = lanesOf(hosts[0].journal, other); err == nil && other != kind {
				break
			}
		}
		if err := o.take(e); err != nil {
			t.Fatal(err)
		}
		stream(t, hosts[0], near, 3_000_001, "")
		pingPong(t, near, hosts[0], 300, 1422)
		c, err := o.Read()
		if err != nil || c["egress.hits"] < 0.95*c["egress.seen"] || c["egress.hits"] < 600 || c["lost.refused"]+c["lost.failed"] != 0 {
			t.Errorf("%s to %s: %v %v", kind, e.lane.kind(), c, err)
		}
	})
}
