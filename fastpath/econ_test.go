// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// econKinds are econ with each of its settings.
func econKinds(t *testing.T, test func(*testing.T, fastKind)) {
	for _, k := range fastKinds() {
		if k.release != "" {
			t.Run(k.name, func(t *testing.T) { test(t, k) })
		}
	}
}

// attachedBoth is two hosts with their fast paths at work.
func attachedBoth(t *testing.T, k fastKind) [2]*testHost {
	t.Helper()
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	return hosts
}

// items are the flows that a host lists, as "protocol state".
func (host *testHost) items(t *testing.T) (list []string) {
	t.Helper()
	s, err := host.attached.(econbench.Itemized).Items()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range s.(OverlayStatus).Items {
		list = append(list, f.Protocol+" "+f.State)
	}
	return list
}

// exchange sends a datagram or a segment and waits for as much to come back.
func exchange(t *testing.T, c net.Conn, rounds int) {
	t.Helper()
	b := make([]byte, 64)
	for range rounds {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write([]byte("round")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFlowsEndWithTheirSockets holds TCP and UDP flows open, one UDP socket with several peers, and closes them.
func TestFlowsEndWithTheirSockets(t *testing.T) { econKinds(t, testFlowsEndWithTheirSockets) }

func testFlowsEndWithTheirSockets(t *testing.T, k fastKind) {
	hosts := attachedBoth(t, k)
	server := in(t, hosts[1].container, func() (net.PacketConn, error) { return net.ListenPacket("udp4", hosts[1].inner.String()+":7000") })
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(b[:n], from)
		}
	}()
	listener := in(t, hosts[1].container, func() (net.Listener, error) { return net.Listen("tcp4", hosts[1].inner.String()+":7000") })
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		accepted <- c
		b := make([]byte, 64)
		for n, err := c.Read(b); err == nil; n, err = c.Read(b) {
			_, _ = c.Write(b[:n])
		}
	}()
	var clients []net.Conn
	for _, network := range []string{"udp4", "udp4", "udp4", "tcp4"} {
		c := in(t, hosts[0].container, func() (net.Conn, error) { return net.Dial(network, hosts[1].inner.String()+":7000") })
		defer c.Close()
		clients = append(clients, c)
		exchange(t, c, 20)
	}
	want := []string{"tcp established", "udp established", "udp established", "udp established"}
	for i, h := range hosts {
		if got := h.items(t); !slices.Equal(got, want) {
			t.Errorf("host %d: flows %v, want %v", i, got, want)
		}
	}
	before := hosts[1].counters(t)
	if before["ingress.hits"] < 4*15 {
		t.Errorf("%v segments came by the fast path, want nearly 80", before["ingress.hits"])
	}

	// The server's one socket with three peers: none of them is carried to it any more.
	server.Close()
	if got, want := hosts[1].items(t), want[:1]; !slices.Equal(got, want) {
		t.Errorf("server's host, its datagram socket closed: flows %v, want %v", got, want)
	}
	before = hosts[1].counters(t)
	for _, c := range clients[:3] {
		_, _ = c.Write([]byte("nobody"))
	}
	exchange(t, clients[3], 5)
	after := hosts[1].counters(t)
	if n := after["ingress.bail.flow"] - before["ingress.bail.flow"]; n != 3 {
		t.Errorf("%v datagrams for a closed socket were left to the kernel, want 3", n)
	}

	// The client closes first: by then no FIN has been sent, let alone answered.
	clients[3].Close()
	clients[0].Close()
	if got, want := hosts[0].items(t), want[1:3]; !slices.Equal(got, want) {
		t.Errorf("client's host, two sockets closed: flows %v, want %v", got, want)
	}
	(<-accepted).Close()
	if got := hosts[1].items(t); len(got) != 0 {
		t.Errorf("server's host, all closed: flows %v", got)
	}
}

// TestAnotherPortOfASocket has a socket that talks to several peers in turn, from several threads at once: each datagram has to
// go where it was sent to, whatever the socket remembers.
func TestAnotherPortOfASocket(t *testing.T) { econKinds(t, testAnotherPortOfASocket) }

func testAnotherPortOfASocket(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	third, remove := hosts[1].join(t, "third", netip.MustParseAddr("198.19.77.4"), net.HardwareAddr{2, 66, 198, 19, 77, 4})
	t.Cleanup(remove)
	hosts[0].knows(t, third, true)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	for _, h := range []*testHost{hosts[1], third} {
		stop := h.echo(t, 7000, h.inner.String())
		t.Cleanup(stop)
	}
	c := in(t, hosts[0].container, func() (net.PacketConn, error) { return net.ListenPacket("udp4", hosts[0].inner.String()+":0") })
	defer c.Close()
	const each = 2000
	for _, to := range []*testHost{hosts[1], third} {
		go func() {
			for range each {
				_, _ = c.WriteTo([]byte("who are you?"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.inner, 7000)))
				time.Sleep(20 * time.Microsecond)
			}
		}()
	}
	answers := map[string]int{}
	b := make([]byte, 100)
	for range 2 * each {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		n, from, err := c.ReadFrom(b)
		if err != nil {
			break // lost: receive buffers
		}
		name, _, _ := strings.Cut(string(b[:n]), " ")
		if name+":7000" != from.String() {
			t.Fatalf("%s answered as %s", from, name)
		}
		answers[name]++
	}
	if len(answers) != 2 || hosts[0].counters(t)["lost.refused"] != 0 {
		t.Errorf("answers %v, counters %v", answers, hosts[0].counters(t))
	}
	if hits := hosts[0].counters(t)["egress.hits"]; hits < each {
		t.Errorf("%v hits on the way out of %d datagrams", hits, 2*each)
	}
}

// TestGivenSockets looks whether packets are given their sockets, and only with the setting; and once, while programs that are being handed over
// stand there twice.
func TestGivenSockets(t *testing.T) { econKinds(t, testGivenSockets) }

func testGivenSockets(t *testing.T, k fastKind) {
	hosts := attachedBoth(t, k)
	for _, h := range hosts {
		h.handedOver(t)
		for _, program := range h.attached.(*overlay).endpoints[0].handovers {
			twin, err := attachFilter(program.at, program.program, program.owner)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = twin.Close() })
		}
	}
	pingPong(t, hosts[0], hosts[1], 100, 100)
	stream(t, hosts[0], hosts[1], 1_000_000, "")
	for i, h := range hosts {
		c := h.counters(t)
		if given := c["ingress.assigned"]; (given > 0) != (k.inside != "") || given > c["ingress.hits"] {
			t.Errorf("host %d: %v of %v segments were given their socket", i, given, c["ingress.hits"])
		}
	}
}

// TestOwnGeneration changes a peer under a flow: what is remembered is void at once, and known anew after the next packet.
func TestOwnGeneration(t *testing.T) {
	r := newRig(t, fastKinds()[1])
	key, frame := keyTo(protoUDP, there), wrapped(plain(protoUDP, false, 10))
	r.flow(key, flowAgreed)
	r.expect(r.cache.fromWire(), frame, skbuff{}, verdictRedirect, received(frame), frame[encapsulation:])
	r.must(r.cache.setRemote(address{testVNI, there}, remote{thereMAC, nextHop}, nextHop)) // the tables are asked now, which know it elsewhere
	r.expect(r.cache.fromWire(), frame, skbuff{}, verdictNext, bailed("ingress", "spoofed", 1), nil)
	r.must(r.cache.setRemote(address{testVNI, there}, remote{thereMAC, thereHost}, nextHop))
	r.expect(r.cache.fromWire(), frame, skbuff{}, verdictRedirect, received(frame), frame[encapsulation:])
	r.must(r.cache.forgetFlows())
	r.expect(r.cache.fromWire(), frame, skbuff{}, verdictNext, bailed("ingress", "flow", 1), nil)
}

// TestEconSetting refuses what is none.
func TestEconSetting(t *testing.T) {
	for s, ok := range map[string]bool{"": true, econSockets: true, "socket": false} {
		if err := (Econ{}).CheckSetting(s); (err == nil) != ok {
			t.Errorf("setting %q: %v", s, err)
		}
	}
	if _, err := (overlayDriver{Econ{}, nil, econOf}).Attach(context.Background(), []byte("{")); err == nil {
		t.Error("a configuration cut short is accepted")
	}
}
