// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// An answer is what a host says for a container that is sent datagrams and sends none (bpf/lib/answer.h): 78 bytes, with the Ethernet header 92.
//
//	outer IPv4, UDP, VXLAN  of the container's network; what is said is in the identification
//	Ethernet                from the container, to an address to which no bridge forwards (IEEE 802.1Q, table 8-1), of an EtherType for
//	                        experiments (IEEE 802, 0x88b5): a kernel without a fast path has nobody to give it to
//	IPv4, UDP               of an empty datagram of the flow, from the container
const answerType = 0x88b5

var answerTo = [6]byte{0x01, 0x80, 0xc2, 0, 0, 0x01}

// answerer sends what the programs want to be sent.
type answerer struct {
	wanted *ringbuf.Reader
	raw    int // socket of IP, in the host's namespace
	done   sync.WaitGroup
}

// answerAge is how old what is to be said may get: by then it is wanted again, or may be true no more.
const answerAge = 20 * time.Millisecond

// serveAnswers begins to send answers.
func serveAnswers(maps map[string]*ebpf.Map, h hostSide) (_ io.Closer, err error) {
	s := &answerer{}
	if s.raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW); err != nil {
		return nil, fmt.Errorf("answers: raw socket: %w", err)
	}
	if s.wanted, err = ringbuf.NewReader(maps["answers"]); err != nil {
		return nil, errors.Join(fmt.Errorf("answers: %w", err), unix.Close(s.raw))
	}
	s.done.Go(func() { s.serve(h) })
	return s, nil
}

// serve sends answers until the reader is closed. One that can't be sent is missed, and wanted again 20 ms later.
func (s *answerer) serve(h hostSide) {
	told := map[string]bool{}
	for record := (ringbuf.Record{}); ; {
		if err := s.wanted.ReadInto(&record); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				fmt.Fprintln(os.Stderr, "agent: answers:", err)
			}
			return
		}
		if len(record.RawSample) < int(unsafe.Sizeof(xmasqAnswer{})) {
			continue
		}
		want := *(*xmasqAnswer)(unsafe.Pointer(&record.RawSample[0]))
		if now, err := monotonic(); err != nil || now > want.At+uint64(answerAge) {
			continue
		}
		to := &unix.SockaddrInet4{Addr: addrOf(want.Host).As4()}
		if err := unix.Sendto(s.raw, answerPacket(want, h), unix.MSG_DONTWAIT, to); err != nil && !told[err.Error()] {
			told[err.Error()] = true
			fmt.Fprintf(os.Stderr, "agent: answer to %s: %v\n", addrOf(want.Host), err)
		}
	}
}

func (s *answerer) Close() error {
	err := s.wanted.Close()
	s.done.Wait()
	return errors.Join(err, unix.Close(s.raw))
}

// answerPacket is an answer from its outer IPv4 header on; the kernel fills in that one's checksum.
func answerPacket(a xmasqAnswer, h hostSide) []byte {
	native, wire := binary.NativeEndian, binary.BigEndian
	header := func(b []byte, id uint16, ttl byte, from, to uint32, length uint16) []byte {
		at := len(b)
		b = append(b, 0x45, 0)
		b = wire.AppendUint16(b, length)
		b = native.AppendUint16(b, id)
		b = append(b, 0, 0, ttl, unix.IPPROTO_UDP, 0, 0)
		b = native.AppendUint32(native.AppendUint32(b, from), to)
		native.PutUint16(b[at+10:], ^onesSum(b[at:]))
		return b
	}
	const ip, udp, vxlan, ethernet = 20, 8, 8, 14
	const inner = ip + udp
	b := header(make([]byte, 0, ip+udp+vxlan+ethernet+inner), a.Id, 64, wire32(h.underlay), a.Host, ip+udp+vxlan+ethernet+inner)
	b = native.AppendUint16(native.AppendUint16(b, a.SourcePort), wire16(h.port))
	b = append(wire.AppendUint16(b, udp+vxlan+ethernet+inner), 0, 0)
	b = native.AppendUint32(append(b, 8, 0, 0, 0), a.Vni)
	b = append(append(b, answerTo[:]...), a.Mac[:]...)
	b = wire.AppendUint16(b, answerType)
	b = header(b, 0, a.Ttl, a.Local, a.Remote, inner)
	b = native.AppendUint16(native.AppendUint16(b, a.LocalPort), a.RemotePort)
	return append(wire.AppendUint16(b, udp), 0, 0)
}

// onesSum is the one's complement sum of 16-bit words in the machine's order (RFC 1071).
func onesSum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.NativeEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
