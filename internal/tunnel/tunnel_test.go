// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

func spec(i int) Spec {
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 200, byte(2 + i)}) }
	host := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 78, byte(1 + i)}) }
	return Spec{Name: "econb0test", VNI: 99, Port: 8472, Wire: "wire0", Underlay: host(i), MTU: 1450,
		Addr: netip.PrefixFrom(addr(i), 24), Peers: []Peer{{addr(1 - i), host(1 - i)}}}
}

func TestSpec(t *testing.T) {
	if err := spec(0).check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Spec){
		"VNI 16777216":          func(s *Spec) { s.VNI = 1 << 24 },
		"VNI 0":                 func(s *Spec) { s.VNI = 0 },
		"UDP port 0":            func(s *Spec) { s.Port = 0 },
		"want IPv4":             func(s *Spec) { s.Underlay = netip.MustParseAddr("fd00::1") },
		"addresses invalid":     func(s *Spec) { s.Addr = netip.Prefix{} },
		"MTU 20":                func(s *Spec) { s.MTU = 20 },
		"peer 198.18.200.2 on ": func(s *Spec) { s.Peers[0].Addr = s.Addr.Addr() },
		"peer 198.19.0.1 on ":   func(s *Spec) { s.Peers[0].Addr = netip.MustParseAddr("198.19.0.1") },
		"on host invalid":       func(s *Spec) { s.Peers[0].Host = netip.Addr{} },
	} {
		s := spec(0)
		change(&s)
		if err := s.check(); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "network econb0test: ") {
			t.Errorf("%+v: error %v, want %q", s, err, want)
		}
	}
}

// host is one of two that are joined by a wire.
type host struct {
	ns, container netns.NsHandle
	dir           string
	journal       *tune.Journal
}

func newSpace(t *testing.T) (ns netns.NsHandle) {
	t.Helper()
	own, _, err := netspace.Own()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if err := netspace.In(own, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		ns, _, err = netspace.Own()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

// twoHosts makes them, with Docker's policy for what is forwarded.
func twoHosts(t *testing.T) (hosts [2]*host) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make network namespaces")
	}
	for i := range hosts {
		hosts[i] = &host{ns: newSpace(t), container: newSpace(t), dir: t.TempDir()}
	}
	hosts[0].do(t, func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wire0"}, PeerName: "wire0", PeerNamespace: netlink.NsFd(hosts[1].ns)})
	})
	for i, h := range hosts {
		h.do(t, func() error {
			link, err := netlink.LinkByName("wire0")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(spec(i).Underlay.String() + "/24")
			return errors.Join(err, netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
		})
		h.iptables(t, "-P", "FORWARD", "DROP")
		h.open(t)
		t.Cleanup(func() {
			if err := h.journal.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return hosts
}

func (h *host) open(t *testing.T) (undone []string) {
	t.Helper()
	h.do(t, func() (err error) { h.journal, undone, err = tune.OpenJournal(h.dir); return err })
	return undone
}

func (h *host) do(t *testing.T, f func() error) {
	t.Helper()
	if err := netspace.In(h.ns, f); err != nil {
		t.Fatal(err)
	}
}

func (h *host) iptables(t *testing.T, args ...string) (said string) {
	t.Helper()
	if _, err := exec.LookPath("iptables"); err != nil {
		t.Skip("needs iptables")
	}
	h.do(t, func() error {
		out, err := exec.Command("iptables", args...).CombinedOutput() // from this thread, so in its namespace
		if said = string(out); err != nil {
			return errors.New(said)
		}
		return nil
	})
	return said
}

func (h *host) links(t *testing.T) (names string) {
	t.Helper()
	h.do(t, func() error {
		list, err := netspace.Whole(netlink.LinkList)
		for _, l := range list {
			names += l.Attrs().Name + " "
		}
		return err
	})
	return names
}

func (h *host) build(t *testing.T, s Spec) (end *End, err error) {
	t.Helper()
	h.do(t, func() error { end, err = Build(h.journal, h.container, s); return nil })
	return end, err
}

// reaches says whether a container's connection is answered, be it by a refusal.
func (h *host) reaches(t *testing.T, to netip.Addr, patience time.Duration) (ok bool) {
	t.Helper()
	if err := netspace.In(h.container, func() error {
		conn, err := net.DialTimeout("tcp4", to.String()+":9", patience)
		if ok = errors.Is(err, unix.ECONNREFUSED); err == nil {
			return conn.Close()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ok
}

// TestBuild joins two containers past a policy that drops, by nothing else than its rule for the bridge, and leaves no trace.
func TestBuild(t *testing.T) {
	hosts := twoHosts(t)
	before, rules := hosts[0].links(t), hosts[0].iptables(t, "-S")
	var ends [2]*End
	for i, h := range hosts {
		var err error
		if ends[i], err = h.build(t, spec(i)); err != nil {
			t.Fatal(err)
		}
	}
	to := spec(1).Addr.Addr()
	if !hosts[0].reaches(t, to, 10*time.Second) {
		t.Fatalf("%s is not reached; made: %q", to, ends[0].Done)
	}
	if listed := hosts[0].iptables(t, "-S", "FORWARD"); strings.Contains(listed, "econb0test") {
		hosts[0].iptables(t, "-D", "FORWARD", "-i", "econb0test", "-o", "econb0test", "-j", "ACCEPT")
		if hosts[0].reaches(t, to, 300*time.Millisecond) {
			t.Error("reached without the rule: this tests nothing")
		}
	} else if b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-iptables"); err == nil && b[0] == '1' {
		t.Errorf("br_netfilter is at work, and there is no rule among\n%s", listed)
	}
	for i, h := range hosts {
		if err := errors.Join(ends[i].Undo(), ends[i].Undo()); err != nil {
			t.Errorf("host %d: %v", i, err)
		}
		if after := h.links(t); after != before {
			t.Errorf("host %d: devices %q, before %q", i, after, before)
		}
		if after := h.iptables(t, "-S"); after != rules {
			t.Errorf("host %d: rules\n%sbefore\n%s", i, after, rules)
		}
	}
}

// TestBuildFails has no wire, a number that is taken, and a container with a network: nothing is left of any.
func TestBuildFails(t *testing.T) {
	hosts := twoHosts(t)
	before := hosts[0].links(t)
	fails := func(want string, s Spec) {
		t.Helper()
		standing := hosts[0].links(t)
		if _, err := hosts[0].build(t, s); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want %q in one line", err, want)
		}
		if after := hosts[0].links(t); after != standing {
			t.Errorf("devices %q, before %q", after, standing)
		}
	}
	s := spec(0)
	s.Wire = "nosuch"
	fails(`network econb0test: wire "nosuch"`, s)
	end, err := hosts[0].build(t, spec(0))
	if err != nil {
		t.Fatal(err)
	}
	s = spec(0)
	s.Name = "econb1test"
	fails("network econb1test: VNI 99 on UDP port 8472 is taken by another network of this host", s)
	s.VNI = 100
	fails("network econb1test: veth pair: ", s) // it has an eth0
	var taken net.PacketConn
	hosts[0].do(t, func() (err error) { taken, err = net.ListenPacket("udp4", "0.0.0.0:8473"); return err })
	s.Port = 8473
	fails("network econb1test: UDP port 8473 is a program's", s)
	taken.Close()
	s.Name = "docker0"
	fails(`link "docker0": want a device's name that begins with econb`, s)
	if err := end.Undo(); err != nil {
		t.Error(err)
	}
	if after := hosts[0].links(t); after != before {
		t.Errorf("devices %q, before %q", after, before)
	}
}

// TestKilled has an agent that was killed: the next one removes what it had made, whether or not the container is still there.
func TestKilled(t *testing.T) {
	hosts := twoHosts(t)
	before, rules := hosts[0].links(t), hosts[0].iptables(t, "-S")
	if _, err := hosts[0].build(t, spec(0)); err != nil {
		t.Fatal(err)
	}
	killed := hosts[0].journal
	copied, err := os.ReadFile(hosts[0].dir + "/tune.journal")
	if err != nil {
		t.Fatal(err)
	}
	hosts[0].dir = t.TempDir() // what it wrote, without its lock
	if err := os.WriteFile(hosts[0].dir+"/tune.journal", copied, 0o600); err != nil {
		t.Fatal(err)
	}
	undone := hosts[0].open(t)
	if after := hosts[0].links(t); after != before || len(undone) < 3 {
		t.Errorf("devices %q, before %q; undone %q", after, before, undone)
	}
	if after := hosts[0].iptables(t, "-S"); after != rules {
		t.Errorf("rules\n%sbefore\n%s", after, rules)
	}
	if err := killed.Close(); err != nil {
		t.Errorf("what it had is gone, which is fine: %v", err)
	}
}
