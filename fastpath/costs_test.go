// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"flag"
	"fmt"
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

var (
	costRounds = flag.Int("costs", 100, "rounds in a block of what TestCosts times; thousands for figures worth telling")
	costPaths  = flag.String("cost-paths", "", "the only paths to time, by the names that TestCosts tells, with commas; one, for a profile of it")
	costWhats  = flag.String("cost-rounds", "", "the only rounds to time, by the first words of their names, with commas")
	costRules  = flag.String("cost-rules", "host,container", "which namespaces have an engine's rules for addresses (nat), with their connection tracking, as the emulated lab's have")
)

const costBlocks = 12

// costPath is a way between two sockets, whose cost is compared.
type costPath struct {
	name     string
	spaces   [2]netns.NsHandle
	addrs    [2]netip.Addr
	udp, tcp [2]int
	listener int                        // of this block's connections
	fresh    []int                      // sockets that have not been connected
	blocks   map[string][]time.Duration // medians of a round, by what it does
}

// costRound is what is timed.
type costRound struct {
	name string
	do   func(t *testing.T, p *costPath)
}

var oneByte, manyBytes = make([]byte, 1), make([]byte, 1<<16)

var costRoundsOf = []costRound{
	{"udp, a byte there and back", func(t *testing.T, p *costPath) { onward(t, p.udp, oneByte); backward(t, p.udp, oneByte) }},
	{"tcp, a byte there and back", func(t *testing.T, p *costPath) { onward(t, p.tcp, oneByte); backward(t, p.tcp, oneByte) }},
	{"stream, 64 kB there by tcp", func(t *testing.T, p *costPath) { onward(t, p.tcp, manyBytes) }},
	{connections, func(t *testing.T, p *costPath) { p.transact(t) }},
}

const connections = "crr, a connection for a byte there and back"

func onward(t *testing.T, ends [2]int, b []byte)   { move(t, ends[0], ends[1], b) }
func backward(t *testing.T, ends [2]int, b []byte) { move(t, ends[1], ends[0], b) }

// connect makes connected sockets and returns their descriptors, which do not block.
func (p *costPath) connect(t *testing.T, from, to netns.NsHandle, here, there netip.Addr) {
	t.Helper()
	p.spaces, p.addrs = [2]netns.NsHandle{from, to}, [2]netip.Addr{here, there}
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
	p.blocks = map[string][]time.Duration{}
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

// prepare makes sockets for a block's connections: what is timed needs no namespace to be entered.
func (p *costPath) prepare(t *testing.T) {
	socket := func(ns netns.NsHandle) int {
		return in(t, ns, func() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) })
	}
	p.listener = socket(p.spaces[1])
	if err := errors.Join(unix.Bind(p.listener, &unix.SockaddrInet4{Addr: p.addrs[1].As4()}), unix.Listen(p.listener, 16)); err != nil {
		t.Fatal(err)
	}
	for range *costRounds {
		p.fresh = append(p.fresh, socket(p.spaces[0]))
	}
}

// transact opens a connection for a byte there and back, whose server closes first.
func (p *costPath) transact(t *testing.T) {
	client := p.fresh[0]
	p.fresh = p.fresh[1:]
	to, err := unix.Getsockname(p.listener)
	if err == nil {
		err = unix.Connect(client, to)
	}
	if err != nil {
		t.Fatal(err)
	}
	server, _, err := unix.Accept(p.listener)
	if err != nil {
		t.Fatal(err)
	}
	onward(t, [2]int{client, server}, oneByte)
	backward(t, [2]int{client, server}, oneByte)
	unix.Close(server)
	if n, err := unix.Read(client, make([]byte, 1)); n != 0 || err != nil {
		t.Fatalf("at the end of a connection: %d bytes, %v", n, err)
	}
	unix.Close(client)
}

// block times rounds of a kind.
func (p *costPath) block(t *testing.T, round costRound) {
	if round.name == connections {
		p.prepare(t)
		defer func() { unix.Close(p.listener) }()
	}
	times := make([]time.Duration, *costRounds)
	for i := range times {
		began := time.Now()
		round.do(t, p)
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	p.blocks[round.name] = append(p.blocks[round.name], times[len(times)/2])
}

// costSetting is how a pair of hosts is joined.
type costSetting struct {
	fast *fastKind // nil: by the overlay as it is
	lane string
	own  bool // what arrives goes on to the container's own device
}

func (s costSetting) name() string {
	switch {
	case s.fast == nil:
		return "overlay"
	case s.own:
		return s.fast.name + " " + s.lane + " by its device"
	default:
		return s.fast.name + " " + s.lane
	}
}

// costSettings are the overlay, every lane with the first fast path, and every fast path with the first lane.
func costSettings() []costSetting {
	settings := []costSetting{{}}
	kinds := fastKinds()
	first := true
	for _, lane := range laneKinds() {
		if _, err := lanesOf(nil, lane); err != nil {
			continue
		}
		settings = append(settings, costSetting{&kinds[0], lane, false})
		if _, err := exec.LookPath("nft"); err == nil {
			settings = append(settings, costSetting{&kinds[0], lane, true})
		}
		for i := 1; first && i < len(kinds); i++ {
			settings = append(settings, costSetting{&kinds[i], lane, false})
		}
		first = false
	}
	return settings
}

// costPathsOf builds the paths that are asked for.
func costPathsOf(t *testing.T) []*costPath {
	wanted := func(name string) bool {
		return *costPaths == "" || slices.Contains(strings.Split(*costPaths, ","), name)
	}
	var paths []*costPath
	for _, s := range costSettings() {
		if !wanted(s.name()) && (s.fast != nil || !wanted("host")) {
			continue
		}
		kind := fastKinds()[0]
		if s.fast != nil {
			kind = *s.fast
		}
		hosts := twoHosts(t, kind)
		for _, h := range hosts {
			do(t, h.host, func(*netlink.Handle) error { return offloads(true) })
			h.engineRules(t, *costRules)
			if s.fast == nil {
				continue
			}
			h.attach(t, econbench.AttachOptions{Lane: s.lane})
			if s.own {
				h.arrivesByItsDevice(t)
			}
		}
		if s.fast == nil && wanted("host") {
			host := &costPath{name: "host"}
			host.connect(t, hosts[0].host, hosts[1].host, hosts[0].outer, hosts[1].outer)
			paths = append(paths, host)
		}
		if !wanted(s.name()) {
			continue
		}
		p := &costPath{name: s.name()}
		p.connect(t, hosts[0].container, hosts[1].container, hosts[0].inner, hosts[1].inner)
		paths = append(paths, p)
		if s.fast != nil {
			t.Cleanup(func() {
				if c := hosts[0].counters(t); c["egress.hits"] <= 0.9*c["egress.eligible"] || c["ingress.hits"] <= 0.9*c["ingress.eligible"] || c["lost.failed"]+c["lost.refused"] > 0 {
					t.Errorf("%s: %v", p.name, c)
				}
			})
		}
	}
	return paths
}

// engineRules gives namespaces the rules that an engine makes in those of hosts (published ports, ways out) and containers (its name
// server): for an established flow they are connection tracking at every hook and nothing to do.
func (host *testHost) engineRules(t *testing.T, where string) {
	t.Helper()
	rules := map[string]string{
		"host": `table ip nat {
			chain DOCKER { }
			chain prerouting { type nat hook prerouting priority -100; fib daddr type local jump DOCKER; }
			chain output { type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER; }
			chain postrouting { type nat hook postrouting priority 100; ip saddr 198.19.128.0/18 oifname != "docker_gwbridge" masquerade; }
		}`,
		"container": `table ip nat {
			chain output { type nat hook output priority -100; ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:34000; }
			chain postrouting { type nat hook postrouting priority 100; ip saddr 127.0.0.11 udp sport 34000 snat to :53; }
		}`,
	}
	for name, ns := range map[string]netns.NsHandle{"host": host.host, "container": host.container} {
		if _, err := exec.LookPath("nft"); err != nil || !slices.Contains(strings.Split(where, ","), name) {
			continue
		}
		do(t, ns, func(*netlink.Handle) error {
			if out, err := exec.Command("nft", rules[name]).CombinedOutput(); err != nil {
				return fmt.Errorf("nft: %w: %s", err, out)
			}
			return nil
		})
	}
}

// TestCosts tells what paths cost, by each kind of lane and each fast path: in one thread, where a packet goes all the way up to the other
// container's socket within the call that sends it. Medians hardly notice what else is at work, and paths take turns. What it demands is
// that each path is the one that it says.
func TestCosts(t *testing.T) {
	paths := costPathsOf(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, round := range costRoundsOf {
		what, _, _ := strings.Cut(round.name, ",")
		if *costWhats != "" && !slices.Contains(strings.Split(*costWhats, ","), what) {
			continue
		}
		for range costBlocks {
			for _, p := range paths {
				p.block(t, round)
			}
		}
		for _, p := range paths {
			var ratios []float64
			for i, d := range p.blocks[round.name] {
				ratios = append(ratios, float64(paths[0].blocks[round.name][i])/float64(d))
			}
			slices.Sort(ratios)
			slices.Sort(p.blocks[round.name])
			t.Logf("%s: %-32s %8v, rate to %s %.3f [%.3f, %.3f]", round.name, p.name, p.blocks[round.name][costBlocks/2], paths[0].name, ratios[costBlocks/2], ratios[2], ratios[costBlocks-3])
		}
	}
}
