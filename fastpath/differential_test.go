// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
)

// What is here holds the fast path against the kernel's own, with generated frames: what a container is given by the one and by
// the other has to be the same, and nothing may leave by the lane that could not have left without it. Frames are mutations of good
// ones. Enough of them must get as far as the fast path goes, or the test says nothing.

var (
	frameCount = flag.Int("frames", 1_000_000, "frames that the differential tests generate")
	frameSeed  = flag.Uint64("seed", 0, "seed of the differential tests; 0: another one each time")
)

// mutation changes a frame as the wire brings it; what it does depends on its random source alone.
type mutation struct {
	name  string
	apply func(r *rand.Rand, b []byte) []byte
}

// pick writes one of the values.
func pick(at int, values ...[]byte) func(*rand.Rand, []byte) []byte {
	return func(r *rand.Rand, b []byte) []byte {
		if at < len(b) {
			copy(b[at:], values[r.IntN(len(values))])
		}
		return b
	}
}

// anything writes n random bytes.
func anything(at, n int) func(*rand.Rand, []byte) []byte {
	return func(r *rand.Rand, b []byte) []byte {
		for i := at; i < min(at+n, len(b)); i++ {
			b[i] = byte(r.Uint32())
		}
		return b
	}
}

// nudge changes a 16-bit number by a little, or to anything.
func nudge(at int) func(*rand.Rand, []byte) []byte {
	return func(r *rand.Rand, b []byte) []byte {
		if at+2 > len(b) {
			return b
		}
		v := int(binary.BigEndian.Uint16(b[at:])) + []int{-50, -20, -8, -1, 1, 8, 50}[r.IntN(7)]
		if r.IntN(4) == 0 {
			v = int(r.Uint32())
		}
		binary.BigEndian.PutUint16(b[at:], uint16(v))
		return b
	}
}

// lengthen puts bytes in.
func lengthen(at int, what ...byte) func(*rand.Rand, []byte) []byte {
	return func(_ *rand.Rand, b []byte) []byte { return insert(min(at, len(b)), what...)(b) }
}

func ip4(text string) []byte { return netip.MustParseAddr(text).AsSlice() }

// mutations of what one test host sends to another, in the order of headers. No frame says that it is from somebody whom others
// are for: the sandbox's bridge would learn from it where that one lives, and the kernel's path be another one from then on.
func mutations(to, from *testHost) []mutation {
	odd := [][]byte{ip4("127.0.0.1"), ip4("0.0.0.0"), ip4("224.0.0.1"), ip4("255.255.255.255"), ip4("240.0.0.1"), ip4("169.254.1.1")}
	outer := append(slices.Clone(odd), ip4("198.18.77.9"), to.outer.AsSlice(), from.outer.AsSlice(), ip4("198.18.77.255"))
	inner := append(slices.Clone(odd), ip4("198.19.77.9"), to.inner.AsSlice(), from.inner.AsSlice(), ip4("198.19.77.255"), ip4("198.19.77.1"))
	return []mutation{
		{"outer tos", anything(oTOS, 1)}, {"outer length", nudge(oLen)}, {"outer id", anything(oLen+2, 2)}, {"outer fragment", anything(oFrag, 2)},
		{"outer DF", pick(oFrag, []byte{0x40, 0})}, {"outer TTL", anything(oFrag+2, 1)}, {"outer protocol", pick(oProto, []byte{6}, []byte{1}, []byte{4}, []byte{47})},
		{"outer checksum", anything(oSum, 2)}, {"outer source", pick(oSrc, outer...)}, {"outer destination", pick(oDst, outer...)},
		{"outer options", func(r *rand.Rand, b []byte) []byte {
			b = insert(min(34, len(b)), 1, 1, 1, 0)(b)
			return set(oIP, 0x46)(b)
		}},
		{"outer version", pick(oIP, []byte{0x44}, []byte{0x65}, []byte{0x4f}, []byte{0x40})},
		{"source port", anything(oPort-2, 2)}, {"tunnel port", nudge(oPort)}, {"UDP length", nudge(oUDPLen)}, {"UDP checksum", anything(oUDPSum, 2)},
		{"vxlan flags", anything(oFlags, 1)}, {"vxlan reserved", anything(oFlags+1, 3)}, {"vni", anything(oVNI, 3)}, {"vxlan last byte", anything(oVNI+3, 1)},
		{"inner destination MAC", pick(iDstMAC, []byte{255, 255, 255, 255, 255, 255}, []byte{1, 0, 0x5e, 0, 0, 1}, otherMAC, []byte{0, 0, 0, 0, 0, 0})},
		{"inner source MAC", pick(iSrcMAC, []byte{2, 0x42, 10, 1, 0, 7}, []byte{1, 0, 0x5e, 0, 0, 1})},
		{"inner type", pick(iEtherType, []byte{8, 6}, []byte{0x86, 0xdd}, []byte{0x88, 0x47}, []byte{0, 46})},
		{"inner VLAN", lengthen(iEtherType, 0x81, 0, 0, 5)},
		{"inner version", pick(iIP, []byte{0x44}, []byte{0x65}, []byte{0x46}, []byte{0x4f})}, {"inner tos", anything(iTOS, 1)}, {"inner length", nudge(iLen)},
		{"inner options", func(r *rand.Rand, b []byte) []byte {
			b = insert(min(iPorts, len(b)), 7, 4, 4, 0)(b)
			return set(iIP, 0x46)(b)
		}},
		{"inner fragment", anything(iFrag, 2)}, {"inner more fragments", pick(iFrag, []byte{0x20, 0})}, {"inner offset", pick(iFrag, []byte{0, 1}, []byte{0, 185})},
		{"inner TTL", pick(iFrag+2, []byte{0}, []byte{1}, []byte{255})}, {"inner protocol", pick(iProto, []byte{1}, []byte{2}, []byte{6}, []byte{17}, []byte{47}, []byte{132})},
		{"inner checksum", anything(iSum, 2)}, {"inner source", pick(iSrc, inner...)}, {"inner destination", pick(iDst, inner...)},
		{"ports", nudge(iPorts)}, {"other port", nudge(iPorts + 2)}, {"TCP sequence", anything(iPorts+4, 8)}, {"TCP offset", anything(iPorts+12, 1)},
		{"TCP flags", anything(iTCPFlags, 1)}, {"inner UDP length", nudge(iPorts + 4)}, {"inner transport checksum", anything(iPorts+6, 2)},
		{"cut", func(r *rand.Rand, b []byte) []byte { return b[:max(66, len(b)-1-r.IntN(len(b)))] }},
		{"cut in headers", func(r *rand.Rand, b []byte) []byte { return b[:min(len(b), 66+r.IntN(54))] }},
		{"trailer", func(r *rand.Rand, b []byte) []byte { return append(b, make([]byte, 1+r.IntN(60))...) }},
		{"flip", func(r *rand.Rand, b []byte) []byte {
			if at := 12 + r.IntN(len(b)-12); at < iSrcMAC || at >= iEtherType { // the containers' addresses are a bit apart
				b[at] ^= 1 << r.IntN(8)
			}
			return b
		}},
		{"outer sound again", func(_ *rand.Rand, b []byte) []byte { return soundOuter(b) }},
		{"inner sound again", func(_ *rand.Rand, b []byte) []byte { return soundInner(b) }},
	}
}

// soundOuter makes the outer lengths and checksum right again, as far as the header is one without options.
func soundOuter(b []byte) []byte {
	if len(b) < iIP || b[oIP] != 0x45 {
		return b
	}
	binary.BigEndian.PutUint16(b[oLen:], uint16(len(b)-oIP))
	binary.BigEndian.PutUint16(b[oUDPLen:], uint16(len(b)-34))
	return resum(oIP)(b)
}

func soundInner(b []byte) []byte {
	if len(b) < iPorts || b[iIP] != 0x45 {
		return b
	}
	binary.BigEndian.PutUint16(b[iLen:], uint16(len(b)-iIP))
	return resum(iIP)(b)
}

// step is one mutation of a frame, by its place in the list.
type step struct {
	which int
	seed  uint64
}

// recipe is how a frame is made: the same one each time, and smaller ones of it.
type recipe struct {
	protocol byte
	port     uint16 // the peer's
	payload  int
	seed     uint64
	steps    []step
}

// ports of flows that the host knows, in different states.
var knownPorts = map[uint16]uint32{5201: flowAgreed, 5202: flowSent, 5203: flowRefused}

func newRecipe(r *rand.Rand, count int) recipe {
	c := recipe{protocol: protoTCP, port: 5201, payload: r.IntN(80), seed: r.Uint64()}
	switch r.IntN(5) {
	case 0, 1:
		c.protocol = protoUDP
	case 2:
		c.protocol = protoICMP
	}
	if r.IntN(4) == 0 {
		c.port += uint16(r.IntN(4))
	}
	if r.IntN(8) == 0 {
		c.payload = r.IntN(1400)
	}
	for range r.IntN(4) {
		c.steps = append(c.steps, step{r.IntN(count), r.Uint64()})
	}
	for _, sound := range []int{count - 1, count - 2} { // inner first: the outer lengths follow from it
		if r.IntN(4) > 0 {
			c.steps = append(c.steps, step{which: sound})
		}
	}
	return c
}

// bench sends frames to one host as the other and sees what its container is given.
type bench struct {
	*testing.T
	to, from  *testHost
	mutations []mutation
	wire      int // packet socket on from's wire
	tap       int // and where frames are watched for
	macs      [2][6]byte
	not       [][6]byte // who else sends into the container
	sentinels uint32
	buf       []byte
	count     int // of generated frames
}

func hardwareAddressIn(t *testing.T, ns netns.NsHandle, name string) (mac [6]byte) {
	t.Helper()
	do(t, ns, func(h *netlink.Handle) (err error) { mac, err = hardwareAddress(h, name); return err })
	return mac
}

func newBench(t *testing.T, to, from *testHost) *bench {
	t.Helper()
	b := &bench{T: t, to: to, from: from, mutations: mutations(to, from), count: *frameCount, buf: make([]byte, 70_000)}
	b.macs = [2][6]byte{hardwareAddressIn(t, to.host, testWire), hardwareAddressIn(t, from.host, testWire)}
	if to.kind.name != fastKinds()[0].name {
		b.count /= 4 // most of what they could do wrong is in what they share
	}
	for _, name := range []string{to.bridge, to.pair, to.tunnel} {
		b.not = append(b.not, hardwareAddressIn(t, to.sandbox, name))
	}
	bridge, port := to.gatewayNames(to.inner)
	b.not = append(b.not, hardwareAddressIn(t, to.host, bridge), hardwareAddressIn(t, to.host, port))
	b.wire = packetSocket(t, from.host, testWire, patience)
	return b
}

// known puts flows into the host's cache, which forgets all whenever it is switched on.
func (b *bench) known() {
	b.Helper()
	for port, state := range knownPorts {
		for _, protocol := range []uint32{protoTCP, protoUDP, protoICMP} {
			key := flowKey{Vni: wireVNI(uint32(b.to.vni)), Local: wire32(b.to.inner), Remote: wire32(b.from.inner), LocalPort: wire16(localPort), RemotePort: wire16(port), Protocol: protocol}
			if protocol == protoICMP {
				key.LocalPort = key.RemotePort
			}
			b.put(b.to, key, state)
		}
	}
}

// knownToSender puts the flows of what is sent into the sender's cache.
func (b *bench) knownToSender() {
	b.Helper()
	for port, state := range knownPorts {
		for _, protocol := range []uint32{protoTCP, protoUDP, protoICMP} {
			key := flowKey{Vni: wireVNI(uint32(b.to.vni)), Local: wire32(b.from.inner), Remote: wire32(b.to.inner), LocalPort: wire16(port), RemotePort: wire16(localPort), Protocol: protocol}
			if protocol == protoICMP {
				key.RemotePort = key.LocalPort
			}
			b.put(b.from, key, state)
		}
	}
}

func (b *bench) put(host *testHost, key flowKey, state uint32) {
	b.Helper()
	o := host.attached.(*overlay)
	if err := o.progs.(*cache).put(key, o.endpoints[0].number, state); err != nil {
		b.Fatal(err)
	}
}

// patience is how long a frame may take that has to come.
const patience = 5 * time.Second

// packetSocket sends and receives whole frames, and waits so long for one; device "": receives those of all devices.
func packetSocket(t *testing.T, ns netns.NsHandle, device string, wait time.Duration) (fd int) {
	t.Helper()
	do(t, ns, func(h *netlink.Handle) (err error) {
		all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8) // from when it is bound: until then it would hear every device
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 256<<20); err != nil {
			return err
		}
		timeout := unix.NsecToTimeval(wait.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return err
		}
		at := unix.SockaddrLinklayer{Protocol: all}
		if device != "" {
			if at.Ifindex, err = indexOf(h, device); err != nil {
				return err
			}
		}
		return unix.Bind(fd, &at)
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// quiet drops what comes in behind the taps, so that nobody answers.
func quiet(t *testing.T, ns netns.NsHandle) {
	t.Helper()
	drop, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "quiet", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdictShot), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { drop.Close() })
	do(t, ns, func(h *netlink.Handle) error {
		links, err := netspace.Whole(h.LinkList)
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Type() != "veth" {
				continue
			}
			if _, err := addFilter(h, point{ns, l.Attrs().Index, ebpf.AttachTCXIngress}, drop, "test"); err != nil {
				return err
			}
		}
		return nil
	})
}

// frame makes a recipe's frame.
func (b *bench) frame(c recipe) []byte {
	mac := func(hw net.HardwareAddr) []byte { return hw }
	header := 8
	if c.protocol == protoTCP {
		header = 20
	}
	inner := append(append(append([]byte{}, mac(b.to.mac)...), mac(b.from.mac)...), 8, 0)
	inner = appendIP(inner, c.protocol, b.from.inner, b.to.inner, header+c.payload)
	inner = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(inner, c.port), localPort)
	switch c.protocol {
	case protoICMP:
		inner = append(inner[:len(inner)-4], byte(c.seed%2)*8, 0, 0xab, 0xcd) // reply or request
		inner = append(binary.BigEndian.AppendUint16(inner, c.port), 0, 1)
	case protoTCP:
		inner = binary.BigEndian.AppendUint64(inner, c.seed) // no two follow each other: nothing is to be merged
		inner = append(inner, 0x50, tcpACK, 1, 0, 0xab, 0xcd, 0, 0)
	default:
		inner = append(binary.BigEndian.AppendUint16(inner, uint16(header+c.payload)), 0xab, 0xcd)
	}
	for i := range c.payload {
		inner = append(inner, byte(i*7))
	}
	f := b.wrap(inner)
	for _, s := range c.steps {
		f = b.mutations[s.which].apply(rand.New(rand.NewPCG(s.seed, 1)), f)
	}
	return f
}

func (b *bench) wrap(inner []byte) []byte {
	f := append(append(append([]byte{}, b.macs[0][:]...), b.macs[1][:]...), 8, 0)
	f = appendIP(f, protoUDP, b.from.outer, b.to.outer, 16+len(inner))
	f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, 50000), uint16(b.to.port))
	f = append(binary.BigEndian.AppendUint16(f, uint16(16+len(inner))), 0, 0)
	f = append(f, 8, 0, 0, 0, 0, byte(b.to.vni>>8), byte(b.to.vni), 0)
	return append(f, inner...)
}

// sentinel is an echo request, which takes the kernel's path at any time, the slower one.
func (b *bench) sentinel() (frame, inner []byte) {
	b.sentinels++
	inner = append(append(append([]byte{}, b.to.mac...), b.from.mac...), 8, 0)
	inner = appendIP(inner, 1, b.from.inner, b.to.inner, 64)
	inner = append(inner, 8, 0, 0, 0)
	inner = binary.BigEndian.AppendUint32(inner, b.sentinels)
	inner = append(inner, bytes.Repeat([]byte("sentinel"), 7)...)
	return b.wrap(inner), inner
}

// given sends frames by the wire and returns what the container was given of them, each as often as it was. What is passed on from a
// lane's end to the container's own device, TCP alone, is seen on both, and counted on the one that saw it more often: no two are the same.
func (b *bench) given(frames ...[]byte) map[string]int {
	b.Helper()
	last, end := b.sentinel()
	by := map[int]map[string]int{}
	b.pass(b.wire, append(slices.Clip(frames), last), func(f []byte, device int) (done bool) {
		if done = bytes.Equal(f, end); !done && len(f) > 23 && !slices.Contains(b.not, [6]byte(f[6:12])) {
			if by[device] == nil {
				by[device] = map[string]int{}
			}
			by[device][string(f)]++
		}
		return done
	})
	got := map[string]int{}
	for _, seen := range by {
		for f, n := range seen {
			if f[23] == protoTCP {
				got[f] = max(got[f], n)
			} else {
				got[f] += n
			}
		}
	}
	return got
}

// sent sends frames by a device of the container and returns what came out on the wire: of the outer header what a receiver goes
// by, and the frame.
func (b *bench) sent(device int, frames ...[]byte) map[string]int {
	b.Helper()
	b.sentinels++
	last := b.frame(recipe{protocol: protoUDP, port: 5201, payload: 30})[encapsulation:]
	binary.BigEndian.PutUint32(last[len(last)-4:], b.sentinels)
	got := map[string]int{}
	b.pass(device, append(slices.Clip(frames), last), func(f []byte, _ int) (done bool) {
		if len(f) < iIP || f[oProto] != protoUDP || int(binary.BigEndian.Uint16(f[oPort:])) != b.to.port {
			return false
		}
		if done = bytes.Equal(f[encapsulation:], last); !done {
			got[string(f[oSrc:oPort-2])+string(f[oPort:oPort+2])+string(f[oFlags:])]++
		}
		return done
	})
	return got
}

// pass sends frames and hands over all that is seen, with its device, until the last of them is.
func (b *bench) pass(by int, frames [][]byte, see func(frame []byte, device int) (done bool)) {
	b.Helper()
	for i, f := range frames {
		// One that is too large for the device, or dropped at once, is one that does not arrive.
		if _, err := unix.Write(by, f); err != nil && !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.ENOBUFS) {
			b.Fatalf("frame %d: % x: %v", i, f, err)
		}
	}
	for {
		n, who, err := unix.Recvfrom(b.tap, b.buf, 0)
		if err != nil {
			b.Fatalf("%d frames sent, and the last one was not seen: %v", len(frames), err)
		}
		at, ok := who.(*unix.SockaddrLinklayer)
		if ok && at.Pkttype != unix.PACKET_OUTGOING && n >= 14 && see(b.buf[:n], at.Ifindex) {
			return
		}
	}
}

// received compares what a container is given by the two paths: what one gave that the other did not; "" when they agree.
func (b *bench) received(frames ...[]byte) (text string) {
	b.to.obey(b.T, econbench.OrderOff)
	slow := b.given(frames...)
	b.to.obey(b.T, econbench.OrderOn)
	b.known()
	fast := b.given(frames...)
	if maps.Equal(slow, fast) {
		return ""
	}
	for _, side := range []struct {
		name   string
		of, no map[string]int
	}{{"the kernel's path", slow, fast}, {"the fast path", fast, slow}} {
		for f, n := range side.of {
			if n > side.no[f] {
				text += fmt.Sprintf("\n%s gave %d of\n  % x", side.name, n-side.no[f], f)
			}
		}
	}
	return text
}

func (b *bench) describe(c recipe) string {
	var names []string
	for _, s := range c.steps {
		names = append(names, b.mutations[s.which].name)
	}
	return fmt.Sprintf("protocol %d, port %d, %d bytes; %s", c.protocol, c.port, c.payload, strings.Join(names, ", "))
}

// search generates frames and compares what becomes of them, in batches, until two paths differ: then the smallest frame that shows
// it is told.
func (b *bench) search(frame func(recipe) []byte, difference func(...[]byte) string) (seed uint64, count int) {
	b.Helper()
	const batch = 256
	seed, count = *frameSeed, b.count
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	if isPlain(b.T) {
		count /= 10
	}
	if testing.Short() {
		count = 5000
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for sent := 0; sent < count; sent += batch {
		recipes, frames := make([]recipe, batch), make([][]byte, batch)
		for i := range recipes {
			recipes[i] = newRecipe(r, len(b.mutations))
			frames[i] = frame(recipes[i])
		}
		together := difference(frames...)
		if together == "" {
			continue
		}
		for i, c := range recipes {
			if difference(frames[i]) == "" {
				continue
			}
			c = minimise(c, func(c recipe) bool { return difference(frame(c)) != "" })
			b.Fatalf("seed %d, frame %d (%s):\n% x%s", seed, sent+i, b.describe(c), frame(c), difference(frame(c)))
		}
		b.Fatalf("seed %d, frames %d to %d: they differ together, and none alone:%s", seed, sent, sent+batch, together)
	}
	return seed, count
}

// minimise leaves out steps while the two paths still differ.
func minimise(c recipe, differs func(recipe) bool) recipe {
	for i := 0; i < len(c.steps); {
		less := c
		less.steps = slices.Delete(slices.Clone(c.steps), i, i+1)
		if differs(less) {
			c, i = less, 0
		} else {
			i++
		}
	}
	return c
}

// TestReceivesTheSame gives a host generated frames by the kernel's path and by the fast one.
func TestReceivesTheSame(t *testing.T) { eachKind(t, testReceivesTheSame) }

func testReceivesTheSame(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	hosts[0].attach(t, econbench.AttachOptions{})
	b := newBench(t, hosts[0], hosts[1])
	b.tap = packetSocket(t, hosts[0].container, "", patience)
	quiet(t, hosts[0].container)
	seed, count := b.search(b.frame, b.received)
	b.covered(hosts[0].counters(t), seed, count)
}

// TestReceivesTheSameByItsDevice does so with each kind of lane where what arrives goes on to the container's own device: there all of it
// has to be seen, by the fast path too.
func TestReceivesTheSameByItsDevice(t *testing.T) {
	eachWayIn(t, func(t *testing.T, k fastKind, kind string) {
		hosts := twoHosts(t, k)
		hosts[0].attach(t, econbench.AttachOptions{Lane: kind})
		hosts[0].arrivesByItsDevice(t)
		b := newBench(t, hosts[0], hosts[1])
		b.count /= 10
		b.tap = packetSocket(t, hosts[0].container, "eth0", patience)
		quiet(t, hosts[0].container)
		seed, count := b.search(b.frame, b.received)
		b.covered(hosts[0].counters(t), seed, count)
	})
}

// TestSendsNothingElse has a container put generated frames into its lane, as one with CAP_NET_RAW can, past the program that
// would have judged them and past queueing disciplines: whatever comes out on the wire it could have sent by its own device as well.
func TestSendsNothingElse(t *testing.T) { eachKind(t, testSendsNothingElse) }

func testSendsNothingElse(t *testing.T, k fastKind) {
	eachLane(t, func(t *testing.T, kind string) {
		if kind != laneKinds()[0] && k.name != fastKinds()[0].name {
			t.Skip("lanes differ by what is the same for each fast path")
		}
		hosts := twoHosts(t, k)
		hosts[0].attach(t, econbench.AttachOptions{Lane: kind})
		b := newBench(t, hosts[1], hosts[0])
		if kind != laneKinds()[0] {
			b.count /= 10
		}
		b.tap = packetSocket(t, hosts[1].host, testWire, patience)
		quiet(t, hosts[1].container)
		_, _, _, device := laneDevices(t, hosts[0])
		own, lane := packetSocket(t, hosts[0].container, "eth0", patience), packetSocket(t, hosts[0].container, device, patience)
		// The socket says that its frames are IPv4: of a macvlan's the kernel does not find out by itself, not up to 6.1 at least.
		do(t, hosts[0].container, func(h *netlink.Handle) error {
			ifindex, err := indexOf(h, device)
			return errors.Join(err, unix.Bind(lane, &unix.SockaddrLinklayer{Protocol: 8, Ifindex: ifindex}), // ETH_P_IP in network byte order
				unix.SetsockoptInt(lane, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
		})
		seed, count := b.search(func(c recipe) []byte { return b.frame(c)[encapsulation:] }, func(frames ...[]byte) (text string) {
			b.knownToSender() // by the way to the gateway nothing else is taken for the fast path's
			allowed := b.sent(own, frames...)
			for f, n := range b.sent(lane, frames...) {
				if n > allowed[f] {
					text += fmt.Sprintf("\nthe lane alone sent %d of (outer source, destination, port; VNI; frame)\n  % x", n-allowed[f], f)
				}
			}
			return text
		})
		c := hosts[0].counters(t)
		b.Logf("seed %d: %d frames, %.0f of them carried, %.0f refused", seed, count, c["egress.hits"], c["lost.refused"])
		// By the way to the gateway what is not the fast path's goes on, and is not refused.
		if c["egress.hits"] < 0.1*float64(count) || kind != laneGateway && c["lost.refused"] < 0.1*float64(count) {
			b.Errorf("too few were carried, or too few refused: this compares nothing: %v", c)
		}
	})
}

// covered fails when hardly any frame got as far as it should have: then nothing has been compared.
func (b *bench) covered(c econbench.Counters, seed uint64, count int) {
	b.Helper()
	bailed := maps.Clone(c)
	maps.DeleteFunc(bailed, func(name string, n float64) bool { return n == 0 || !strings.HasPrefix(name, "ingress.bail.") })
	b.Logf("seed %d: %d frames, %.0f of them carried; %v", seed, count, c["ingress.hits"], bailed)
	if c["ingress.hits"] < 0.1*float64(count) || len(bailed) < 7 {
		b.Errorf("too few frames were carried, or bailed for too few reasons: this compares nothing")
	}
}
