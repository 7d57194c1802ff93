// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// What is here changes a network under packets that never stop, without an engine: a hundred times as many changes in a
// minute as engines can make. cmd/econbench has the same on real ones (TestFastpathEvents).

var (
	events    = flag.Int("events", 60, "changes of the network in TestEvents; thousands find what is rare")
	eventSeed = flag.Uint64("event-seed", 1, "seed of their order")
)

const (
	residentPort = 7777 // of all, on both sides: flows keep their ports over all changes
	perHost      = 3    // containers at first
)

// resident is a container of a host, which asks all others for their names, and tells its own.
type resident struct {
	*testHost
	at     int
	name   string // never used again
	device string // in the sandbox
	s      net.PacketConn
	gone   chan struct{}
	leave  func()
	stale  *testHost // where its own host's sandbox says that it is, if anywhere
}

// tenure is a time in which a container may have had an address.
type tenure struct {
	name     string
	from, to int64 // ns
}

// town is two hosts with all their residents.
type town struct {
	*testing.T
	hosts [2]*testHost
	start time.Time
	r     *rand.Rand

	mu        sync.Mutex
	residents []*resident
	tenures   map[netip.Addr][]tenure
	last      map[[2]string]int64 // by who asked and who answered: when it was asked
	wrong     []string
	answers   int

	made      int // names
	overflows int
	mode      econbench.Order
	stop      chan struct{}
	all       sync.WaitGroup
}

func newTown(t *testing.T, k fastKind) *town {
	t.Helper()
	u := &town{
		T: t, hosts: twoHosts(t, k), start: time.Now(), r: rand.New(rand.NewPCG(*eventSeed, 0)), tenures: map[netip.Addr][]tenure{},
		last: map[[2]string]int64{}, stop: make(chan struct{}),
	}
	t.Cleanup(func() {
		close(u.stop)
		for _, r := range slices.Clone(u.residents) {
			u.depart(r)
		}
		u.all.Wait()
	})
	for i := range u.hosts { // each host's own container: so none is ever without
		u.settleIn(&resident{testHost: u.hosts[i], at: i, name: fmt.Sprintf("own%d", i), device: "veth0", leave: func() {}})
	}
	for i := range 2 * perHost {
		addr := netip.AddrFrom4([4]byte{198, 19, 77, byte(50 + i)})
		u.arrive(i%2, addr, net.HardwareAddr{2, 66, 198, 19, 77, byte(50 + i)})
	}
	u.all.Go(u.talk)
	return u
}

func (u *town) now() int64 { return time.Since(u.start).Nanoseconds() }

// arrive makes a new container.
func (u *town) arrive(at int, addr netip.Addr, mac net.HardwareAddr) {
	u.Helper()
	u.made++
	name := fmt.Sprintf("c%d", u.made)
	n, leave := u.hosts[at].join(u.T, name, addr, mac)
	r := &resident{testHost: n, at: at, name: name, device: "v" + name, leave: leave}
	u.hosts[1-at].knows(u.T, n, true)
	u.settleIn(r)
}

// settleIn has a container that is there take part.
func (u *town) settleIn(r *resident) {
	u.Helper()
	u.mu.Lock()
	u.tenures[r.inner] = append(u.tenures[r.inner], tenure{r.name, u.now(), math.MaxInt64})
	u.mu.Unlock()
	r.s = in(u.T, r.container, func() (net.PacketConn, error) {
		return net.ListenPacket("udp4", fmt.Sprintf("%s:%d", r.inner, residentPort))
	})
	r.gone = make(chan struct{})
	tap := strayTap(u.T, r.container)
	u.all.Go(func() { u.hear(r) })
	u.all.Go(func() { u.watch(r, tap) })
	u.mu.Lock()
	u.residents = append(u.residents, r)
	u.mu.Unlock()
}

// depart takes a container away.
func (u *town) depart(r *resident) {
	u.Helper()
	u.mu.Lock()
	u.residents = slices.DeleteFunc(u.residents, func(o *resident) bool { return o == r })
	u.mu.Unlock()
	u.hosts[1-r.at].knows(u.T, r.testHost, false)
	if r.stale != nil {
		u.hosts[r.at].knows(u.T, r.stale, false)
	}
	close(r.gone)
	r.s.Close()
	r.leave()
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, p := range u.tenures[r.inner] {
		if p.name == r.name {
			u.tenures[r.inner][i].to = u.now()
		}
	}
}

// talk has all ask all, until the end.
func (u *town) talk() {
	for {
		select {
		case <-u.stop:
			return
		case <-time.After(10 * time.Millisecond):
		}
		u.mu.Lock()
		residents := slices.Clone(u.residents)
		u.mu.Unlock()
		for _, from := range residents {
			for _, to := range residents {
				if from != to {
					_, _ = fmt.Fprintf(writer{from.s, to.inner}, "? %s %s %d", from.name, to.inner, u.now()) // what it is between two devices
				}
			}
		}
	}
}

// writer sends to one address.
type writer struct {
	s  net.PacketConn
	to netip.Addr
}

func (w writer) Write(b []byte) (int, error) {
	return w.s.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.to, residentPort)))
}

// hear answers questions and judges answers, until its container goes.
func (u *town) hear(r *resident) {
	b := make([]byte, 2000)
	for {
		n, from, err := r.s.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a refusal
		}
		var mark, client, to, server string
		var sent int64
		got, _ := fmt.Sscan(string(b[:n]), &mark, &client, &to, &sent, &server)
		switch {
		case mark == "?" && got == 4 && to == r.inner.String():
			_, _ = r.s.WriteTo(fmt.Appendf(nil, "! %s %s %d %s", client, to, sent, r.name), from)
		case mark == "!" && got == 5:
			u.judge(r, client, to, sent, server)
		default:
			u.fault(fmt.Sprintf("%s at %s was given %q from %s", r.name, r.inner, b[:n], from))
		}
	}
}

// strayTap hears all IPv4 that a container is given, until it is closed.
func strayTap(t *testing.T, ns netns.NsHandle) int {
	t.Helper()
	return in(t, ns, func() (int, error) {
		const ip = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, ip)
		if err != nil {
			return fd, err
		}
		return fd, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	})
}

// watch looks for packets for somebody else, which sockets would not see. What a bridge floods is no PACKET_HOST; by a lane it would be.
func (u *town) watch(r *resident, tap int) {
	defer unix.Close(tap)
	b := make([]byte, 64)
	for {
		n, who, err := unix.Recvfrom(tap, b, 0)
		at, ok := who.(*unix.SockaddrLinklayer)
		if err == nil && ok && at.Pkttype == unix.PACKET_HOST && n >= 20 && netip.AddrFrom4([4]byte(b[16:20])) != r.inner {
			u.fault(fmt.Sprintf("%s at %s was given a packet for somebody else on device %d: % x", r.name, r.inner, at.Ifindex, b[:n]))
		}
		select {
		case <-r.gone:
			return
		default:
		}
	}
}

// judge says whether who answered had the address at some moment between question and answer.
func (u *town) judge(r *resident, client, to string, sent int64, server string) {
	now := u.now()
	u.mu.Lock()
	right := slices.ContainsFunc(u.tenures[netip.MustParseAddr(to)], func(p tenure) bool {
		return p.name == server && p.from <= now && p.to >= sent
	})
	if u.answers++; client == r.name {
		u.last[[2]string{client, server}] = max(sent, u.last[[2]string{client, server}])
	} // else it is for one before it under this address, which asked from the same port
	u.mu.Unlock()
	if !right {
		u.fault(fmt.Sprintf("%s asked %s and was answered by %s, which did not have it", client, to, server))
	}
}

func (u *town) fault(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.wrong) < 20 {
		u.wrong = append(u.wrong, text)
	}
}

// silent are pairs that have not talked since then.
func (u *town) silent(since int64) (pairs [][2]string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range u.residents {
		for _, b := range u.residents {
			if key := [2]string{a.name, b.name}; a != b && u.last[key] < since {
				pairs = append(pairs, key)
			}
		}
	}
	return pairs
}

// settle waits until all talk to all and are carried, as far as the fast path is to.
func (u *town) settle(after string) {
	u.Helper()
	const patience = 20 * time.Second
	since := u.now()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		silent := u.silent(since)
		if len(silent) == 0 {
			break
		}
		if time.Now().After(deadline) {
			u.Fatalf("after %s: not within %v: %v\n%+v\n%+v", after, patience, silent, u.hosts[0].status(u.T), u.hosts[1].status(u.T))
		}
	}
	var why string
	for deadline := time.Now().Add(patience); ; {
		first := [2]econbench.Counters{u.hosts[0].counters(u.T), u.hosts[1].counters(u.T)}
		for until, n := time.Now().Add(time.Second), u.count(); u.count() < n+150 && time.Now().Before(until); time.Sleep(time.Millisecond) {
		}
		if why = u.complaint(first); why == "" {
			break
		}
		if time.Now().After(deadline) {
			u.Fatalf("after %s: %s", after, why)
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, text := range u.wrong {
		u.Errorf("after %s: %s", after, text)
	}
	u.wrong = nil
}

func (u *town) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.answers
}

// complaint says what is wrong with what has been carried since then, "" for nothing.
func (u *town) complaint(first [2]econbench.Counters) string {
	for i, h := range u.hosts {
		want := 0
		for _, r := range u.residents {
			if r.at == i {
				want++
			}
		}
		s := h.status(u.T)
		if len(s.Containers) != want || s.Peers != len(u.residents)-want || len(s.Refused) > 0 || s.Error != "" {
			return fmt.Sprintf("host %d: %d containers and %d peers of %d and %d; refused %v, error %q", i, len(s.Containers), s.Peers, want, len(u.residents)-want, s.Refused, s.Error)
		}
		for _, d := range []string{"egress.", "ingress."} {
			seen, hits := s.Counters[d+"seen"]-first[i][d+"seen"], s.Counters[d+"hits"]-first[i][d+"hits"]
			if on := u.mode == econbench.OrderOn; on && (hits < 0.9*seen || hits < 10) || !on && hits > 0 {
				return fmt.Sprintf("host %d: %s %.0f hits of %.0f; %v", i, d, hits, seen, s.Counters)
			}
		}
	}
	return ""
}

// some draws a resident other than the hosts' own, which never leave.
func (u *town) some() *resident { return u.residents[2+u.r.IntN(len(u.residents)-2)] }

// changeMAC gives a resident another hardware address. The other host hears of it, and nobody who knew it by ARP knows it any more.
func (u *town) changeMAC(r *resident) {
	if r.stale != nil { // nobody could tell which of the two is right
		u.hosts[r.at].knows(u.T, r.stale, false)
		r.stale = nil
	}
	u.hosts[1-r.at].knows(u.T, r.testHost, false)
	r.mac = net.HardwareAddr{2, 66, byte(u.r.IntN(256)), byte(u.r.IntN(256)), byte(u.r.IntN(256)), byte(u.r.IntN(256))}
	do(u.T, r.container, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		return h.LinkSetHardwareAddr(link, r.mac)
	})
	u.hosts[1-r.at].knows(u.T, r.testHost, true)
	for _, o := range u.residents {
		if o == r {
			continue
		}
		do(u.T, o.container, func(h *netlink.Handle) error {
			eth0, err := indexOf(h, "eth0")
			if err != nil {
				return err
			}
			err = h.NeighDel(&netlink.Neigh{LinkIndex: eth0, IP: r.inner.AsSlice()})
			if errors.Is(err, unix.ENOENT) {
				return nil
			}
			return err
		})
	}
}

// replug gives a resident another device of the same addresses.
func (u *town) replug(r *resident) {
	u.unplug(r)
	u.plug(r)
}

func (u *town) unplug(r *resident) {
	do(u.T, r.sandbox, func(h *netlink.Handle) error {
		link, err := h.LinkByName(r.device)
		if err != nil {
			return err
		}
		return h.LinkDel(link)
	})
}

func (u *town) plug(r *resident) {
	r.testHost.plug(u.T, r.device)
}

// remake makes a host's sandbox anew, as Docker does when a network's last container left and another comes.
func (u *town) remake(i int) {
	h := u.hosts[i]
	var here []*resident
	for _, r := range u.residents {
		if r.at == i {
			here = append(here, r)
			u.unplug(r)
		}
	}
	do(u.T, h.sandbox, func(n *netlink.Handle) error {
		for _, name := range []string{"vxlan0", "br0"} {
			link, err := n.LinkByName(name)
			if err == nil {
				err = n.LinkDel(link)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	h.dropSandbox()
	h.sandbox, h.dropSandbox = passingSpace(u.T, h.dir, h.network)
	h.fill(u.T)
	for _, r := range here {
		r.sandbox, r.stale = h.sandbox, nil
		u.plug(r)
	}
	for _, r := range u.residents {
		if r.at != i {
			h.knows(u.T, r.testHost, true)
		}
	}
}

// overflow has more happen in a sandbox at once than a follower's socket takes.
func (u *town) overflow(i int) {
	h := u.hosts[i]
	var vxlan int
	do(u.T, h.sandbox, func(n *netlink.Handle) (err error) {
		vxlan, err = indexOf(n, "vxlan0")
		return err
	})
	o := h.attached.(*overlay)
	o.mu.Lock() // so the follower is not replaced before it was looked at
	f := o.follower
	for range 10 {
		if flood(u.T, h.sandbox, vxlan, 1000); f != nil && f.broken.Load() {
			u.overflows++
			break
		}
	}
	o.mu.Unlock()
}

// flood adds and removes so many neighbours by few system calls.
func flood(t *testing.T, ns netns.NsHandle, index, n int) {
	t.Helper()
	s := in(t, ns, func() (*nl.NetlinkSocket, error) { return nl.Subscribe(unix.NETLINK_ROUTE) })
	defer s.Close()
	for _, kind := range []int{unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH} {
		var all []byte
		for i := range n {
			req := nl.NewNetlinkRequest(kind, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
			req.AddData(&netlink.Ndmsg{Family: unix.AF_INET, Index: uint32(index), State: netlink.NUD_PERMANENT})
			req.AddData(nl.NewRtAttr(netlink.NDA_DST, []byte{198, 19, 78 + byte(i>>8), byte(i)}))
			req.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, []byte{2, 66, 198, 19, 78 + byte(i>>8), byte(i)}))
			all = append(all, req.Serialize()...)
		}
		if err := unix.Sendto(s.GetFd(), all, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
	}
}

// changes are what befalls the network; how often each comes.
var changes = []struct {
	kind   string
	weight int
	do     func(u *town)
}{
	{"a new container under a freed address", 4, func(u *town) {
		r := u.some()
		u.depart(r)
		u.arrive(r.at, r.inner, r.mac)
	}},
	{"a new container under a freed address, with another hardware address", 2, func(u *town) {
		r := u.some()
		u.depart(r)
		u.arrive(r.at, r.inner, r.mac)
		u.changeMAC(u.residents[len(u.residents)-1])
	}},
	{"moved to the other host", 4, func(u *town) {
		r := u.some()
		u.depart(r)
		u.arrive(1-r.at, r.inner, r.mac)
	}},
	{"moved to the other host, whose sandbox goes on calling it elsewhere", 2, func(u *town) {
		r := u.some()
		u.depart(r)
		u.arrive(1-r.at, r.inner, r.mac)
		last := u.residents[len(u.residents)-1]
		last.stale = &testHost{outer: u.hosts[r.at].outer, inner: r.inner, mac: r.mac}
		u.hosts[last.at].knows(u.T, last.stale, true)
	}},
	{"another hardware address", 3, func(u *town) { u.changeMAC(u.some()) }},
	{"another device", 3, func(u *town) { u.replug(u.some()) }},
	{"forgotten and known", 4, func(u *town) {
		r := u.some()
		u.hosts[1-r.at].knows(u.T, r.testHost, false)
		u.hosts[1-r.at].knows(u.T, r.testHost, true)
	}},
	{"a sandbox made anew", 1, func(u *town) { u.remake(u.r.IntN(2)) }},
	{"more than a follower's socket takes", 1, func(u *town) { u.overflow(u.r.IntN(2)) }},
	{"the wire down and up", 1, func(u *town) {
		do(u.T, u.hosts[u.r.IntN(2)].host, func(h *netlink.Handle) error {
			link, err := h.LinkByName(testWire)
			return errors.Join(err, h.LinkSetDown(link), h.LinkSetUp(link))
		})
	}},
	{"an order", 2, func(u *town) {
		order := econbench.Order(econbench.Orders()[u.r.IntN(4)])
		for _, h := range u.hosts {
			h.obey(u.T, order)
		}
		if order != econbench.OrderClear {
			u.mode = order
		}
	}},
	{"detached and attached", 1, func(u *town) {
		for _, h := range u.hosts {
			if err := h.detach(); err != nil {
				u.Fatal(err)
			}
			h.attach(u.T, econbench.AttachOptions{})
		}
		u.mode = econbench.OrderOn
	}},
}

// change draws one of them.
func (u *town) change() string {
	total := 0
	for _, c := range changes {
		total += c.weight
	}
	n, i := u.r.IntN(total), 0
	for ; n >= changes[i].weight; i++ {
		n -= changes[i].weight
	}
	changes[i].do(u)
	return changes[i].kind
}

// TestEvents changes the network, some changes at a time, while all talk to all: no packet and no answer is the wrong container's, all talk
// again and are carried again, and at the end everything is let go of.
func TestEvents(t *testing.T) { eachKind(t, testEvents) }

func testEvents(t *testing.T, k fastKind) {
	u := newTown(t, k)
	for _, h := range u.hosts {
		h.attach(t, econbench.AttachOptions{}) // what is made once and kept is made
		if err := h.detach(); err != nil {
			t.Fatal(err)
		}
	}
	before := u.held()
	for _, h := range u.hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	u.mode = econbench.OrderOn
	u.settle("attaching")
	counts := map[string]int{}
	for done := 0; done < *events && !t.Failed(); {
		var kinds []string
		for range 1 + u.r.IntN(6) {
			kinds = append(kinds, u.change())
			counts[kinds[len(kinds)-1]]++
			done++
		}
		if u.mode != econbench.OrderOn && u.r.IntN(2) == 0 {
			for _, h := range u.hosts {
				h.obey(t, econbench.OrderOn)
			}
			u.mode = econbench.OrderOn
		}
		u.settle(strings.Join(kinds, ", "))
	}
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%5d %s", counts[kind], kind)
	}
	for _, h := range u.hosts {
		if err := h.detach(); err != nil {
			t.Fatal(err)
		}
	}
	u.letGo(before)
	t.Logf("seed %d: %d answers, %d overflows, in %v", *eventSeed, u.count(), u.overflows, time.Since(u.start).Round(time.Second))
}

// held is what the process holds, and the lanes that there are. Programs and maps are held by descriptors and by lanes' filters alone; the
// kernel's own count of them would be everybody's.
func (u *town) held() (v inventory) {
	u.Helper()
	spaces := []netns.NsHandle{u.hosts[0].host, u.hosts[1].host}
	for _, r := range u.residents {
		spaces = append(spaces, r.container)
	}
	for _, ns := range spaces {
		do(u.T, ns, func(h *netlink.Handle) error {
			list, err := netspace.Whole(h.LinkList)
			for _, l := range list {
				if strings.HasPrefix(l.Attrs().Name, tune.LinkPrefix) {
					v.devices += l.Attrs().Name + " "
				}
			}
			return err
		})
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		u.Fatal(err)
	}
	v.files, v.goroutines = len(files), runtime.NumGoroutine()
	return v
}

// letGo waits for no more to be held than before: taps of containers that are gone end in their turn.
func (u *town) letGo(before inventory) {
	u.Helper()
	var after inventory
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		after = u.held()
		if after.devices == "" && after.files <= before.files && after.goroutines <= before.goroutines {
			return
		}
	}
	u.Errorf("after all changes %+v is held, before %+v", after, before)
}
