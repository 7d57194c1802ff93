// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// What is here builds by hand what Docker builds: two hosts joined by a wire, in each a sandbox with a bridge, a vxlan device
// with static entries, and a container. Real sockets and real packets, without an engine.

const testWire = "wire0"

// space makes a network namespace with a file in dir, as an engine keeps its own.
func space(t *testing.T, dir, name string) netns.NsHandle {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	own, _, err := netspace.Own()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	err = netspace.In(own, func() error { // a thread of its own, which goes back at the end
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	ns, err := netns.GetFromPath(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := unix.Unmount(file, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return ns
}

// testHost is one host with a container on its overlay.
type testHost struct {
	dir                      string // of its namespaces
	host, sandbox, container netns.NsHandle
	outer, inner             netip.Addr
	mac                      net.HardwareAddr
	journal                  *tune.Journal
	attached                 econbench.Attached
}

// do runs f in a namespace with a netlink handle there.
func do(t *testing.T, ns netns.NsHandle, f func(h *netlink.Handle) error) {
	t.Helper()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := netspace.In(ns, func() error { return f(h) }); err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// steps runs one after the other, up to the first that fails.
func steps(all ...func() error) error {
	for i, step := range all {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// up gives a device an address and brings it up.
func up(h *netlink.Handle, name, prefix string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if prefix != "" {
		addr, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		if err := h.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return h.LinkSetUp(link)
}

// twoHosts builds both, with checksum and segmentation offload off on the wire.
func twoHosts(t *testing.T) [2]*testHost {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make network namespaces")
	}
	var hosts [2]*testHost
	for i := range hosts {
		h := &testHost{dir: t.TempDir(), outer: netip.AddrFrom4([4]byte{198, 18, 77, byte(1 + i)}), inner: netip.AddrFrom4([4]byte{198, 19, 77, byte(2 + i)})}
		h.mac = net.HardwareAddr{2, 66, 198, 19, 77, byte(2 + i)}
		h.host, h.sandbox, h.container = space(t, h.dir, "host"), space(t, h.dir, "1-0123456789"), space(t, h.dir, "c0ffee")
		hosts[i] = h
	}
	do(t, hosts[0].host, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: testWire}, PeerName: testWire, PeerNamespace: netlink.NsFd(hosts[1].host)})
	})
	for i, host := range hosts {
		do(t, host.host, func(h *netlink.Handle) error {
			return steps(func() error { return up(h, testWire, host.outer.String()+"/24") }, noOffloads)
		})
		host.overlay(t, hosts[1-i])
	}
	return hosts
}

// noOffloads makes the wire carry frames of the MTU's size with checksums made in software.
func noOffloads() error { return offloads(false) }

func offloads(on bool) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	return e.Change(testWire, map[string]bool{
		"tx-checksum-ip-generic": on, "tx-tcp-segmentation": on, "tx-tcp6-segmentation": on, "tx-generic-segmentation": on,
		"tx-udp_tnl-segmentation": on, "tx-udp_tnl-csum-segmentation": on, "tx-udp-segmentation": on,
	})
}

// overlay builds a host's end of the overlay as libnetwork does.
func (host *testHost) overlay(t *testing.T, peer *testHost) {
	t.Helper()
	do(t, host.host, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vxlan0", MTU: 1450, Namespace: netlink.NsFd(host.sandbox)},
			VxlanId: 4242, Port: 4789, Proxy: true, L2miss: true, L3miss: true, UDPCSum: true})
	})
	do(t, host.sandbox, func(h *netlink.Handle) error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		var vxlan netlink.Link
		return steps(
			func() error { return h.LinkAdd(bridge) },
			func() (err error) { vxlan, err = h.LinkByName("vxlan0"); return err },
			func() error { return h.LinkSetMaster(vxlan, bridge) },
			func() error {
				return h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "veth0", MTU: 1450, MasterIndex: bridge.Index},
					PeerName: "eth0", PeerNamespace: netlink.NsFd(host.container), PeerHardwareAddr: host.mac, PeerMTU: 1450})
			},
			func() error { return up(h, "br0", "198.19.77.1/24") }, func() error { return up(h, "vxlan0", "") }, func() error { return up(h, "veth0", "") },
			func() error {
				return h.NeighAdd(&netlink.Neigh{LinkIndex: vxlan.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
					State: netlink.NUD_PERMANENT, IP: peer.outer.AsSlice(), HardwareAddr: peer.mac})
			},
			func() error {
				return h.NeighAdd(&netlink.Neigh{LinkIndex: vxlan.Attrs().Index, State: netlink.NUD_PERMANENT, IP: peer.inner.AsSlice(), HardwareAddr: peer.mac})
			},
		)
	})
	do(t, host.container, func(h *netlink.Handle) error { return up(h, "eth0", host.inner.String()+"/24") })
}

// attach attaches oncache to a host, until the test ends.
func (host *testHost) attach(t *testing.T, opt econbench.AttachOptions) {
	t.Helper()
	if host.journal == nil {
		host.journal = in(t, host.host, func() (*tune.Journal, error) {
			j, _, err := tune.OpenJournal(filepath.Join(host.dir, "journal"))
			return j, err
		})
		t.Cleanup(func() {
			if err := errors.Join(host.detach(), host.journal.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	host.attached = in(t, host.host, func() (econbench.Attached, error) {
		cfg := OverlayConfig{Sandbox: filepath.Join(host.dir, "1-0123456789"), Underlay: host.outer, AttachOptions: opt}
		return attachToSandbox(context.Background(), cfg, host.journal, &oncacheCache{})
	})
}

func (host *testHost) detach() error {
	if host.attached == nil {
		return nil
	}
	err := host.attached.Close()
	host.attached = nil
	return err
}

func (host *testHost) counters(t *testing.T) econbench.Counters {
	t.Helper()
	c, err := host.attached.Read()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// capture reads all frames of the wire at one host until stop is called, and hands over what of them was VXLAN.
func capture(t *testing.T, host *testHost) (stop func() (frames [][]byte)) {
	t.Helper()
	var fd int
	do(t, host.host, func(h *netlink.Handle) (err error) {
		link, err := h.LinkByName(testWire)
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8)
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index})
	})
	done, frames := make(chan struct{}), [][]byte(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 70_000)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err == nil && n > 50 && binary.BigEndian.Uint16(buf[12:]) == unix.ETH_P_IP && buf[23] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(buf[36:]) == 4789 {
				frames = append(frames, bytes.Clone(buf[:n]))
			}
			select {
			case <-done:
				if err != nil { // nothing more for a while
					return
				}
			default:
			}
		}
	}()
	return func() [][]byte {
		close(done)
		<-ended
		unix.Close(fd)
		return frames
	}
}

// ones is the one's complement sum of bytes.
func ones(sum uint32, b []byte) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

// soundIP checks an IPv4 packet's checksums, its own and that of what it carries.
func soundIP(p []byte) error {
	if len(p) < 28 || p[0] != 0x45 || int(binary.BigEndian.Uint16(p[2:])) != len(p) {
		return fmt.Errorf("header % x, %d bytes", p[:min(20, len(p))], len(p))
	}
	if ones(0, p[:20]) != 0xffff {
		return fmt.Errorf("IP checksum of % x", p[:20])
	}
	if p[9] == unix.IPPROTO_UDP && p[26] == 0 && p[27] == 0 {
		return nil // none was sent
	}
	if p[9] != unix.IPPROTO_UDP && p[9] != unix.IPPROTO_TCP {
		return nil
	}
	pseudo := binary.BigEndian.AppendUint16([]byte{0, p[9]}, uint16(len(p)-20))
	if ones(ones(ones(0, p[12:20]), pseudo), p[20:]) != 0xffff {
		return fmt.Errorf("transport checksum, protocol %d, %d bytes", p[9], len(p))
	}
	return nil
}

// in opens something in a namespace.
func in[T any](t *testing.T, ns netns.NsHandle, open func() (T, error)) (v T) {
	t.Helper()
	if err := netspace.In(ns, func() (err error) { v, err = open(); return err }); err != nil {
		t.Fatal(err)
	}
	return v
}

// stream sends so many bytes from one container to the other by TCP, an echo of 1 byte at the end.
func stream(t *testing.T, from, to *testHost, size int, device string) {
	t.Helper()
	l := in(t, to.container, func() (net.Listener, error) { return net.Listen("tcp4", to.inner.String()+":0") })
	defer l.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- nil
			return
		}
		defer c.Close()
		b := make([]byte, size)
		n, _ := io.ReadFull(c, b)
		_, _ = c.Write([]byte{1})
		got <- b[:n]
	}()
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if device == "" {
			return nil
		}
		failed := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) })
		return errors.Join(failed, err)
	}}
	c := in(t, from.container, func() (net.Conn, error) { return d.Dial("tcp4", l.Addr().String()) })
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	want := bytes.Repeat([]byte("fast path "), size/10+1)[:size]
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("%d bytes arrived, not the %d that were sent", len(b), size)
	}
}

// pingPong exchanges datagrams of a size.
func pingPong(t *testing.T, from, to *testHost, rounds, size int) {
	t.Helper()
	s := in(t, to.container, func() (net.PacketConn, error) { return net.ListenPacket("udp4", to.inner.String()+":0") })
	defer s.Close()
	go func() {
		b := make([]byte, 2000)
		for {
			n, addr, err := s.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = s.WriteTo(b[:n], addr)
		}
	}()
	c := in(t, from.container, func() (net.Conn, error) { return net.Dial("udp4", s.LocalAddr().String()) })
	defer c.Close()
	b := make([]byte, 2000)
	for i := range rounds {
		want := bytes.Repeat([]byte{byte(i)}, size)
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(b); err != nil || !bytes.Equal(b[:n], want) {
			t.Fatalf("round %d: %d bytes came back: %v", i, n, err)
		}
	}
}

// TestEndToEnd sends by both transports with the wire's offloads off, and verifies every checksum that was on the wire.
func TestEndToEnd(t *testing.T) {
	for _, hook := range []string{econbench.HookTCX, econbench.HookFilter} {
		t.Run(hook, func(t *testing.T) {
			hosts := twoHosts(t)
			for _, h := range hosts {
				h.attach(t, econbench.AttachOptions{Hook: hook})
			}
			stop := capture(t, hosts[0])
			stream(t, hosts[0], hosts[1], 3_000_001, "")
			stream(t, hosts[1], hosts[0], 1, "")
			pingPong(t, hosts[0], hosts[1], 300, 1)
			pingPong(t, hosts[1], hosts[0], 300, 1422) // the largest that the MTU lets through
			frames := stop()
			fast, transported := 0, 0
			for _, f := range frames {
				if len(f) > 1514 {
					t.Fatalf("a frame of %d bytes on the wire: offloads are not off", len(f))
				}
				if err := soundIP(f[14:]); err != nil {
					t.Fatalf("outer packet: %v", err)
				}
				if binary.BigEndian.Uint16(f[62:]) != unix.ETH_P_IP {
					continue
				}
				transported++
				if err := soundIP(f[64:]); err != nil {
					t.Fatalf("inner packet: %v", err)
				}
				if f[40] == 0 && f[41] == 0 { // the kernel's vxlan device sends an outer checksum here
					fast++
				}
			}
			if transported < 3000 || fast < transported*98/100 {
				t.Errorf("%d frames on the wire, %d by the fast path", transported, fast)
			}
			for i, h := range hosts {
				c := h.counters(t)
				for _, d := range []string{"egress.", "ingress."} {
					if c[d+"hits"] < 0.98*c[d+"seen"] || c[d+"hits"] == 0 || c[d+"misses"] != 0 {
						t.Errorf("host %d: %s%v", i, d, c)
					}
				}
				if c["lost.refused"]+c["lost.failed"] != 0 {
					t.Errorf("host %d: lost: %v", i, c)
				}
			}
		})
	}
}

// TestBoundSocket stays on its device: one bound to eth0 would not hear the lane.
func TestBoundSocket(t *testing.T) {
	hosts := twoHosts(t)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	stream(t, hosts[0], hosts[1], 200_000, "eth0")
	c := hosts[0].counters(t)
	if c["egress.hits"] != 0 || c["ingress.hits"] != 0 || c["egress.bail.bound"] < 5 {
		t.Errorf("counters %v, want all left to the kernel's path since the socket is bound", c)
	}
}

// TestOneSided has a fast path on one host alone, which sends fast and receives as ever.
func TestOneSided(t *testing.T) {
	hosts := twoHosts(t)
	hosts[0].attach(t, econbench.AttachOptions{})
	stream(t, hosts[0], hosts[1], 200_000, "")
	pingPong(t, hosts[1], hosts[0], 50, 100)
	if c := hosts[0].counters(t); c["egress.hits"] < 100 || c["ingress.hits"] != 0 || c["ingress.bail.outer"] < 50 {
		t.Errorf("counters %v", c)
	}
}

// TestThirdAddress talks to somebody who is no peer: the bridge's own address, in the sandbox. Such flows are established, so
// they are eligible, and each of their packets is a miss that a path proof sees.
func TestThirdAddress(t *testing.T) {
	hosts := twoHosts(t)
	hosts[0].attach(t, econbench.AttachOptions{})
	third := &testHost{container: hosts[0].sandbox, inner: netip.MustParseAddr("198.19.77.1")}
	stream(t, hosts[0], third, 200_000, "")
	c := hosts[0].counters(t)
	if c["egress.hits"] != 0 || c["egress.misses"] < 5 || c["egress.misses"] != c["egress.eligible"] || c["ingress.seen"] != 0 {
		t.Errorf("counters %v, want misses alone", c)
	}
}

// TestForgets has a peer that leaves and one that moves: its packets go by the kernel's path from then on.
func TestForgets(t *testing.T) {
	hosts := twoHosts(t)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	stream(t, hosts[0], hosts[1], 100_000, "")
	peers := func() int {
		s, err := hosts[0].attached.Status()
		if err != nil {
			t.Fatal(err)
		}
		return s.(OverlayStatus).Peers
	}
	if peers() != 1 || hosts[0].counters(t)["egress.hits"] == 0 {
		t.Fatalf("%d peers, counters %v", peers(), hosts[0].counters(t))
	}
	do(t, hosts[0].sandbox, func(h *netlink.Handle) error {
		vxlan, err := h.LinkByName("vxlan0")
		if err != nil {
			return err
		}
		return h.NeighDel(&netlink.Neigh{LinkIndex: vxlan.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
			IP: hosts[1].outer.AsSlice(), HardwareAddr: hosts[1].mac})
	})
	for deadline := time.Now().Add(5 * time.Second); peers() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a peer that left is still known after 5 s")
		}
	}
}

// TestAnswerByDevice has a server that answers by the device it received on, as IP_PKTINFO tells it. It learns of the lane's device,
// whose flows then go back to the kernel's path: one answer is lost, and no more.
func TestAnswerByDevice(t *testing.T) {
	hosts := twoHosts(t)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	s := in(t, hosts[1].container, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp4", &net.UDPAddr{IP: hosts[1].inner.AsSlice()})
	})
	defer s.Close()
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1) }); err != nil {
		t.Fatal(err)
	}
	go func() {
		b, oob := make([]byte, 100), make([]byte, 200)
		for {
			n, m, _, from, err := s.ReadMsgUDP(b, oob)
			if err != nil {
				return
			}
			_, _, _ = s.WriteMsgUDP(b[:n], oob[:m], from) // the same control message: ifindex and all
		}
	}()
	c := in(t, hosts[0].container, func() (net.Conn, error) { return net.Dial("udp4", s.LocalAddr().String()) })
	defer c.Close()
	lost := 0
	for i := range 50 {
		if _, err := c.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second)) // late is not lost, on a busy machine
		if _, err := c.Read(make([]byte, 10)); err != nil {
			lost++
		}
	}
	if lost > 1 {
		t.Errorf("%d of 50 answers were lost, want one at most", lost)
	}
}

// TestSegmentedDatagrams sends several datagrams in one super-frame (UDP_SEGMENT) over a wire that keeps them together.
func TestSegmentedDatagrams(t *testing.T) {
	hosts := twoHosts(t)
	for _, h := range hosts {
		do(t, h.host, func(*netlink.Handle) error { return offloads(true) })
		h.attach(t, econbench.AttachOptions{})
	}
	pingPong(t, hosts[0], hosts[1], 5, 100)
	s := in(t, hosts[1].container, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp4", &net.UDPAddr{IP: hosts[1].inner.AsSlice()})
	})
	defer s.Close()
	c := in(t, hosts[0].container, func() (*net.UDPConn, error) {
		return net.DialUDP("udp4", nil, s.LocalAddr().(*net.UDPAddr))
	})
	defer c.Close()
	const size, each, rounds = 1000, 8, 20
	got := 0
	for round := range rounds {
		oob := make([]byte, unix.CmsgSpace(2))
		h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
		h.Level, h.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
		h.SetLen(unix.CmsgLen(2))
		binary.NativeEndian.PutUint16(oob[unix.CmsgLen(0):], size)
		if _, _, err := c.WriteMsgUDP(make([]byte, size*each), oob, nil); err != nil {
			t.Fatal(err)
		}
		for range each {
			_ = s.SetReadDeadline(time.Now().Add(2 * time.Second))
			n, from, err := s.ReadFromUDP(make([]byte, 20_000))
			if err != nil || n != size {
				t.Fatalf("round %d: %d of %d datagrams came, then %d bytes: %v", round, got, each*rounds, n, err)
			}
			got++
			if _, err := s.WriteToUDP([]byte{1}, from); err != nil {
				t.Fatal(err)
			}
		}
	}
	if sc := hosts[1].counters(t); sc["ingress.bail.superframe"] == 0 {
		t.Errorf("no super-frame of datagrams arrived: %v", sc)
	}
}

// TestFilterLeftBehind has an agent that was killed: what its filters left gives way to the next one's, and two networks' stand
// side by side.
func TestFilterLeftBehind(t *testing.T) {
	hosts := twoHosts(t)
	hosts[0].attach(t, econbench.AttachOptions{Hook: econbench.HookFilter})
	killed := hosts[0].attached
	hosts[0].attach(t, econbench.AttachOptions{Hook: econbench.HookFilter})
	stream(t, hosts[0], hosts[1], 100_000, "")
	if c := hosts[0].counters(t); c["egress.hits"] < 10 {
		t.Errorf("the second attachment carried nothing: %v", c)
	}
	if c, err := killed.Read(); err != nil || c["egress.hits"] != 0 {
		t.Errorf("the first attachment is still at work: %v %v", c, err)
	}
	if err := killed.Close(); err != nil {
		t.Errorf("what it had has been taken away, which is fine: %v", err)
	}
}

// TestGoneWhenClosed leaves devices as they were.
func TestGoneWhenClosed(t *testing.T) {
	hosts := twoHosts(t)
	links := func(ns netns.NsHandle) (names string) {
		do(t, ns, func(h *netlink.Handle) error {
			list, err := h.LinkList()
			for _, l := range list {
				names += l.Attrs().Name + " "
			}
			return err
		})
		return names
	}
	before := links(hosts[0].host) + links(hosts[0].container)
	for range 3 {
		hosts[0].attach(t, econbench.AttachOptions{Hook: econbench.HookFilter})
		if now := links(hosts[0].host) + links(hosts[0].container); now == before {
			t.Fatalf("no lane among %q", now)
		}
		if err := hosts[0].detach(); err != nil {
			t.Fatal(err)
		}
		if now := links(hosts[0].host) + links(hosts[0].container); now != before {
			t.Errorf("devices %q, before %q", now, before)
		}
		do(t, hosts[0].container, func(h *netlink.Handle) error {
			link, err := h.LinkByName("eth0")
			if err != nil {
				return err
			}
			qdiscs, err := h.QdiscList(link)
			for _, q := range qdiscs {
				if q.Type() == "clsact" {
					t.Error("clsact was left on eth0")
				}
			}
			return err
		})
		stream(t, hosts[0], hosts[1], 1000, "")
	}
}
