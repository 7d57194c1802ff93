// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/fastpath"
	"github.com/econbench/econbench/internal/docker"
	"github.com/econbench/econbench/internal/image"
	"github.com/econbench/econbench/internal/lab"
	"github.com/econbench/econbench/internal/netspace"
)

const (
	someNetwork = "somebodys"
	someSubnet  = "198.19.100.0/24"
	clientAddr  = "198.19.100.10"
	serverAddr  = "198.19.100.20"
)

// overlayOf makes a user's own swarm and overlay network across the hosts.
func overlayOf(t *testing.T, hosts [2]*engineHost) {
	t.Helper()
	makeSwarm(t, hosts, 0)
	joinSwarm(t, hosts, 1)
	for name, options := range map[string]map[string]string{someNetwork: nil, "secret": {"encrypted": ""}} {
		hosts[0].must(t, "POST", "/networks/create", map[string]any{
			"Name": name, "Driver": "overlay", "Attachable": true, "Options": options,
			"IPAM": map[string]any{"Config": []map[string]string{map[string]map[string]string{
				someNetwork: {"Subnet": someSubnet, "IPRange": "198.19.100.128/25"}, // the engines' own choices: their load balancers' addresses
				"secret":    {"Subnet": "198.19.101.0/24"},
			}[name]}},
		}, nil)
		t.Cleanup(func() {
			if err := hosts[0].ask("DELETE", "/networks/"+name, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// runOn starts a container at an address of the network, which is removed when the test ends.
func runOn(t *testing.T, h *engineHost, addr string, argv ...string) (id string) {
	t.Helper()
	platform, err := image.HostPlatform()
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID string }
	h.must(t, "POST", "/containers/create", map[string]any{
		"Image": image.Tools().Ref(platform), "Cmd": argv, "HostConfig": map[string]any{"NetworkMode": someNetwork, "Init": true},
		"NetworkingConfig": map[string]any{"EndpointsConfig": map[string]any{someNetwork: map[string]any{"IPAMConfig": map[string]string{"IPv4Address": addr}}}},
	}, &made)
	t.Cleanup(func() { _ = h.ask("DELETE", "/containers/"+made.ID+"?force=1", nil, nil) }) // removed already, in some tests
	h.must(t, "POST", "/containers/"+made.ID+"/start", nil, nil)
	return made.ID
}

// transfer moves data between the containers for a second, and tries again while the hosts still hear of each other's containers.
func transfer(t *testing.T, h *engineHost, client string) {
	t.Helper()
	transferTo(t, h, client, serverAddr)
}

func transferTo(t *testing.T, h *engineHost, client, server string) {
	t.Helper()
	e, err := docker.Dial(t.Context(), h.url, "")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var said []byte
	eventually(t, "a transfer", patience, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		x, err := e.Exec(ctx, client, []string{"iperf3", "-c", server, "-t", "1", "-J", "--connect-timeout", "1000"})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Release()
		var code int
		said, _, code, err = x.Wait(ctx)
		return err == nil && code == 0
	})
	var r struct {
		End struct {
			Received struct{ Bytes float64 } `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(said, &r); err != nil || r.End.Received.Bytes == 0 {
		t.Errorf("transfer: %v: %s", err, said)
	}
}

// statuses asks what is attached.
func statuses(t *testing.T) (list []fastpath.OverlayStatus) {
	t.Helper()
	return statusesOf(t, someNetwork)
}

func statusesOf(t *testing.T, network string) (list []fastpath.OverlayStatus) {
	t.Helper()
	var all []lab.StayStatus
	if err := json.Unmarshal(start(t, sharedLab(), "fastpath", "status", network, "-o", "json").want(0).stdout.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		var o fastpath.OverlayStatus
		if err := json.Unmarshal(s.Agent.Detail, &o); err != nil || s.Agent.Error != "" || o.Error != "" {
			t.Fatalf("%s: %v %q %q", s.Engine, err, s.Agent.Error, o.Error)
		}
		list = append(list, o)
	}
	return list
}

// hits are those of both hosts, in the order egress, ingress, egress, ingress.
func hits(list []fastpath.OverlayStatus) (all []float64) {
	for _, o := range list {
		all = append(all, o.Counters[econbench.Egress+"."+econbench.CounterHits], o.Counters[econbench.Ingress+"."+econbench.CounterHits])
	}
	return all
}

// TestFastpathStays attaches to a network that is none of a run's: refusals leave nothing, containers are replaced under it, and
// detaching leaves nothing.
func TestFastpathStays(t *testing.T) {
	hosts := sharedHosts(t)
	overlayOf(t, hosts)
	client := runOn(t, hosts[0], clientAddr, "sleep", "infinity")
	command := func(args ...string) *program { return start(t, sharedLab(), append([]string{"fastpath"}, args...)...) }

	before := snapshots(t, hosts)
	command("attach", someNetwork).want(1).wantError("knows none of that name")
	command("attach", "secret").want(1).wantError(`network "secret": it is encrypted`)
	command("attach", "host").want(1).wantError(`its driver is "host"`, "want an overlay network")
	command("attach", "nowhere").want(1).wantError(`network "nowhere"`, "knows none of that name")
	command("detach", someNetwork).want(1).wantError("no fast path is attached")
	settled(t, hosts, before)

	server := runOn(t, hosts[1], serverAddr, "iperf3", "-s")
	before = snapshots(t, hosts)
	command("attach", someNetwork, "--lane", "tunnel").want(1).wantError(`unknown lane "tunnel": allowed: gateway, macvlan, netkit`)
	settled(t, hosts, before)
	command("attach", someNetwork).want(0)
	command("attach", someNetwork).want(1).wantError("oncache is attached on", "detach it first")
	transfer(t, hosts[0], client)
	first := hits(statuses(t))
	for i, n := range first {
		if n < 10 {
			t.Errorf("hits %v: direction %d has hardly any", first, i)
		}
	}
	flows := command("status", someNetwork, "--flows").want(0).stdout.String()
	if !strings.Contains(flows, "  flow tcp "+clientAddr+":") || !strings.Contains(flows, " "+serverAddr+":5201 established\n") {
		t.Errorf("no flow of the transfer in:\n%s", flows)
	}
	command("set", someNetwork, "of").want(1).wantError(`unknown order "of"`)
	command("set", "nowhere", "off").want(1).wantError("no fast path is attached")
	command("set", someNetwork, "off").want(0).until("oncache on network " + someNetwork + ": off")
	still := hits(statuses(t))
	transfer(t, hosts[0], client)
	if now := hits(statuses(t)); !slices.Equal(still, now) {
		t.Errorf("hits %v, then %v: it carries what it was told not to", still, now)
	}
	for _, o := range statuses(t) {
		if o.Mode != "off" {
			t.Errorf("mode %q, want off", o.Mode)
		}
	}
	command("set", someNetwork, "on").want(0)

	hosts[1].must(t, "DELETE", "/containers/"+server+"?force=1", nil, nil)
	eventually(t, "the removed container's end on the fast path", patience, func() bool { return len(statuses(t)[1].Containers) == 0 })
	runOn(t, hosts[1], serverAddr, "iperf3", "-s") // another one under the same address
	eventually(t, "the new container on the fast path", patience, func() bool { return len(statuses(t)[1].Containers) == 1 })
	transfer(t, hosts[0], client)
	second := hits(statuses(t))
	for i := range second {
		if second[i] <= first[i] {
			t.Errorf("hits %v, then %v: the new container is not on the fast path", first, second)
		}
	}
	command("detach", someNetwork).want(0)
	command("detach", someNetwork).want(1).wantError("no fast path is attached")
	transfer(t, hosts[0], client)
}

// TestFastpathUntracked has an engine's own rules and name server: peers are found by their names before, while and after the rules are withdrawn; an
// agent that is killed leaves a container that finds them too, and the next one restores the rules.
func TestFastpathUntracked(t *testing.T) {
	hosts := sharedHosts(t)
	overlayOf(t, hosts)
	client := runOn(t, hosts[0], clientAddr, "sleep", "infinity")
	server := runOn(t, hosts[1], serverAddr, "iperf3", "-s")[:12] // its name on the network
	command := func(args ...string) *program { return start(t, sharedLab(), append([]string{"fastpath"}, args...)...) }
	rules := func() (text string) {
		var d struct{ NetworkSettings struct{ SandboxKey string } }
		hosts[0].must(t, "GET", "/containers/"+client+"/json", nil, &d)
		ns, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/root/%s", hosts[0].init, d.NetworkSettings.SandboxKey))
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		err = netspace.In(ns, func() error {
			out, err := exec.Command("iptables-save", "-t", "nat").Output()
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(line, "-") {
					text += line
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	find := func(when string, want string) {
		t.Helper()
		transferTo(t, hosts[0], client, server)
		if got := rules(); got != want {
			t.Errorf("%s: rules in the container:\n%swant:\n%s", when, got, want)
		}
	}
	before := rules()
	if strings.Count(before, "DNAT") != 2 {
		t.Fatalf("the engine's rules: %s: this test sees nothing", before)
	}
	find("before", before)
	command("attach", someNetwork, "--fastpath", "oncache:sockets").want(1).wantError(`unknown setting of oncache "sockets": allowed: untracked, direct`)
	command("attach", someNetwork, "--fastpath", "xmasq:untracked:direct").want(0)
	find("attached", "")
	if said := command("status", someNetwork).want(0).stdout.String(); !strings.Contains(said, "container "+clientAddr+" (eth0) by lane macvlan, untracked, indirect: process ") ||
		!strings.Contains(said, "may have CAP_NET_RAW: ") { // as the engine starts containers
		t.Errorf("status: %s", said)
	}
	for _, n := range hits(statuses(t)) {
		if n < 10 {
			t.Errorf("hits: %v, want more", n)
		}
	}
	command("detach", someNetwork).want(0)
	find("detached", before)

	command("attach", someNetwork, "--fastpath", "oncache:untracked").want(0)
	var attached []lab.StayStatus
	if err := json.Unmarshal(command("status", someNetwork, "-o", "json").want(0).stdout.Bytes(), &attached); err != nil {
		t.Fatal(err)
	}
	for i, s := range attached {
		hosts[i].must(t, "POST", "/containers/"+s.Container+"/kill", nil, nil)
		eventually(t, "the agent's end", patience, func() bool { return hosts[i].ask("GET", "/containers/"+s.Container+"/json", nil, nil) != nil })
	}
	find("killed", "")
	command("attach", someNetwork).want(0)
	find("attached again, without the setting", before)
	command("detach", someNetwork).want(0)
	find("detached again", before)
}
