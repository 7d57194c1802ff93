// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

var (
	scaleMost = flag.Int("scale", 100, "up to how many flows TestScale goes: 1000000 for figures worth telling, with -costs 1000")
	scaleName = flag.String("scale-files", "", "`name` of the files that TestScale writes: .txt for benchstat, to which it adds, and .svg, a plot of all that is in there")
	scaleKind = flag.String("scale-path", "", "the only fast path that TestScale times, for a profile of it")
)

const (
	scaleFlows   = 1_000_000
	scaleTables  = 1000 // peers, and containers of a host, at most
	scaleSockets = 4500 // at either end, at most: twice as many on the path and twice on the host's are what a process may open
)

// scaleFigure is what a packet costs at a size of something, and beside it at one.
type scaleFigure struct {
	path, axis, round string
	size              int
	blocks            []time.Duration // a packet's cost
	ones              []time.Duration // that at one, block by block
}

// cost is the median over blocks.
func (f scaleFigure) cost() time.Duration {
	return slices.Sorted(slices.Values(f.blocks))[len(f.blocks)/2]
}

// over is the cost in relation to that at one in the same block: the median, the second and the second last.
func (f scaleFigure) over() (median, low, high float64) {
	ratios := make([]float64, len(f.blocks))
	for i := range ratios {
		ratios[i] = float64(f.blocks[i]) / float64(f.ones[i])
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2], ratios[1], ratios[len(ratios)-2]
}

// TestScale tells what a packet costs by each fast path as there is more of everything: one pair of hosts that has one of all, and beside it, in
// turns, one whose tables are filled; then on one pair real flows, and as many of the hosts' own. With small numbers, as by default, what it
// demands is all that it is for: that what is timed is carried.
func TestScale(t *testing.T) {
	var all []scaleFigure
	for _, k := range fastKinds() {
		if k.inside != "" || *scaleKind != "" && k.name != *scaleKind {
			continue // econ:sockets is econ with one table more
		}
		t.Run(k.name, func(t *testing.T) {
			for _, axis := range scaleAxes {
				t.Run(axis.name, func(t *testing.T) { all = append(all, axis.of(t, k, axis.name, min(*scaleMost, axis.most))...) })
			}
		})
	}
	table := tabwriter.NewWriter(t.Output(), 2, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "path\twhat\thow many\tround\ta packet\tto that of one\tfrom\tto\t") // evictions: to that by the overlay
	for _, f := range all {
		median, low, high := f.over()
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%v\t%.3f\t%.3f\t%.3f\t\n", f.path, f.axis, f.size, f.round, f.cost(), median, low, high)
	}
	if err := errors.Join(table.Flush(), writeScale(*scaleName, all)); err != nil {
		t.Fatal(err)
	}
}

// scaleAxes are what there is more of.
var scaleAxes = []struct {
	name string
	most int
	of   func(t *testing.T, k fastKind, axis string, most int) []scaleFigure
}{
	{"tables", scaleFlows, scaleOfTables},
	{"flows", scaleFlows, scaleOfFlows},
	{"sockets", scaleSockets, scaleOfFlows},
	{"connections", scaleSockets, scaleOfFlows},
	{"evictions", scaleSockets, scaleOfEvictions},
}

// sizes are powers of ten up to a number, and that.
func sizes(most int) (list []int) {
	for n := 1; n < most; n *= 10 {
		list = append(list, n)
	}
	return append(list, most)
}

// scaleRoom is enough for all flows that there will be.
func scaleRoom() int {
	if *scaleMost > 50_000 {
		return 1 << 20
	}
	return 0
}

// scalePair is two hosts with a fast path that has room for so many flows; negative: without.
func scalePair(t *testing.T, k fastKind, room int) [2]*testHost {
	t.Helper()
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		do(t, h.host, func(*netlink.Handle) error { return offloads(true) })
		if room >= 0 {
			h.attach(t, econbench.AttachOptions{MaxFlows: room})
		}
	}
	return hosts
}

// carried fails when hardly all of what was seen meanwhile was carried.
func (host *testHost) carried(t *testing.T, before econbench.Counters) {
	t.Helper()
	after := host.counters(t)
	for _, d := range []string{"egress.", "ingress."} {
		if seen, hits := after[d+"seen"]-before[d+"seen"], after[d+"hits"]-before[d+"hits"]; hits < 0.9*seen {
			t.Errorf("%s%g of %g segments were carried: it is another path that was timed", d, hits, seen)
		}
	}
}

// scaleOfTables times the same flow as first peers, then containers, then flows come to be known besides.
func scaleOfTables(t *testing.T, k fastKind, _ string, most int) (figures []scaleFigure) {
	var pairs [2][2]*testHost
	var paths [2]*costPath
	for i := range pairs {
		pairs[i] = scalePair(t, k, scaleRoom())
		paths[i] = &costPath{name: k.name}
		paths[i].connect(t, pairs[i][0].container, pairs[i][1].container, pairs[i][0].inner, pairs[i][1].inner)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, axis := range []struct {
		name string
		most int
		fill func(host *testHost, t *testing.T, peer *testHost, from, to int)
	}{
		{"peers", min(most, scaleTables), (*testHost).fillPeers},
		{"containers", min(most, scaleTables), (*testHost).fillContainers},
		{"flows known", most, (*testHost).fillFlows},
	} {
		has := 1
		for _, size := range sizes(axis.most) {
			for i, h := range pairs[1] {
				axis.fill(h, t, pairs[1][1-i], has, size)
			}
			has = size
			before := pairs[1][0].counters(t)
			for _, round := range costRoundsOf[:2] {
				figures = append(figures, timeBeside(t, paths, round, scaleFigure{path: k.name, axis: axis.name, round: round.name[:3], size: size}))
			}
			pairs[1][0].carried(t, before)
		}
	}
	return figures
}

// timeBeside times rounds of a packet there and one back on two paths in turns.
func timeBeside(t *testing.T, paths [2]*costPath, round costRound, f scaleFigure) scaleFigure {
	for b := range costBlocks {
		for i := range paths {
			paths[(i+b)%2].block(t, round)
		}
	}
	last := func(p *costPath) (list []time.Duration) {
		all := p.blocks[round.name]
		for _, d := range all[len(all)-costBlocks:] {
			list = append(list, d/2)
		}
		return list
	}
	f.ones, f.blocks = last(paths[0]), last(paths[1])
	return f
}

// scaleOfFlows times flows that take turns: as many by the fast path as from host to host, and one of each beside them.
func scaleOfFlows(t *testing.T, k fastKind, axis string, most int) (figures []scaleFigure) {
	hosts := scalePair(t, k, scaleRoom())
	paths := []string{"host beside " + k.name, k.name}
	flows := [2]*manyFlows{flowsOf(t, hosts, axis, most, true), flowsOf(t, hosts, axis, most, false)}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, size := range sizes(most) {
		all, one := newWalk(size), newWalk(1)
		flows[0].warm(t, all, 1)
		flows[1].warm(t, all, max(2, min(10, 100_000/size)))
		before := hosts[0].counters(t)
		timed := make([]scaleFigure, len(flows))
		for b := range costBlocks {
			for i := range flows {
				at := (i + b) % len(flows)
				timed[at].ones = append(timed[at].ones, flows[at].block(t, one)/2)
				timed[at].blocks = append(timed[at].blocks, flows[at].block(t, all)/2)
			}
		}
		hosts[0].carried(t, before)
		for i, f := range timed {
			f.path, f.axis, f.round, f.size = paths[i], axis, "udp", size
			if axis == "connections" {
				f.round = "tcp"
			}
			figures = append(figures, f)
		}
	}
	return figures
}

// warm uses each flow so often: twice until each is known to be established on both sides, six times until xmasq masquerades.
func (f *manyFlows) warm(t *testing.T, w *walk, times int) {
	for range times * w.of {
		f.exchange(t, f.flow(w.next(), w.of))
	}
}

// flowsOf makes so many: with a socket each, or a million with a thousand at either end.
func flowsOf(t *testing.T, hosts [2]*testHost, axis string, n int, bare bool) *manyFlows {
	switch axis {
	case "connections":
		return connectManyTCP(t, hosts, n, bare)
	case "sockets":
		return connectMany(t, hosts, n, true, bare)
	default:
		return connectMany(t, hosts, int(math.Ceil(math.Sqrt(float64(n)))), false, bare)
	}
}

// scaleOfEvictions times flows that take turns, twice as many as there is room for, so that none is known when its turn comes. What they are held
// against is as many by the overlay as it is.
func scaleOfEvictions(t *testing.T, k fastKind, axis string, most int) []scaleFigure {
	var flows [2]*manyFlows
	for i, room := range []int{-1, most / 2} {
		hosts := scalePair(t, k, room)
		t.Cleanup(func() {
			if t.Failed() && room >= 0 {
				t.Logf("by %s: %v, %v", k.name, hosts[0].counters(t), hosts[1].counters(t))
			}
		})
		flows[i] = flowsOf(t, hosts, "sockets", most, false)
		flows[i].warm(t, newWalk(most), 1)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f, walks := scaleFigure{path: k.name, axis: axis, round: "udp", size: most}, [2]*walk{newWalk(most), newWalk(most)}
	for range costBlocks {
		f.ones = append(f.ones, flows[0].block(t, walks[0])/2)
		f.blocks = append(f.blocks, flows[1].block(t, walks[1])/2)
	}
	return []scaleFigure{f}
}

// exchange sends a byte there and one back.
func (f *manyFlows) exchange(t *testing.T, flow [2]int) {
	var b [1]byte
	for way := range 2 {
		if err := f.send(flow, way, oneByte); err != nil {
			t.Fatal(err)
		}
		if _, came := f.receive(flow, 1-way, b[:], 5*time.Second); !came {
			t.Fatalf("%v to %v, sockets %v: nothing came in 5 s", f.to[1-way], f.to[way], flow)
		}
	}
}

// block times exchanges on flows in turn: the median.
func (f *manyFlows) block(t *testing.T, w *walk) time.Duration {
	times := make([]time.Duration, *costRounds)
	for i := range times {
		flow := f.flow(w.next(), w.of)
		began := time.Now()
		f.exchange(t, flow)
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// fillPeers makes a host's sandbox know so many containers on the other, and waits until its fast path does.
func (host *testHost) fillPeers(t *testing.T, peer *testHost, from, to int) {
	do(t, host.sandbox, func(h *netlink.Handle) error {
		tunnel, err := indexOf(h, host.tunnel)
		for i := from; i < to && err == nil; i++ {
			at := somebody(byte(100), i)
			mac := append(net.HardwareAddr{2, 66}, at.AsSlice()...)
			err = errors.Join(
				h.NeighSet(&netlink.Neigh{LinkIndex: tunnel, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT, IP: peer.outer.AsSlice(), HardwareAddr: mac}),
				h.NeighSet(&netlink.Neigh{LinkIndex: tunnel, State: netlink.NUD_PERMANENT, IP: at.AsSlice(), HardwareAddr: mac}))
		}
		return err
	})
	for deadline := time.Now().Add(20 * time.Second); host.status(t).Peers != to; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d peers, want %d", host.status(t).Peers, to)
		}
	}
}

// somebody is one of 65,536 addresses of the overlay, or an outer address.
func somebody(net byte, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 19, net + byte(i>>8), byte(i)})
}

// fillContainers puts entries of containers on this host into the fast path's table: a thousand namespaces with a lane each would take minutes.
func (host *testHost) fillContainers(t *testing.T, _ *testHost, from, to int) {
	for i := from; i < to; i++ {
		key := keyOf(address{uint32(host.vni), somebody(200, i)})
		if err := host.table("endpoints").Put(key, deliveryValue{Endpoint: uint32(1000 + i), Ifindex: uint32(1000 + i), Mac: [6]byte{2, 66}}); err != nil {
			t.Fatal(err)
		}
	}
}

// table is one of the fast path's maps.
func (host *testHost) table(name string) *ebpf.Map {
	return host.attached.(*overlay).progs.(*cache).coll.Maps[name]
}

// fillFlows puts flows of this host's container with others into all tables that have something for each.
func (host *testHost) fillFlows(t *testing.T, peer *testHost, from, to int) {
	const established, at = 2, 4096
	now, err := monotonic()
	if err != nil {
		t.Fatal(err)
	}
	for ; from < to; from += at {
		n := min(at, to-from)
		flows, keys, sockets := make([]flowKey, n), make([]xmasqMaskKey, n), make([]uint64, n)
		values, masks := newValues(host.table("flows"), n), make([]xmasqMask, n)
		for i := range n {
			remote, port := somebody(100, (from+i)%scaleTables), uint16(1024+(from+i)/scaleTables)
			flows[i] = flowKey{Vni: wireVNI(uint32(host.vni)), Local: wire32(host.inner), Remote: wire32(remote), LocalPort: wire16(80), RemotePort: wire16(port), Protocol: unix.IPPROTO_TCP}
			keys[i] = xmasqMaskKey{Host: wire32(remote), RemotePort: wire16(port), LocalPort: wire16(80), Protocol: unix.IPPROTO_TCP}
			masks[i] = xmasqMask{Vni: flows[i].Vni, Local: flows[i].Local, Remote: flows[i].Remote, Endpoint: 1, UsedAt: now + uint64(time.Hour)} // in use
			sockets[i] = 1<<40 + uint64(from+i)
			value := bytesOf(values, i)
			binary.NativeEndian.PutUint32(value, established)
			binary.NativeEndian.PutUint32(value[4:], 1)
		}
		update := func(name string, keys, values any) error {
			if host.table(name) == nil {
				return nil
			}
			_, err := host.table(name).BatchUpdate(keys, values, nil)
			return err
		}
		if err := errors.Join(update("flows", flows, values.Interface()), update("masks", keys, masks), update("living", sockets, make([]uint8, n))); err != nil {
			t.Fatal(err)
		}
	}
}
