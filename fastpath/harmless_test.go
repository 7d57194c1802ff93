// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// What is here holds a container with a lane against one without: what it hears, what it can send, and what its programs and rules
// see of it.

// overheard is what a host's underlay and stack may say to everybody, by what it is.
func overheard(from [6]byte) map[string][]byte {
	to := func(mac ...byte) []byte { return append(mac, from[:]...) }
	ip := func(proto byte, dst string, payload ...byte) []byte {
		return append(appendIP([]byte{8, 0}, proto, netip.MustParseAddr("198.18.77.1"), netip.MustParseAddr(dst), len(payload)), payload...)
	}
	udp := []byte{0, 68, 0, 67, 0, 16, 0, 0, 'u', 'n', 'd', 'e', 'r', 'l', 'a', 'y'}
	icmp6 := append([]byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255}, bytes.Repeat([]byte{0xfe, 0x80, 0, 0, 0, 0, 0, 1}, 4)...)
	all := map[string][]byte{
		"ARP, to all":                append(to(255, 255, 255, 255, 255, 255), 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 198, 18, 77, 1, 0, 0, 0, 0, 0, 0, 198, 18, 77, 2),
		"broadcast":                  append(to(255, 255, 255, 255, 255, 255), ip(unix.IPPROTO_UDP, "255.255.255.255", udp...)...),
		"multicast":                  append(to(1, 0, 0x5e, 0, 0, 251), ip(unix.IPPROTO_UDP, "224.0.0.251", udp...)...),
		"IPv6 neighbour discovery":   append(append(to(0x33, 0x33, 255, 0, 0, 2), icmp6...), append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16)...)...),
		"IPv6 router advertisement":  append(append(to(0x33, 0x33, 0, 0, 0, 1), icmp6...), append([]byte{134, 0, 0, 0, 64, 0, 0, 9}, make([]byte, 16)...)...),
		"link layer discovery":       append(to(1, 0x80, 0xc2, 0, 0, 0x0e), 0x88, 0xcc, 2, 7, 4, 1, 2, 3, 4, 5, 6, 0, 0),
		"unicast, of a strange type": append(to(2, 0, 0, 0, 0, 1), 0x88, 0xb5, 1, 2, 3, 4),
	}
	for what, f := range all {
		all[what] = append(append(f, "overheard"...), make([]byte, 60)...)
	}
	return all
}

// TestLaneHearsNothing puts what is said to everybody onto the wire, and into the lane from the host's side: nothing of it is heard in
// the container.
func TestLaneHearsNothing(t *testing.T) {
	eachWayIn(t, func(t *testing.T, k fastKind, kind string) {
		hosts := twoHosts(t, k)
		hosts[0].attach(t, econbench.AttachOptions{Lane: kind})
		tap := packetSocket(t, hosts[0].container, "", 100*time.Millisecond)
		senders := map[string]int{"the wire": packetSocket(t, hosts[1].host, testWire, patience)}
		if kind != laneGateway { // a container hears its gateway
			for _, way := range waysIn(t, hosts[0]) {
				senders["the host's end "+way[0]] = packetSocket(t, hosts[0].host, way[0], patience)
			}
		}
		for by, fd := range senders {
			for what, f := range overheard(hardwareAddressIn(t, hosts[1].host, testWire)) {
				for _, mac := range [][]byte{nil, hosts[0].mac} { // as it is, and for the container
					sent := bytes.Clone(f)
					copy(sent, mac)
					if _, err := unix.Write(fd, sent); err != nil && err != unix.ENOBUFS {
						t.Fatalf("%s by %s: %v", what, by, err)
					}
				}
			}
		}
		stream(t, hosts[0], hosts[1], 200_000, "") // it is heard of after all that
		b, heard := make([]byte, 70_000), 0
		for {
			n, _, err := unix.Recvfrom(tap, b, 0)
			if err != nil {
				break
			}
			heard++
			if bytes.Contains(b[:n], []byte("overheard")) {
				t.Errorf("the container hears % x", b[:n])
			}
		}
		if heard < 10 { // super-frames are few
			t.Errorf("the container hears %d frames: nothing of its own", heard)
		}
	})
}

// TestReceiverSendsNothing has a container put frames that it might send into the end of the lane that it receives by. They reach
// nobody; netkit's and a gateway's are the lane itself, for TestSendsNothingElse.
func TestReceiverSendsNothing(t *testing.T) {
	hosts := twoHosts(t, twoPairs())
	hosts[0].attach(t, econbench.AttachOptions{Lane: laneMacvlan})
	b := newBench(t, hosts[1], hosts[0])
	quiet(t, hosts[1].container)
	b.knownToSender()
	ways := waysIn(t, hosts[0])
	if len(ways) != 2 {
		t.Fatalf("ways in: %v, want two", ways)
	}
	for _, way := range ways {
		receiverSendsNothing(t, hosts, b, way)
	}
}

func receiverSendsNothing(t *testing.T, hosts [2]*testHost, b *bench, way [2]string) {
	t.Helper()
	taps := map[string]int{
		"wire":               packetSocket(t, hosts[1].host, testWire, 100*time.Millisecond),
		"host's other ports": packetSocket(t, hosts[0].host, "gw4242", 100*time.Millisecond),
	}
	at := packetSocket(t, hosts[0].host, way[0], patience) // sees them come out, before the guard does
	fd := packetSocket(t, hosts[0].container, way[1], patience)
	sent := 0
	for port := range knownPorts {
		for _, protocol := range []byte{protoTCP, protoUDP, protoICMP} {
			f := b.frame(recipe{protocol: protocol, port: port, payload: 60})[encapsulation:]
			copy(f[len(f)-9:], "forbidden")
			for _, mac := range [][]byte{nil, {255, 255, 255, 255, 255, 255}, {1, 0, 0x5e, 0, 0, 1}} {
				copy(f, mac)
				if _, err := unix.Write(fd, f); err != nil {
					t.Fatal(err)
				}
				sent++
			}
		}
	}
	buf := make([]byte, 70_000)
	for seen := 0; seen < sent; {
		n, _, err := unix.Recvfrom(at, buf, 0)
		if err != nil {
			t.Fatalf("%d of %d frames came out on the host's side: %v", seen, sent, err)
		}
		if bytes.HasSuffix(buf[:n], []byte("forbidden")) {
			seen++
		}
	}
	for where, tap := range taps {
		for {
			n, _, err := unix.Recvfrom(tap, buf, 0)
			if err != nil {
				break
			}
			if bytes.HasSuffix(buf[:n], []byte("forbidden")) {
				t.Errorf("%s: % x", where, buf[:n])
			}
		}
	}
}

// TestLaneDevices are links and nothing more: no address, no route, no ARP, no IPv6. Programs list devices and join groups as before.
func TestLaneDevices(t *testing.T) {
	eachWayIn(t, func(t *testing.T, k fastKind, kind string) {
		hosts := twoHosts(t, k)
		names := func() (all []string) {
			for _, i := range in(t, hosts[0].container, net.Interfaces) {
				all = append(all, i.Name)
			}
			return all
		}
		before := names()
		hosts[0].attach(t, econbench.AttachOptions{Lane: kind})
		do(t, hosts[0].container, func(h *netlink.Handle) error {
			ours := 0
			links, err := netspace.Whole(h.LinkList)
			for _, l := range links {
				if slices.Contains(before, l.Attrs().Name) {
					continue
				}
				ours++
				m, straight := l.(*netlink.Macvlan)
				straight = straight && m.Mode == netlink.MACVLAN_MODE_SOURCE // it has no part in IP at all (TestDirectIsNoDoor)
				addrs, addrErr := h.AddrList(l, netlink.FAMILY_ALL)
				routes, routeErr := h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: l.Attrs().Index}, netlink.RT_FILTER_OIF)
				if len(addrs)+len(routes) > 0 || addrErr != nil || routeErr != nil || l.Attrs().RawFlags&unix.IFF_NOARP == 0 && !straight || l.Attrs().Promisc != 0 {
					t.Errorf("%s: addresses %v, routes %v, flags %#x; %v %v", l.Attrs().Name, addrs, routes, l.Attrs().RawFlags, addrErr, routeErr)
				}
			}
			want := map[string]int{laneMacvlan: 2, laneNetkit: 1, laneGateway: 0}[kind]
			if k.with != "" {
				want += 2
			}
			if ours != want {
				t.Errorf("%d new devices, want %d", ours, want)
			}
			return err
		})
		group := net.UDPAddr{IP: net.IPv4(239, 1, 2, 3), Port: 7654}
		l := in(t, hosts[0].container, func() (*net.UDPConn, error) {
			eth0, err := net.InterfaceByName("eth0")
			if err != nil {
				return nil, err
			}
			return net.ListenMulticastUDP("udp4", eth0, &group)
		})
		defer l.Close()
		c := in(t, hosts[0].container, func() (net.Conn, error) {
			return (&net.Dialer{LocalAddr: &net.UDPAddr{IP: hosts[0].inner.AsSlice()}}).Dial("udp4", group.String())
		})
		defer c.Close()
		_ = l.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		if n, _, err := l.ReadFromUDP(make([]byte, 9)); n != 5 || err != nil {
			t.Errorf("a group's datagram: %d bytes, %v", n, err)
		}
	})
}

// echoed says whether an echo is answered: soon, or as long as it is expected.
func echoed(t *testing.T, c net.Conn, expected bool) bool {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
		_, _ = c.Write([]byte("?"))
		if n, _ := c.Read(make([]byte, 100)); n > 0 {
			return true
		}
		if !expected || time.Now().After(deadline) {
			return false
		}
	}
}

// TestRules has a container's own rules judge an established flow's packets, whatever they match, and what a new flow begins with.
func TestRules(t *testing.T) { eachKind(t, testRules) }

func testRules(t *testing.T, k fastKind) {
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("iptables is missing")
	}
	eachLane(t, func(t *testing.T, kind string) {
		hosts := twoHosts(t, k)
		for _, h := range hosts {
			h.attach(t, econbench.AttachOptions{Lane: kind})
		}
		iptables := func(rule string) {
			t.Helper()
			do(t, hosts[1].container, func(*netlink.Handle) error {
				out, err := exec.Command("iptables", strings.Fields("-w "+rule)...).CombinedOutput()
				if err != nil {
					return fmt.Errorf("iptables %s: %w: %s", rule, err, out)
				}
				return nil
			})
		}
		iptables("-A OUTPUT -m conntrack --ctstate ESTABLISHED") // connections are tracked from the first such rule on
		stop := hosts[1].echo(t, 7777, "rules")
		defer stop()
		dial := func() net.Conn {
			c := in(t, hosts[0].container, func() (net.Conn, error) { return net.Dial("udp4", hosts[1].inner.String()+":7777") })
			t.Cleanup(func() { c.Close() })
			return c
		}
		c := dial()
		for range 20 {
			echoed(t, c, true)
		}
		for _, r := range []struct {
			rule   string
			passes bool // the flow that is established
		}{
			{"INPUT -p udp --dport 7777 -j DROP", false}, {"INPUT -s " + hosts[0].inner.String() + " -j DROP", false},
			{"INPUT -i eth0 -p udp -j DROP", false}, {"INPUT ! -i eth0 -j DROP", true}, {"INPUT -i econb+ -j DROP", true}, {"INPUT -i eth1 -j DROP", true},
			{"INPUT -m conntrack --ctstate INVALID,NEW -j DROP", true}, {"INPUT -m conntrack --ctstate ESTABLISHED -j DROP", false},
			{"OUTPUT -o eth0 -p udp -j DROP", false}, {"OUTPUT ! -o eth0 -j DROP", true}, {"OUTPUT -m conntrack --ctstate ESTABLISHED -j DROP", false},
		} {
			iptables("-A " + r.rule)
			arrives := "lane"
			if strings.Contains(r.rule, "-i ") {
				arrives = "device"
			}
			hosts[1].waitArrives(t, arrives)
			before := hosts[1].counters(t)
			if echoed(t, c, r.passes) != r.passes {
				t.Errorf("%s: an established flow passes: %t", r.rule, !r.passes)
			}
			if after := hosts[1].counters(t); after["ingress.hits"] == before["ingress.hits"] {
				t.Errorf("%s: the flow was not on the fast path", r.rule)
			}
			iptables("-D " + r.rule)
			if !echoed(t, c, true) {
				t.Fatalf("%s, and without it again: no answer", r.rule)
			}
		}
		iptables("-A INPUT -i eth0 -m conntrack --ctstate ESTABLISHED -j ACCEPT")
		hosts[1].waitArrives(t, "device")
		iptables("-P INPUT DROP")
		if !echoed(t, c, true) || echoed(t, dial(), false) {
			t.Error("rules that let established flows pass alone: want the old one to, and a new one not")
		}
	})
}

// TestLaneGoes has a container lose the device that its lane is by, as an engine takes the gateway's away when it connects the container
// to another network: it gets another lane, or is left to the kernel's path when there is none, and its packets arrive.
func TestLaneGoes(t *testing.T) {
	for _, forced := range []string{"", laneGateway} {
		t.Run("forced "+forced, func(t *testing.T) {
			hosts := twoHosts(t, fastKinds()[0])
			for _, h := range hosts {
				h.attach(t, econbench.AttachOptions{Lane: laneGateway})
			}
			pingPong(t, hosts[0], hosts[1], 20, 100)
			o := hosts[0].attached.(*overlay)
			o.mu.Lock()
			var err error
			o.lanes, err = lanesOf(hosts[0].journal, forced)
			o.mu.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			_, port := hosts[0].gatewayNames(hosts[0].inner)
			do(t, hosts[0].host, func(h *netlink.Handle) error {
				link, err := h.LinkByName(port)
				if err != nil {
					return err
				}
				return h.LinkDel(link)
			})
			for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
				s := hosts[0].status(t)
				if forced == "" && len(s.Containers) == 1 && s.Containers[0].Lane == laneMacvlan || forced != "" && len(s.Containers) == 0 && strings.Contains(s.Refused[hosts[0].inner.String()], "gateway bridge") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the lane's device is gone, and the status is %+v", s)
				}
			}
			before := hosts[0].counters(t)
			pingPong(t, hosts[0], hosts[1], 100, 100)
			if carried := hosts[0].counters(t)["egress.hits"] > before["egress.hits"]; carried != (forced == "") {
				t.Errorf("carried: %t", carried)
			}
		})
	}
}

// TestGatewayTraffic passes untouched while the device that it takes is a lane too.
func TestGatewayTraffic(t *testing.T) {
	hosts := twoHosts(t, fastKinds()[0])
	hosts[0].attach(t, econbench.AttachOptions{Lane: laneGateway})
	at := &testHost{container: hosts[0].host, inner: netip.MustParseAddr("198.18.78.1")}
	from := &testHost{container: hosts[0].container, inner: netip.MustParseAddr("198.18.78.2")}
	stream(t, from, at, 3_000_001, "")
	stream(t, at, from, 3_000_001, "")
	pingPong(t, from, at, 50, 1472)
	c := hosts[0].counters(t)
	if n := c["egress.eligible"] + c["egress.hits"] + c["lost.refused"] + c["lost.failed"] + c["ingress.seen"]; n != 0 {
		t.Errorf("counted of it: %v", c)
	}
}

// TestNoLane says why a container can have no lane of a kind that was asked for.
func TestNoLane(t *testing.T) {
	hosts := twoHosts(t, fastKinds()[0])
	do(t, hosts[0].container, func(h *netlink.Handle) error {
		return tune.SetSysctl(hosts[0].container, "net.ipv4.conf.eth1.rp_filter", "1")
	})
	err := hosts[0].tryAttach(t, econbench.AttachOptions{Lane: laneGateway})
	want := "198.19.77.2: lane gateway: net.ipv4.conf.eth1.rp_filter is 1 in it: what arrives that way would be dropped"
	if err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("error %v, want it to end with %q", err, want)
	}
	do(t, hosts[0].container, func(h *netlink.Handle) error {
		eth1, err := h.LinkByName("eth1")
		if err != nil {
			return err
		}
		return h.LinkDel(eth1)
	})
	if err := hosts[0].tryAttach(t, econbench.AttachOptions{Lane: laneGateway}); err == nil || !strings.HasSuffix(err.Error(), "lane gateway: it has no device on a gateway bridge, as on an --internal network") {
		t.Errorf("no gateway: %v", err)
	}
	if _, lacking := lanesOf(nil, laneNetkit); lacking != nil {
		if err := hosts[0].tryAttach(t, econbench.AttachOptions{Lane: laneNetkit}); err == nil || !strings.Contains(err.Error(), "Linux 6.7 or newer with CONFIG_NETKIT is needed") {
			t.Errorf("no netkit: %v", err)
		}
	}
}
