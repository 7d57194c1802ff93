// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// Minimal sock_diag for TCP (include/uapi/linux/inet_diag.h). The netlink library's own dump takes no port and no state:
// it would carry every TIME_WAIT socket of the namespace to us. Here the kernel filters.

const (
	inetDiagInfo    = 2  // INET_DIAG_INFO: struct tcp_info
	inetDiagCong    = 4  // INET_DIAG_CONG: name of the congestion control algorithm
	sizeofSockID    = 48 // struct inet_diag_sockid
	sizeofDiagMsg   = 72 // struct inet_diag_msg
	sizeofDiagReq   = 56 // struct inet_diag_req_v2
	tcpEstablished  = 1  // TCP_ESTABLISHED
	cookieInSockID  = 40
	addressInSockID = 4
)

// diag is a sock_diag socket in the network namespace of some process.
type diag struct{ handle *nl.SocketHandle }

// openDiag opens it; the kernel looks up the namespace once, so that the process may end.
func openDiag(proc string, pid int) (*diag, error) {
	f, err := os.Open(filepath.Join(proc, strconv.Itoa(pid), "ns/net"))
	if err != nil {
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer f.Close()
	s, err := nl.GetNetlinkSocketAt(netns.NsHandle(f.Fd()), netns.None(), unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sock_diag in the network namespace of process %d: %w", pid, err)
	}
	return &diag{&nl.SocketHandle{Socket: s}}, nil
}

func (d *diag) close() { d.handle.Close() }

// tcpSocket is an established socket and what TCP counted on it since it was opened.
type tcpSocket struct {
	cookie        uint64 // names the socket as long as the kernel runs
	local, remote netip.AddrPort
	family, state uint8
	id            [sizeofSockID]byte // as the kernel wants it to find the socket again

	bytesReceived, bytesAcked uint64
	dataSegsIn, dataSegsOut   uint32
	segsIn, segsOut           uint32
	retransmits               uint32
	congestionControl         string
}

func (s tcpSocket) String() string { return s.local.String() + " → " + s.remote.String() }

// payload is the amount that tells data flows from control connections, B.
func (s tcpSocket) payload() uint64 { return max(s.bytesReceived, s.bytesAcked) }

// established lists the established sockets whose port on the server's side is one of the flows'. Listeners on "::" give
// their IPv4 connections to the IPv6 family, hence the two dumps. The kernel filters by one port; of several, a dump of all
// is cheaper than one a port, since each walks the whole table.
func (d *diag) established(side string, f econbench.Flows) (sockets []tcpSocket, err error) {
	r := diagRequest{server: side == econbench.ServerHost}
	if f.Ports <= 1 {
		r.port = f.ServerPort
	}
	for _, r.family = range []uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := d.dump(r)
		if errors.Is(err, unix.ENOENT) && r.family == unix.AF_INET6 {
			break // kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("sock_diag: port %d: %w", f.ServerPort, err)
		}
		for _, s := range found {
			at := s.remote
			if r.server {
				at = s.local
			}
			if f.Has(at.Port()) {
				sockets = append(sockets, s)
			}
		}
	}
	return sockets, nil
}

func (d *diag) dump(r diagRequest) ([]tcpSocket, error) {
	const tries = 5
	var messages [][]byte
	var err error
	for range tries {
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_INET_DIAG: d.handle}
		req.AddData(r)
		if messages, err = req.Execute(unix.NETLINK_INET_DIAG, 0); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	var sockets []tcpSocket
	for _, m := range messages {
		s, err := parseDiag(m)
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// again reads one socket that a dump had found: by its addresses, and only if it is the same one. A dump of a machine with 24 GiB
// walks 2^18 places in the kernel's table for each family, whoever they belong to, which took 2.4 ms; this takes 10 µs.
func (d *diag) again(s tcpSocket) (tcpSocket, error) {
	req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_INET_DIAG: d.handle}
	req.AddData(diagRequest{family: s.family, id: &s.id})
	messages, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil {
		return s, err
	}
	if len(messages) != 1 {
		return s, fmt.Errorf("%d answers for %s, want one", len(messages), s)
	}
	now, err := parseDiag(messages[0])
	if now.state != tcpEstablished {
		return s, unix.ENOENT // closing, and without a TCP_INFO perhaps
	}
	return now, err
}

// diagRequest asks for established TCP sockets with INET_DIAG_INFO and INET_DIAG_CONG. A port in the ID filters a dump; 0 would be any.
type diagRequest struct {
	family uint8
	server bool // the port is the local one
	port   uint16
	id     *[sizeofSockID]byte // instead of the two above: of one socket
}

func (r diagRequest) Len() int { return sizeofDiagReq }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, sizeofDiagReq)
	b[0], b[1], b[2] = r.family, unix.IPPROTO_TCP, 1<<(inetDiagInfo-1)|1<<(inetDiagCong-1)
	binary.NativeEndian.PutUint32(b[4:], 1<<tcpEstablished)
	if r.id != nil {
		copy(b[8:], r.id[:])
		return b
	}
	at := 8 // local port
	if !r.server {
		at = 10
	}
	binary.BigEndian.PutUint16(b[at:], r.port)
	return b
}

// parseDiag reads a struct inet_diag_msg with its attributes.
func parseDiag(b []byte) (s tcpSocket, err error) {
	if len(b) < sizeofDiagMsg {
		return s, fmt.Errorf("message of %d bytes, want %d or more", len(b), sizeofDiagMsg)
	}
	family, id := b[0], b[4:4+sizeofSockID]
	s.family, s.state, s.id = family, b[1], [sizeofSockID]byte(id)
	s.cookie = binary.NativeEndian.Uint64(id[cookieInSockID:])
	s.local = netip.AddrPortFrom(diagAddr(family, id[addressInSockID:]), binary.BigEndian.Uint16(id))
	s.remote = netip.AddrPortFrom(diagAddr(family, id[addressInSockID+16:]), binary.BigEndian.Uint16(id[2:]))
	info, ok := attribute(b[sizeofDiagMsg:], inetDiagInfo)
	if !ok {
		return s, fmt.Errorf("%s: no TCP_INFO", s)
	}
	if name, ok := attribute(b[sizeofDiagMsg:], inetDiagCong); ok {
		s.congestionControl = unix.ByteSliceToString(name)
	}
	return s, s.parseInfo(info)
}

// attribute finds a netlink attribute: length and type of 16 bits each, the value, padding to 4 bytes. (The netlink
// library's nl.ParseRouteAttr panics when the last one's padding is missing; the fuzz test found out.)
func attribute(b []byte, kind uint16) (value []byte, ok bool) {
	for len(b) >= unix.SizeofRtAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind {
			return b[unix.SizeofRtAttr:length], true
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil, false
}

func diagAddr(family uint8, b []byte) netip.Addr {
	if family == unix.AF_INET6 {
		return netip.AddrFrom16([16]byte(b[:16])).Unmap()
	}
	return netip.AddrFrom4([4]byte(b[:4]))
}

// parseInfo reads the counters of struct tcp_info, which grows at its end with the kernel's version.
func (s *tcpSocket) parseInfo(b []byte) error {
	var at unix.TCPInfo
	if len(b) < int(unsafe.Offsetof(at.Delivery_rate)) {
		return fmt.Errorf("%s: TCP_INFO has %d bytes and no segment counters (needs Linux 4.6)", s, len(b))
	}
	u32 := func(offset uintptr) uint32 { return binary.NativeEndian.Uint32(b[offset:]) }
	u64 := func(offset uintptr) uint64 { return binary.NativeEndian.Uint64(b[offset:]) }
	s.bytesReceived, s.bytesAcked = u64(unsafe.Offsetof(at.Bytes_received)), u64(unsafe.Offsetof(at.Bytes_acked))
	s.dataSegsIn, s.dataSegsOut = u32(unsafe.Offsetof(at.Data_segs_in)), u32(unsafe.Offsetof(at.Data_segs_out))
	s.segsIn, s.segsOut = u32(unsafe.Offsetof(at.Segs_in)), u32(unsafe.Offsetof(at.Segs_out))
	s.retransmits = u32(unsafe.Offsetof(at.Total_retrans))
	return nil
}
