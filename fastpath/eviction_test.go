// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// asks sends numbers on flows, there and back, in an order, and returns how many datagrams did not come.
func (f *manyFlows) asks(order []int) (lost int) {
	b := make([]byte, 16)
	for n, i := range order {
		number := binary.NativeEndian.AppendUint32(nil, uint32(n))
		for way := range 2 {
			flow := f.flow(i, len(f.ends[0]))
			if f.send(flow, way, number) != nil {
				lost++
			} else if n, came := f.receive(flow, 1-way, b, 2*time.Second); !came || !bytes.Equal(b[:n], number) {
				lost++
			}
		}
	}
	return lost
}

// orders are those in which so many flows are used: in turn, so that a table for fewer never knows one; and at random, some packets at a
// time, so that flows are carried, agreed on and evicted in the midst of it.
func orders(flows, packets int) map[string][]int {
	r := rand.New(rand.NewPCG(1, 2))
	inTurn, bursts := make([]int, packets), make([]int, 0, packets)
	for i := range inTurn {
		inTurn[i] = i % flows
	}
	for len(bursts) < packets {
		bursts = append(bursts, slices.Repeat([]int{r.IntN(flows)}, 1+r.IntN(20))...)
	}
	return map[string][]int{"in turn": inTurn, "in bursts": bursts}
}

// TestEviction has five times as many flows at once as the tables hold: all are answered, by whichever path, and those that are left when the
// others have ended are soon carried again.
func TestEviction(t *testing.T) { eachKind(t, testEviction) }

func testEviction(t *testing.T, k fastKind) {
	const room, flows = 100, 500
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{MaxFlows: room})
	}
	many := connectMany(t, hosts, flows, true, false)
	for name, order := range orders(flows, 20*flows) {
		if lost := many.asks(order); lost > 0 {
			t.Errorf("%s: %d of %d datagrams were lost", name, lost, 2*len(order))
		}
	}
	for _, h := range hosts {
		if s := h.status(t); s.Flows > room || s.MaxFlows != room || s.Error != "" {
			t.Errorf("%d flows known of at most %d, error %q; want at most %d", s.Flows, s.MaxFlows, s.Error, room)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		before := hosts[0].counters(t)
		if lost := many.asks(orders(10, 1000)["in turn"]); lost > 0 {
			t.Fatalf("%d datagrams of the few flows that are left were lost", lost)
		}
		after := hosts[0].counters(t)
		egress, ingress := after["egress.hits"]-before["egress.hits"], after["ingress.hits"]-before["ingress.hits"]
		if egress > 900 && ingress > 900 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%g and %g of 1000 packets carried out and in, though nothing is evicted any more", egress, ingress)
		}
	}
	if c := hosts[0].counters(t); c["lost.refused"]+c["lost.failed"] > 0 {
		t.Errorf("%v", c)
	}
}

// TestFullTables has more peers and more containers than a fast path's tables hold: those are left to the kernel's path, which is said, and
// are taken in when there is room.
func TestFullTables(t *testing.T) { eachKind(t, testFullTables) }

func testFullTables(t *testing.T, k fastKind) {
	const room, peers = 2, 6
	spec := k.spec
	k.spec = func() (*ebpf.CollectionSpec, error) {
		s, err := spec()
		s.Maps["peers"].MaxEntries, s.Maps["endpoints"].MaxEntries = room, room
		return s, err
	}
	hosts := twoHosts(t, k)
	others := map[string]*testHost{}
	for i := range byte(room) {
		at := netip.AddrFrom4([4]byte{198, 19, 77, 40 + i})
		near, leave := hosts[0].join(t, fmt.Sprintf("decaf%d", i), at, append(net.HardwareAddr{2, 66}, at.AsSlice()...))
		t.Cleanup(leave)
		hosts[1].knows(t, near, true)
		others[at.String()] = near
	}
	var far []*testHost
	for i := range byte(peers) {
		at := netip.AddrFrom4([4]byte{198, 19, 77, 60 + i})
		far = append(far, &testHost{outer: hosts[1].outer, inner: at, mac: append(net.HardwareAddr{2, 66}, at.AsSlice()...)})
		hosts[0].knows(t, far[i], true)
	}
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	s := hosts[0].status(t)
	if s.Error != "" || len(s.Containers) != room || s.Peers != room || len(s.Refused) != 2 || s.Refused["peers"] != "5 more than the 2 that its table holds" {
		t.Fatalf("%d containers, %d peers, refused %v, error %q; want %d of each, a container and 5 peers refused", len(s.Containers), s.Peers, s.Refused, s.Error, room)
	}
	others[hosts[0].inner.String()] = hosts[0]
	for _, near := range others {
		stream(t, near, hosts[1], 100_000, "")
		pingPong(t, hosts[1], near, 20, 100)
		for _, neighbour := range others {
			if neighbour != near {
				pingPong(t, near, neighbour, 20, 100)
			}
		}
	}
	if c := hosts[0].counters(t); c["lost.refused"]+c["lost.failed"] > 0 {
		t.Errorf("%v", c)
	}
	for _, f := range far {
		hosts[0].knows(t, f, false)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if s := hosts[0].status(t); s.Peers == 1 && s.Refused["peers"] == "" && s.Error == "" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d peers, refused %v, error %q; want one peer, and none refused", s.Peers, s.Refused, s.Error)
		}
	}
	before := hosts[0].counters(t)["egress.hits"]
	stream(t, hosts[0], hosts[1], 100_000, "")
	if now := hosts[0].counters(t)["egress.hits"]; now < before+5 {
		t.Errorf("%g hits, then %g: the peer that there is room for now is not carried", before, now)
	}
}

// TestXmasqTidies has keys give way once they are idle, and none that is in use.
func TestXmasqTidies(t *testing.T) {
	hosts := twoHosts(t, fastKind{"xmasq", xmasqKind, ""})
	hosts[0].attach(t, econbench.AttachOptions{MaxFlows: 5000})
	masks := hosts[0].attached.(*overlay).progs.(*cache).coll.Maps["masks"]
	now, err := monotonic()
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint16(5000) {
		used := now - uint64(i)*uint64(2*xmasqIdle)/5000 // the second half is idle
		if err := masks.Put(xmasqMaskKey{LocalPort: i, Protocol: unix.IPPROTO_UDP}, xmasqMask{UsedAt: used}); err != nil {
			t.Fatal(err)
		}
	}
	if err := masks.Put(xmasqMaskKey{Protocol: unix.IPPROTO_TCP}, xmasqMask{UsedAt: now}); !errors.Is(err, unix.E2BIG) {
		t.Errorf("one more than there is room for: %v, want E2BIG: none is to give way", err)
	}
	if err := xmasqTidy(map[string]*ebpf.Map{"masks": masks}, now); err != nil {
		t.Fatal(err)
	}
	var key xmasqMaskKey
	var mask xmasqMask
	left := 0
	for it := masks.Iterate(); it.Next(&key, &mask); left++ {
		if mask.UsedAt+uint64(xmasqIdle) < now {
			t.Errorf("key %d is there, idle for %v", key.LocalPort, time.Duration(now-mask.UsedAt))
		}
	}
	if left < 2400 || left > 2501 {
		t.Errorf("%d keys are left, want those that were in use: 2501", left)
	}
}

// TestXmasqSharedSize has agents of two networks that want tables of different sizes: the keys' is one all the same, the first one's.
func TestXmasqSharedSize(t *testing.T) {
	hosts := twoHosts(t, fastKind{"xmasq", xmasqKind, ""})
	others := another(t, hosts)
	hosts[0].attach(t, econbench.AttachOptions{MaxFlows: 3000})
	others[0].attach(t, econbench.AttachOptions{MaxFlows: 2000})
	var ids [2]ebpf.MapID
	for i, h := range []*testHost{hosts[0], others[0]} {
		info, err := h.attached.(*overlay).progs.(*cache).coll.Maps["masks"].Info()
		if err != nil {
			t.Fatal(err)
		}
		ids[i], _ = info.ID()
		if want := []int{3000, 2000}[i]; info.MaxEntries != 3000 || h.status(t).MaxFlows != want {
			t.Errorf("network %d: %d keys, %d flows; want 3000 and %d", h.vni, info.MaxEntries, h.status(t).MaxFlows, want)
		}
	}
	if ids[0] != ids[1] {
		t.Errorf("maps %v, want one", ids)
	}
	for _, h := range []*testHost{hosts[0], others[0]} {
		if err := h.detach(); err != nil {
			t.Fatal(err)
		}
	}
	others[0].attach(t, econbench.AttachOptions{MaxFlows: 2000})
	if n := others[0].table("masks").MaxEntries(); n != 2000 {
		t.Errorf("%d keys, want 2000: nobody else has the table any more", n)
	}
}
