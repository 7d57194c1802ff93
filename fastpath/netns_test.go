// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
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

// space makes a network namespace with a file in dir, as an engine keeps its own, until the test ends.
func space(t *testing.T, dir, name string) netns.NsHandle {
	t.Helper()
	ns, remove := passingSpace(t, dir, name)
	t.Cleanup(remove)
	return ns
}

// passingSpace makes one until it is removed.
func passingSpace(t *testing.T, dir, name string) (ns netns.NsHandle, remove func()) {
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
	ns, err = netns.GetFromPath(file)
	if err != nil {
		t.Fatal(err)
	}
	return ns, func() {
		ns.Close()
		if err := errors.Join(unix.Unmount(file, unix.MNT_DETACH), os.Remove(file)); err != nil {
			t.Error(err)
		}
	}
}

// testHost is one host with a container on its overlay.
type testHost struct {
	kind                     fastKind
	dir                      string // of its namespaces
	host, sandbox, container netns.NsHandle
	outer, inner             netip.Addr
	mac                      net.HardwareAddr
	vni, port                int
	network                  string // name of the sandbox, or of the plain network's vxlan device
	bridge, tunnel, pair     string // names of its devices
	dropSandbox              func()
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
func twoHosts(t *testing.T, k fastKind) [2]*testHost {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make network namespaces")
	}
	var hosts [2]*testHost
	for i := range hosts {
		h := &testHost{kind: k, dir: t.TempDir(), outer: netip.AddrFrom4([4]byte{198, 18, 77, byte(1 + i)}), inner: netip.AddrFrom4([4]byte{198, 19, 77, byte(2 + i)})}
		h.host, hosts[i] = space(t, h.dir, "host"), h
		h.settle(t, 0)
	}
	do(t, hosts[0].host, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: testWire}, PeerName: testWire, PeerNamespace: netlink.NsFd(hosts[1].host)})
	})
	for i, host := range hosts {
		do(t, host.host, func(h *netlink.Handle) error {
			return steps(func() error { return up(h, testWire, host.outer.String()+"/24") }, noOffloads)
		})
		host.overlay(t, hosts[1-i])
		host.gateway(t, host.container, host.inner)
	}
	return hosts
}

// another is a second network across the same hosts, with the same addresses in it.
func another(t *testing.T, hosts [2]*testHost) (others [2]*testHost) {
	t.Helper()
	for i, h := range hosts {
		o := &testHost{kind: h.kind, dir: t.TempDir(), host: h.host, outer: h.outer, inner: h.inner}
		others[i] = o
		o.settle(t, 1)
	}
	for i, o := range others {
		o.overlay(t, others[1-i])
		o.gateway(t, o.container, o.inner)
	}
	return others
}

// settle makes the namespaces of a host's n-th network, and says what is what in it.
func (host *testHost) settle(t *testing.T, n int) {
	t.Helper()
	host.container, host.vni = space(t, host.dir, "c0ffee"), 4242+n
	if isPlain(t) {
		host.settlePlain(n)
		return
	}
	host.network = []string{"1-0123456789", "1-9876543210"}[n]
	host.sandbox, host.dropSandbox = passingSpace(t, host.dir, host.network)
	t.Cleanup(func() { host.dropSandbox() }) // of the last one: it may be made anew
	host.mac, host.port = append(net.HardwareAddr{2, 66}, host.inner.AsSlice()...), testPort
	host.bridge, host.tunnel, host.pair = "br0", "vxlan0", "veth0"
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
	if isPlain(t) {
		host.overlayPlain(t, peer)
		return
	}
	host.fill(t)
	host.plug(t, "veth0")
	host.knows(t, peer, true)
}

// fill fills a new sandbox.
func (host *testHost) fill(t *testing.T) {
	t.Helper()
	do(t, host.host, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vxlan0", MTU: 1450, Namespace: netlink.NsFd(host.sandbox)},
			VxlanId: host.vni, Port: 4789, Proxy: true, L2miss: true, L3miss: true, UDPCSum: true})
	})
	do(t, host.sandbox, func(h *netlink.Handle) error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		var vxlan netlink.Link
		return steps(
			func() error { return h.LinkAdd(bridge) },
			func() (err error) { vxlan, err = h.LinkByName("vxlan0"); return err },
			func() error { return h.LinkSetMaster(vxlan, bridge) },
			func() error { return up(h, "br0", "198.19.77.1/24") }, func() error { return up(h, "vxlan0", "") },
		)
	})
}

// plug gives a container its device, by the name that its other end has in the sandbox.
func (host *testHost) plug(t *testing.T, name string) {
	t.Helper()
	do(t, host.sandbox, func(h *netlink.Handle) error {
		bridge, err := h.LinkByName(host.bridge)
		if err != nil {
			return err
		}
		return steps(
			func() error {
				return h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1450, MasterIndex: bridge.Attrs().Index},
					PeerName: "eth0", PeerNamespace: netlink.NsFd(host.container), PeerHardwareAddr: host.mac, PeerMTU: 1450})
			},
			func() error { return up(h, name, "") },
		)
	})
	do(t, host.container, func(h *netlink.Handle) error {
		// Who is asked for before he is there is asked for again soon, not a second later.
		err := tune.SetSysctl(host.container, "net.ipv4.neigh.eth0.retrans_time_ms", "20")
		return errors.Join(err, up(h, "eth0", host.inner.String()+"/24"))
	})
}

// attach attaches its fast path to a host, until the test ends.
func (host *testHost) attach(t *testing.T, opt econbench.AttachOptions) {
	t.Helper()
	if opt.Lane == "" {
		opt.Lane = *laneKind
	}
	if err := host.tryAttach(t, opt); err != nil {
		t.Fatal(err)
	}
}

func (host *testHost) tryAttach(t *testing.T, opt econbench.AttachOptions) error {
	t.Helper()
	host.open(t)
	if opt.Setting == "" {
		opt.Setting = host.kind.with
	}
	return netspace.In(host.host, func() (err error) {
		cfg := OverlayConfig{Sandbox: filepath.Join(host.dir, host.network), Underlay: host.outer, With: opt.Setting, AttachOptions: opt}
		if isPlain(t) {
			cfg = OverlayConfig{Tunnel: host.network, Spaces: host.dir, With: opt.Setting, AttachOptions: opt}
		}
		attached, err := attachToSandbox(context.Background(), cfg, host.journal, &cache{cacheKind: host.kind.cacheKind})
		if err == nil {
			host.attached = attached
		}
		return err
	})
}

// open opens the host's journal, until the test ends.
func (host *testHost) open(t *testing.T) {
	t.Helper()
	if host.journal != nil {
		return
	}
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

func (host *testHost) detach() error {
	if host.attached == nil {
		return nil
	}
	err := host.attached.Close()
	host.attached = nil
	return err
}

func (host *testHost) obey(t *testing.T, order econbench.Order) {
	t.Helper()
	if err := host.attached.(econbench.Commanded).Obey(order); err != nil {
		t.Fatalf("%s: %v", order, err)
	}
}

func (host *testHost) status(t *testing.T) OverlayStatus {
	t.Helper()
	s, err := host.attached.Status()
	if err != nil {
		t.Fatal(err)
	}
	return s.(OverlayStatus)
}

func (host *testHost) counters(t *testing.T) econbench.Counters {
	t.Helper()
	c, err := host.attached.Read()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// masked says whether a frame on the wire is a container's under its hosts' addresses.
func masked(frame []byte) bool {
	return frame[22] == 255 && (frame[23] == unix.IPPROTO_TCP || frame[23] == unix.IPPROTO_UDP)
}

// capture reads all frames of the wire at one host until stop is called, and hands over what of them was VXLAN or masqueraded.
func capture(t *testing.T, host *testHost) (stop func() (frames [][]byte)) {
	t.Helper()
	fd := packetSocket(t, host.host, testWire, 100*time.Millisecond)
	done, frames := make(chan struct{}), [][]byte(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 70_000)
		for {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err == nil && n > 38 && binary.BigEndian.Uint16(buf[12:]) == unix.ETH_P_IP &&
				(masked(buf) || buf[23] == unix.IPPROTO_UDP && int(binary.BigEndian.Uint16(buf[36:])) == host.port) {
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

// bindTo binds a socket to a device, "": to none.
func bindTo(device string) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) (err error) {
		if device == "" {
			return nil
		}
		failed := raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), device) })
		return errors.Join(failed, err)
	}
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
	d := net.Dialer{Timeout: 5 * time.Second, Control: bindTo(device)}
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
func TestEndToEnd(t *testing.T) { eachKind(t, testEndToEnd) }

func testEndToEnd(t *testing.T, k fastKind) {
	for _, hook := range hooks() {
		t.Run(hook, func(t *testing.T) {
			hosts := twoHosts(t, k)
			for _, h := range hosts {
				h.attach(t, econbench.AttachOptions{Hook: hook})
			}
			stop := capture(t, hosts[0])
			stream(t, hosts[0], hosts[1], 3_000_001, "")
			stream(t, hosts[1], hosts[0], 1, "")
			pingPong(t, hosts[0], hosts[1], 300, 1)
			pingPong(t, hosts[1], hosts[0], 300, 1422) // the largest that the MTU lets through
			frames := stop()
			fast, transported, bare := 0, 0, 0
			for _, f := range frames {
				if len(f) > 1514 {
					t.Fatalf("a frame of %d bytes on the wire: offloads are not off", len(f))
				}
				if err := soundIP(f[14:]); err != nil {
					t.Fatalf("outer packet: %v", err)
				}
				if masked(f) {
					bare++
					continue
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
			if transported += bare; transported < 3000 || fast+bare < transported*98/100 {
				t.Errorf("%d frames on the wire, %d by the fast path, of these %d without encapsulation", transported, fast+bare, bare)
			}
			if masks := k.shared != ""; bare > 0 != masks || masks && bare < transported/2 {
				t.Errorf("%d of %d frames without encapsulation", bare, transported)
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
func TestBoundSocket(t *testing.T) { eachKind(t, testBoundSocket) }

func testBoundSocket(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	stream(t, hosts[0], hosts[1], 200_000, "eth0")
	c := hosts[0].counters(t)
	if c["egress.hits"] != 0 || c["egress.bail.bound"] < 5 {
		t.Errorf("counters %v, want all that it sends left to the kernel's path since the socket is bound", c)
	}
	if !k.passes && c["ingress.hits"] != 0 { // else what comes is of no flow, and came by eth0: the stream has arrived
		t.Errorf("counters %v, want nothing delivered: the socket is bound", c)
	}
}

// TestConnections opens and closes connections on the fast path, those of sockets that are bound to a device too, until a rule stands on
// the kernel's path, which has to be asked.
func TestConnections(t *testing.T) { eachKind(t, testConnections) }

func testConnections(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	counted := func(what string) econbench.Counters {
		before := hosts[0].counters(t)
		for range 20 {
			connectFrom(t, hosts[0], hosts[1], 0, "")
		}
		c := hosts[0].counters(t)
		for name := range c {
			c[name] -= before[name]
		}
		t.Log(what, c)
		return c
	}
	if c := counted("no rules"); c["egress.bail.flags"] != 0 || c["ingress.bail.flags"] != 0 || c["egress.hits"] < 0.95*c["egress.seen"] || c["ingress.hits"] < 0.95*c["ingress.seen"] {
		t.Error("want all carried")
	}
	before := hosts[0].retransmitted(t) + hosts[1].retransmitted(t)
	for range 5 {
		converse(t, hosts[0], hosts[1], 500)
	}
	time.Sleep(300 * time.Millisecond) // what is not acknowledged is sent again after 200
	if n := hosts[0].retransmitted(t) + hosts[1].retransmitted(t) - before; n != 0 {
		t.Errorf("%v segments were sent again by connections that lasted and closed", n)
	}
	const port = 40_000
	for range 10 { // what is remembered of the port is a socket's that was bound to nothing
		connectFrom(t, hosts[0], hosts[1], port, "")
	}
	connectFrom(t, hosts[0], hosts[1], port, "eth0")
	if !hosts[0].status(t).Connections {
		t.Fatalf("status %+v, want connections carried", hosts[0].status(t))
	}
	hosts[0].rule(t, "add table ip t { chain c { type filter hook forward priority 0; }; }")
	hosts[0].waitConnections(t, false)
	if c := counted("a chain"); c["egress.bail.flags"] < 20 || c["ingress.bail.flags"] < 20 {
		t.Error("want connections to open and close on the kernel's path")
	}
	hosts[0].rule(t, "delete table ip t")
	hosts[0].waitConnections(t, true)
}

// connectFrom opens a connection, from a port if it is not 0, to a server whose sockets are bound to a device if one is named; it
// sends some messages each way. It is reset at the end, so that its ports may be used again at once.
func connectFrom(t *testing.T, from, to *testHost, port int, device string) {
	t.Helper()
	control := func(_, _ string, raw syscall.RawConn) (err error) {
		failed := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			if device != "" {
				err = errors.Join(err, unix.BindToDevice(int(fd), device))
			}
		})
		return errors.Join(failed, err)
	}
	l := in(t, to.container, func() (net.Listener, error) {
		return (&net.ListenConfig{Control: control}).Listen(t.Context(), "tcp4", to.inner.String()+":40001")
	})
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		c.Close()
	}()
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from.inner.AsSlice(), Port: port}}
	c := in(t, from.container, func() (net.Conn, error) { return d.Dial("tcp4", l.Addr().String()) })
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	b := []byte{1}
	for range 6 {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
	}
	if port != 0 {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}

// converse exchanges so many messages on a connection, which is closed by the client and then by the server.
func converse(t *testing.T, from, to *testHost, rounds int) {
	t.Helper()
	l := in(t, to.container, func() (net.Listener, error) { return net.Listen("tcp4", to.inner.String()+":0") })
	defer l.Close()
	c := in(t, from.container, func() (net.Conn, error) { return net.DialTimeout("tcp4", l.Addr().String(), 5*time.Second) })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ends, b := [2]*net.TCPConn{c.(*net.TCPConn), s.(*net.TCPConn)}, []byte{1}
	for i := range 2 * rounds {
		_ = ends[1-i%2].SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := ends[i%2].Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(ends[1-i%2], b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range ends {
		_ = ends[i].CloseWrite()
		if n, err := ends[1-i].Read(b); n != 0 || err != io.EOF {
			t.Fatalf("at the end of a connection: %d bytes, %v", n, err)
		}
	}
	for _, e := range ends {
		e.Close()
	}
}

// retransmitted is how many TCP segments a container has sent again (RetransSegs of /proc/PID/net/snmp).
func (host *testHost) retransmitted(t *testing.T) (n int) {
	t.Helper()
	do(t, host.container, func(*netlink.Handle) error {
		b, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(b)) {
			switch fields := strings.Fields(line); {
			case fields[0] == "Tcp:" && names == nil:
				names = fields
			case fields[0] == "Tcp:":
				n, err = strconv.Atoi(fields[slices.Index(names, "RetransSegs")])
			}
		}
		return err
	})
	return n
}

// rule changes the rules where the bridge is.
func (host *testHost) rule(t *testing.T, command string) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is missing")
	}
	do(t, host.sandbox, func(*netlink.Handle) error {
		if out, err := exec.Command("nft", command).CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
}

func (host *testHost) waitConnections(t *testing.T, want bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); host.status(t).Connections != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("connections are carried: %t, want %t", !want, want)
		}
	}
}

// TestOneSided has a fast path on one host alone, which sends fast and receives as ever.
func TestOneSided(t *testing.T) { eachKind(t, testOneSided) }

func testOneSided(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	hosts[0].attach(t, econbench.AttachOptions{})
	stream(t, hosts[0], hosts[1], 200_000, "")
	pingPong(t, hosts[1], hosts[0], 50, 100)
	if c := hosts[0].counters(t); c["egress.hits"] < 100 || c["ingress.hits"] != 0 || c["ingress.bail.outer"] < 50 {
		t.Errorf("counters %v", c)
	}
}

// TestThirdAddress talks to somebody who is no peer: the bridge's own address, in the sandbox. Such flows are established, so
// they are eligible, and each of their packets is a miss that a path proof sees.
func TestThirdAddress(t *testing.T) { eachKind(t, testThirdAddress) }

func testThirdAddress(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	hosts[0].attach(t, econbench.AttachOptions{})
	third := &testHost{container: hosts[0].sandbox, inner: netip.MustParseAddr("198.19.77.1")}
	stream(t, hosts[0], third, 200_000, "")
	c := hosts[0].counters(t)
	if c["egress.hits"] != 0 || c["egress.misses"] < 5 || c["egress.misses"] != c["egress.eligible"] || c["ingress.seen"] != 0 {
		t.Errorf("counters %v, want misses alone", c)
	}
}

// TestOrders switches both hosts while nothing passes, and looks at what is counted then.
func TestOrders(t *testing.T) { eachKind(t, testOrders) }

func testOrders(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	grown := func(order econbench.Order) econbench.Counters {
		t.Helper()
		for _, h := range hosts {
			h.obey(t, order)
		}
		before := hosts[0].counters(t)
		stream(t, hosts[0], hosts[1], 2_000_000, "")
		after := hosts[0].counters(t)
		for name := range after {
			after[name] -= before[name]
		}
		return after
	}
	carried := func(order econbench.Order) {
		t.Helper()
		if c := grown(order); c["egress.hits"] < 1000 || c["ingress.hits"] < 10 || c["egress.dry"]+c["ingress.dry"] != 0 {
			t.Errorf("%s: %v, want hits", order, c)
		}
	}
	carried(econbench.OrderOn)
	if c := grown(econbench.OrderDry); c["egress.dry"] < 1000 || c["egress.hits"]+c["ingress.hits"] != 0 || c["egress.eligible"] != c["egress.dry"] {
		t.Errorf("dry: %v, want nothing carried", c)
	}
	for name, n := range grown(econbench.OrderOff) {
		if n != 0 {
			t.Errorf("off: %s grew by %g, want nothing counted", name, n)
		}
	}
	carried(econbench.OrderOn)
	carried(econbench.OrderClear)
	for _, h := range hosts {
		h.obey(t, econbench.OrderClear)
		if s := h.status(t); s.Flows != 0 || s.Mode != "on" || len(s.Containers) != 1 || s.Peers != 1 {
			t.Errorf("after clear: %+v", s)
		}
	}
	err := hosts[0].attached.(econbench.Commanded).Obey("of")
	if err == nil || err.Error() != `unknown order "of": did you mean "off"?` && !strings.Contains(err.Error(), "allowed: on, off, dry, clear") {
		t.Errorf("an order that there is not: %v", err)
	}
}

// TestOrdersInTheMiddle switches both hosts back and forth while data flows: all of it arrives, whatever is in a lane by then.
func TestOrdersInTheMiddle(t *testing.T) { eachKind(t, testOrdersInTheMiddle) }

func testOrdersInTheMiddle(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	done, ended := make(chan struct{}), make(chan struct{})
	var given atomic.Int32
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
			order := econbench.Order(econbench.Orders()[i%4])
			if err := hosts[i/4%2].attached.(econbench.Commanded).Obey(order); err != nil {
				t.Error(err)
				return
			}
			given.Add(1)
		}
	}()
	for i := 0; i < 3 || given.Load() < 40 && !t.Failed(); i++ { // until there were enough, on a fast machine and on a busy one
		stream(t, hosts[0], hosts[1], 30_000_000, "")
		pingPong(t, hosts[1], hosts[0], 500, 100)
	}
	close(done)
	<-ended
	c := hosts[0].counters(t)
	if given.Load() < 40 || c["egress.hits"] < 100 || c["egress.dry"] < 100 || c["lost.refused"]+c["lost.failed"] != 0 {
		t.Errorf("%d orders; %v", given.Load(), c)
	}
}

// join adds a container to a host's sandbox, until it is removed.
func (host *testHost) join(t *testing.T, name string, inner netip.Addr, mac net.HardwareAddr) (n *testHost, remove func()) {
	t.Helper()
	n = &testHost{kind: host.kind, host: host.host, sandbox: host.sandbox, bridge: host.bridge, tunnel: host.tunnel, outer: host.outer, inner: inner, mac: mac}
	var leave func()
	n.container, leave = passingSpace(t, host.dir, name)
	n.plug(t, "v"+name)
	closeGateway := host.gateway(t, n.container, inner)
	return n, func() {
		closeGateway()
		do(t, n.sandbox, func(h *netlink.Handle) error {
			link, err := h.LinkByName("v" + name)
			if err != nil {
				return err
			}
			return h.LinkDel(link)
		})
		leave()
	}
}

// TestNextDoor sends between two containers of one host, both ways and by both transports, while one of them talks to the other
// host as well.
func TestNextDoor(t *testing.T) { eachKind(t, testNextDoor) }

func testNextDoor(t *testing.T, k fastKind) {
	for _, hook := range hooks() {
		t.Run(hook, func(t *testing.T) {
			hosts := twoHosts(t, k)
			near, leave := hosts[0].join(t, "decaf", netip.MustParseAddr("198.19.77.44"), net.HardwareAddr{2, 66, 198, 19, 77, 44})
			t.Cleanup(leave)
			for _, h := range hosts {
				h.attach(t, econbench.AttachOptions{Hook: hook})
			}
			stream(t, hosts[0], near, 30_000_000, "")
			stream(t, near, hosts[0], 3_000_001, "")
			pingPong(t, hosts[0], near, 300, 1422)
			pingPong(t, near, hosts[0], 300, 1)
			c := hosts[0].counters(t)
			if c["egress.hits"] < 0.97*c["egress.seen"] || c["egress.hits"] < 1200 || c["ingress.seen"] != 0 || c["lost.refused"]+c["lost.failed"] != 0 {
				t.Errorf("next door: %v", c)
			}
			stream(t, hosts[0], hosts[1], 3_000_001, "")
			if c := hosts[0].counters(t); c["ingress.hits"] < 10 || c["lost.refused"]+c["lost.failed"] != 0 {
				t.Errorf("and to the other host: %v", c)
			}
		})
	}
}

// TestStalePeer has a container on this host of which the sandbox still says that it is on the other, as engines leave it now and then: a
// bridge goes by what it has learned, so on the kernel's path the two of them talk.
func TestStalePeer(t *testing.T) { eachKind(t, testStalePeer) }

func testStalePeer(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	near, leave := hosts[0].join(t, "decaf", netip.MustParseAddr("198.19.77.44"), net.HardwareAddr{2, 66, 198, 19, 77, 44})
	t.Cleanup(leave)
	hosts[0].knows(t, &testHost{outer: hosts[1].outer, inner: near.inner, mac: near.mac}, true)
	for who, whom := range map[*testHost]*testHost{near: hosts[0], hosts[0]: near} { // asked for by ARP, the tunnel's device would answer too
		do(t, who.container, func(h *netlink.Handle) error {
			eth0, err := indexOf(h, "eth0")
			if err != nil {
				return err
			}
			return h.NeighSet(&netlink.Neigh{LinkIndex: eth0, State: netlink.NUD_PERMANENT, IP: whom.inner.AsSlice(), HardwareAddr: whom.mac})
		})
	}
	stream(t, near, hosts[0], 1000, "")
	hosts[0].attach(t, econbench.AttachOptions{})
	pingPong(t, hosts[0], near, 100, 100)
	stream(t, near, hosts[0], 1_000_001, "")
	if c := hosts[0].counters(t); c["egress.hits"] < 150 || c["lost.refused"]+c["lost.failed"] != 0 {
		t.Errorf("next door: %v", c)
	}
}

// knows makes a host's sandbox know where a container on another host is, as libnetwork does when it hears of one; or forget it.
func (host *testHost) knows(t *testing.T, peer *testHost, known bool) {
	t.Helper()
	do(t, host.sandbox, func(h *netlink.Handle) error {
		vxlan, err := h.LinkByName(host.tunnel)
		if err != nil {
			return err
		}
		entry := &netlink.Neigh{LinkIndex: vxlan.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
			State: netlink.NUD_PERMANENT, IP: peer.outer.AsSlice(), HardwareAddr: peer.mac}
		neighbour := &netlink.Neigh{LinkIndex: vxlan.Attrs().Index, State: netlink.NUD_PERMANENT, IP: peer.inner.AsSlice(), HardwareAddr: peer.mac}
		if known {
			return errors.Join(h.NeighSet(entry), h.NeighSet(neighbour))
		}
		return errors.Join(h.NeighDel(neighbour), h.NeighDel(entry))
	})
}

// echo answers datagrams with its own name before them, and fails the test when a frame comes that is for somebody else.
func (host *testHost) echo(t *testing.T, port int, name string) (stop func()) {
	t.Helper()
	s := in(t, host.container, func() (net.PacketConn, error) {
		return net.ListenPacket("udp4", fmt.Sprintf("%s:%d", host.inner, port))
	})
	tap := packetSocket(t, host.container, "", 20*time.Millisecond)
	var all sync.WaitGroup
	done := make(chan struct{})
	for _, other := range []string{"198.19.77.2", "198.19.77.3"} { // bridges hear where it is
		if _, err := s.WriteTo([]byte("here"), &net.UDPAddr{IP: net.ParseIP(other), Port: 9}); err != nil {
			t.Fatal(err)
		}
	}
	all.Go(func() {
		b := make([]byte, 2000)
		for {
			n, addr, err := s.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = s.WriteTo(append([]byte(name+" "), b[:n]...), addr)
		}
	})
	all.Go(func() {
		b := make([]byte, 2000)
		for {
			n, who, err := unix.Recvfrom(tap, b, 0)
			// A bridge floods what it knows no port for: the stack takes no such frame, nor does the tap's PACKET_HOST. By a lane's
			// end it takes any, those of its own address from next door too.
			if at, ok := who.(*unix.SockaddrLinklayer); err == nil && ok && at.Pkttype == unix.PACKET_HOST && n >= 34 &&
				binary.BigEndian.Uint16(b[12:]) == unix.ETH_P_IP &&
				(bytes.Equal(b[:3], host.mac[:3]) && !bytes.Equal(b[:6], host.mac) || !bytes.Equal(b[30:34], host.inner.AsSlice())) {
				t.Errorf("%s was given a frame for somebody else: % x", name, b[:n])
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	return func() { close(done); s.Close(); all.Wait() }
}

// TestComeAndGo has a container leave and another come under the same address, on the same host or the other, time and again,
// while somebody talks to that address from both hosts: no frame reaches the wrong one, and each new one is soon on the fast path.
func TestComeAndGo(t *testing.T) { eachKind(t, testComeAndGo) }

func testComeAndGo(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	addr := netip.MustParseAddr("198.19.77.99")
	var talkers [2]net.Conn
	for i, h := range hosts {
		talkers[i] = in(t, h.container, func() (net.Conn, error) { return net.Dial("udp4", addr.String()+":7777") })
		defer talkers[i].Close()
	}
	r := rand.New(rand.NewPCG(1, 2))
	hits := func() float64 { return hosts[0].counters(t)["egress.hits"] + hosts[1].counters(t)["egress.hits"] }
	for round := range *rounds {
		at, name := r.IntN(2), fmt.Sprintf("c%d", round)
		n, leave := hosts[at].join(t, name, addr, net.HardwareAddr{2, 66, 198, 19, 77, 99}) // an engine makes it from the address
		hosts[1-at].knows(t, n, true)
		stop := n.echo(t, 7777, name)
		for i, c := range talkers {
			answers, before := 0, hits()
			for deadline := time.Now().Add(10 * time.Second); answers < 20 || hits() < before+10; {
				if time.Now().After(deadline) {
					t.Fatalf("round %d, host %d to a container on host %d: %d answers, %g hits", round, i, at, answers, hits()-before)
				}
				answers += ask(t, c, round)
			}
		}
		hosts[1-at].knows(t, n, false)
		stop()
		leave()
	}
	for i, h := range hosts {
		eventually := time.Now().Add(5 * time.Second)
		for s := h.status(t); len(s.Containers) != 1 || s.Peers != 1; s = h.status(t) {
			if time.Now().After(eventually) {
				t.Fatalf("host %d: %+v", i, s)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// ask asks once in a round and returns how many answers came in time. Each answer is the name of who gave it, which has to be that of
// the round that the question was asked in.
func ask(t *testing.T, c net.Conn, round int) int {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := fmt.Fprint(c, round); err != nil {
		return 0 // refused, in the round before
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		return 0
	}
	who, question, _ := strings.Cut(string(b[:n]), " ")
	if who != "c"+question {
		t.Errorf("%s answered a question of round %s", who, question)
	}
	if who != fmt.Sprintf("c%d", round) {
		return 0 // late
	}
	return 1
}

// TestTwoNetworks has two networks with the same addresses on the same hosts, each on a fast path of its own, and both at work at
// once: each network's packets are its own, and the one's coming off does not disturb the other.
func TestTwoNetworks(t *testing.T) { eachKind(t, testTwoNetworks) }

func testTwoNetworks(t *testing.T, k fastKind) {
	for _, hook := range hooks() {
		t.Run(hook, func(t *testing.T) {
			hosts := twoHosts(t, k)
			others := another(t, hosts)
			for _, network := range [][2]*testHost{hosts, others} {
				for _, h := range network {
					h.attach(t, econbench.AttachOptions{Hook: hook})
				}
			}
			var all sync.WaitGroup
			for _, network := range [][2]*testHost{hosts, others} {
				all.Go(func() { stream(t, network[0], network[1], 10_000_001, "") })
				all.Go(func() { pingPong(t, network[1], network[0], 500, 1422) })
			}
			all.Wait()
			for _, h := range []*testHost{hosts[0], hosts[1], others[0], others[1]} {
				c := h.counters(t)
				for _, d := range []string{"egress.", "ingress."} {
					if c[d+"hits"] < 500 || c[d+"hits"] < 0.97*c[d+"seen"] || c[d+"misses"] != 0 {
						t.Errorf("network %d: %s%v", h.vni, d, c)
					}
				}
			}
			for _, h := range others {
				if err := h.detach(); err != nil {
					t.Fatal(err)
				}
			}
			before := hosts[0].counters(t)["egress.hits"]
			stream(t, hosts[0], hosts[1], 1_000_001, "")
			stream(t, others[0], others[1], 1_000_001, "")
			if now := hosts[0].counters(t)["egress.hits"]; now < before+300 {
				t.Errorf("%g hits, then %g: what is left is not at work", before, now)
			}
		})
	}
}

// ping sends echo requests and waits for each one's reply.
func ping(t *testing.T, from, to *testHost, rounds, size int) {
	t.Helper()
	fd := in(t, from.container, func() (int, error) {
		return unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	})
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	for i := range rounds {
		echo := binary.BigEndian.AppendUint16([]byte{8, 0, 0, 0, 0x77, 0x77}, uint16(i))
		echo = append(echo, bytes.Repeat([]byte{byte(i)}, size)...)
		binary.BigEndian.PutUint16(echo[2:], ^uint16(ones(0, echo)))
		if err := unix.Sendto(fd, echo, 0, &unix.SockaddrInet4{Addr: to.inner.As4()}); err != nil {
			t.Fatal(err)
		}
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				t.Fatalf("round %d: no reply: %v", i, err)
			}
			if n == 20+len(echo) && b[20] == 0 && bytes.Equal(b[24:n], echo[4:]) {
				break
			}
		}
	}
}

// TestEcho has the kernel answer echoes: both its replies and a program's requests take the fast path. An error that ICMP reports
// gets through beside them.
func TestEcho(t *testing.T) { eachKind(t, testEcho) }

func testEcho(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	ping(t, hosts[0], hosts[1], 100, 56)
	ping(t, hosts[1], hosts[0], 100, 1422)
	for i, h := range hosts {
		c := h.counters(t)
		for _, d := range []string{"egress.", "ingress."} {
			if c[d+"hits"] < 190 || c[d+"misses"] != 0 || c["lost.refused"]+c["lost.failed"] != 0 {
				t.Errorf("host %d: %s%v", i, d, c)
			}
		}
		items, err := h.attached.(econbench.Itemized).Items()
		if err != nil || len(items.(OverlayStatus).Items) != 1 || items.(OverlayStatus).Items[0].Protocol != "icmp" {
			t.Errorf("host %d: %+v, %v", i, items, err)
		}
	}
	c := in(t, hosts[0].container, func() (net.Conn, error) { return net.Dial("udp4", hosts[1].inner.String()+":9") })
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = c.Write([]byte("anybody?"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a port that nobody listens on: %v, want a refusal", err)
	}
}

// watch counts the UDP datagrams of a capture on a device, encapsulated ones too, until it is read.
func watch(t *testing.T, ns netns.NsHandle, device string) (read func() (in, out int)) {
	t.Helper()
	fd := packetSocket(t, ns, device, 100*time.Millisecond)
	return func() (in, out int) {
		b := make([]byte, 2000)
		for {
			n, who, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return in, out
			}
			at, ok := who.(*unix.SockaddrLinklayer)
			switch {
			case !ok || n < 34 || binary.BigEndian.Uint16(b[12:]) != unix.ETH_P_IP || b[23] != unix.IPPROTO_UDP:
			case at.Pkttype == unix.PACKET_OUTGOING:
				out++
			default:
				in++
			}
		}
	}
}

// TestCaptures says what a capture shows where, in each mode: the table of docs/fastpath.md.
func TestCaptures(t *testing.T) { eachKind(t, testCaptures) }

func testCaptures(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	h := hosts[0]
	kind, outer, inner, lane := laneDevices(t, h)
	if way := h.directDevice(t); way != "" {
		lane = way
	}
	places := []struct {
		name   string
		ns     netns.NsHandle
		device string
	}{
		{"any", h.container, ""}, {"eth0", h.container, "eth0"}, {"lane", h.container, lane}, {"pair's end", h.container, inner}, {"bridge port", h.sandbox, h.pair},
		{"vxlan", h.sandbox, h.tunnel}, {"lane on the host", h.host, outer}, {"wire", h.host, testWire},
	}
	on := map[string]map[string][2]bool{
		laneMacvlan: {"any": {true, true}, "pair's end": {true, false}, "lane": {false, true}, "wire": {true, true}},
		laneNetkit:  {"any": {true, true}, "pair's end": {true, true}, "lane": {true, true}, "wire": {true, true}},
		laneGateway: {"any": {true, true}, "pair's end": {true, true}, "lane": {true, true}, "lane on the host": {true, false}, "wire": {true, true}},
	}[kind]
	for _, c := range []struct {
		mode econbench.Order
		want map[string][2]bool // whether a capture shows what comes in, and what goes out
	}{
		{econbench.OrderOn, on},
		{econbench.OrderDry, map[string][2]bool{"any": {true, true}, "eth0": {true, true}, "bridge port": {true, true}, "vxlan": {true, true}, "wire": {true, true}}},
		{econbench.OrderOff, map[string][2]bool{"any": {true, true}, "eth0": {true, true}, "bridge port": {true, true}, "vxlan": {true, true}, "wire": {true, true}}},
	} {
		for _, h := range hosts {
			h.obey(t, c.mode)
		}
		var all []func() (int, int)
		for _, p := range places {
			all = append(all, watch(t, p.ns, p.device))
		}
		const rounds = 200
		pingPong(t, hosts[0], hosts[1], rounds, 100)
		for i, read := range all {
			in, out := read()
			want := c.want[places[i].name]
			for way, n := range map[string]int{"in": in, "out": out} {
				expected := want[0]
				if way == "out" {
					expected = want[1]
				}
				// A flow's first packets take the kernel's path in any mode.
				if expected && n < rounds*9/10 || !expected && n > rounds/10 {
					t.Errorf("%s: a capture on %s shows %d of %d that go %s, want them: %t", c.mode, places[i].name, n, rounds, way, expected)
				}
			}
		}
	}
}

// TestItems tells of each flow, by the container's end of it.
func TestItems(t *testing.T) { eachKind(t, testItems) }

func testItems(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	stream(t, hosts[0], hosts[1], 2_000_000, "") // enough for the receiver to acknowledge so often that its flow is remembered
	pingPong(t, hosts[1], hosts[0], 10, 100)
	for i, h := range hosts {
		s, err := h.attached.(econbench.Itemized).Items()
		if err != nil {
			t.Fatal(err)
		}
		items := s.(OverlayStatus).Items
		if k.release != "" { // flows end with their sockets, and these are closed
			if len(items) != 0 || s.(OverlayStatus).Flows != 0 {
				t.Errorf("host %d: %+v, want no flow", i, s)
			}
			continue
		}
		if len(items) != 2 || s.(OverlayStatus).Flows != 2 {
			t.Fatalf("host %d: %+v, want two flows", i, s)
		}
		for k, protocol := range []string{"tcp", "udp"} {
			f := items[k]
			if f.Protocol != protocol || !strings.HasPrefix(f.Local, h.inner.String()+":") || !strings.HasPrefix(f.Remote, hosts[1-i].inner.String()+":") || f.State != "established" {
				t.Errorf("host %d: %+v", i, f)
			}
		}
		if s := h.status(t); s.Flows != 2 || s.Items != nil {
			t.Errorf("host %d: status %+v, want two flows and no items", i, s)
		}
	}
}

// TestTakenDown has a sandbox that loses its tunnel, as when Docker takes it down: no container is on the fast path then, and
// that is no error.
func TestTakenDown(t *testing.T) { eachKind(t, testTakenDown) }

func testTakenDown(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	hosts[0].attach(t, econbench.AttachOptions{})
	do(t, hosts[0].sandbox, func(h *netlink.Handle) error {
		vxlan, err := h.LinkByName(hosts[0].tunnel)
		if err != nil {
			return err
		}
		return h.LinkDel(vxlan)
	})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s := hosts[0].status(t)
		if s.Error != "" {
			t.Fatalf("status has the error %q", s.Error)
		}
		if len(s.Containers) == 0 && s.Peers == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %+v", s)
		}
	}
}

// TestForgets has a peer that leaves and one that moves: its packets go by the kernel's path from then on.
func TestForgets(t *testing.T) { eachKind(t, testForgets) }

func testForgets(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
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
		vxlan, err := h.LinkByName(hosts[0].tunnel)
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

// TestForgetsByNotification has a container lose its address, of which nothing is heard in the sandbox, while nobody looks by himself.
func TestForgetsByNotification(t *testing.T) {
	defer func(was time.Duration) { tick = was }(tick)
	tick = time.Hour
	hosts := twoHosts(t, fastKinds()[0])
	hosts[0].attach(t, econbench.AttachOptions{})
	do(t, hosts[0].container, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := h.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		return h.AddrDel(link, &addrs[0])
	})
	for deadline := time.Now().Add(10 * time.Second); len(hosts[0].status(t).Containers) != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a container without an address is still known after 10 s")
		}
	}
}

// TestAnswerByDevice has a server that answers by the device it received on, as IP_PKTINFO tells it. It learns of the lane's device,
// whose flows then go back to the kernel's path: one answer is lost, and no more.
func TestAnswerByDevice(t *testing.T) { eachKind(t, testAnswerByDevice) }

func testAnswerByDevice(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
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
func TestSegmentedDatagrams(t *testing.T) { eachKind(t, testSegmentedDatagrams) }

func testSegmentedDatagrams(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
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
func TestFilterLeftBehind(t *testing.T) { eachKind(t, testFilterLeftBehind) }

func testFilterLeftBehind(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
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
func TestGoneWhenClosed(t *testing.T) { eachKind(t, testGoneWhenClosed) }

func testGoneWhenClosed(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	links := func(ns netns.NsHandle) (names string) {
		do(t, ns, func(h *netlink.Handle) error {
			list, err := netspace.Whole(h.LinkList)
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
		if now := links(hosts[0].host) + links(hosts[0].container); now == before && hosts[0].status(t).Containers[0].Lane != laneGateway {
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
			qdiscs, err := netspace.Whole(func() ([]netlink.Qdisc, error) { return h.QdiscList(link) })
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

// rounds is small so that a test run is short: what leaks or goes wrong now and then takes hundreds to be found.
var rounds = flag.Int("rounds", 30, "rounds of attaching and detaching, and of containers coming and going")

// inventory is what a host has that an attachment makes, and what the process and the kernel hold.
type inventory struct {
	devices                           string
	programs, maps, files, goroutines int
}

func (host *testHost) inventory(t *testing.T) (v inventory) {
	t.Helper()
	for _, ns := range []netns.NsHandle{host.host, host.sandbox, host.container} {
		do(t, ns, func(h *netlink.Handle) error {
			list, err := netspace.Whole(h.LinkList)
			for _, l := range list {
				v.devices += l.Attrs().Name + " "
			}
			return err
		})
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	v.programs, v.maps, v.files, v.goroutines = count(t, ebpf.ProgramGetNextID), count(t, ebpf.MapGetNextID), len(files), runtime.NumGoroutine()
	return v
}

func count[ID ~uint32](t *testing.T, next func(ID) (ID, error)) (n int) {
	t.Helper()
	for id := ID(0); ; n++ {
		var err error
		if id, err = next(id); errors.Is(err, os.ErrNotExist) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAttachRounds attaches and detaches many times: devices, programs, maps, descriptors and goroutines are as many as before.
func TestAttachRounds(t *testing.T) { eachKind(t, testAttachRounds) }

func testAttachRounds(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	round := func() {
		hosts[0].attach(t, econbench.AttachOptions{})
		if err := hosts[0].detach(); err != nil {
			t.Fatal(err)
		}
	}
	before := hosts[0].inventory(t)
	round() // what is made once and kept: the journal, the runtime's own
	files, goroutines := hosts[0].inventory(t).files, hosts[0].inventory(t).goroutines
	for range *rounds {
		round()
	}
	var after inventory
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // maps go a moment after they are let go
		after = hosts[0].inventory(t)
		if after.devices == before.devices && after.programs <= before.programs && after.maps <= before.maps && after.files <= files && after.goroutines <= goroutines {
			return
		}
	}
	t.Errorf("after %d rounds %+v, before %+v, %d files and %d goroutines after the first", *rounds, after, before, files, goroutines)
}
