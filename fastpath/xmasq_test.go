// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
)

func xmasqTest() fastKind { return fastKind{"xmasq", xmasqKind, ""} }

// server answers what it gets, by TCP and UDP on one port, until the test ends.
func (host *testHost) server(t *testing.T, port int) {
	t.Helper()
	at := fmt.Sprintf("%s:%d", host.inner, port)
	l := in(t, host.container, func() (net.Listener, error) { return net.Listen("tcp4", at) })
	u := in(t, host.container, func() (net.PacketConn, error) { return net.ListenPacket("udp4", at) })
	t.Cleanup(func() { l.Close(); u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = u.WriteTo(b[:n], from)
		}
	}()
}

// dial connects from a port of the container's to another container.
func (host *testHost) dial(t *testing.T, network string, port int, to *testHost, toPort int) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second}
	if network == "tcp4" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(host.inner, uint16(port)))
	} else {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(host.inner, uint16(port)))
	}
	c := in(t, host.container, func() (net.Conn, error) {
		return d.Dial(network, netip.AddrPortFrom(to.inner, uint16(toPort)).String())
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// masks is how many segments of a stretch of work a host sent masqueraded, and how many by the fast path in all.
func (host *testHost) masks(t *testing.T, work func()) (masked, hits float64) {
	t.Helper()
	before := host.counters(t)
	work()
	after := host.counters(t)
	return after["egress.masked"] - before["egress.masked"], after["egress.hits"] - before["egress.hits"]
}

// mostly says whether nearly all of it was.
func mostly(masked, hits float64) bool { return hits > 0 && masked > 0.8*hits }

// pump sends bytes through an echo and compares what comes back.
func pump(t *testing.T, c net.Conn, size int) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	want := bytes.Repeat([]byte("masquerade "), size/11+1)[:size]
	go func() { _, _ = c.Write(want) }()
	got := make([]byte, size)
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes came back as they were: %v", n, size, err)
	}
}

// agreed is what a host's flows remember of what was agreed, with times as ms ago.
func (host *testHost) agreed(t *testing.T) (text string) {
	t.Helper()
	now, err := monotonic()
	if err != nil {
		t.Fatal(err)
	}
	ago := func(at uint64) int64 { return (int64(now) - int64(at)) / 1e6 }
	var key flowKey
	var f xmasqFlow
	for it := host.attached.(*overlay).progs.(*cache).coll.Maps["flows"].Iterate(); it.Next(&key, &f); {
		text += fmt.Sprintf("{protocol %d state %d trust %d granted %d told %d (%d ms) ready %d confirmed %d restored %d probed %d probes %d blocked %d}",
			key.Protocol, f.State, f.Trust, f.Granted, f.Told, ago(f.ToldAt), ago(f.ReadyAt), ago(f.ConfirmedAt), ago(f.RestoredAt), ago(f.ProbedAt), f.Probes, -ago(f.BlockedUntil))
	}
	return text
}

// TestMasquerades has both transports masqueraded, with and without offloads of the wire, and looks at the frames there: their
// checksums hold, ports, DSCP, ECN and identification are the containers'.
func TestMasquerades(t *testing.T) {
	for _, offloaded := range []bool{false, true} {
		t.Run(fmt.Sprintf("offloads=%v", offloaded), func(t *testing.T) {
			hosts := attachedBoth(t, xmasqTest())
			if offloaded {
				for _, h := range hosts {
					do(t, h.host, func(*netlink.Handle) error { return offloads(true) })
				}
			}
			hosts[1].server(t, 7000)
			tcp, udp := hosts[0].dial(t, "tcp4", 40001, hosts[1], 7000), hosts[0].dial(t, "udp4", 40001, hosts[1], 7000)
			const tos = 0x2e<<2 | 2 // EF, ECT(0)
			raw, err := udp.(*net.UDPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, tos) })
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, tcp, 100)
			exchange(t, udp, 100)
			stop := capture(t, hosts[0])
			for i, h := range hosts {
				if masked, hits := h.masks(t, func() { exchange(t, udp, 500); pump(t, tcp, 2_000_000) }); !mostly(masked, hits) {
					t.Errorf("host %d: %v of %v segments masqueraded", i, masked, hits)
				}
			}
			seen := map[string]int{}
			for _, f := range stop() {
				if !masked(f) {
					continue
				}
				if err := soundIP(f[14:]); !offloaded && err != nil {
					t.Fatal(err)
				}
				src, dst := netip.AddrFrom4([4]byte(f[26:30])), netip.AddrFrom4([4]byte(f[30:34]))
				ports := [2]uint16{binary.BigEndian.Uint16(f[34:]), binary.BigEndian.Uint16(f[36:])}
				seen[fmt.Sprint(src, dst, ports, f[23])]++
				if src == hosts[0].outer && f[23] == unix.IPPROTO_UDP && f[15] != tos {
					t.Fatalf("TOS %#x on the wire, want the container's %#x", f[15], tos)
				}
			}
			for _, protocol := range []int{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				for _, want := range []string{fmt.Sprint(hosts[0].outer, hosts[1].outer, [2]uint16{40001, 7000}, protocol),
					fmt.Sprint(hosts[1].outer, hosts[0].outer, [2]uint16{7000, 40001}, protocol)} {
					if seen[want] < 30 { // super-frames are few
						t.Errorf("%d masqueraded frames %s; all: %v", seen[want], want, seen)
					}
				}
			}
			for i, h := range hosts {
				if c := h.counters(t); c["lost.refused"]+c["lost.failed"]+c["ingress.misses"] != 0 {
					t.Errorf("host %d: %v", i, c)
				}
			}
		})
	}
}

// TestPutBack sends datagrams of all kinds through a masqueraded flow and looks at what the container is given: TTL, TOS, flags,
// identification, UDP's missing checksum and all payloads are as they were sent.
func TestPutBack(t *testing.T) {
	hosts := attachedBoth(t, xmasqTest())
	hosts[1].server(t, 7000)
	c := hosts[0].dial(t, "udp4", 40001, hosts[1], 7000)
	exchange(t, c, 100)
	tap := packetSocket(t, hosts[1].container, "", 200*time.Millisecond)
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var hidden float64
	for i, o := range []struct{ ttl, tos, noCheck, size int }{{64, 0, 0, 100}, {1, 0, 0, 1}, {255, 3, 0, 2}, {64, 0xb8, 1, 3}, {200, 1, 0, 1422}, {7, 0xff, 1, 0}} {
		_ = raw.Control(func(fd uintptr) {
			for _, s := range [][3]int{{unix.IPPROTO_IP, unix.IP_TTL, o.ttl}, {unix.IPPROTO_IP, unix.IP_TOS, o.tos}, {unix.SOL_SOCKET, unix.SO_NO_CHECK, o.noCheck}} {
				if err == nil {
					err = unix.SetsockoptInt(int(fd), s[0], s[1], s[2])
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		const rounds = 200
		n, _ := hosts[0].masks(t, func() {
			for k := range rounds {
				payload := bytes.Repeat([]byte{byte(i), byte(k)}, o.size)[:o.size]
				_ = c.SetDeadline(time.Now().Add(5 * time.Second))
				if _, err := c.Write(payload); err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 2000)
				if n, err := c.Read(b); err != nil || !bytes.Equal(b[:n], payload) {
					t.Fatalf("%+v: %d bytes came back: %v", o, n, err)
				}
			}
		})
		hidden += n
		got := 0
		for b := make([]byte, 2000); got < rounds; {
			n, who, err := unix.Recvfrom(tap, b, 0)
			if err != nil {
				break
			}
			if at, ok := who.(*unix.SockaddrLinklayer); !ok || at.Pkttype != unix.PACKET_HOST || b[23] != unix.IPPROTO_UDP {
				continue
			}
			got++
			p := b[14:n]
			if err := soundIP(p[:28+o.size]); err != nil || int(p[8]) != o.ttl || int(p[1]) != o.tos || (p[26]|p[27] == 0) != (o.noCheck == 1) ||
				netip.AddrFrom4([4]byte(p[12:16])) != hosts[0].inner || netip.AddrFrom4([4]byte(p[16:20])) != hosts[1].inner {
				t.Fatalf("%+v arrived as % x: %v", o, p[:min(len(p), 40)], err)
			}
		}
		if got < rounds {
			t.Errorf("%+v: %d of %d datagrams seen in the container", o, got, rounds)
		}
	}
	if hidden < 600 {
		t.Errorf("%v of 1200 datagrams were masqueraded", hidden)
	}
}

// TestOneKey has two flows with the same ports between the same hosts: one is masqueraded, the other encapsulated, and both go on; when the
// first has been silent for long, the second gets the key.
func TestOneKey(t *testing.T) {
	hosts := twoHosts(t, xmasqTest())
	others := another(t, hosts)
	var all []*testHost
	for i := range hosts {
		hosts[i].attach(t, econbench.AttachOptions{})
		others[i].attach(t, econbench.AttachOptions{})
		all = append(all, hosts[i], others[i])
	}
	hosts[1].server(t, 7000)
	others[1].server(t, 7000)
	for _, network := range []string{"tcp4", "udp4"} {
		first, second := hosts[0].dial(t, network, 40001, hosts[1], 7000), others[0].dial(t, network, 40001, others[1], 7000)
		exchange(t, first, 100)
		exchange(t, second, 100)
		if masked, hits := hosts[0].masks(t, func() { exchange(t, first, 300) }); !mostly(masked, hits) {
			t.Errorf("%s: %v of %v segments of the flow that came first were masqueraded", network, masked, hits)
		}
		if masked, hits := others[0].masks(t, func() { exchange(t, second, 300) }); masked != 0 || hits < 290 {
			t.Errorf("%s: %v of %v segments of the flow that came second were masqueraded", network, masked, hits)
		}
		apart := others[0].dial(t, network, 40002, others[1], 7000)
		exchange(t, apart, 100)
		if masked, hits := others[0].masks(t, func() { exchange(t, apart, 300) }); !mostly(masked, hits) {
			t.Errorf("%s: %v of %v segments of a flow with ports of its own were masqueraded", network, masked, hits)
		}
	}
	for _, h := range all {
		if c := h.counters(t); c["lost.refused"]+c["lost.failed"] != 0 {
			t.Errorf("%v", c)
		}
	}
}

// TestHostsOwn has the hosts talk to each other with the ports of a masqueraded flow, by both transports and begun before and after it. Neither
// may be given what is the other's.
func TestHostsOwn(t *testing.T) {
	for _, network := range []string{"udp4", "tcp4"} {
		for _, before := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s hosts first=%v", network, before), func(t *testing.T) {
				hosts := attachedBoth(t, xmasqTest())
				hosts[1].server(t, 7000)
				// A host is its own container: its namespace and its address.
				asHost := func(h *testHost) *testHost { return &testHost{container: h.host, inner: h.outer} }
				own, there := asHost(hosts[0]), asHost(hosts[1])
				var host net.Conn
				begin := func() {
					there.server(t, 7000)
					host = own.dial(t, network, 40001, there, 7000)
					exchange(t, host, 50)
				}
				if before {
					begin()
				}
				c := hosts[0].dial(t, network, 40001, hosts[1], 7000)
				exchange(t, c, 100)
				masked, hits := hosts[0].masks(t, func() { exchange(t, c, 300) })
				if before == mostly(masked, hits) || before && masked > 0 {
					t.Errorf("%v of %v segments were masqueraded", masked, hits)
				}
				if !before {
					begin()
				}
				for range 20 {
					exchange(t, host, 10)
					exchange(t, c, 10)
				}
				if network == "tcp4" {
					pump(t, host, 500_000)
					pump(t, c, 500_000)
				}
				time.Sleep(25 * time.Millisecond) // sockets are asked again after REFRESH
				exchange(t, c, 20)
				if masked, _ := hosts[0].masks(t, func() { exchange(t, c, 100); exchange(t, host, 100) }); masked > 0 {
					t.Errorf("%v segments were masqueraded as the hosts' own", masked)
				}
			})
		}
	}
}

// talk exchanges datagrams, one at a time, until it is ended; those that are not answered are lost.
func talk(t *testing.T, c net.Conn) (ended func() (sent, lost int)) {
	t.Helper()
	var sent, lost int
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		b := make([]byte, 100)
		for {
			select {
			case <-done:
				return
			default:
			}
			sent++
			_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
			if _, err := c.Write([]byte("still there?")); err != nil {
				t.Error(err) // an ICMP error that was not for the container
				return
			}
			if _, err := c.Read(b); err != nil {
				lost++
			}
		}
	}()
	return func() (int, int) {
		close(done)
		<-stopped
		return sent, lost
	}
}

// talking is two hosts with a TCP flow, and a UDP flow that talks, both masqueraded.
func talking(t *testing.T) (hosts [2]*testHost, tcp net.Conn, ended func() (sent, lost int)) {
	t.Helper()
	hosts = attachedBoth(t, xmasqTest())
	hosts[1].server(t, 7000)
	tcp, udp := hosts[0].dial(t, "tcp4", 40001, hosts[1], 7000), hosts[0].dial(t, "udp4", 40001, hosts[1], 7000)
	exchange(t, tcp, 100)
	exchange(t, udp, 100)
	return hosts, tcp, talk(t, udp)
}

// TestConcerted detaches both hosts under traffic, after both have stood aside: neither waits for the other, and nothing is lost.
func TestConcerted(t *testing.T) {
	hosts, c, ended := talking(t)
	for i, h := range hosts {
		if masked, hits := h.masks(t, func() { pump(t, c, 3_000_000) }); !mostly(masked, hits) {
			t.Errorf("host %d: %v of %v segments masqueraded", i, masked, hits)
		}
	}
	for _, h := range hosts {
		h.obey(t, econbench.OrderOff)
	}
	began := time.Now()
	var both sync.WaitGroup
	for _, h := range hosts {
		both.Go(func() {
			if err := h.attached.(econbench.Concerted).CloseConcerted(); err != nil {
				t.Error(err)
			}
			h.attached = nil
		})
	}
	both.Wait()
	t.Logf("detached in %v", time.Since(began))
	pump(t, c, 3_000_000)
	if sent, lost := ended(); lost > 0 || sent < 100 {
		t.Errorf("%d of %d datagrams lost", lost, sent)
	}
}

// TestForgottenKey takes one side's memory away under traffic, in all the ways there are: nothing stalls, and all is agreed anew.
func TestForgottenKey(t *testing.T) {
	forgets := map[string]func(t *testing.T, h *testHost){
		"clear":  func(t *testing.T, h *testHost) { h.obey(t, econbench.OrderClear) },
		"off,on": func(t *testing.T, h *testHost) { h.obey(t, econbench.OrderOff); h.obey(t, econbench.OrderOn) },
		"keys": func(t *testing.T, h *testHost) {
			var all []xmasqMaskKey
			var key xmasqMaskKey
			var mask xmasqMask
			m := h.attached.(*overlay).progs.(*cache).coll.Maps["masks"]
			for it := m.Iterate(); it.Next(&key, &mask); {
				all = append(all, key)
			}
			for _, k := range all {
				_ = m.Delete(k)
			}
		},
		"attached anew": func(t *testing.T, h *testHost) {
			if err := h.detach(); err != nil {
				t.Fatal(err)
			}
			h.attach(t, econbench.AttachOptions{})
		},
		"killed": func(t *testing.T, h *testHost) { // the programs are gone from one packet to the next, as with an agent that is killed
			o := h.attached.(*overlay)
			o.progs.(*cache).settle = nil
			if err := h.detach(); err != nil {
				t.Fatal(err)
			}
		},
	}
	for what, forget := range forgets {
		for side := range 2 {
			t.Run(fmt.Sprintf("%s on %d", what, side), func(t *testing.T) {
				hosts, c, ended := talking(t)
				pump(t, c, 300_000)
				forget(t, hosts[side])
				pump(t, c, 3_000_000)
				sent, lost := ended()
				limit := 0
				if what == "keys" || what == "killed" {
					limit = 1 // it takes FRESH, and each waits longer
				}
				if lost > limit {
					t.Errorf("%d of %d datagrams lost, at most %d may be", lost, sent, limit)
				}
				if hosts[side].attached == nil {
					return
				}
				exchange(t, c, 100)
				if masked, hits := hosts[0].masks(t, func() { exchange(t, c, 300) }); !mostly(masked, hits) {
					t.Errorf("%v of %v segments are masqueraded afterwards; agreed: %s %s", masked, hits, hosts[0].agreed(t), hosts[1].agreed(t))
				}
			})
		}
	}
}

// tunnelOnly is a wire that carries the tunnel and the hosts' own, and drops what has TTL 255 with TCP or UDP in it.
func tunnelOnly(t *testing.T, h *testHost) {
	t.Helper()
	load := func(at int32, size asm.Size) asm.Instructions { return asm.Instructions{asm.LoadAbs(at, size)} }
	var code asm.Instructions
	code = append(code, asm.Mov.Reg(asm.R6, asm.R1))
	code = append(code, load(22, asm.Byte)...)
	code = append(code, asm.JNE.Imm(asm.R0, 255, "pass"))
	code = append(code, load(23, asm.Byte)...)
	code = append(code, asm.JEq.Imm(asm.R0, unix.IPPROTO_TCP, "drop"), asm.JEq.Imm(asm.R0, unix.IPPROTO_UDP, "drop"),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), asm.Return(), asm.Mov.Imm(asm.R0, 2).WithSymbol("drop"), asm.Return())
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: code})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	var l link.Link
	err = netspace.In(h.host, func() error {
		wire, err := net.InterfaceByName(testWire)
		if err == nil {
			l, err = link.AttachTCX(link.TCXOptions{Interface: wire.Index, Program: prog, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// TestWireThatCarriesNone has firewalls between the hosts that let the tunnel pass alone: a flow loses a few packets and stays encapsulated.
func TestWireThatCarriesNone(t *testing.T) {
	hosts := attachedBoth(t, xmasqTest())
	for _, h := range hosts {
		tunnelOnly(t, h)
	}
	hosts[1].server(t, 7000)
	c := hosts[0].dial(t, "tcp4", 40001, hosts[1], 7000)
	var masked float64
	for range 10 {
		n, _ := hosts[0].masks(t, func() { exchange(t, c, 50); pump(t, c, 200_000) })
		masked += n
	}
	if masked == 0 || masked > 60 { // PROBES frames, each of some segments
		t.Errorf("%v segments were masqueraded to no avail", masked)
	}
	if n, hits := hosts[0].masks(t, func() { exchange(t, c, 500) }); n > 0 || hits < 490 {
		t.Errorf("%v of %v segments were masqueraded after all", n, hits)
	}
}

// oneWay sends datagrams to a server that answers the first of them alone, some at a time, every so often and for so long; it returns how many were sent
// and, after a while, received.
func oneWay(t *testing.T, from, to *testHost, port, some int, every, long time.Duration) (sent, received int) {
	t.Helper()
	u := in(t, to.container, func() (net.PacketConn, error) { return net.ListenPacket("udp4", fmt.Sprintf("%s:%d", to.inner, port)) })
	count := make(chan int, 1)
	go func() {
		n, b := 0, make([]byte, 2000)
		for {
			_ = u.SetReadDeadline(time.Now().Add(time.Second))
			_, who, err := u.ReadFrom(b)
			if err != nil {
				count <- n
				return
			}
			if n++; n == 1 {
				_, _ = u.WriteTo([]byte("go on"), who)
			}
		}
	}()
	c := from.dial(t, "udp4", port, to, port)
	exchange(t, c, 1)
	sent = 1
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(every) {
		for range some {
			if _, err := c.Write([]byte("a way only")); err != nil {
				t.Fatal(err)
			}
		}
		sent += some
	}
	received = <-count
	c.Close()
	u.Close()
	return sent, received
}

// answerOf says whether a frame is one that a host sent for its container.
func answerOf(frame []byte) bool {
	return len(frame) > 14+encapsulation && !masked(frame) && bytes.Equal(frame[14+encapsulation-2:14+encapsulation], []byte{0x88, 0xb5})
}

// TestOneWay has a stream of datagrams that nobody answers: the receiver's host does, which no container and no kernel hears, and where they come
// fast they are masqueraded. All else is answered by the containers.
func TestOneWay(t *testing.T) {
	hosts := attachedBoth(t, xmasqTest())
	taps := map[string]int{}
	for name, h := range map[string]*testHost{"sender": hosts[0], "receiver": hosts[1]} {
		taps[name+"'s container"] = packetSocket(t, h.container, "", 50*time.Millisecond)
	}
	stop := capture(t, hosts[0])
	masked, hits := hosts[0].masks(t, func() {
		if sent, received := oneWay(t, hosts[0], hosts[1], 7000, 10, time.Millisecond, 2*time.Second); received != sent {
			t.Errorf("%d of %d datagrams arrived", received, sent)
		}
	})
	answers := hosts[1].counters(t)["answers"]
	if masked < 0.6*hits || answers < 10 || answers > 110 {
		t.Errorf("%v of %v datagrams masqueraded, %v answers; %s", masked, hits, answers, hosts[0].agreed(t))
	}
	var kept []byte
	seen := 0
	for _, f := range stop() {
		if answerOf(f) {
			kept = f
			seen++
		}
	}
	if float64(seen) != answers {
		t.Fatalf("%v answers, and %d on the wire", answers, seen)
	}

	// Slow ones and what containers answer themselves are none of the host's business.
	oneWay(t, hosts[0], hosts[1], 7001, 1, 10*time.Millisecond, time.Second)
	hosts[1].server(t, 7002)
	exchange(t, hosts[0].dial(t, "udp4", 7002, hosts[1], 7002), 2000)
	slow := hosts[0].dial(t, "udp4", 7003, hosts[1], 7002)
	for range 20 {
		exchange(t, slow, 10)
		time.Sleep(60 * time.Millisecond)
	}
	if now := hosts[1].counters(t)["answers"]; now != answers || hosts[0].counters(t)["answers"] != 0 {
		t.Errorf("%v answers to slow datagrams and to what is answered, %v by the sender's host", now-answers, hosts[0].counters(t)["answers"])
	}

	// Nor is anything said by a host that carries nothing.
	hosts[1].obey(t, econbench.OrderDry)
	oneWay(t, hosts[0], hosts[1], 7004, 10, time.Millisecond, 500*time.Millisecond)
	if now := hosts[1].counters(t)["answers"]; now != answers {
		t.Errorf("%v answers by a host that is to carry nothing", now-answers)
	}

	// A kernel without a fast path has nobody to give them to.
	if err := hosts[0].detach(); err != nil {
		t.Fatal(err)
	}
	wire := packetSocket(t, hosts[1].host, testWire, patience)
	for range 10 {
		if _, err := unix.Write(wire, kept); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	hearNoAnswers(t, taps)
}

// hearNoAnswers reads what sockets in containers have heard, which is much, and no answer of a host's.
func hearNoAnswers(t *testing.T, taps map[string]int) {
	t.Helper()
	for where, tap := range taps {
		b, heard := make([]byte, 70_000), 0
		for {
			n, _, err := unix.Recvfrom(tap, b, 0)
			if err != nil {
				break
			}
			if heard++; bytes.Equal(b[12:14], []byte{0x88, 0xb5}) {
				t.Fatalf("%s hears % x", where, b[:n])
			}
		}
		if heard < 1000 {
			t.Errorf("%s hears %d frames: nothing of its own", where, heard)
		}
	}
}

// errorAbout is an ICMP error of a router's about a masqueraded frame.
func errorAbout(kind, code byte, mtu uint16, frame []byte) []byte {
	router := netip.MustParseAddr("198.18.77.99")
	about := frame[14 : 14+28]
	body := append([]byte{kind, code, 0, 0, 0, 0}, binary.BigEndian.AppendUint16(nil, mtu)...)
	body = append(body, about...)
	binary.BigEndian.PutUint16(body[2:], ^uint16(ones(0, body)))
	b := append(append(bytes.Clone(frame[6:12]), frame[:6]...), 8, 0)
	b = appendIP(b, protoICMP, router, netip.AddrFrom4([4]byte(frame[26:30])), len(body))
	return append(b, body...)
}

// TestPathMTU lets a router complain of masqueraded packets. That one is too large its container has to know; anything else it has not.
func TestPathMTU(t *testing.T) {
	hosts := attachedBoth(t, xmasqTest())
	hosts[1].server(t, 7000)
	c := hosts[0].dial(t, "udp4", 40001, hosts[1], 7000)
	exchange(t, c, 100)
	wire := packetSocket(t, hosts[1].host, testWire, time.Second) // at the other end, as the router
	complain := func(kind, code byte, mtu uint16) {
		t.Helper()
		stop := capture(t, hosts[0])
		exchange(t, c, 50)
		var about []byte
		for _, f := range stop() {
			if masked(f) && netip.AddrFrom4([4]byte(f[26:30])) == hosts[0].outer && f[23] == unix.IPPROTO_UDP {
				about = f
			}
		}
		if about == nil {
			t.Fatal("no masqueraded frame to complain of")
		}
		if _, err := unix.Write(wire, errorAbout(kind, code, mtu, about)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	mtuOf := func() (mtu int) {
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err == nil {
			_ = raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU) })
		}
		if err != nil {
			t.Fatal(err)
		}
		return mtu
	}
	if mtu := mtuOf(); mtu != 1450 {
		t.Fatalf("path MTU %d at first", mtu)
	}
	complain(3, 4, 1200)
	if mtu := mtuOf(); mtu != 1200 {
		t.Errorf("path MTU %d after a router said 1200", mtu)
	}
	_, _ = c.Write(nil) // the socket tells of the error once (EMSGSIZE), as it does for any router's
	exchange(t, c, 100)
	before := hosts[0].counters(t)["egress.masked"]
	complain(3, 3, 0) // port unreachable: the other host does not know the flow
	complainedOf := hosts[0].counters(t)["egress.masked"]
	exchange(t, c, 200)
	if after := hosts[0].counters(t)["egress.masked"]; complainedOf == before || after == complainedOf {
		t.Errorf("masqueraded %v before, %v when the other host complained, %v after it all was agreed on anew", before, complainedOf, after)
	}
}

// TestSharedByNetworks holds one map against another: those of one host are the same, those of two are not, and it goes with the last.
func TestSharedByNetworks(t *testing.T) {
	hosts := twoHosts(t, xmasqTest())
	others := another(t, hosts)
	id := func(h *testHost) ebpf.MapID {
		info, err := h.attached.(*overlay).progs.(*cache).coll.Maps["masks"].Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		return id
	}
	var ids []ebpf.MapID
	for _, h := range []*testHost{hosts[0], others[0], hosts[1], others[1]} {
		h.attach(t, econbench.AttachOptions{})
		ids = append(ids, id(h))
	}
	if ids[0] != ids[1] || ids[2] != ids[3] || ids[0] == ids[2] {
		t.Errorf("maps %v: want the first two to be one, and the last two", ids)
	}
	for _, h := range []*testHost{hosts[0], others[0], hosts[1], others[1]} {
		if err := h.detach(); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() bool {
		for _, id := range slices.Compact(ids) {
			if m, err := ebpf.NewMapFromID(id); err == nil {
				m.Close()
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(5 * time.Second); !gone(); time.Sleep(10 * time.Millisecond) { // a map is freed a while after its last descriptor
		if time.Now().After(end) {
			t.Fatal("a map is left")
		}
	}
}

// agreedRig is a rig whose TCP and UDP flows have their keys.
func agreedRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, xmasqTest())
	r.agree()
	for _, protocol := range []uint32{protoTCP, protoUDP} {
		key := xmasqMaskKey{Host: wire32(thereHost), RemotePort: wire16(remotePort), LocalPort: wire16(localPort), Protocol: protocol}
		r.must(r.cache.coll.Maps["masks"].Put(key, xmasqMask{
			Vni: wireVNI(testVNI), Local: wire32(here), Remote: wire32(there), Endpoint: testNumber, Ttl: 63, WireTtl: 255,
		}))
	}
	return r
}

// underMask is a frame as the wire brings it, masqueraded. Transport checksums are not looked at on the way: they are changed by what
// the addresses' change makes of them.
func underMask(inner []byte) []byte {
	b := bytes.Clone(inner)
	copy(b, []byte{0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2}) // the loopback device's own address
	return edits(set(22, 255), set(26, thereHost.AsSlice()...), set(30, hereHost.AsSlice()...), resum(14), sumChange(-1))(b)
}

// sumChange is what a transport checksum changes by when the containers' addresses become the hosts' (-1) or the other way (1).
func sumChange(way int) edit {
	return func(b []byte) []byte {
		at := map[byte]int{protoTCP: 50, protoUDP: 40}[b[23]]
		if at == 0 || len(b) < at+2 || b[23] == protoUDP && binary.BigEndian.Uint16(b[at:]) == 0 {
			return b
		}
		hosts := ones(0, append(thereHost.AsSlice(), hereHost.AsSlice()...))
		containers := ones(0, append(there.AsSlice(), here.AsSlice()...))
		if way < 0 {
			hosts, containers = containers, hosts
		}
		sum := ones(uint32(^binary.BigEndian.Uint16(b[at:])), binary.BigEndian.AppendUint16(nil, ^uint16(hosts)))
		sum = ones(sum, binary.BigEndian.AppendUint16(nil, uint16(containers)))
		binary.BigEndian.PutUint16(b[at:], ^uint16(sum))
		return b
	}
}

// restorable is what a masqueraded frame should be turned into; nil: it is none, and goes on as it came. It shares nothing with the program.
func restorable(b []byte) []byte {
	if len(b) < 14+20+8 || !bytes.Equal(b[:6], make([]byte, 6)) || b[12] != 8 || b[13] != 0 || b[14] != 0x45 {
		return nil
	}
	ip := b[14:]
	length := int(binary.BigEndian.Uint16(ip[2:]))
	header := map[byte]int{protoTCP: 20, protoUDP: 8}[ip[9]]
	switch {
	case header == 0, length < 20+header, length > len(ip), length != len(ip) && len(b) > 60,
		len(ip) < 20+header,
		binary.BigEndian.Uint16(ip[6:])&0x3fff != 0, ip[8] != 255, sumIP(ip) != binary.BigEndian.Uint16(ip[10:]),
		!bytes.Equal(ip[12:16], thereHost.AsSlice()), !bytes.Equal(ip[16:20], hereHost.AsSlice()),
		binary.BigEndian.Uint16(ip[20:]) != remotePort, binary.BigEndian.Uint16(ip[22:]) != localPort,
		ip[9] == protoTCP && ip[33]&(tcpFIN|tcpSYN|tcpRST|tcpURG) != 0:
		return nil
	}
	out := bytes.Clone(b)
	copy(out, hereMAC[:])
	copy(out[6:], thereMAC[:])
	return edits(set(22, 63), set(26, there.AsSlice()...), set(30, here.AsSlice()...), resum(14), sumChange(1))(out)
}

// TestRestoredMutations changes good masqueraded frames at random and holds what comes of them against restorable.
func TestRestoredMutations(t *testing.T) {
	r := agreedRig(t)
	seed := time.Now().UnixNano()
	rnd := rand.New(rand.NewPCG(uint64(seed), 0))
	restored := 0
	const frames = 100_000
	for range frames {
		frame := underMask(plain([]byte{protoTCP, protoUDP}[rnd.IntN(2)], false, rnd.IntN(40)))
		if rnd.IntN(4) == 0 && len(frame) < 60 {
			frame = append(frame, make([]byte, 60-len(frame))...) // as a network card pads it
		}
		for range rnd.IntN(3) {
			switch rnd.IntN(6) {
			case 0:
				frame = frame[:max(leastIPv4, len(frame)-rnd.IntN(12))]
			case 1:
				frame = append(frame, make([]byte, rnd.IntN(8))...)
			default:
				frame[rnd.IntN(min(len(frame), 54))] ^= 1 << rnd.IntN(8)
			}
		}
		if rnd.IntN(2) == 0 {
			frame = resum(14)(frame)
		}
		if len(frame) < leastIPv6 && binary.BigEndian.Uint16(frame[12:]) == unix.ETH_P_IPV6 {
			continue
		}
		verdict, out, _ := r.runUncounted(r.cache.fromWire(), frame, skbuff{})
		want := restorable(frame)
		if want == nil && (verdict == verdictRedirect || !bytes.Equal(out, frame)) {
			t.Fatalf("seed %d: delivered, or changed:\n% x, out\n% x", seed, frame, out)
		}
		if want != nil {
			restored++
			if verdict != verdictRedirect || !bytes.Equal(out, want) {
				t.Fatalf("seed %d: verdict %#x\n% x became\n% x, want\n% x", seed, verdict, frame, out, want)
			}
		}
	}
	if restored < frames/10 {
		t.Errorf("%d of %d frames were good ones", restored, frames)
	}
}

// TestRestoredState has one good masqueraded frame and tables that vary.
func TestRestoredState(t *testing.T) {
	r := agreedRig(t)
	frame := underMask(plain(protoUDP, false, 40))
	restored := econbench.Counters{"ingress.seen": 1, "ingress.eligible": 1, "ingress.hits": 1, "ingress.masked": 1, "ingress.hit_bytes": float64(len(frame))}
	pass := func(what string, frame []byte, want econbench.Counters) {
		t.Helper()
		t.Log(what)
		r.expect(r.cache.fromWire(), frame, skbuff{}, verdictNext, want, nil)
	}
	good := func(what string) {
		t.Helper()
		t.Log(what)
		r.expect(r.cache.fromWire(), frame, skbuff{}, verdictRedirect, restored, restorable(frame))
	}
	good("as agreed")
	for _, m := range []mode{modeOff, modeDry} {
		r.must(r.cache.setControl(control{until: math.MaxUint64, mode: m}))
		good("what is under way is put back in mode " + m.String())
	}
	r.must(r.cache.setControl(control{}))
	time.Sleep(2 * shortcutTime)
	pass("lease ran out", frame, bailed("ingress", "expired", 1))
	r.must(r.cache.setControl(control{until: math.MaxUint64}))
	pass("another TTL: forwarded by its host", edits(set(22, 254), resum(14))(bytes.Clone(frame)), bailed("ingress", "spoofed", 1))
	pass("the host's own TTL", edits(set(22, 64), resum(14))(bytes.Clone(frame)), econbench.Counters{})
	pass("another host", edits(set(29, 3), resum(14))(bytes.Clone(frame)), econbench.Counters{})
	pass("other ports", set(35, 9)(bytes.Clone(frame)), econbench.Counters{})
	r.must(r.cache.setRemote(address{testVNI, there}, remote{thereMAC, nextHop}, nextHop))
	pass("the peer moved to another host", frame, bailed("ingress", "spoofed", 1))
	r.must(r.cache.dropRemote(address{testVNI, there}))
	pass("the peer is gone", frame, bailed("ingress", "spoofed", 1))
	r.must(r.cache.setRemote(address{testVNI, there}, remote{thereMAC, thereHost}, nextHop))
	good("and came back")
	l := local{vni: testVNI, mac: hereMAC, addr: here, mtu: testMTU}
	r.must(r.cache.setEndpoint(l, testNumber+1, fakeLane{}, false))
	pass("another container under its address", frame, econbench.Counters{})
	r.must(r.cache.dropEndpoint(l))
	pass("the container is gone", frame, econbench.Counters{})
}

// TestHears counts what is said, and what is not, until a side believes.
func TestHears(t *testing.T) {
	r := newRig(t, xmasqTest())
	key := keyTo(protoUDP, there)
	r.flow(key, flowAgreed)
	flow := func() (f xmasqFlow) {
		r.must(r.cache.coll.Maps["flows"].Lookup(key, &f))
		return f
	}
	tag := tagOf(there, here, remotePort, localPort, protoUDP)
	say := func(id uint16, sum byte) {
		t.Helper()
		frame := edits(outerSet(18, byte(id>>8), byte(id), 0x40, 0, 64), set(oUDPSum, 0, sum))(wrapped(plain(protoUDP, false, 10)))
		frame = resum(oIP)(frame)
		r.runUncounted(r.cache.fromWire(), frame, skbuff{})
	}
	const offer, ready, confirmed = 1 << 6, 2 << 6, 3 << 6
	for range 5 {
		say(tag|offer, 0)
	}
	if f := flow(); f.Trust != 5 || f.Granted != 0 {
		t.Fatalf("after five offers: %+v", f)
	}
	say(tag|offer|3, 0) // a segment of a super-frame: neither here nor there
	if f := flow(); f.Trust != 5 {
		t.Fatalf("after a later segment: %+v", f)
	}
	say(tag|offer, 0)
	if f := flow(); f.Trust != 6 || f.Granted != 1 || f.ReadyAt != 0 {
		t.Fatalf("after six: %+v", f)
	}
	say(tag|ready, 0)
	if f := flow(); f.ReadyAt == 0 || f.ConfirmedAt != 0 {
		t.Fatalf("ready: %+v", f)
	}
	say(tag|confirmed, 0)
	if f := flow(); f.ConfirmedAt == 0 {
		t.Fatalf("confirmed: %+v", f)
	}
	say(tag|offer, 0)
	if f := flow(); f.ReadyAt != 0 || f.Trust != 6 {
		t.Fatalf("an offer is no promise any more: %+v", f)
	}
	for what, id := range map[string]uint16{"another flow's": tag ^ 0x100 | ready, "nothing": tag} {
		for range 6 {
			say(tag|ready, 0)
		}
		if f := flow(); f.Trust != 6 {
			t.Fatalf("before %s: %+v", what, f)
		}
		say(id, 0)
		if f := flow(); f.Trust != 0 || f.Granted != 0 || f.ReadyAt != 0 {
			t.Errorf("after one that says %s: %+v", what, f)
		}
	}
	for range 6 {
		say(tag|ready, 0)
	}
	say(tag|ready, 9) // a checksum: by the kernel's path
	if f := flow(); f.Trust != 0 || f.ReadyAt != 0 {
		t.Errorf("after one by the kernel's path: %+v", f)
	}
	for id := range 1 << 16 { // a kernel that counts
		say(uint16(id), 0)
		if f := flow(); f.Trust == 6 {
			t.Fatalf("believed a kernel that counts, at %#x", id)
		}
	}
}

// TestHearsAnswers has a host hear what another host's agent says for its container, and nothing that is not such.
func TestHearsAnswers(t *testing.T) {
	r := newRig(t, xmasqTest())
	key := keyTo(protoUDP, there)
	flow := func() (f xmasqFlow) {
		r.must(r.cache.coll.Maps["flows"].Lookup(key, &f))
		return f
	}
	id := tagOf(there, here, remotePort, localPort, protoUDP) | 2<<6 // READY
	frame := append(bytes.Clone(wrapped(nil)[:14]), answerPacket(xmasqAnswer{
		Vni: wireVNI(testVNI), Host: wire32(hereHost), Local: wire32(there), Remote: wire32(here), LocalPort: wire16(remotePort), RemotePort: wire16(localPort),
		SourcePort: wire16(50000), Id: wire16(id), Mac: thereMAC, Ttl: 63,
	}, hostSide{underlay: thereHost, port: testPort})...)
	if len(frame) != 92 || !answerOf(frame) || soundIP(frame[oIP:]) != nil || soundIP(frame[iIP:]) != nil {
		t.Fatalf("% x", frame)
	}
	r.flow(key, flowAgreed)
	for range 6 {
		r.expect(r.cache.fromWire(), frame, skbuff{}, verdictShot, econbench.Counters{}, nil)
	}
	if f := flow(); f.Trust != 6 || f.Granted != 1 || f.ReadyAt == 0 {
		t.Errorf("after six: %+v", f)
	}
	outer, inner := resum(oIP), resum(iIP)
	for what, c := range map[string]struct {
		edit    edit
		state   uint32
		verdict uint32
	}{
		"an address to which bridges forward": {set(iDstMAC, hereMAC[:]...), flowAgreed, verdictNext},
		"another container's address":         {set(iSrcMAC, otherMAC...), flowAgreed, verdictShot},
		"another host":                        {edits(set(oSrc, 192, 0, 2, 77), outer), flowAgreed, verdictShot},
		"a broken outer header":               {set(oSum, 0, 0), flowAgreed, verdictShot},
		"a broken inner header":               {set(iSum, 0, 0), flowAgreed, verdictShot},
		"lengths that contradict each other":  {edits(set(oLen, 0, 79), outer), flowAgreed, verdictShot},
		"an unknown sender":                   {edits(set(iSrc, nobody.AsSlice()...), inner), flowAgreed, verdictShot},
		"a flow that is not established":      {edits(), flowSent, verdictShot},
		"nobody's address":                    {edits(set(iDst, nobody.AsSlice()...), inner), flowAgreed, verdictNext},
	} {
		r.flow(key, c.state)
		r.expect(r.cache.fromWire(), c.edit(bytes.Clone(frame)), skbuff{}, c.verdict, econbench.Counters{}, nil)
		if f := flow(); f.Trust != 0 {
			t.Errorf("%s: believed: %+v", what, f)
		}
	}
	r.flow(key, flowAgreed)
	r.must(r.cache.setControl(control{}))
	r.expect(r.cache.fromWire(), frame, skbuff{}, verdictShot, econbench.Counters{}, nil)
	if f := flow(); f.Trust != 0 {
		t.Errorf("believed by a host whose agent is gone: %+v", f)
	}
}

// TestBelieved tells how long a host waits that detaches.
func TestBelieved(t *testing.T) {
	for _, c := range []struct {
		since           time.Duration
		alone, together time.Duration
	}{
		{0, 150 * time.Millisecond, 30 * time.Millisecond},
		{100 * time.Millisecond, 50 * time.Millisecond, 30 * time.Millisecond},
		{140 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond},
		{time.Hour, 0, 0},
	} {
		if alone, together := xmasqBelieved(c.since, false), xmasqBelieved(c.since, true); alone != c.alone || together != c.together {
			t.Errorf("told %v ago: %v and %v, want %v and %v", c.since, alone, together, c.alone, c.together)
		}
	}
}

func TestProveMasked(t *testing.T) {
	window := func(hits, masked float64) econbench.HostWindow {
		return econbench.HostWindow{Seconds: 1, Counters: map[string]econbench.Counters{"fastpath": {"egress.hits": hits, "egress.masked": masked}}}
	}
	answered, oneWay := econbench.Flows{Kind: econbench.DatagramFlows, ResponseBytes: 1, Count: 1}, econbench.Flows{Kind: econbench.DatagramFlows, Count: 1}
	for _, c := range []struct {
		name           string
		flows          econbench.Flows
		client, server econbench.HostWindow
		failures       int
	}{
		{"answered", answered, window(10_000, 9000), window(10_000, 9000), 0},
		{"answered, one side encapsulated", answered, window(10_000, 9000), window(10_000, 900), 1},
		{"a stream", oneWay, window(100_000, 99_000), window(10, 0), 0},
		{"a stream, encapsulated", oneWay, window(100_000, 900), window(10, 0), 1},
		{"a slow stream", oneWay, window(900, 0), window(10, 0), 0},
		{"connections", econbench.Flows{Kind: econbench.ConnectFlows}, window(100_000, 0), window(100_000, 0), 0},
	} {
		if got := (&xmasqAttachment{&overlayAttachment{}}).Prove(econbench.Window{Client: c.client, Server: c.server, Flows: c.flows}); len(got) != c.failures {
			t.Errorf("%s: %q, want %d failures", c.name, got, c.failures)
		}
	}
}

// tagOf is flow_tag of bpf/lib/agree.h.
func tagOf(src, dst netip.Addr, sport, dport uint16, protocol uint64) uint16 {
	h := (uint64(wire32(src))<<32 | uint64(wire32(dst))) * 0x9e3779b97f4a7c15
	h ^= h >> 29
	h += uint64(wire16(sport))<<48 | uint64(wire16(dport))<<32 | uint64(wireVNI(testVNI)) ^ protocol
	h *= 0xbf58476d1ce4e5b9
	return uint16(h>>40) & 0xff00
}
