// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// The tests' containers have no process of their own, as a rule, and nobody in them who may forge.
var forgingForReal = forging

func init() {
	forging = func(map[spaceKey]netns.NsHandle) map[spaceKey]string { return nil }
}

// forgingMatters has agents look who is in containers, until the test ends.
func forgingMatters(t *testing.T) {
	before := forging
	forging = forgingForReal
	t.Cleanup(func() { forging = before })
}

// reside has a process live in a host's container, without some capabilities, until the test ends or it is told to leave.
func (host *testHost) reside(t *testing.T, without string) (leave func()) {
	t.Helper()
	argv := []string{"sleep", "1000"}
	if without != "" {
		argv = append([]string{"setpriv", "--bounding-set=" + without, "--inh-caps=" + without}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	do(t, host.container, func(*netlink.Handle) error { return cmd.Start() })
	leave = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(leave)
	return leave
}

const harmless = "-net_raw,-net_admin,-sys_admin"

// waitDirect waits until a host's container has a direct way or none, and tells why not.
func (host *testHost) waitDirect(t *testing.T, want bool) string {
	t.Helper()
	var s ContainerStatus
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if s = host.containerStatus(t); s.Direct == want {
			return s.Indirect
		}
	}
	t.Fatalf("%+v, want a direct way: %t", s, want)
	return ""
}

// directDevice is the name of the container's direct way, "" if it has none.
func (host *testHost) directDevice(t *testing.T) (name string) {
	t.Helper()
	o := host.attached.(*overlay)
	o.mu.Lock()
	defer o.mu.Unlock()
	if way := o.endpoints[0].direct; way.inUse() {
		do(t, host.container, func(h *netlink.Handle) error {
			link, err := h.LinkByIndex(way.index)
			if err == nil {
				name = link.Attrs().Name
			}
			return err
		})
	}
	return name
}

// wentDirectly is the share of hits that left by the direct way while something was done.
func (host *testHost) wentDirectly(t *testing.T, do func()) float64 {
	t.Helper()
	before := host.counters(t)
	do()
	after := host.counters(t)
	if after["egress.hits"] < before["egress.hits"]+1000 {
		t.Fatalf("%.0f hits: this sees nothing", after["egress.hits"]-before["egress.hits"])
	}
	return (after[counterDirect] - before[counterDirect]) / (after["egress.hits"] - before["egress.hits"])
}

// TestDirect sends by the direct way what its flow's first packets have found the way for.
func TestDirect(t *testing.T) { eachKind(t, testDirect) }

func testDirect(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{Setting: settingDirect})
		h.waitDirect(t, true)
	}
	h := hosts[0]
	if share := h.wentDirectly(t, func() { busy(t, hosts) }); share < 0.9 {
		t.Errorf("%.3f went directly, want nearly all", share)
	}
	h.endsClean(t)
}

// directHosts are two hosts, the first of which has its container on a direct way.
func directHosts(t *testing.T) [2]*testHost {
	t.Helper()
	hosts := twoHosts(t, xmasqTest())
	hosts[0].attach(t, econbench.AttachOptions{Setting: settingDirect})
	hosts[0].waitDirect(t, true)
	return hosts
}

// busy has both containers send by TCP and UDP.
func busy(t *testing.T, hosts [2]*testHost) {
	t.Helper()
	stream(t, hosts[0], hosts[1], 2_000_000, "")
	pingPong(t, hosts[0], hosts[1], 3000, 100)
}

// endsClean detaches and looks that nothing was lost, nor left.
func (host *testHost) endsClean(t *testing.T) {
	t.Helper()
	if c := host.counters(t); c["lost.failed"]+c["lost.refused"] > 0 {
		t.Errorf("lost: %v", c)
	}
	if err := host.detach(); err != nil {
		t.Fatal(err)
	}
	if left := host.links(t, "macvlan"); len(left) != 0 {
		t.Errorf("devices left: %v", left)
	}
}

// TestDirectEnds for as long as anybody in the container may put frames of his own there.
func TestDirectEnds(t *testing.T) {
	forgingMatters(t)
	hosts := twoHosts(t, xmasqTest())
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{Setting: settingDirect})
	}
	h := hosts[0]
	if why := h.waitDirect(t, false); !strings.Contains(why, "no process can be seen in it") {
		t.Errorf("of an empty container: %q", why)
	}
	for _, h := range hosts {
		h.reside(t, harmless)
		h.waitDirect(t, true)
	}
	bent := func(by, want string, leave func()) {
		t.Helper()
		if why := h.waitDirect(t, false); !strings.Contains(why, want) {
			t.Errorf("with %s in it: %q, want %s", by, why, want)
		}
		if left := h.links(t, "macvlan"); len(left) != 1 {
			t.Errorf("devices left: %v, want the lane alone", left)
		}
		if share := h.wentDirectly(t, func() { busy(t, hosts) }); share != 0 {
			t.Errorf("%.3f went directly, want nothing", share)
		}
		leave()
		h.patient(t, false)
		h.waitDirect(t, true)
	}
	for without, may := range map[string]string{"": "CAP_NET_RAW, CAP_NET_ADMIN, CAP_SYS_ADMIN", "-net_raw,-sys_admin": "CAP_NET_ADMIN", "-net_admin,-sys_admin": "CAP_NET_RAW"} {
		bent("one without "+without, `("sleep") may have `+may+":", h.reside(t, without))
	}
	tap := in(t, h.container, func() (int, error) { return unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) })
	bent("an open packet socket", "1 sockets for packets of any kind are open in it", func() { unix.Close(tap) })
	tap = in(t, h.container, func() (int, error) { return unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) })
	h.waitDirect(t, false)
	h.patient(t, true)
	unix.Close(tap)
	if time.Sleep(2 * tick); h.containerStatus(t).Direct {
		t.Error("a direct way that comes and goes is made anew at once")
	}
	h.patient(t, false)
	h.waitDirect(t, true)
	h.endsClean(t)
}

// TestDirectWithoutCarrier has the wire without a carrier, and the device go as if with the wire's: packets take the lane then, and the lease goes on.
func TestDirectWithoutCarrier(t *testing.T) {
	hosts := twoHosts(t, xmasqTest())
	h := hosts[0]
	do(t, hosts[1].host, func(n *netlink.Handle) error { return setUp(n, testWire, false) })
	h.attach(t, econbench.AttachOptions{Setting: settingDirect})
	if why := h.waitDirect(t, false); !strings.Contains(why, "does not carry packets yet") {
		t.Errorf("without carrier: %q", why)
	}
	time.Sleep(2 * tick)
	if s := h.status(t); s.Error != "" {
		t.Errorf("caches are not kept: %s", s.Error)
	}
	do(t, hosts[1].host, func(n *netlink.Handle) error { return setUp(n, testWire, true) })
	h.waitDirect(t, true)
	way := h.directDevice(t)
	do(t, h.container, func(n *netlink.Handle) error { // as if it had gone with the wire's device
		link, err := n.LinkByName(way)
		if err != nil {
			return err
		}
		return n.LinkDel(link)
	})
	h.waitDirect(t, false)
	h.waitDirect(t, true)
	if again := h.directDevice(t); again == way {
		t.Errorf("the direct way is %s again, want another", again)
	}
	h.endsClean(t)
}

func setUp(h *netlink.Handle, name string, up bool) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if up {
		return h.LinkSetUp(link)
	}
	return h.LinkSetDown(link)
}

// TestDirectWherePathGoes detaches when the container's namespace can't be found by its path any more, while another holds it: nothing is left in there.
func TestDirectWherePathGoes(t *testing.T) {
	h := directHosts(t)[0]
	o := h.attached.(*overlay)
	o.mu.Lock()
	path := o.spaceOf(o.endpoints[0]).Path
	o.mu.Unlock()
	if err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Rename(path, path+" gone")); err != nil {
		t.Fatal(err)
	}
	defer func() { // for the cleanup
		err := os.Rename(path+" gone", path)
		if err = errors.Join(err, unix.Mount(fmt.Sprintf("/proc/self/fd/%d", h.container), path, "", unix.MS_BIND, "")); err != nil {
			t.Error(err)
		}
	}()
	h.endsClean(t)
}

// patient has the agent wait a while before it makes a direct way that came and went, or not at all.
func (host *testHost) patient(t *testing.T, is bool) {
	t.Helper()
	o := host.attached.(*overlay)
	o.mu.Lock()
	defer o.mu.Unlock()
	d := &o.endpoints[0].direct
	d.again, d.rest = time.Time{}, 0
	if is {
		d.again = time.Now().Add(time.Minute)
	}
}

// links are the container's devices of a type.
func (host *testHost) links(t *testing.T, kind string) (names []string) {
	t.Helper()
	do(t, host.container, func(h *netlink.Handle) error {
		links, err := netspace.Whole(h.LinkList)
		for _, l := range links {
			if l.Type() == kind {
				names = append(names, l.Attrs().Name)
			}
		}
		return err
	})
	return names
}

// TestDirectIsNoDoor tries the direct way as somebody in the container might who can't put frames there: no socket sends by it, and it hears nothing.
func TestDirectIsNoDoor(t *testing.T) {
	hosts := directHosts(t)
	h := hosts[0]
	way := h.directDevice(t)
	wire := packetSocket(t, hosts[1].host, testWire, 100*time.Millisecond)
	tap := packetSocket(t, h.container, way, 100*time.Millisecond)
	for _, to := range []string{"198.18.77.2", "198.19.77.3", "224.0.0.251", "255.255.255.255", "2001:db8::1", "ff02::1%" + way, "fe80::1%" + way} {
		err := netspace.In(h.container, func() error {
			d := net.Dialer{Timeout: time.Second, Control: bindTo(way)}
			c, err := d.Dial("udp", net.JoinHostPort(to, "9"))
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("forbidden"))
			return err
		})
		if !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			t.Errorf("to %s by %s: %v, want that no network is reached", to, way, err)
		}
	}
	own := hardwareAddressIn(t, h.container, way)
	sender := packetSocket(t, hosts[1].host, testWire, patience)
	for what, f := range overheard(hardwareAddressIn(t, hosts[1].host, testWire)) {
		for _, mac := range [][]byte{nil, own[:]} {
			copy(f, mac)
			if _, err := unix.Write(sender, f); err != nil && err != unix.ENOBUFS {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	if _, err := unix.Write(packetSocket(t, hosts[0].host, testWire, patience), append(bytes.Repeat([]byte{255}, 6), append(own[:], "\x88\xb5forbidden, and seen on the wire"...)...)); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for where, fd := range map[string]int{"the wire": wire, "the direct way": tap} {
		b := make([]byte, 70_000)
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				break
			}
			if fd == wire && bytes.Contains(b[:n], []byte("and seen")) { // this test would see it
				seen++
			} else if bytes.Contains(b[:n], []byte("forbidden")) || fd == tap {
				t.Errorf("%s: % x", where, b[:n])
			}
		}
	}
	if seen != 1 {
		t.Errorf("a frame on the wire was seen %d times, want once", seen)
	}
}

// TestDirectAndKilled has an agent that never comes to its end: the next one removes what it made in the container.
func TestDirectAndKilled(t *testing.T) {
	h := directHosts(t)[0]
	o := h.attached.(*overlay)
	o.stop()
	<-o.stopped
	way := h.directDevice(t)
	left := h.journaled(t, `"`+way+`"`)
	if len(left) != 1 || !strings.Contains(left[0], `"`+string(tune.KindLink)+`"`) {
		t.Fatalf("journal: %q, want a line about %s", left, way)
	}
	if said := h.recover(t, strings.Replace(left[0], "/c0ffee", "/c0ffee2", 1)); len(said) != 1 || !strings.Contains(said[0], "gone, nothing to put back") {
		t.Errorf("said %q", said)
	}
	if said := h.recover(t, left[0]); len(said) != 1 || !strings.Contains(said[0], way) || !strings.Contains(said[0], "present → absent") {
		t.Errorf("said %q", said)
	}
	if found := h.links(t, "macvlan"); len(found) != 1 {
		t.Errorf("devices left: %v, want the lane alone", found)
	}
}

func TestProveDirect(t *testing.T) {
	window := func(hits, direct float64, why string) econbench.HostWindow {
		w := econbench.HostWindow{Seconds: 1, Counters: map[string]econbench.Counters{"fastpath": {"egress.hits": hits, counterDirect: direct}}, Notes: map[string]string{}}
		if why != "" {
			w.Notes[econbench.NoteIndirect] = why
		}
		return w
	}
	a := &overlayAttachment{setting: settingDirect}
	for _, c := range []struct {
		name   string
		server econbench.HostWindow
		want   string
	}{
		{"most directly", window(100_000, 99_000, ""), ""},
		{"slow", window(500, 0, ""), ""},
		{"by the lane", window(100_000, 10_000, ""), "server: setting direct: 10000 of 100000 segments that it sent went directly, want 50 %"},
		{"no way", window(0, 0, "198.19.77.2: busy"), "server: setting direct: 198.19.77.2: busy"},
	} {
		got := strings.Join(a.Prove(econbench.Window{Client: window(100_000, 99_000, ""), Server: c.server, Flows: econbench.Flows{Count: 1}}), "; ")
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
