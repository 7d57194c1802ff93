// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/lab"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/nft"
	"github.com/econbench/econbench/internal/tune"
)

// engineHost is one engine of a lab, seen without econbench.
type engineHost struct {
	url  string // unix://…
	init int    // pid of its first process
	web  *http.Client
}

// sharedHosts brings the shared lab up once, and checks after the test that its engines and hosts are as before.
func sharedHosts(t *testing.T) [2]*engineHost {
	t.Helper()
	needProgram(t)
	built.labOnce.Do(func() {
		if out, err := shipped("lab", "up", "--socket-gid", "65534").CombinedOutput(); err != nil {
			built.labErr = fmt.Errorf("lab up: %w: %s", err, out)
		}
	})
	if built.labErr != nil {
		t.Fatal(built.labErr)
	}
	hosts := hostsOf(t, sharedLab())
	for i, h := range hosts {
		h.unstick(t, wireAddrs[i])
	}
	unchanged(t, hosts)
	return hosts
}

// unstick restarts an engine that a test before has left with the gossip's port open, as engines do now and then: see
// lab.StuckError. Runs do so themselves, but not with engines that were given to them.
func (h *engineHost) unstick(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if l, err := h.gossip(addr); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	up, err := lab.Current(t.Context(), lab.Options{Root: sharedLab()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("restarting %s, which is stuck", h.url)
	if err := up.RestartEngine(t.Context(), h.url); err != nil {
		t.Fatal(err)
	}
}

// gossip takes the gossip's port in the engine's host, as an engine does that is in a swarm.
func (h *engineHost) gossip(addr string) (l net.Listener, err error) {
	err = netspace.InProcess(h.init, func() error {
		l, err = net.Listen("tcp4", addr+":7946")
		return err
	})
	return l, err
}

// hostsOf looks a lab's engines up.
func hostsOf(t *testing.T, root string) (hosts [2]*engineHost) {
	t.Helper()
	state, err := lab.Status(t.Context(), lab.Options{Root: root})
	if err != nil || len(state.Hosts) != 2 {
		t.Fatalf("lab %s: %+v %v", root, state, err)
	}
	for i, h := range state.Hosts {
		path := strings.TrimPrefix(h.Socket, "unix://")
		hosts[i] = &engineHost{url: h.Socket, init: h.Init.PID, web: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			},
		}}}
	}
	return hosts
}

// ask asks the engine; out may be nil.
func (h *engineHost) ask(method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, "http://engine/v1.41"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(answer))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// must is ask in a test that can't go on without.
func (h *engineHost) must(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := h.ask(method, path, in, out); err != nil {
		t.Fatalf("engine %s: %v", h.url, err)
	}
}

// snapshot is all of an engine and its host that a run might leave changed, by name; apart from docker_gwbridge,
// and from the ingress of an engine that is in no swarm: it makes them with a swarm and does not always let go of them.
func (h *engineHost) snapshot() (map[string]string, error) {
	var containers []struct{ ID string }
	var networks []struct{ ID, Name, Driver string }
	var volumes struct{ Volumes []struct{ Name string } }
	var info struct {
		Swarm struct {
			NodeID, LocalNodeState string
			ControlAvailable       bool
		}
	}
	for path, into := range map[string]any{"/containers/json?all=1": &containers, "/networks": &networks, "/volumes": &volumes, "/info": &info} {
		if err := h.ask("GET", path, nil, into); err != nil {
			return nil, err
		}
	}
	s := map[string]string{"containers": fmt.Sprint(containers), "volumes": fmt.Sprint(volumes), "swarm": fmt.Sprint(info)}
	var names []string
	for _, n := range networks {
		stale := n.Name == "ingress" && info.Swarm.LocalNodeState == "inactive"
		if n.Name != "docker_gwbridge" && !stale {
			names = append(names, n.Name+" "+n.ID)
		}
	}
	slices.Sort(names)
	s["networks"] = strings.Join(names, ", ")
	if info.Swarm.ControlAvailable {
		var nodes []struct {
			ID     string
			Status struct{ State string }
		}
		if err := h.ask("GET", "/nodes", nil, &nodes); err != nil {
			return nil, err
		}
		slices.SortFunc(nodes, func(a, b struct {
			ID     string
			Status struct{ State string }
		}) int {
			return strings.Compare(a.ID, b.ID)
		})
		s["nodes"] = fmt.Sprint(nodes)
	}
	return s, h.namespace(s)
}

// namespace adds what agents tune or make: offloads and RPS of the wire, sysctls, routes with the agents' protocol, devices.
func (h *engineHost) namespace(s map[string]string) error {
	failed := make(chan error, 1)
	go func() { failed <- h.inNamespace(s) }() // its thread ends with it, and never runs anything else
	return <-failed
}

func (h *engineHost) inNamespace(s map[string]string) error {
	runtime.LockOSThread()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.init))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return err
	}
	defer e.Close()
	features, err := e.Features(lab.WireDevice)
	if err != nil {
		return err
	}
	s["offloads"] = fmt.Sprint(features) // maps print sorted
	routes, err := netspace.Whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: 236}, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return err
	}
	s["routes"] = fmt.Sprint(routes)
	sysctl, err := os.ReadFile("/proc/sys/net/ipv4/tcp_no_metrics_save")
	if err != nil {
		return err
	}
	tracking, _ := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal") // a kernel may have none
	s["sysctl"] = string(sysctl) + string(tracking)
	asleep, err := dormantTables()
	if err != nil {
		return err
	}
	s["dormant"] = strings.Join(asleep, ", ")
	if s["devices"], s["forward"], err = madeByAgents(); err != nil {
		return err
	}
	queues, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/sys/class/net/%s/queues/rx-*/rps_cpus", h.init, lab.WireDevice))
	for _, q := range queues {
		rps, err := os.ReadFile(q)
		if err != nil {
			return err
		}
		s["rps"] += string(rps)
	}
	if len(queues) == 0 {
		return fmt.Errorf("host %s: no receive queues found: %w", h.url, err)
	}
	return nil
}

// madeByAgents are the devices that agents make in this namespace, and iptables' rules for them.
func madeByAgents() (devices, rules string, err error) {
	links, err := netspace.Whole(netlink.LinkList)
	if err != nil {
		return "", "", err
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, tune.LinkPrefix) {
			devices += l.Attrs().Name + " "
		}
	}
	said, err := exec.Command("iptables", "-S", "FORWARD").Output() // by a thread of this namespace
	for line := range strings.Lines(string(said)) {
		if strings.Contains(line, " "+tune.LinkPrefix) {
			rules += line
		}
	}
	return devices, rules, err
}

// dormantTables are the nft tables of this namespace that are out of effect, and econbench's own if it is there.
func dormantTables() (names []string, err error) {
	c, err := nft.Here()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	tables, err := c.Tables()
	for _, table := range tables {
		if table.Dormant || table.Name == nft.OwnTable {
			names = append(names, table.Name)
		}
	}
	return names, err
}

// dormant are the host's tables that are out of effect at the moment.
func (h *engineHost) dormant(t *testing.T) (names []string) {
	t.Helper()
	err := netspace.InProcess(h.init, func() (err error) {
		names, err = dormantTables()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// unchanged compares the hosts before and after a test.
func unchanged(t *testing.T, hosts [2]*engineHost) {
	t.Helper()
	before := snapshots(t, hosts)
	t.Cleanup(func() { settled(t, hosts, before) })
}

func snapshots(t *testing.T, hosts [2]*engineHost) (s [2]map[string]string) {
	t.Helper()
	for i, h := range hosts {
		var err error
		if s[i], err = h.snapshot(); err != nil {
			t.Fatalf("engine %s: %v", h.url, err)
		}
	}
	return s
}

// settled waits for the hosts to be as they were, but for the given names: engines remove ended containers in their own
// time.
func settled(t *testing.T, hosts [2]*engineHost, want [2]map[string]string, but ...string) {
	t.Helper()
	diff, rest := "", cmpopts.IgnoreMapEntries(func(name, _ string) bool { return slices.Contains(but, name) })
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if diff = cmp.Diff(want, snapshots(t, hosts), rest); diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("not as found (-found +left):\n%s", diff)
			return
		}
	}
}

// ownLab is a place for a lab of the test's own, of which nothing may be left.
func ownLab(t *testing.T) (root string) {
	t.Helper()
	needProgram(t)
	dir, err := os.MkdirTemp("", "eb")
	if err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(dir, "l")
	t.Cleanup(func() {
		cleanUp(t, root)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return root
}

// cleanUp checks that nothing is left of a lab, and removes what is, so that one failure does not make others.
func cleanUp(t *testing.T, root string) {
	t.Helper()
	if left := leftOf(root); len(left) > 0 {
		t.Errorf("left: %q", left)
		if _, err := lab.Clean(context.Background(), lab.Options{Root: root}); err != nil {
			t.Error(err)
		}
	}
}
