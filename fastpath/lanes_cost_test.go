// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"flag"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

var costRounds = flag.Int("costs", 100, "rounds in a block of what TestLaneCosts times; thousands for figures worth telling")

const costBlocks = 12

// costPath is a way between two sockets, whose cost is compared.
type costPath struct {
	name     string
	udp, tcp [2]int
	blocks   [2][]time.Duration // medians of a round, by what it does
}

// connect makes connected sockets and returns their descriptors, which do not block.
func (p *costPath) connect(t *testing.T, from, to netns.NsHandle, here, there netip.Addr) {
	t.Helper()
	raw := func(c syscall.Conn) (fd int) {
		rc, err := c.SyscallConn()
		if err == nil {
			err = rc.Control(func(n uintptr) { fd, err = unix.Dup(int(n)) })
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	ends := [2]*net.UDPAddr{{IP: here.AsSlice(), Port: 7001}, {IP: there.AsSlice(), Port: 7002}}
	for i, ns := range []netns.NsHandle{from, to} {
		c := in(t, ns, func() (*net.UDPConn, error) { return net.DialUDP("udp4", ends[i], ends[1-i]) })
		p.udp[i] = raw(c)
		c.Close()
	}
	l := in(t, to, func() (net.Listener, error) { return net.Listen("tcp4", there.String()+":0") })
	defer l.Close()
	a := in(t, from, func() (net.Conn, error) { return net.Dial("tcp4", l.Addr().String()) })
	z, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p.tcp = [2]int{raw(a.(syscall.Conn)), raw(z.(syscall.Conn))}
	a.Close()
	z.Close()
}

// move writes so many bytes at one end and reads them at the other.
func move(t *testing.T, from, to int, b []byte) {
	t.Helper()
	for sent, got := 0, 0; got < len(b); {
		if sent < len(b) {
			if n, err := unix.Write(from, b[sent:]); err == nil {
				sent += n
			} else if err != unix.EAGAIN {
				t.Fatal(err)
			}
		}
		n, err := unix.Read(to, b)
		if err == unix.EAGAIN {
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(to), Events: unix.POLLIN}}, 2000); n == 0 && sent == len(b) {
				t.Fatalf("%d of %d bytes came", got, len(b))
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
}

// block times rounds of both kinds: a byte there and back, and 64 kB there.
func (p *costPath) block(t *testing.T) {
	one, many := make([]byte, 1), make([]byte, 1<<16)
	for kind, round := range []func(){
		func() { move(t, p.udp[0], p.udp[1], one); move(t, p.udp[1], p.udp[0], one) },
		func() { move(t, p.tcp[0], p.tcp[1], many) },
	} {
		times := make([]time.Duration, *costRounds)
		for i := range times {
			began := time.Now()
			round()
			times[i] = time.Since(began)
		}
		slices.Sort(times)
		p.blocks[kind] = append(p.blocks[kind], times[len(times)/2])
	}
}

// TestLaneCosts tells what paths cost, each kind of lane among them: in one thread, where a packet goes all the way up to the other
// container's socket within the call that sends it. Medians hardly notice what else is at work, and paths take turns. What it demands is
// that each path is the one that it says.
func TestLaneCosts(t *testing.T) {
	type setting struct {
		kind string // "": the overlay as it is
		own  bool   // what arrives goes on to the container's own device
	}
	settings := []setting{{}}
	for _, kind := range laneKinds() {
		if _, err := lanesOf(nil, kind); err == nil {
			settings = append(settings, setting{kind, false})
			if _, err := exec.LookPath("nft"); err == nil {
				settings = append(settings, setting{kind, true})
			}
		}
	}
	var paths []*costPath
	for i, s := range settings {
		hosts := twoHosts(t, fastKinds()[0])
		for _, h := range hosts {
			do(t, h.host, func(*netlink.Handle) error { return offloads(true) })
			if s.kind == "" {
				continue
			}
			h.attach(t, econbench.AttachOptions{Lane: s.kind})
			if s.own {
				h.arrivesByItsDevice(t)
			}
		}
		if i == 0 {
			host := &costPath{name: "host"}
			host.connect(t, hosts[0].host, hosts[1].host, hosts[0].outer, hosts[1].outer)
			paths = append(paths, host)
		}
		p := &costPath{name: strings.TrimSpace(s.kind + map[bool]string{true: ", by its device"}[s.own])}
		if s.kind == "" {
			p.name = "overlay"
		}
		p.connect(t, hosts[0].container, hosts[1].container, hosts[0].inner, hosts[1].inner)
		paths = append(paths, p)
		defer func() {
			if s.kind == "" {
				return
			}
			if c := hosts[0].counters(t); c["egress.hits"] < 0.9*c["egress.seen"] || c["ingress.hits"] < 0.9*c["ingress.seen"] || c["lost.failed"]+c["lost.refused"] > 0 {
				t.Errorf("%s: %v", p.name, c)
			}
		}()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range costBlocks {
		for _, p := range paths {
			p.block(t)
		}
	}
	for kind, what := range []string{"a byte there and back (UDP)", "64 kB there (TCP)"} {
		for _, p := range paths {
			var ratios []float64
			for i, d := range p.blocks[kind] {
				ratios = append(ratios, float64(paths[0].blocks[kind][i])/float64(d))
			}
			slices.Sort(ratios)
			slices.Sort(p.blocks[kind])
			t.Logf("%s: %-28s %8v, rate to host %.2f [%.2f, %.2f]", what, p.name, p.blocks[kind][costBlocks/2], ratios[costBlocks/2], ratios[2], ratios[costBlocks-3])
		}
	}
}
