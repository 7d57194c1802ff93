// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/econbench/econbench/internal/image"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
	"github.com/econbench/econbench/internal/tunnel"
)

// TestRunVXLAN compares a plain VXLAN network with Docker's, and with itself on a fast path. The hosts' devices and rules are as before.
func TestRunVXLAN(t *testing.T) {
	sharedHosts(t)
	run := start(t, sharedLab(), tiny("--arm", "overlay,vxlan,vxlan+oncache", "--workload", "tcp_rr")...).want(0).run()
	for _, tr := range allValid(t, run, 3) {
		through, around := []string{"wire", "plain-vxlan"}, []string{"vxlan"}
		switch tr.Arm.String() {
		case "overlay":
			through, around = []string{"wire", "vxlan"}, []string{"plain-vxlan"}
		case "vxlan+oncache":
			through, around = []string{"wire"}, []string{"vxlan", "plain-vxlan"}
			if len(tr.Proof.Carried) != 4 || *tr.Metrics["hit_ratio"] < 0.99 {
				t.Errorf("%s: carried %+v", tr.Cell, tr.Proof.Carried)
			}
			for _, c := range tr.Proof.Carried {
				if c.Hits < 1000 {
					t.Errorf("%s: %s, %s: %g hits", tr.Cell, c.Host, c.Direction, c.Hits)
				}
			}
		}
		slices.Sort(around)
		slices.Sort(tr.Proof.Around)
		if !slices.Equal(tr.Proof.Through, through) || !slices.Equal(tr.Proof.Around, around) {
			t.Errorf("%s: through %q around %q", tr.Cell, tr.Proof.Through, tr.Proof.Around)
		}
	}
	for role, h := range run.Hosts {
		for _, what := range []string{"link econb", "forward econb"} {
			if !strings.Contains(strings.Join(h.Tunings, "\n"), what) {
				t.Errorf("%s: tunings %q: none begins with %q", role, h.Tunings, what)
			}
		}
	}
}

// TestVXLANKilled kills a run in a trial on a plain network, whose agents undo what they made, and then one host's agent in another's: what
// that had made stays behind, and goes with the next.
func TestVXLANKilled(t *testing.T) {
	hosts := sharedHosts(t)
	before := snapshots(t, hosts)
	p := start(t, sharedLab(), long("--arm", "vxlan+oncache")...)
	p.until("trial 1/")
	p.signal(syscall.SIGKILL)
	p.want(-1)
	settled(t, hosts, before, "networks", "swarm", "nodes", "volumes") // those only a controller removes

	p = start(t, sharedLab(), long("--arm", "vxlan+oncache")...)
	p.until("trial 1/")
	for i, s := range snapshots(t, hosts) {
		if strings.Count(s["devices"], "econb") < 3 || !strings.Contains(s["forward"], "-j ACCEPT") {
			t.Errorf("host %d in a trial: devices %q, rules %q", i, s["devices"], s["forward"])
		}
	}
	hosts[1].must(t, "POST", "/containers/"+agentContainer+"/kill", nil, nil)
	p.want(1).wantError("agent on "+hosts[1].url, "agent is gone")
	wantKept(t, p)
	if s := snapshots(t, hosts)[1]; s["devices"] == "" || s["forward"] == "" {
		t.Errorf("after the kill: devices %q, rules %q: this test sees nothing", s["devices"], s["forward"])
	}
	start(t, sharedLab(), "clean").want(0).until("put back what a dead run had left")
}

// plainNetwork is a user's own, of which econbench knows nothing: a container on each host, joined by devices of those names.
func plainNetwork(t *testing.T, hosts [2]*engineHost) (s tunnel.Spec, containers [2]string) {
	t.Helper()
	addrs := [2]netip.Addr{netip.MustParseAddr(clientAddr), netip.MustParseAddr(serverAddr)}
	for i, argv := range [2][]string{{"sleep", "infinity"}, {"iperf3", "-s"}} {
		h, wire := hosts[i], netip.MustParseAddr(wireAddrs[i])
		containers[i] = runAlone(t, h, argv...)
		var d struct{ NetworkSettings struct{ SandboxKey string } }
		h.must(t, "GET", "/containers/"+containers[i]+"/json", nil, &d)
		s = tunnel.Spec{Name: "econb0users", VNI: 77, Port: 8473, Wire: "wire0", Underlay: wire, MTU: 1450, Addr: netip.PrefixFrom(addrs[i], 24),
			Peers: []tunnel.Peer{{Addr: addrs[1-i], Host: netip.MustParseAddr(wireAddrs[1-i])}}}
		dir := t.TempDir()
		err := netspace.InProcess(h.init, func() error {
			journal, _, err := tune.OpenJournal(dir)
			if err != nil {
				return err
			}
			t.Cleanup(func() {
				if err := journal.Close(); err != nil {
					t.Error(err)
				}
			})
			container, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/root/%s", h.init, d.NetworkSettings.SandboxKey))
			if err != nil {
				return err
			}
			_, err = tunnel.Build(journal, container, s)
			return errors.Join(err, container.Close())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s, containers
}

// runAlone starts a container without a network, which is removed when the test ends.
func runAlone(t *testing.T, h *engineHost, argv ...string) string {
	t.Helper()
	platform, err := image.HostPlatform()
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID string }
	h.must(t, "POST", "/containers/create", map[string]any{
		"Image": image.Tools().Ref(platform), "Cmd": argv, "HostConfig": map[string]any{"NetworkMode": "none", "Init": true},
	}, &made)
	t.Cleanup(func() { h.must(t, "DELETE", "/containers/"+made.ID+"?force=1", nil, nil) })
	h.must(t, "POST", "/containers/"+made.ID+"/start", nil, nil)
	return made.ID
}

// TestFastpathStaysOnVXLAN attaches to a network that neither a run nor Docker has made, by its vxlan device, with no swarm about.
func TestFastpathStaysOnVXLAN(t *testing.T) {
	hosts := sharedHosts(t)
	s, containers := plainNetwork(t, hosts)
	before := snapshots(t, hosts)
	command := func(args ...string) *program { return start(t, sharedLab(), append([]string{"fastpath"}, args...)...) }
	command("attach", "--vxlan", "nosuch0").want(1).wantError("vxlan device nosuch0: no vxlan device of that name in the host's own namespace")
	command("attach", "--vxlan", s.Bridge()).want(1).wantError("no vxlan device of that name")
	command("attach", "--vxlan", s.VXLAN(), "--underlay", wireAddrs[1]+","+wireAddrs[0]).want(1).wantError("it sends from "+wireAddrs[0], "not from the underlay's address "+wireAddrs[1])
	command("detach", s.VXLAN()).want(1).wantError("no fast path is attached")
	settled(t, hosts, before)

	command("attach", "--vxlan", s.VXLAN()).want(0)
	command("attach", "--vxlan", s.VXLAN()).want(1).wantError("oncache is attached on", "detach it first")
	transfer(t, hosts[0], containers[0])
	for i, n := range hits(statusesOf(t, s.VXLAN())) {
		if n < 10 {
			t.Errorf("hits: direction %d has %g", i, n)
		}
	}
	if said := command("status").want(0).stdout.String(); !strings.Contains(said, "  vxlan device "+s.VXLAN()+"  oncache since ") {
		t.Errorf("status:\n%s", said)
	}
	command("set", s.VXLAN(), "off").want(0)
	still := hits(statusesOf(t, s.VXLAN()))
	transfer(t, hosts[0], containers[0])
	if now := hits(statusesOf(t, s.VXLAN())); !slices.Equal(still, now) {
		t.Errorf("hits %v, then %v: it carries what it was told not to", still, now)
	}
	hosts[0].must(t, "POST", "/containers/econbench-fastpath-vxlan-"+s.VXLAN()+"/kill", nil, nil)
	eventually(t, "the killed agent's end", patience, func() bool { return len(statusesOf(t, s.VXLAN())) == 1 })
	if now := snapshots(t, hosts)[0]["devices"]; now == before[0]["devices"] {
		t.Errorf("devices %q after the kill: this test sees nothing", now)
	}
	command("detach", s.VXLAN()).want(0)
	command("attach", "--vxlan", s.VXLAN()).want(0) // takes up, and undoes, what the killed one left
	transfer(t, hosts[0], containers[0])
	command("detach", s.VXLAN()).want(0)
	settled(t, hosts, before)
	transfer(t, hosts[0], containers[0])
}
