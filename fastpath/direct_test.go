// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

// The tests' containers have no process of their own, as a rule, and nobody in them who may forge.
var forgingForReal = forging

func init() {
	forging = func(why map[spaceKey]string) error {
		for space := range why {
			why[space] = ""
		}
		return nil
	}
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

const forgery = "-net_raw,-net_admin"

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
	if way := host.attached.(*overlay).endpoints[0].direct; way != nil {
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
	return (after[counterDirect] - before[counterDirect]) / (after["egress.hits"] - before["egress.hits"])
}

// TestDirect sends by the direct way for as long as nobody in the container may put frames of his own there.
func TestDirect(t *testing.T) { eachKind(t, testDirect) }

func testDirect(t *testing.T, k fastKind) {
	forgingMatters(t)
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{Setting: settingDirect})
	}
	h := hosts[0]
	if why := h.waitDirect(t, false); !strings.Contains(why, "no process can be seen in it") {
		t.Errorf("of an empty container: %q", why)
	}
	for _, h := range hosts {
		h.reside(t, forgery)
		h.waitDirect(t, true)
	}
	busy := func() {
		stream(t, hosts[0], hosts[1], 2_000_000, "")
		pingPong(t, hosts[0], hosts[1], 3000, 100)
	}
	if share := h.wentDirectly(t, busy); share < 0.9 {
		t.Errorf("%.3f went directly, want nearly all", share)
	}
	for without, may := range map[string]string{"": "CAP_NET_RAW and CAP_NET_ADMIN", "-net_raw": "CAP_NET_ADMIN", "-net_admin": "CAP_NET_RAW"} {
		leave := h.reside(t, without)
		if why := h.waitDirect(t, false); !strings.Contains(why, "(sleep) may have "+may+":") {
			t.Errorf("with one without %q in it: %q, want %s named", without, why, may)
		}
		if left := h.links(t, "macvlan"); len(left) != 1 {
			t.Errorf("devices left: %v, want the lane alone", left)
		}
		if share := h.wentDirectly(t, busy); share != 0 {
			t.Errorf("%.3f went directly, want nothing", share)
		}
		leave()
		h.waitDirect(t, true)
	}
	if c := h.counters(t); c["lost.failed"]+c["lost.refused"] > 0 {
		t.Errorf("lost: %v", c)
	}
	if err := h.detach(); err != nil {
		t.Fatal(err)
	}
	if left := h.links(t, "macvlan"); len(left) != 0 {
		t.Errorf("devices left: %v", left)
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
	hosts := twoHosts(t, xmasqTest())
	h := hosts[0]
	h.attach(t, econbench.AttachOptions{Setting: settingDirect})
	h.waitDirect(t, true)
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
	sender := packetSocket(t, hosts[1].host, testWire, patience)
	for what, f := range overheard(hardwareAddressIn(t, hosts[1].host, testWire)) {
		own := hardwareAddressIn(t, h.container, way)
		for _, mac := range [][]byte{nil, own[:]} {
			copy(f, mac)
			if _, err := unix.Write(sender, f); err != nil && err != unix.ENOBUFS {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	for where, fd := range map[string]int{"the wire": wire, "the direct way": tap} {
		b := make([]byte, 70_000)
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				break
			}
			if bytes.Contains(b[:n], []byte("forbidden")) || fd == tap {
				t.Errorf("%s: % x", where, b[:n])
			}
		}
	}
}

// TestDirectAndKilled has an agent that never comes to its end: the next one removes what it made in the container.
func TestDirectAndKilled(t *testing.T) {
	hosts := twoHosts(t, xmasqTest())
	h := hosts[0]
	h.attach(t, econbench.AttachOptions{Setting: settingDirect})
	h.waitDirect(t, true)
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
