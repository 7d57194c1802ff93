// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/tune"
)

// command runs a program in a container.
func (host *testHost) command(t *testing.T, argv ...string) (said string) {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skipf("%s is missing", argv[0])
	}
	do(t, host.container, func(*netlink.Handle) error {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if said = string(out); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
		return nil
	})
	return said
}

// resolve has a container as an engine makes it (Docker 20.10's rules): a name server, which repeats what it is asked with a word of its own before it.
// Streams are repeated as they are.
func (host *testHost) resolve(t *testing.T, word string) (stop func()) {
	t.Helper()
	do(t, host.container, func(h *netlink.Handle) error { return up(h, "lo", "") })
	udp := in(t, host.container, func() (net.PacketConn, error) { return net.ListenPacket("udp4", "127.0.0.11:0") })
	tcp := in(t, host.container, func() (net.Listener, error) { return net.Listen("tcp4", "127.0.0.11:0") })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(append([]byte(word), b[:n]...), from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	if !strings.Contains(host.command(t, "iptables-save", "-t", "nat"), "DOCKER_OUTPUT") {
		for _, chain := range []string{"DOCKER_OUTPUT", "DOCKER_POSTROUTING"} {
			host.command(t, "iptables", "-t", "nat", "-N", chain)
			host.command(t, "iptables", "-t", "nat", "-A", strings.TrimPrefix(chain, "DOCKER_"), "-d", "127.0.0.11", "-j", chain)
		}
	}
	for protocol, at := range map[string]net.Addr{"udp": udp.LocalAddr(), "tcp": tcp.Addr()} {
		_, port, _ := net.SplitHostPort(at.String())
		host.command(t, "iptables", "-t", "nat", "-A", "DOCKER_OUTPUT", "-d", "127.0.0.11", "-p", protocol, "--dport", "53", "-j", "DNAT", "--to-destination", at.String())
		host.command(t, "iptables", "-t", "nat", "-A", "DOCKER_POSTROUTING", "-s", "127.0.0.11", "-p", protocol, "--sport", port, "-j", "SNAT", "--to-source", ":53")
	}
	stop = func() { udp.Close(); tcp.Close() }
	t.Cleanup(stop)
	return stop
}

const nameServerAddr = "127.0.0.11:53"

// query asks by UDP from two sockets, one of them connected, which hears of nobody but whom it asked.
func (host *testHost) query(t *testing.T, word string) {
	t.Helper()
	connected := in(t, host.container, func() (net.Conn, error) { return net.Dial("udp4", nameServerAddr) })
	defer connected.Close()
	free := in(t, host.container, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp4", &net.UDPAddr{IP: host.inner.AsSlice()}) // from an address of its own
	})
	defer free.Close()
	b := make([]byte, 100)
	for i, ask := range []func() (n int, from string, err error){
		func() (n int, from string, err error) {
			if _, err := connected.Write([]byte("who?")); err != nil {
				return 0, "", err
			}
			_ = connected.SetReadDeadline(time.Now().Add(patience))
			n, err = connected.Read(b)
			return n, nameServerAddr, err
		},
		func() (n int, from string, err error) {
			if _, err := free.WriteTo([]byte("who?"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(nameServerAddr))); err != nil {
				return 0, "", err
			}
			_ = free.SetReadDeadline(time.Now().Add(patience))
			n, who, err := free.ReadFrom(b)
			return n, fmt.Sprint(who), err
		},
	} {
		n, from, err := ask()
		if err != nil || string(b[:n]) != word+"who?" || from != nameServerAddr {
			t.Errorf("query %d: %q of %s, %v, want %q of %s", i, b[:n], from, err, word+"who?", nameServerAddr)
		}
	}
}

// dialNames connects to the name server by TCP.
func (host *testHost) dialNames(t *testing.T) net.Conn {
	t.Helper()
	c := in(t, host.container, func() (net.Conn, error) { return net.DialTimeout("tcp4", nameServerAddr, patience) })
	t.Cleanup(func() { c.Close() })
	return c
}

// repeated sends more than a super-frame, which has to come back.
func repeated(t *testing.T, c net.Conn) {
	t.Helper()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<13)
	go func() { _, _ = c.Write(sent) }()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(sent))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(sent, got) {
		t.Errorf("by TCP: %d of %d bytes came back, %v", n, len(sent), err)
	}
}

// isTracked sends a datagram by a socket of its own to another container, and says whether connection tracking knows of it.
func (host *testHost) isTracked(t *testing.T, peer *testHost) bool {
	t.Helper()
	c := in(t, host.container, func() (net.Conn, error) { return net.Dial("udp4", peer.inner.String()+":9") })
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	known := false
	do(t, host.container, func(*netlink.Handle) error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		for _, f := range flows {
			known = known || fmt.Sprint(f.Forward.SrcPort) == port
		}
		return err
	})
	return known
}

// containerStatus is that of the one container of a host.
func (host *testHost) containerStatus(t *testing.T) ContainerStatus {
	t.Helper()
	s := host.status(t)
	if len(s.Containers) != 1 {
		t.Fatalf("containers: %+v, want one", s.Containers)
	}
	return s.Containers[0]
}

func (host *testHost) waitUntracked(t *testing.T, want bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); host.containerStatus(t).Untracked != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("container: %+v, want untracked %t", host.containerStatus(t), want)
		}
	}
}

// TestUntracked has containers with the engine's name server: it answers before, while and after its rules are withdrawn, and what was open stays so.
func TestUntracked(t *testing.T) { eachKind(t, testUntracked) }

func testUntracked(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	var before [2]string
	var open [2]net.Conn
	for i, h := range hosts {
		h.resolve(t, "a ")
		before[i] = h.command(t, "iptables-save", "-t", "nat")
		h.query(t, "a ")
		open[i] = h.dialNames(t)
		repeated(t, open[i])
		if !h.isTracked(t, hosts[1-i]) {
			t.Fatal("connections are not tracked to begin with")
		}
	}
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{Setting: settingUntracked})
	}
	for i, h := range hosts {
		if c := h.containerStatus(t); !c.Untracked || c.Tracked != "" {
			t.Errorf("container: %+v, want it untracked", c)
		}
		if rules := h.command(t, "nft", "list", "ruleset"); strings.TrimSpace(rules) != "" {
			t.Errorf("rules in the container: %s", rules)
		}
		if h.isTracked(t, hosts[1-i]) {
			t.Error("connections are tracked")
		}
		h.query(t, "a ")
		repeated(t, open[i])
		meanwhile := h.dialNames(t)
		repeated(t, meanwhile)
		defer func() { repeated(t, meanwhile) }()
	}
	pingPong(t, hosts[0], hosts[1], 50, 100)
	if c := hosts[0].counters(t); c["egress.hits"] == 0 {
		t.Errorf("counters: %v, want hits", c)
	}
	for i, h := range hosts {
		if err := h.detach(); err != nil {
			t.Fatal(err)
		}
		if after := h.command(t, "iptables-save", "-t", "nat"); withoutComments(after) != withoutComments(before[i]) {
			t.Errorf("rules after all: %s\nwant %s", after, before[i])
		}
		if left := h.command(t, "tc", "qdisc", "show", "dev", "lo"); strings.Contains(left, "clsact") {
			t.Errorf("left on the loopback: %s", left)
		}
		h.query(t, "a ")
		repeated(t, open[i])
		if !h.isTracked(t, hosts[1-i]) {
			t.Error("connections are not tracked any more")
		}
	}
}

// withoutComments leaves out what tells of the time.
func withoutComments(rules string) string {
	var kept []string
	for line := range strings.Lines(rules) {
		if !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// TestTrackedForOthers has rules of somebody else's in the container: all stay, and it says why; once those are gone, the engine's are withdrawn.
// An engine that makes its rules anew, for other ports, is followed.
func TestTrackedForOthers(t *testing.T) {
	hosts := twoHosts(t, fastKinds()[0])
	h := hosts[0]
	stop := h.resolve(t, "a ")
	h.command(t, "nft", "add table ip mine; add chain ip mine out { type filter hook output priority 0; }; add rule ip mine out ct state invalid drop")
	h.attach(t, econbench.AttachOptions{Setting: settingUntracked})
	if c := h.containerStatus(t); c.Untracked || !strings.Contains(c.Tracked, "ip mine") {
		t.Errorf("container: %+v, want it tracked for table ip mine", c)
	}
	if !h.isTracked(t, hosts[1]) {
		t.Error("connections are not tracked")
	}
	if why := h.attached.(econbench.Noter).Notes()[econbench.NoteTracked]; !strings.Contains(why, "ip mine") {
		t.Errorf("noted %q, want table ip mine", why)
	}
	h.query(t, "a ")
	h.command(t, "nft", "delete table ip mine")
	h.waitUntracked(t, true)
	h.command(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-d", "127.0.0.11", "-j", "ACCEPT") // about the address, and not the engine's
	h.waitUntracked(t, false)
	if err := h.detach(); err != nil {
		t.Fatal(err)
	}
	h.query(t, "a ")
	h.command(t, "iptables", "-t", "nat", "-D", "OUTPUT", "-d", "127.0.0.11", "-j", "ACCEPT")
	const odd = "-d 127.0.0.11 -m statistic --mode random --probability 0.5"
	h.command(t, strings.Fields("iptables -t nat -A OUTPUT "+odd)...)
	h.attach(t, econbench.AttachOptions{Setting: settingUntracked})
	if c := h.containerStatus(t); c.Untracked || !strings.Contains(c.Tracked, `"ip nat" has a rule with "match", which can't be restored`) {
		t.Errorf("container: %+v, want it tracked for what can't be restored", c)
	}
	h.query(t, "a ")
	h.command(t, strings.Fields("iptables -t nat -D OUTPUT "+odd)...)
	h.waitUntracked(t, true)
	if err := h.detach(); err != nil {
		t.Fatal(err)
	}
	h.attach(t, econbench.AttachOptions{Setting: settingUntracked})
	h.waitUntracked(t, true)
	h.query(t, "a ")

	h.command(t, "iptables", "-t", "nat", "-N", "DOCKER_OUTPUT") // an engine at work
	h.command(t, "iptables", "-t", "nat", "-A", "OUTPUT", "-d", "127.0.0.11", "-j", "DOCKER_OUTPUT")
	h.waitUntracked(t, false)
	if c := h.containerStatus(t); !strings.Contains(c.Tracked, "has 0 rules of NAT: want 4") {
		t.Errorf("container: %+v, want it to wait for all of the engine's rules", c)
	}
	h.query(t, "a ")
	h.command(t, "iptables", "-t", "nat", "-F")
	h.command(t, "iptables", "-t", "nat", "-X", "DOCKER_OUTPUT")
	stop()
	h.resolve(t, "b ")
	h.query(t, "b ")
	for deadline := time.Now().Add(patience); strings.TrimSpace(h.command(t, "nft", "list", "ruleset")) != ""; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the engine's new rules are not withdrawn")
		}
	}
	h.query(t, "b ")
	repeated(t, h.dialNames(t))
	if err := h.detach(); err != nil {
		t.Fatal(err)
	}
	h.query(t, "b ")
	if rules := h.command(t, "iptables-save", "-t", "nat"); strings.Count(rules, "-j DNAT") != 2 {
		t.Errorf("rules after all: %s", rules)
	}
}

// journaled are the lines of the host's journal with a word in them.
func (host *testHost) journaled(t *testing.T, word string) (lines []string) {
	t.Helper()
	journal, err := os.ReadFile(filepath.Join(host.dir, "journal", "tune.journal"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(journal)) {
		if strings.Contains(line, word) {
			lines = append(lines, line)
		}
	}
	return lines
}

// recover has the next agent of a host find a journal, and tells what it said.
func (host *testHost) recover(t *testing.T, journal string) (said []string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tune.journal"), []byte(journal), 0o600); err != nil {
		t.Fatal(err)
	}
	next := in(t, host.host, func() (j *tune.Journal, err error) {
		j, said, err = tune.OpenJournal(dir)
		return j, err
	})
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	return said
}

// TestUntrackedAndKilled has an agent that never comes to its end: names are resolved all the same, and the next agent restores the rules; one of
// another container under the same path is left alone.
func TestUntrackedAndKilled(t *testing.T) {
	hosts := twoHosts(t, fastKinds()[0])
	h := hosts[0]
	h.resolve(t, "a ")
	before := h.command(t, "iptables-save", "-t", "nat")
	h.attach(t, econbench.AttachOptions{Setting: settingUntracked})
	o := h.attached.(*overlay)
	o.stop() // from here on it does nothing
	<-o.stopped
	h.query(t, "a ")

	left := h.journaled(t, string(tune.KindRules))
	if len(left) != 1 {
		t.Fatalf("journal: %q, want one line about rules", left)
	}
	for _, elsewhere := range []string{strings.Replace(left[0], "/c0ffee", "/c0ffee2", 1), strings.Replace(left[0], `"cookie":`, `"cookie":9`, 1)} {
		if said := h.recover(t, elsewhere); len(said) != 1 || !strings.Contains(said[0], "gone, nothing to put back") {
			t.Errorf("said %q", said)
		}
	}
	said := h.recover(t, left[0])
	if len(said) != 1 || !strings.Contains(said[0], "withdrawn → there") {
		t.Errorf("said %q", said)
	}
	if after := h.command(t, "iptables-save", "-t", "nat"); withoutComments(after) != withoutComments(before) {
		t.Errorf("rules after all: %s\nwant %s", after, before)
	}
	h.query(t, "a ")
	repeated(t, h.dialNames(t))
	if said := h.recover(t, left[0]); len(said) != 1 || !strings.Contains(said[0], "was back already") {
		t.Errorf("said %q", said)
	}
}

func TestProveUntracked(t *testing.T) {
	noted := func(tables string) econbench.HostWindow {
		return econbench.HostWindow{Notes: map[string]string{econbench.NoteNetfilter: tables}}
	}
	for _, a := range []econbench.Prover{&overlayAttachment{setting: settingUntracked}, &econAttachment{&overlayAttachment{setting: settingUntracked}}, &xmasqAttachment{&overlayAttachment{setting: settingUntracked}}} {
		flows := econbench.Flows{Kind: econbench.ConnectFlows}
		if got := a.Prove(econbench.Window{Client: noted(""), Server: noted(""), Flows: flows}); len(got) != 0 {
			t.Errorf("%T: %q, want no failure", a, got)
		}
		if got := a.Prove(econbench.Window{Client: noted("ip nat"), Flows: flows}); len(got) != 2 {
			t.Errorf("%T: %q, want one failure for each host", a, got)
		}
	}
	said := noted("")
	said.Notes[econbench.NoteTracked] = "198.19.77.2: iptables-legacy's tables"
	if got := (&overlayAttachment{setting: settingUntracked}).Prove(econbench.Window{Client: said, Server: noted("")}); len(got) != 1 || !strings.Contains(got[0], "legacy") {
		t.Errorf("%q, want the reason", got)
	}
	if got := (&overlayAttachment{}).Prove(econbench.Window{Client: noted("ip nat")}); len(got) != 0 {
		t.Errorf("%q, want no failure without the setting", got)
	}
}
