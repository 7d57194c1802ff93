// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench"
)

// What is here runs the programs in the kernel on packets built by hand (BPF_PROG_TEST_RUN), on no device but the loopback
// device that such packets are said to come from. A redirect is a verdict there: nothing is sent.

// Verdicts of a program at a tc hook.
const (
	verdictNext     = 0xffffffff
	verdictShot     = 2
	verdictRedirect = 7
)

const (
	protoICMP              = 1
	protoTCP, protoUDP     = 6, 17
	flowSent, flowAgreed   = uint32(1), uint32(2) // FLOW_SENT, FLOW_ESTABLISHED
	flowRefused            = uint32(3)            // FLOW_REFUSED
	testPort               = 4789
	testVNI                = 4097
	testMTU                = 1450
	testNumber             = 7 // of the container
	localPort, remotePort  = 40000, 5201
	portMin, portMax       = 32768, 32868
	tcpACK, tcpFIN, tcpSYN = 0x10, 1, 2
	tcpRST, tcpURG         = 4, 0x20

	// The kernel refuses a test run (EINVAL) of a frame too short for the IP header that its type calls for.
	leastIPv4, leastIPv6 = 14 + 20, 14 + 40
)

// Where things lie in an encapsulated frame. A plain frame has its parts encapsulation bytes earlier.
const (
	oDstMAC, oEtherType, oIP, oTOS, oLen, oFrag, oProto, oSum = 0, 12, 14, 15, 16, 20, 23, 24
	oSrc, oDst, oPort, oUDPLen, oUDPSum, oFlags, oVNI         = 26, 30, 36, 38, 40, 42, 46
	iDstMAC, iSrcMAC, iEtherType, iIP, iTOS, iLen             = 50, 56, 62, 64, 65, 66
	iFrag, iProto, iSum, iSrc, iDst, iPorts                   = 70, 73, 74, 76, 80, 84
	iTCPFlags                                                 = iPorts + 13
)

var (
	hereHost, thereHost = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	nextHop             = netip.MustParseAddr("192.0.2.254")
	here, there         = netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.3")
	nobody              = netip.MustParseAddr("10.1.0.9") // an address that no table has
	hereMAC             = [6]byte{2, 0x42, 10, 1, 0, 2}
	thereMAC            = [6]byte{2, 0x42, 10, 1, 0, 3}
	otherMAC            = []byte{2, 0x42, 10, 1, 0, 99}
	laneMAC             = [6]byte{2, 0, 0, 0, 0, 7} // where this container's lane takes frames in

	// A container next door, on the same host.
	near        = netip.MustParseAddr("10.1.0.4")
	nearMAC     = [6]byte{2, 0x42, 10, 1, 0, 4}
	nearLane    = nearDoor{}
	nearNumber  = uint32(testNumber + 1)
	nearLaneMAC = [6]byte{2, 0, 0, 0, 0, 8}
	nextDoor    = uint32(0x65636f6e) // NEXT_DOOR
)

type nearDoor struct{ fakeLane }

func (nearDoor) into() int    { return 4 }
func (nearDoor) mac() [6]byte { return nearLaneMAC }

// skbuff is struct __sk_buff of include/uapi/linux/bpf.h.
type skbuff struct {
	Len, PktType, Mark, QueueMapping, Protocol uint32
	VLANPresent, VLANTCI, VLANProto, Priority  uint32
	IngressIfindex, Ifindex, TCIndex           uint32
	CB                                         [5]uint32
	Hash, TCClassID, Data, DataEnd, NapiID     uint32
	Family, RemoteIP4, LocalIP4                uint32
	RemoteIP6, LocalIP6                        [4]uint32
	RemotePort, LocalPort, DataMeta            uint32
	FlowKeys, Tstamp                           uint64
	WireLen, GSOSegs                           uint32
	Sk                                         uint64
	GSOSize                                    uint32
	TstampType                                 uint8
	_                                          [3]uint8
	HWTstamp                                   uint64
}

type fakeLane struct{}

func (fakeLane) kind() string                    { return laneMacvlan }
func (fakeLane) intact(*netlink.Handle) bool     { return true }
func (fakeLane) inside() int                     { return 3 }
func (fakeLane) outside() (int, ebpf.AttachType) { return 2, ebpf.AttachTCXEgress }
func (fakeLane) into() int                       { return 2 }
func (fakeLane) receiver() int                   { return 4 }
func (fakeLane) asked() (int, end)               { return 2, end{4, laneMAC} }
func (fakeLane) mac() [6]byte                    { return laneMAC }
func (fakeLane) private() bool                   { return true }
func (fakeLane) close() error                    { return nil }

// rig is one container's programs with one peer in their caches.
type rig struct {
	*testing.T
	cache cache
	own   struct{ fromContainer, fromLane *ebpf.Program }
}

func newRig(t *testing.T, k fastKind) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: CAP_BPF and CAP_NET_ADMIN are needed to load programs")
	}
	r := &rig{T: t}
	t.Cleanup(func() { r.must(r.cache.close()) })
	h := hostSide{wire: 1, underlay: hereHost, port: testPort, sourcePorts: [2]uint16{portMin, portMax}, learning: true}
	r.cache.cacheKind = k.cacheKind
	r.must(r.cache.load(h))
	l := local{vni: testVNI, mac: hereMAC, addr: here, mtu: testMTU}
	own, err := r.cache.around(l, testNumber, fakeLane{})
	r.must(err)
	t.Cleanup(own.Close)
	r.own.fromContainer, r.own.fromLane = own.Programs[progFromContainer], own.Programs[progFromLane]
	r.must(r.cache.setEndpoint(l, testNumber, fakeLane{}, false))
	r.must(r.cache.setRemote(address{testVNI, there}, remote{thereMAC, thereHost}, nextHop))
	r.must(r.cache.setControl(control{until: math.MaxUint64}))
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func keyTo(protocol uint32, peer netip.Addr) flowKey {
	return flowKey{
		Vni: wireVNI(testVNI), Local: wire32(here), Remote: wire32(peer), LocalPort: wire16(localPort), RemotePort: wire16(remotePort), Protocol: protocol,
	}
}

// put sets what is known of a flow, with all that its fast path fills in from the tables.
func (p *cache) put(key flowKey, number, state uint32) error {
	value := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, state), number)
	if p.release != "" { // econ's
		value = p.filled(key, value)
	}
	value = append(value, make([]byte, int(p.coll.Maps["flows"].ValueSize())-len(value))...)
	return p.coll.Maps["flows"].Put(key, value)
}

// filled is econ's flow, without a socket.
func (p *cache) filled(key flowKey, value []byte) []byte {
	var here deliveryValue
	var there peerValue
	if p.coll.Maps["endpoints"].Lookup(addressKey{Vni: key.Vni, Ip: key.Local}, &here) != nil ||
		p.coll.Maps["peers"].Lookup(addressKey{Vni: key.Vni, Ip: key.Remote}, &there) != nil {
		return value
	}
	value = binary.NativeEndian.AppendUint32(value, p.control.Generation)
	value = binary.NativeEndian.AppendUint32(value, here.Ifindex)
	value = binary.NativeEndian.AppendUint64(value, 0)
	value = binary.NativeEndian.AppendUint32(value, there.Host)
	return append(append(value, here.Mac[:]...), there.Mac[:]...)
}

// flow sets what is known of a flow; 0 forgets it.
func (r *rig) flow(key flowKey, state uint32) {
	r.Helper()
	if state == 0 {
		r.must(ignoreMissing(r.cache.coll.Maps["flows"].Delete(key)))
		return
	}
	r.must(r.cache.put(key, testNumber, state))
}

func (r *rig) flowState(key flowKey) (state uint32) {
	r.Helper()
	var value []byte
	r.must(ignoreMissing(r.cache.coll.Maps["flows"].Lookup(key, &value)))
	if value == nil {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

// agree makes TCP's and UDP's flow between the two containers established ones, and nothing else known.
func (r *rig) agree() {
	r.Helper()
	r.flow(keyTo(protoTCP, nobody), 0)
	r.flow(keyTo(protoUDP, nobody), 0)
	r.flow(keyTo(protoTCP, there), flowAgreed)
	r.flow(keyTo(protoUDP, there), flowAgreed)
	r.flow(echoKey(there), flowAgreed)
}

func echoKey(peer netip.Addr) flowKey {
	key := keyTo(protoICMP, peer)
	key.RemotePort = key.LocalPort
	return key
}

// counts are the counters but for those of single CPUs.
func (r *rig) counts() econbench.Counters {
	r.Helper()
	c, err := r.cache.counters()
	r.must(err)
	maps.DeleteFunc(c, func(name string, _ float64) bool { return strings.HasPrefix(name, "cpu") })
	return c
}

// run runs a program on one packet; counted is what it added to the counters.
func (r *rig) run(p *ebpf.Program, frame []byte, ctx skbuff) (verdict uint32, out []byte, counted econbench.Counters, after skbuff) {
	r.Helper()
	before := r.counts()
	verdict, out, after = r.runUncounted(p, frame, ctx)
	counted = r.counts()
	for name, n := range before {
		if counted[name] -= n; counted[name] == 0 {
			delete(counted, name)
		}
	}
	return verdict, out, counted, after
}

func (r *rig) runUncounted(p *ebpf.Program, frame []byte, ctx skbuff) (verdict uint32, out []byte, after skbuff) {
	r.Helper()
	opt := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256), Context: ctx, ContextOut: &after}
	verdict, err := p.Run(&opt)
	r.must(err)
	return verdict, opt.DataOut, after
}

// expect compares one run with what it should have been; out nil: the frame as it was.
func (r *rig) expect(p *ebpf.Program, frame []byte, ctx skbuff, verdict uint32, want econbench.Counters, out []byte) []byte {
	r.Helper()
	got, gotOut, counted, after := r.run(p, frame, ctx)
	if got != verdict {
		r.Errorf("verdict %#x, want %#x", got, verdict)
	}
	if !maps.Equal(counted, want) {
		r.Errorf("counted %v, want %v", counted, want)
	}
	if verdict == verdictNext && after.Mark != ctx.Mark {
		r.Errorf("mark %#x became %#x on a packet that goes on", ctx.Mark, after.Mark)
	}
	if out == nil {
		out = frame
	}
	if !bytes.Equal(gotOut, out) && (verdict != verdictRedirect || p != r.own.fromLane) {
		r.Errorf("frame is now\n%x, want\n%x", gotOut, out)
	}
	return gotOut
}

// sumIP is the checksum of an IPv4 header of 20 bytes, written so as to share nothing with the program's.
func sumIP(h []byte) uint16 {
	var sum uint32
	for i := 0; i < 20; i += 2 {
		if i != 10 {
			sum += uint32(h[i])<<8 | uint32(h[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func appendIP(b []byte, protocol byte, src, dst netip.Addr, payload int) []byte {
	at := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(20+payload))
	b = append(b, 0x12, 0x34, 0x40, 0, 63, protocol, 0, 0)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(b[at+10:], sumIP(b[at:]))
	return b
}

// plain is a frame between the two containers: sent by the one here when out.
func plain(protocol byte, out bool, payload int) (b []byte) {
	srcMAC, dstMAC, src, dst, ports := thereMAC, hereMAC, there, here, [2]uint16{remotePort, localPort}
	if out {
		srcMAC, dstMAC, src, dst, ports = hereMAC, thereMAC, here, there, [2]uint16{localPort, remotePort}
	}
	b = append(append(append(b, dstMAC[:]...), srcMAC[:]...), 8, 0)
	header := 8
	if protocol == protoTCP {
		header = 20
	}
	b = appendIP(b, protocol, src, dst, header+payload)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, ports[0]), ports[1])
	switch protocol {
	case protoTCP:
		b = append(b, 1, 2, 3, 4, 5, 6, 7, 8, 0x50, tcpACK, 1, 0, 0xab, 0xcd, 0, 0)
	case protoICMP: // an echo request with the local port for its identifier
		b = append(b[:len(b)-4], 8, 0, 0xab, 0xcd)
		b = append(binary.BigEndian.AppendUint16(b, localPort), 0, 1)
	default:
		b = append(binary.BigEndian.AppendUint16(b, uint16(header+payload)), 0xab, 0xcd)
	}
	for i := range payload {
		b = append(b, byte(i*7))
	}
	return b
}

// wrapped is a frame as the wire brings it. Test runs have the loopback device, whose own address is all zeros.
func wrapped(inner []byte) (b []byte) {
	b = append(b, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 8, 0)
	b = appendIP(b, protoUDP, thereHost, hereHost, 16+len(inner))
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, 50000), testPort)
	b = append(binary.BigEndian.AppendUint16(b, uint16(16+len(inner))), 0, 0)
	b = append(b, 8, 0, 0, 0, 0, testVNI>>8, testVNI&0xff, 0)
	return append(b, inner...)
}

type edit func([]byte) []byte

func edits(es ...edit) edit {
	return func(b []byte) []byte {
		for _, e := range es {
			b = e(b)
		}
		return b
	}
}

func set(at int, to ...byte) edit {
	return func(b []byte) []byte { copy(b[at:], to); return b }
}

func add16(at int, n int) edit {
	return func(b []byte) []byte {
		binary.BigEndian.PutUint16(b[at:], uint16(int(binary.BigEndian.Uint16(b[at:]))+n))
		return b
	}
}

// resum makes an IPv4 header's checksum right again.
func resum(at int) edit {
	return func(b []byte) []byte { binary.BigEndian.PutUint16(b[at+10:], sumIP(b[at:])); return b }
}

func insert(at int, what ...byte) edit {
	return func(b []byte) []byte { return append(append(bytes.Clone(b[:at]), what...), b[at:]...) }
}

func grow(n int) edit { return func(b []byte) []byte { return append(b, make([]byte, n)...) } }
func cut(n int) edit  { return func(b []byte) []byte { return b[:len(b)-n] } }

// outerSet edits the outer IP header and leaves it with the right checksum.
func outerSet(at int, to ...byte) edit { return edits(set(at, to...), resum(oIP)) }

// relength makes all the lengths of an encapsulated frame (base 0) or the plain one's (base encapsulation) right again.
func relength(base int) edit {
	return func(b []byte) []byte {
		if base == 0 {
			binary.BigEndian.PutUint16(b[oLen:], uint16(len(b)-oIP))
			binary.BigEndian.PutUint16(b[oUDPLen:], uint16(len(b)-34))
			b = resum(oIP)(b)
		}
		binary.BigEndian.PutUint16(b[iLen-base:], uint16(len(b)+base-iIP))
		return resum(iIP - base)(b)
	}
}

func bailed(direction, why string, segs float64) econbench.Counters {
	return econbench.Counters{direction + ".seen": segs, direction + ".bail." + why: segs}
}

func missed(segs float64) econbench.Counters {
	return econbench.Counters{"ingress.seen": segs, "ingress.eligible": segs, "ingress.misses": segs}
}

// received is what an encapsulated frame counts that is delivered.
func received(frame []byte) econbench.Counters {
	return econbench.Counters{
		"ingress.seen": 1, "ingress.eligible": 1, "ingress.hits": 1, "ingress.hit_bytes": float64(len(frame) - encapsulation),
	}
}

// TestFromWireDelivers has what may be delivered: the inner frame comes out as it went in.
func TestFromWireDelivers(t *testing.T) { eachKind(t, testFromWireDelivers) }

func testFromWireDelivers(t *testing.T, k fastKind) {
	r := newRig(t, k)
	for _, c := range []struct {
		name     string
		protocol byte
		payload  int
		edit     edit
	}{
		{"TCP", protoTCP, 100, nil},
		{"TCP without payload", protoTCP, 0, nil},
		{"TCP, PSH, ECE, CWR", protoTCP, 9, set(iTCPFlags, tcpACK|8|0x40|0x80)},
		{"TCP options", protoTCP, 12, set(iPorts+12, 0x80)},
		{"UDP", protoUDP, 100, nil},
		{"shortest UDP", protoUDP, 0, nil},
		{"echo", protoICMP, 56, nil},
		{"echo reply", protoICMP, 0, set(iPorts, 0)},
		{"full frame", protoTCP, testMTU - 40, nil},
		{"larger than the wire", protoTCP, 3000, nil}, // merged by GRO; a test run takes up to a page
		{"outer DF", protoTCP, 1, outerSet(oFrag, 0x40)},
		{"outer TTL", protoTCP, 1, outerSet(22, 1)},
		{"outer ID", protoTCP, 1, outerSet(18, 0xff, 0xff)},
		{"outer DSCP", protoTCP, 1, outerSet(oTOS, 0xb8)},
		{"outer ECT(0)", protoTCP, 1, outerSet(oTOS, 2)},
		{"ECT(1) inside and outside", protoTCP, 1, edits(outerSet(oTOS, 1), set(iTOS, 1), resum(iIP))},
		{"CE inside", protoTCP, 1, edits(outerSet(oTOS, 2), set(iTOS, 3), resum(iIP))},
		{"any outer source port", protoUDP, 1, set(34, 0, 1)},
		{"any outer source MAC", protoUDP, 1, set(6, 0xaa, 0xbb)},
		// What the container's own stack looks at anew is left to it.
		{"length of the inner UDP header", protoUDP, 1, add16(iPorts+4, 1)},
		{"inner TTL", protoTCP, 1, edits(set(iTOS+7, 0), resum(iIP))},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.T = t
			r.agree()
			frame := wrapped(plain(c.protocol, false, c.payload))
			if c.edit != nil {
				frame = c.edit(frame)
			}
			r.expect(r.cache.fromWire(), frame, skbuff{}, verdictRedirect, received(frame), frame[encapsulation:])
		})
	}
}

// TestFromWirePasses has what goes on untouched; why "" is what counts for nothing, as being of no container of ours.
func TestFromWirePasses(t *testing.T) { eachKind(t, testFromWirePasses) }

func testFromWirePasses(t *testing.T, k fastKind) {
	r := newRig(t, k)
	for _, c := range []struct {
		name     string
		protocol byte
		edit     edit
		why      string
	}{
		{"for another's hardware address", protoTCP, set(oDstMAC, 2), ""},
		{"broadcast", protoTCP, set(oDstMAC, 255, 255, 255, 255, 255, 255), ""},
		{"ARP", protoTCP, set(oEtherType, 8, 6), ""},
		{"IPv6", protoTCP, set(oEtherType, 0x86, 0xdd), ""},
		{"VLAN", protoTCP, insert(oEtherType, 0x81, 0, 0, 5), ""},
		{"outer IPv6 called IPv4", protoTCP, outerSet(oIP, 0x65), ""},
		{"outer options", protoTCP, edits(insert(34, 1, 1, 1, 0), set(oIP, 0x46), add16(oLen, 4), resum(oIP)), ""},
		{"outer TCP", protoTCP, outerSet(oProto, protoTCP), ""},
		{"for another host", protoTCP, outerSet(oDst+3, 9), ""},
		{"wrong port", protoTCP, add16(oPort, 1), ""},
		{"wrong VNI", protoTCP, set(oVNI+2, 2), ""},
		{"reserved byte after the VNI", protoTCP, set(oVNI+3, 1), ""},
		{"unknown container", protoTCP, edits(set(iDst+3, 9), resum(iIP)), ""},
		{"inner ARP", protoTCP, set(iEtherType, 8, 6), ""},
		{"inner IPv6", protoTCP, set(iEtherType, 0x86, 0xdd), ""},
		{"inner VLAN", protoTCP, edits(insert(iEtherType, 0x81, 0, 0, 5), add16(oLen, 4), add16(oUDPLen, 4), resum(oIP)), ""},

		{"outer MF", protoTCP, outerSet(oFrag, 0x20), "fragment"},
		{"outer offset", protoTCP, outerSet(oFrag+1, 1), "fragment"},
		{"outer length short", protoTCP, edits(add16(oLen, -1), resum(oIP)), "length"},
		{"outer length long", protoTCP, edits(add16(oLen, 1), resum(oIP)), "length"},
		{"both IP lengths short", protoTCP, edits(add16(oLen, -1), resum(oIP), add16(iLen, -1), resum(iIP)), "length"},
		{"outer UDP length short", protoTCP, add16(oUDPLen, -1), "length"},
		{"outer UDP length long", protoTCP, add16(oUDPLen, 1), "length"},
		{"trailer", protoUDP, grow(1), "length"},
		{"cut off", protoTCP, cut(1), "length"},
		{"trailer inside", protoTCP, edits(grow(1), relength(0), add16(iLen, -1), resum(iIP)), "length"},
		{"inner longer than outer", protoTCP, edits(add16(iLen, 1), resum(iIP)), "length"},
		{"inner UDP too short for a header", protoUDP, edits(set(iLen, 0, 27), resum(iIP)), "length"},
		{"inner length 0", protoTCP, edits(set(iLen, 0, 0), resum(iIP)), "length"},
		{"no VNI flag", protoTCP, set(oFlags, 0), "outer"},
		{"reserved flag", protoTCP, set(oFlags, 0x88), "outer"},
		{"group policy bits", protoTCP, set(oFlags+2, 1), "outer"},
		{"reserved byte before the VNI", protoTCP, set(oFlags+3, 1), "outer"},
		{"outer UDP checksum", protoTCP, set(oUDPSum+1, 1), "outer"},
		{"broken outer checksum", protoTCP, add16(oSum, 1), "outer"},
		{"outer CE", protoTCP, outerSet(oTOS, 3), "outer"},
		{"outer CE on ECT(0)", protoTCP, edits(outerSet(oTOS, 3), set(iTOS, 2), resum(iIP)), "outer"},
		{"outer ECT(1) on ECT(0)", protoTCP, edits(outerSet(oTOS, 1), set(iTOS, 2), resum(iIP)), "outer"},

		{"options", protoTCP, edits(insert(iPorts, 1, 1, 1, 0), set(iIP, 0x46), relength(0)), "options"},
		{"header length below 5", protoTCP, set(iIP, 0x44), "options"},
		{"inner version", protoTCP, set(iIP, 0x65), "protocol"},
		{"ICMP", protoTCP, edits(set(iProto, 1), resum(iIP)), "protocol"},
		{"inner checksum", protoTCP, set(iSum, 0xde, 0xad), "checksum"},
		{"ICMP unreachable", protoICMP, set(iPorts, 3, 3), "protocol"},
		{"ICMP code", protoICMP, set(iPorts+1, 1), "protocol"},
		{"ICMP timestamp", protoICMP, set(iPorts, 13), "protocol"},
		{"echo of another", protoICMP, set(iPorts+5, 9), "flow"},
		{"MF", protoTCP, edits(set(iFrag, 0x20), resum(iIP)), "fragment"},
		{"offset", protoUDP, edits(set(iFrag, 0, 1), resum(iIP)), "fragment"},
		{"largest offset", protoUDP, edits(set(iFrag, 0x1f, 0xff), resum(iIP)), "fragment"},
		{"SYN", protoTCP, set(iTCPFlags, tcpSYN), "flags"},
		{"SYN, ACK", protoTCP, set(iTCPFlags, tcpSYN|tcpACK), "flags"},
		{"FIN", protoTCP, set(iTCPFlags, tcpFIN|tcpACK), "flags"},
		{"RST", protoTCP, set(iTCPFlags, tcpRST), "flags"},
		{"URG", protoTCP, set(iTCPFlags, tcpURG|tcpACK), "flags"},
		{"wrong inner destination MAC", protoTCP, set(iDstMAC, otherMAC...), "address"},
		{"inner broadcast", protoUDP, set(iDstMAC, 255, 255, 255, 255, 255, 255), "address"},
		{"other local port", protoTCP, add16(iPorts+2, 1), "flow"},
		{"other remote port", protoUDP, add16(iPorts, 1), "flow"},
		{"other sender", protoTCP, edits(set(iSrc+3, 9), resum(iIP)), "flow"},
		{"spoofed outer source", protoTCP, outerSet(oSrc+3, 3), "spoofed"},
		{"wrong inner source MAC", protoTCP, set(iSrcMAC, otherMAC...), "spoofed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.T = t
			r.agree()
			frame := c.edit(wrapped(plain(c.protocol, false, 100)))
			for _, segs := range []uint32{0, 1, 5} { // 0 and 1 are one packet
				want := econbench.Counters{}
				if c.why != "" {
					want = bailed("ingress", c.why, float64(max(segs, 1)))
				}
				ctx := skbuff{Mark: 0xe5, GSOSegs: segs}
				if segs > 1 {
					ctx.GSOSize = 50
				}
				r.expect(r.cache.fromWire(), frame, ctx, verdictNext, want, nil)
			}
		})
	}
}

// TestFromWireState has one good frame and caches that vary.
func TestFromWireState(t *testing.T) { eachKind(t, testFromWireState) }

func testFromWireState(t *testing.T, k fastKind) {
	r := newRig(t, k)
	frame := wrapped(plain(protoUDP, false, 10))
	key := keyTo(protoUDP, there)
	pass := func(what string, frame []byte, want econbench.Counters, state uint32) {
		t.Helper()
		r.expect(r.cache.fromWire(), frame, skbuff{}, verdictNext, want, nil)
		if got := r.flowState(key); got != state {
			t.Errorf("%s: flow is in state %d, want %d", what, got, state)
		}
	}
	pass("unknown flow", frame, bailed("ingress", "flow", 1), 0)

	r.flow(key, flowSent)
	r.must(r.cache.setControl(control{}))
	pass("lease ran out", frame, bailed("ingress", "expired", 1), flowSent)
	r.must(r.cache.setControl(control{until: math.MaxUint64}))
	pass("spoofed host", outerSet(oSrc+3, 3)(bytes.Clone(frame)), bailed("ingress", "spoofed", 1), flowSent)
	pass("spoofed MAC", set(iSrcMAC, otherMAC...)(bytes.Clone(frame)), bailed("ingress", "spoofed", 1), flowSent)

	peer := address{testVNI, there}
	r.must(r.cache.dropRemote(peer))
	pass("sender unknown, flow not agreed", frame, bailed("ingress", "flow", 1), flowSent)
	r.flow(key, flowAgreed)
	unknown := missed(1)
	pass("sender unknown", frame, unknown, flowAgreed)
	r.must(r.cache.setRemote(peer, remote{thereMAC, thereHost}, nextHop))

	r.flow(key, flowSent)
	byKernel := set(oUDPSum, 0xbe, 0xef)(bytes.Clone(frame)) // as the peer's vxlan device sends a flow's first packets
	pass("heard for the first time", byKernel, bailed("ingress", "flow", 1), flowAgreed)
	pass("heard by the kernel's path", byKernel, bailed("ingress", "outer", 1), flowAgreed)
	r.expect(r.cache.fromWire(), frame, skbuff{}, verdictRedirect, received(frame), frame[encapsulation:])

	r.must(r.cache.setControl(control{until: math.MaxUint64, mode: modeOff}))
	pass("off", frame, econbench.Counters{}, flowAgreed)
	r.must(r.cache.setControl(control{until: math.MaxUint64, mode: modeDry}))
	pass("dry", frame, econbench.Counters{"ingress.seen": 1, "ingress.eligible": 1, "ingress.dry": 1}, flowAgreed)
	r.must(r.cache.setControl(control{until: math.MaxUint64}))
	r.expect(r.cache.fromWire(), frame, skbuff{}, verdictRedirect, received(frame), frame[encapsulation:])

	tcp := wrapped(plain(protoTCP, false, 10))
	pass("the same ports in TCP", tcp, bailed("ingress", "flow", 1), flowAgreed)
	l := local{vni: testVNI, mac: hereMAC, addr: here}
	r.must(r.cache.setEndpoint(l, testNumber+1, fakeLane{}, false))
	pass("container of another number", frame, bailed("ingress", "flow", 1), flowAgreed)
	r.must(r.cache.dropEndpoint(l))
	pass("container that left", frame, econbench.Counters{}, flowAgreed)
}

// TestFromWireTruncated has good frames cut off at every length, as they are and with lengths that say so.
func TestFromWireTruncated(t *testing.T) { eachKind(t, testFromWireTruncated) }

func testFromWireTruncated(t *testing.T, k fastKind) {
	r := newRig(t, k)
	r.agree()
	for _, protocol := range []byte{protoTCP, protoUDP} {
		whole := wrapped(plain(protocol, false, 30))
		header := 8
		if protocol == protoTCP {
			header = 20
		}
		for n := leastIPv4; n < len(whole); n++ {
			want := econbench.Counters{}
			if n >= iPorts+8 { // less is not looked at
				want = bailed("ingress", "length", 1)
			}
			r.expect(r.cache.fromWire(), bytes.Clone(whole[:n]), skbuff{}, verdictNext, want, nil)
			if n < iPorts+8 {
				continue
			}
			honest := relength(0)(bytes.Clone(whole[:n]))
			if n < iPorts+header {
				r.expect(r.cache.fromWire(), honest, skbuff{}, verdictNext, want, nil)
				continue
			}
			r.expect(r.cache.fromWire(), honest, skbuff{}, verdictRedirect, received(honest), honest[encapsulation:])
		}
	}
}

// TestSuperFrames has frames that stand for several: whatever becomes of them counts as many. A test run gives them no type,
// and the kernel resizes none without, so they show what happens when it refuses.
func TestSuperFrames(t *testing.T) { eachKind(t, testSuperFrames) }

func testSuperFrames(t *testing.T, k fastKind) {
	r := newRig(t, k)
	r.agree()
	ctx := skbuff{GSOSize: 750, GSOSegs: 4}
	r.expect(r.cache.fromWire(), wrapped(plain(protoTCP, false, 3000)), ctx, verdictNext, missed(4), nil)
	r.expect(r.cache.fromWire(), wrapped(plain(protoUDP, false, 3000)), ctx, verdictNext, bailed("ingress", "superframe", 4), nil)
	long := plain(protoTCP, true, 3000)
	r.expect(r.own.fromLane, long, ctx, verdictShot, econbench.Counters{"lost.failed": 4}, nil)
	r.expect(r.own.fromLane, set(iDstMAC-encapsulation, otherMAC...)(bytes.Clone(long)), ctx, verdictShot, econbench.Counters{"lost.refused": 4}, nil)
	r.expect(r.own.fromContainer, long, ctx, verdictNext, bailed("egress", "socket", 4), nil)
}

// checkOuter checks what from_lane put before a frame.
func (r *rig) checkOuter(out, frame []byte, tos byte) {
	r.Helper()
	if len(out) != len(frame)+encapsulation {
		r.Fatalf("%d bytes became %d", len(frame), len(out))
	}
	if !bytes.Equal(out[encapsulation:], frame) {
		r.Errorf("inner frame is\n%x, want\n%x", out[encapsulation:], frame)
	}
	be := binary.BigEndian
	ip, udp := out[oIP:34], out[34:42]
	if be.Uint16(out[oEtherType:]) != 0x0800 {
		r.Errorf("type is %x", out[oEtherType:oIP])
	}
	want := append([]byte{0x45, tos}, be.AppendUint16(nil, uint16(len(out)-14))...)
	want = append(want, ip[4], ip[5], 0, 0, 64, protoUDP) // any ID; DF not set
	want = be.AppendUint16(want, sumIP(ip))
	want = append(append(want, hereHost.AsSlice()...), thereHost.AsSlice()...)
	if !bytes.Equal(ip, want) {
		r.Errorf("outer IP header is\n%x, want\n%x", ip, want)
	}
	if p := be.Uint16(udp); p < portMin || p >= portMax {
		r.Errorf("source port %d is not in [%d, %d)", p, portMin, portMax)
	}
	want = be.AppendUint16(be.AppendUint16(nil, testPort), uint16(len(frame)+16))
	want = append(want, 0, 0, 8, 0, 0, 0, 0, testVNI>>8, testVNI&0xff, 0)
	if !bytes.Equal(out[36:50], want) {
		r.Errorf("UDP and VXLAN headers are %x, want %x", out[36:50], want)
	}
}

func (r *rig) sends(frame []byte, tos byte) []byte {
	r.Helper()
	want := econbench.Counters{"egress.hits": 1, "egress.hit_bytes": float64(len(frame))}
	out := r.expect(r.own.fromLane, frame, skbuff{}, verdictRedirect, want, nil)
	r.checkOuter(out, frame, tos)
	return out
}

// TestFromLaneSends has what a container may send: it comes out encapsulated.
func TestFromLaneSends(t *testing.T) { eachKind(t, testFromLaneSends) }

func testFromLaneSends(t *testing.T, k fastKind) {
	r := newRig(t, k)
	p := func(at int) int { return at - encapsulation }
	for _, c := range []struct {
		name     string
		protocol byte
		payload  int
		edit     edit
		tos      byte
	}{
		{"TCP", protoTCP, 100, nil, 0},
		{"UDP", protoUDP, 100, nil, 0},
		{"shortest UDP", protoUDP, 0, nil, 0},
		{"shortest TCP", protoTCP, 0, nil, 0},
		{"largest TCP", protoTCP, testMTU - 40, nil, 0},
		{"largest UDP", protoUDP, testMTU - 28, nil, 0},
		{"echo", protoICMP, 56, nil, 0},
		{"echo reply", protoICMP, 0, set(p(iPorts), 0), 0},
		{"ECT(0)", protoTCP, 1, set(p(iTOS), 2), 2},
		{"ECT(1)", protoTCP, 1, set(p(iTOS), 1), 1},
		{"CE", protoTCP, 1, set(p(iTOS), 3), 2},
		{"DSCP stays inside", protoTCP, 1, set(p(iTOS), 0xb8|2), 2},
		{"DF stays inside", protoTCP, 1, set(p(iFrag), 0x40), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.T = t
			frame := plain(c.protocol, true, c.payload)
			if c.edit != nil {
				frame = resum(p(iIP))(c.edit(frame))
			}
			r.sends(frame, c.tos)
		})
	}
}

// TestFromLaneSourcePort sends frames of many flows: each keeps to one source port, so that its packets take one way through the
// network, and the flows spread over the range. The mark is the container's own affair and goes.
func TestFromLaneSourcePort(t *testing.T) { eachKind(t, testFromLaneSourcePort) }

func testFromLaneSourcePort(t *testing.T, k fastKind) {
	r := newRig(t, k)
	ports := map[uint16]bool{}
	for i := range 200 {
		frame := add16(iPorts-encapsulation, i)(plain(protoUDP, true, 20))
		a, b := r.sends(frame, 0), r.sends(frame, 0)
		if !bytes.Equal(a[34:36], b[34:36]) {
			t.Errorf("flow %d: source ports %x and %x", i, a[34:36], b[34:36])
		}
		ports[binary.BigEndian.Uint16(a[34:])] = true
	}
	if len(ports) < 20 { // about 87 of 100 are expected
		t.Errorf("200 flows have %d source ports", len(ports))
	}
	_, _, after := r.runUncounted(r.own.fromLane, plain(protoUDP, true, 20), skbuff{Mark: 0xe5})
	if after.Mark != 0 {
		t.Errorf("mark is %#x, want none", after.Mark)
	}
}

// notSent are frames that no container may send by its lane.
func notSent() map[string][]byte {
	p := func(at int) int { return at - encapsulation }
	made := func(es ...edit) []byte { return edits(es...)(plain(protoTCP, true, 100)) }
	ip := resum(p(iIP))
	return map[string][]byte{
		"other source address":   made(set(p(iSrc)+3, 9), ip),
		"other source MAC":       made(set(p(iSrcMAC), otherMAC...)),
		"unknown destination":    made(set(p(iDst)+3, 9), ip),
		"itself":                 made(set(p(iDst), here.AsSlice()...), ip),
		"other destination MAC":  made(set(p(iDstMAC), otherMAC...)),
		"broadcast":              made(set(p(iDstMAC), 255, 255, 255, 255, 255, 255)),
		"VLAN":                   made(insert(12, 0x81, 0, 0, 5)),
		"QinQ":                   made(insert(12, 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6)),
		"ARP":                    made(set(12, 8, 6)),
		"IPv6":                   made(set(12, 0x86, 0xdd)),
		"version":                made(set(p(iIP), 0x65)),
		"options":                made(insert(p(iPorts), 1, 1, 1, 0), set(p(iIP), 0x46), relength(encapsulation)),
		"MF":                     made(set(p(iFrag), 0x20), ip),
		"offset":                 made(set(p(iFrag), 0, 9), ip),
		"ICMP":                   made(set(p(iProto), 1), ip),
		"SYN":                    made(set(p(iTCPFlags), tcpSYN)),
		"FIN":                    made(set(p(iTCPFlags), tcpFIN|tcpACK)),
		"RST":                    made(set(p(iTCPFlags), tcpRST)),
		"URG":                    made(set(p(iTCPFlags), tcpURG)),
		"length short":           made(add16(p(iLen), -1), ip),
		"length long":            made(add16(p(iLen), 1), ip),
		"trailer":                made(grow(1)),
		"cut off":                made(cut(1)),
		"UDP shorter than UDP":   edits(set(p(iLen), 0, 27), ip)(plain(protoUDP, true, 0)),
		"TCP one too large":      plain(protoTCP, true, testMTU-40+1),
		"UDP one too large":      plain(protoUDP, true, testMTU-28+1),
		"of the other direction": plain(protoTCP, false, 100),
		"already encapsulated":   wrapped(plain(protoTCP, true, 100)),
	}
}

func TestFromLaneRefuses(t *testing.T) { eachKind(t, testFromLaneRefuses) }

func testFromLaneRefuses(t *testing.T, k fastKind) {
	r := newRig(t, k)
	refused := econbench.Counters{"lost.refused": 1}
	for name, frame := range notSent() {
		t.Run(name, func(t *testing.T) {
			r.T = t
			r.expect(r.own.fromLane, frame, skbuff{}, verdictShot, refused, nil)
		})
	}
	r.T = t
	for _, protocol := range []byte{protoTCP, protoUDP} {
		whole := plain(protocol, true, 30)
		for n := leastIPv4; n < len(whole); n++ {
			r.expect(r.own.fromLane, bytes.Clone(whole[:n]), skbuff{}, verdictShot, refused, nil)
		}
	}
	short := relength(encapsulation)(plain(protoTCP, true, 0)[:iPorts-encapsulation+19]) // says itself that it is no TCP
	r.expect(r.own.fromLane, short, skbuff{}, verdictShot, refused, nil)
	r.must(r.cache.dropRemote(address{testVNI, there}))
	r.expect(r.own.fromLane, plain(protoTCP, true, 100), skbuff{}, verdictShot, refused, nil)
}

// TestFromLaneNextDoor has frames to and from a container on the same host: out of this one's lane into that one's, if its side
// of the flow was seen too, and not a byte of them changed but whom they are for.
func TestFromLaneNextDoor(t *testing.T) { eachKind(t, testFromLaneNextDoor) }

func testFromLaneNextDoor(t *testing.T, k fastKind) {
	r := newRig(t, k)
	l := local{vni: testVNI, mac: nearMAC, addr: near, mtu: testMTU}
	r.must(r.cache.setEndpoint(l, nearNumber, nearLane, false))
	p := func(at int) int { return at - encapsulation }
	to := func(protocol byte) []byte { // from here to next door
		return edits(set(p(iDstMAC), nearMAC[:]...), set(p(iDst), near.AsSlice()...), resum(p(iIP)))(plain(protocol, true, 100))
	}
	refused := econbench.Counters{"lost.refused": 1}
	refuse := func(what string, frame []byte, ctx skbuff) {
		t.Helper()
		t.Log(what)
		r.expect(r.own.fromLane, frame, ctx, verdictShot, refused, nil)
	}
	for _, protocol := range []byte{protoTCP, protoUDP} {
		frame := to(protocol)
		refuse("a flow that next door knows nothing of", frame, skbuff{})
		back := flowKey{Vni: wireVNI(testVNI), Local: wire32(near), Remote: wire32(here), LocalPort: wire16(remotePort), RemotePort: wire16(localPort), Protocol: uint32(protocol)}
		r.must(r.cache.put(back, nearNumber, flowRefused))
		refuse("a flow that next door's program does not want this way", frame, skbuff{})
		r.must(r.cache.put(back, nearNumber, flowSent))
		want := econbench.Counters{"egress.hits": 1, "egress.hit_bytes": float64(len(frame))}
		got, out, counted, after := r.run(r.own.fromLane, frame, skbuff{})
		if got != verdictRedirect || !maps.Equal(counted, want) || after.Mark != nextDoor {
			t.Errorf("verdict %#x, counted %v, mark %#x", got, counted, after.Mark)
		}
		if want := set(p(iDstMAC), nearLaneMAC[:]...)(bytes.Clone(frame)); !bytes.Equal(out, want) {
			t.Errorf("frame is now\n%x, want\n%x", out, want)
		}
		refuse("another's hardware address", set(p(iDstMAC), thereMAC[:]...)(bytes.Clone(frame)), skbuff{})
		refuse("another's ports", set(p(iPorts)+3, 99)(bytes.Clone(frame)), skbuff{})
		refuse("another's source", edits(set(p(iSrc)+3, 9), resum(p(iIP)))(bytes.Clone(frame)), skbuff{})

		// What from_lane of the container next door would have made of a frame for this one.
		came := edits(set(p(iSrcMAC), nearMAC[:]...), set(p(iDstMAC), laneMAC[:]...), set(p(iSrc), near.AsSlice()...), resum(p(iIP)))(plain(protocol, false, 100))
		r.expect(r.own.fromLane, came, skbuff{Mark: nextDoor}, verdictNext, econbench.Counters{}, nil)
		refuse("no mark", came, skbuff{})
		refuse("another's lane", set(p(iDstMAC)+5, 9)(bytes.Clone(came)), skbuff{Mark: nextDoor})
		refuse("another's address", edits(set(p(iDst)+3, 9), resum(p(iIP)))(bytes.Clone(came)), skbuff{Mark: nextDoor})
	}
	self := edits(set(p(iDstMAC), hereMAC[:]...), set(p(iDst), here.AsSlice()...), resum(p(iIP)))(plain(protoUDP, true, 100))
	r.flow(keyTo(protoUDP, here), flowAgreed)
	refuse("to itself", self, skbuff{})
	r.must(r.cache.dropEndpoint(l))
	refuse("who has left", to(protoUDP), skbuff{})
}

// TestFromContainer has what keeps a container's packets on the kernel's path. A test run's packets have a socket, of no
// protocol, so the last thing to keep them there is that.
func TestFromContainer(t *testing.T) { eachKind(t, testFromContainer) }

func testFromContainer(t *testing.T, k fastKind) {
	r := newRig(t, k)
	p := func(at int) int { return at - encapsulation }
	ip := resum(p(iIP))
	for _, c := range []struct {
		name     string
		protocol byte
		payload  int
		edit     edit
		why      string
	}{
		{"TCP of no socket", protoTCP, 100, nil, "socket"},
		{"UDP of no socket", protoUDP, 100, nil, "socket"},
		{"largest", protoTCP, testMTU - 40, nil, "socket"},
		{"one too large", protoTCP, testMTU - 40 + 1, nil, "length"},
		{"ARP", protoTCP, 100, set(12, 8, 6), "protocol"},
		{"IPv6", protoTCP, 100, set(12, 0x86, 0xdd), "protocol"},
		{"VLAN", protoTCP, 100, insert(12, 0x81, 0, 0, 5), "protocol"},
		{"ICMP", protoTCP, 100, edits(set(p(iProto), 1), ip), "protocol"},
		{"version", protoTCP, 100, set(p(iIP), 0x65), "protocol"},
		{"options", protoTCP, 100, edits(insert(p(iPorts), 1, 1, 1, 0), set(p(iIP), 0x46), relength(encapsulation)), "options"},
		{"MF", protoUDP, 100, edits(set(p(iFrag), 0x20), ip), "fragment"},
		{"offset", protoUDP, 100, edits(set(p(iFrag), 0, 9), ip), "fragment"},
		{"SYN", protoTCP, 0, set(p(iTCPFlags), tcpSYN), "flags"},
		{"FIN", protoTCP, 0, set(p(iTCPFlags), tcpFIN|tcpACK), "flags"},
		{"RST", protoTCP, 0, set(p(iTCPFlags), tcpRST), "flags"},
		{"URG", protoTCP, 9, set(p(iTCPFlags), tcpURG|tcpACK), "flags"},
		{"shorter than UDP", protoUDP, 0, cut(1), "length"},
		{"shorter than TCP", protoTCP, 0, edits(cut(1), relength(encapsulation)), "length"},
		{"length shorter than UDP", protoUDP, 9, edits(set(p(iLen), 0, 27), ip), "length"},
		{"other source address", protoTCP, 100, edits(set(p(iSrc)+3, 9), ip), "address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.T = t
			frame := plain(c.protocol, true, c.payload)
			if c.edit != nil {
				frame = c.edit(frame)
			}
			r.expect(r.own.fromContainer, frame, skbuff{Mark: 0xe5}, verdictNext, bailed("egress", c.why, 1), nil)
		})
	}
	r.T = t
	if list, err := r.cache.flows(); len(list) != 0 || err != nil {
		t.Errorf("%d flows were learned of packets that no socket sent (%v)", len(list), err)
	}
}

// TestSynForgets has a connection that is opened under the ports of an earlier one: what was known of that one no longer holds.
func TestSynForgets(t *testing.T) { eachKind(t, testSynForgets) }

func testSynForgets(t *testing.T, k fastKind) {
	r := newRig(t, k)
	key := keyTo(protoTCP, there)
	for _, c := range []struct {
		flags byte
		want  uint32
	}{{0x11, flowAgreed}, {0x04, flowAgreed}, {0x12, 0}, {0x02, 0}} { // FIN+ACK, RST; SYN+ACK, SYN
		r.flow(key, flowAgreed)
		frame := set(iPorts-encapsulation+13, c.flags)(plain(protoTCP, true, 0))
		r.expect(r.own.fromContainer, frame, skbuff{}, verdictNext, bailed("egress", "flags", 1), nil)
		if got := r.flowState(key); got != c.want {
			t.Errorf("flags %#x: flow is in state %d, want %d", c.flags, got, c.want)
		}
	}
}

// TestDrop lets nothing through, and notes which flow's program answers by a lane's device.
func TestDrop(t *testing.T) { eachKind(t, testDrop) }

func testDrop(t *testing.T, k fastKind) {
	r := newRig(t, k)
	guard, err := r.cache.guards(local{vni: testVNI, addr: here}, testNumber, progDrop)
	r.must(err)
	defer guard.Close()
	drop := guard.Programs[progDrop]
	key := keyTo(protoUDP, there)
	r.flow(key, flowAgreed)
	for _, frame := range [][]byte{plain(protoTCP, true, 1), wrapped(plain(protoUDP, false, 1)), make([]byte, 14), set(iSrc-encapsulation+3, 99)(plain(protoUDP, true, 1))} {
		r.expect(drop, frame, skbuff{}, verdictShot, econbench.Counters{}, nil)
	}
	if got := r.flowState(key); got != flowAgreed {
		t.Errorf("flow is in state %d, want %d: nothing of it came this way", got, flowAgreed)
	}
	r.expect(drop, plain(protoUDP, true, 1), skbuff{}, verdictShot, econbench.Counters{}, nil)
	if got := r.flowState(key); got != flowRefused {
		t.Errorf("flow is in state %d, want %d", got, flowRefused)
	}
	r.expect(r.cache.fromWire(), wrapped(plain(protoUDP, false, 1)), skbuff{}, verdictNext, bailed("ingress", "flow", 1), nil)
	if got := r.flowState(key); got != flowRefused {
		t.Errorf("flow is in state %d after its peer was heard, want %d", got, flowRefused)
	}
}

// mutate changes a few things at random, and now and then makes lengths and checksums right again so that deeper checks
// are reached.
func mutate(rnd *rand.Rand, b []byte) []byte {
	for range 1 + rnd.IntN(3) {
		at := rnd.IntN(min(len(b), iPorts+20))
		switch rnd.IntN(8) {
		case 0:
			b[at] = byte(rnd.Uint32())
		case 1:
			b = b[:max(leastIPv6, len(b)-1-rnd.IntN(60))]
		case 2:
			b = grow(1 + rnd.IntN(40))(b)
		default:
			b[at] ^= 1 << rnd.IntN(8)
		}
	}
	if len(b) >= iPorts {
		switch rnd.IntN(3) {
		case 0:
			b = relength(0)(b)
		case 1:
			b = resum(oIP)(b)
		}
	}
	return b
}

// deliverable says whether a mutation of valid left all intact that delivery depends upon: it blanks out what may differ and
// compares the rest.
func deliverable(b, valid []byte) bool {
	header := iPorts + 8
	if valid[iProto] == protoTCP {
		header = iPorts + 20
	}
	if len(b) < header {
		return false
	}
	be := binary.BigEndian
	if int(be.Uint16(b[oLen:])) != len(b)-oIP || int(be.Uint16(b[oUDPLen:])) != len(b)-34 || int(be.Uint16(b[iLen:])) != len(b)-iIP {
		return false
	}
	outer, inner := b[oTOS]&3, b[iTOS]&3
	if be.Uint16(b[oSum:]) != sumIP(b[oIP:]) || be.Uint16(b[iSum:]) != sumIP(b[iIP:]) || outer == 3 || outer == 1 && inner == 2 {
		return false
	}
	blank := func(b []byte) []byte {
		b = bytes.Clone(b[:header])
		for _, free := range [][2]int{
			{6, 12}, {oTOS, oFrag}, {22, 23}, {oSum, oSrc}, {34, 36}, {oUDPLen, oUDPSum}, // DF is below
			{iTOS, iFrag}, {72, 73}, {iSum, iSrc}, {iPorts + 4, min(header, iTCPFlags)}, {min(header, iTCPFlags+1), header},
		} {
			clear(b[free[0]:free[1]])
		}
		b[oFrag] &^= 0xc0 // DF, and a bit that means nothing
		b[iFrag] &^= 0xc0
		if header > iTCPFlags {
			b[iTCPFlags] &= tcpFIN | tcpSYN | tcpRST | tcpURG
		}
		return b
	}
	return bytes.Equal(blank(b), blank(valid))
}

// TestFromWireMutations runs mutations of valid frames, the same ones each time.
func TestFromWireMutations(t *testing.T) { eachKind(t, testFromWireMutations) }

func testFromWireMutations(t *testing.T, k fastKind) {
	r := newRig(t, k)
	r.agree()
	rnd := rand.New(rand.NewPCG(7348, 6040))
	before, delivered := r.counts(), 0
	for i := range 30000 {
		protocol := []byte{protoTCP, protoUDP}[i%2]
		valid := wrapped(plain(protocol, false, rnd.IntN(60)))
		b := mutate(rnd, bytes.Clone(valid))
		verdict, out, _ := r.runUncounted(r.cache.fromWire(), b, skbuff{})
		want, after := uint32(verdictNext), b
		if deliverable(b, valid) {
			want, after = verdictRedirect, b[encapsulation:]
			delivered++
		}
		if verdict != want || !bytes.Equal(out, after) {
			t.Fatalf("mutation %d: verdict %#x, want %#x\nof    %x\nmade  %x\ninto  %x", i, verdict, want, valid, b, out)
		}
	}
	c := r.counts()
	var bails float64
	for name, n := range c {
		c[name] -= before[name]
		if strings.HasPrefix(name, "ingress.bail.") {
			bails += n - before[name]
		}
	}
	if c["ingress.hits"] != float64(delivered) || c["ingress.seen"] != c["ingress.hits"]+c["ingress.misses"]+bails {
		t.Errorf("%d were delivered; counted %v", delivered, c)
	}
	if delivered < 1000 || bails < 1000 {
		t.Errorf("%d delivered and %.0f bails: the mutations test little", delivered, bails)
	}
}
