// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/tune"
	vx "github.com/econbench/econbench/internal/tunnel"
)

// What is here runs tests of the others' on networks that are none of Docker's: built in the hosts' own namespaces as topology vxlan
// builds them, by the same code.

// TestPlain runs tests again, whose hosts are plain ones then: some with each fast path, and those that depend on the network's kind
// rather than the fast path's with one.
func TestPlain(t *testing.T) {
	for name, test := range map[string]func(*testing.T, fastKind){
		"EndToEnd": testEndToEnd, "OneSided": testOneSided, "NextDoor": testNextDoor, "TwoNetworks": testTwoNetworks,
	} {
		t.Run(name, func(t *testing.T) { eachKind(t, test) })
	}
	for name, test := range map[string]func(*testing.T, fastKind){
		"ComeAndGo": testComeAndGo, "Captures": testCaptures, "TakenDown": testTakenDown, "Forgets": testForgets, "GoneWhenClosed": testGoneWhenClosed,
		"AttachRounds": testAttachRounds, "RulesThere": testRulesThere, "ReceivesTheSame": testReceivesTheSame, "SendsNothingElse": testSendsNothingElse,
	} {
		t.Run(name, func(t *testing.T) { test(t, fastKinds()[0]) })
	}
}

// testRulesThere has a container come to have a rule that names devices while it is on the fast path.
func testRulesThere(t *testing.T, k fastKind) {
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	hosts[0].arrivesByItsDevice(t)
	pingPong(t, hosts[1], hosts[0], 50, 100)
}

// isPlain says whether hosts of this test are plain.
func isPlain(t *testing.T) bool { return strings.HasPrefix(t.Name(), "TestPlain") }

// settlePlain says what is what in a host's n-th plain network: its sandbox is the host's own namespace.
func (host *testHost) settlePlain(n int) {
	s := vx.Spec{Name: fmt.Sprintf("econb0plain%d", n)}
	host.sandbox, host.mac, host.port = host.host, vx.HardwareAddr(host.inner), 8472
	host.network, host.bridge, host.tunnel, host.pair = s.VXLAN(), s.Bridge(), s.VXLAN(), s.Bridge()+"v"
}

// overlayPlain builds a host's end as topology vxlan does.
func (host *testHost) overlayPlain(t *testing.T, peer *testHost) {
	t.Helper()
	host.open(t)
	in(t, host.host, func() (*vx.End, error) {
		return vx.Build(host.journal, host.container, vx.Spec{
			Name: host.bridge, VNI: uint32(host.vni), Port: uint16(host.port), Wire: testWire, Underlay: host.outer, MTU: 1450,
			Addr: netip.PrefixFrom(host.inner, 24), Peers: []vx.Peer{{Addr: peer.inner, Host: peer.outer}},
		})
	})
}

// TestPlainRefusals attaches to what a fast path would not do as the kernel does.
func TestPlainRefusals(t *testing.T) {
	hosts := twoHosts(t, fastKinds()[0])
	other := func(name string, change func(*netlink.Vxlan)) func(h *netlink.Handle) error {
		return func(h *netlink.Handle) error {
			bridge, err := h.LinkByName(hosts[0].bridge)
			if err != nil {
				return err
			}
			v := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: bridge.Attrs().Index}, VxlanId: 7, Port: 8472}
			change(v)
			return h.LinkAdd(v)
		}
	}
	gone := func(name string) func(h *netlink.Handle) error {
		return func(h *netlink.Handle) error {
			link, err := h.LinkByName(name)
			return errors.Join(err, h.LinkDel(link))
		}
	}
	bridge := func(f func(h *netlink.Handle, l netlink.Link) error) func(h *netlink.Handle) error {
		return func(h *netlink.Handle) error {
			link, err := h.LinkByName(hosts[0].bridge)
			if err != nil {
				return err
			}
			return f(h, link)
		}
	}
	nothing := func(*netlink.Handle) error { return nil }
	only := func(name string, change func(*netlink.Vxlan)) func(h *netlink.Handle) error {
		return func(h *netlink.Handle) error {
			return other(name, func(v *netlink.Vxlan) { v.MasterIndex = 0; change(v) })(h)
		}
	}
	isolate := func(on bool) func(h *netlink.Handle) error {
		return func(h *netlink.Handle) error {
			link, err := h.LinkByName(hosts[0].pair)
			if err != nil {
				return err
			}
			return h.LinkSetIsolated(link, on)
		}
	}
	for _, c := range []struct {
		tunnel     string
		do, undo   func(h *netlink.Handle) error
		underlay   string
		want, also string
	}{
		{hosts[0].tunnel, nothing, nothing, "198.18.77.9", "vxlan device " + hosts[0].tunnel + ": it sends from 198.18.77.1", ""},
		{"nosuch", nothing, nothing, "", "vxlan device nosuch: no vxlan device of that name in the host's own namespace", ""},
		{hosts[0].bridge, nothing, nothing, "", "no vxlan device of that name", ""},
		{hosts[0].tunnel, other("second", func(*netlink.Vxlan) {}), gone("second"), "", "vxlan device second is on its bridge as well", ""},
		{"lone", only("lone", func(*netlink.Vxlan) {}), gone("lone"), "", "vxlan device lone: it is on no bridge", ""},
		{hosts[0].tunnel, bridge(func(h *netlink.Handle, l netlink.Link) error { return h.BridgeSetVlanFiltering(l, true) }),
			bridge(func(h *netlink.Handle, l netlink.Link) error { return h.BridgeSetVlanFiltering(l, false) }), "", "tells VLANs apart", ""},
		{hosts[0].tunnel, isolate(true), isolate(false), "", "network has no container on this host that can take part", "198.19.77.2: its port of the bridge is isolated"},
	} {
		supported := true
		do(t, hosts[0].host, func(h *netlink.Handle) error {
			err := c.do(h)
			if supported = !errors.Is(err, unix.EOPNOTSUPP); !supported {
				return nil
			}
			return err
		})
		if !supported { // a bridge without VLANs
			continue
		}
		hosts[0].refused(t, OverlayConfig{Tunnel: c.tunnel, Spaces: hosts[0].dir}, c.underlay, c.want, c.also)
		do(t, hosts[0].host, c.undo)
	}
	hosts[0].attach(t, econbench.AttachOptions{}) // it was not for anything else
}

// TestPlainTracked closes connections past a firewall that drops what connection tracking finds invalid: their ends are not, although
// all between has passed it by. What was changed for that is put back, and is the one's who needs it longer.
func TestPlainTracked(t *testing.T) {
	hosts := twoHosts(t, fastKinds()[0])
	others := another(t, hosts)
	for _, h := range hosts {
		do(t, h.host, func(*netlink.Handle) error {
			for _, rule := range []string{"INVALID -j DROP", "NEW,ESTABLISHED -j ACCEPT"} {
				if out, err := exec.Command("iptables", strings.Fields("-A FORWARD -m conntrack --ctstate "+rule)...).CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
			}
			return nil
		})
	}
	liberal := func() string {
		v, err := tune.SysctlIn(hosts[0].host, beLiberal)
		if err != nil {
			t.Skip(err)
		}
		return v
	}
	if v, err := tune.SysctlIn(hosts[0].host, bridgeNetfilter); err != nil || v != "1" || liberal() != "0" {
		t.Skipf("needs br_netfilter: %s is %q (%v)", bridgeNetfilter, v, err)
	}
	for i := range hosts {
		hosts[i].attach(t, econbench.AttachOptions{})
		others[i].attach(t, econbench.AttachOptions{})
	}
	stream(t, hosts[0], hosts[1], 3_000_000, "")
	if c := hosts[0].counters(t); c["egress.hits"] < 100 {
		t.Errorf("%v: this tests nothing", c)
	}
	for i, h := range hosts {
		do(t, h.host, func(*netlink.Handle) error {
			out, err := exec.Command("iptables", "-vnxL", "FORWARD").CombinedOutput()
			for line := range strings.Lines(string(out)) {
				if f := strings.Fields(line); len(f) > 2 && f[2] == "DROP" && f[0] != "0" {
					t.Errorf("host %d: %s packets were invalid", i, f[0])
				}
			}
			return err
		})
	}
	if err := hosts[0].detach(); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(5 * time.Second); liberal() != "1"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the other network's agent has not seen to it")
		}
	}
	if err := others[0].detach(); err != nil || liberal() != "0" {
		t.Errorf("%s is %s (%v) after the end of both", beLiberal, liberal(), err)
	}
}

// TestPlainVLANs refuses a bridge that tells VLANs apart, which not every kernel can make.
func TestPlainVLANs(t *testing.T) {
	for _, on := range []bool{false, true} {
		links := []netlink.Link{
			&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br", Index: 4}, VlanFiltering: &on},
			&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx", Index: 5, MasterIndex: 4}},
		}
		_, err := (&sandbox{cfg: OverlayConfig{Tunnel: "vx"}}).tunnels(links)
		if on != (err != nil) || on && !strings.Contains(err.Error(), "vxlan device vx: its bridge br tells VLANs apart") {
			t.Errorf("VLANs %t: %v", on, err)
		}
	}
}

// TestPlainForms refuses tunnels whose outer headers would not be the fast path's.
func TestPlainForms(t *testing.T) {
	for want, v := range map[string]netlink.Vxlan{
		"":                     {TTL: 64},
		"external":             {FlowBased: true},
		"gbp":                  {GBP: true},
		"TOS 0x10":             {TOS: 16},
		"TTL 7: want auto":     {TTL: 7},
		"TOS 0x1 of its own: ": {TOS: 1}, // inherited
	} {
		if f := formOf(&v); want == "" && f.odd != "" || !strings.Contains(f.odd, want) {
			t.Errorf("%+v: %q, want %q", v, f.odd, want)
		}
	}
}

// refused attaches what can't be, and leaves nothing.
func (host *testHost) refused(t *testing.T, cfg OverlayConfig, underlay string, texts ...string) {
	t.Helper()
	before := host.inventory(t).devices
	if underlay != "" {
		cfg.Underlay = netip.MustParseAddr(underlay)
	}
	var attached econbench.Attached
	var err error
	do(t, host.host, func(*netlink.Handle) error {
		attached, err = attachToSandbox(context.Background(), cfg, host.journal, &cache{cacheKind: oncacheKind})
		return nil
	})
	if err == nil {
		t.Fatalf("%+v was attached to: %v", cfg, attached.Close())
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %q: want %q in one line", err, text)
		}
	}
	if after := host.inventory(t).devices; after != before {
		t.Errorf("devices %q, before %q", after, before)
	}
}
