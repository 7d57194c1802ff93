// SPDX-License-Identifier: Apache-2.0

package econbench_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

func hostThatWas() econbench.HostFacts {
	return econbench.HostFacts{
		Hostname: "a", BootID: "1", Kernel: "6.1", CPUModel: "X", CPUs: []int{0, 1}, Engine: "20.10", Underlay: "10.0.0.1",
		WireDevice: "eth0", WireDriver: "veth", MTU: 1500,
		Fingerprint: econbench.Fingerprint{
			"cpu.governor": "performance", "sysctl.net.core.rmem_max": "212992", "nic.bus": "0000:01:00.0", "memory.total": "24 GiB",
			"tools.iperf3": "3.18-2", "bpf.oncache": "0123", "econbench.version": "1.0", "nic.lower0.firmware": "16.1",
			"sysctl.net.ipv4.tcp_mem": "1 2 3",
		},
	}
}

// with is a host with one fact of its fingerprint changed; "" takes it away.
func with(h econbench.HostFacts, name, value string) econbench.HostFacts {
	h.Fingerprint = maps.Clone(h.Fingerprint)
	if h.Fingerprint[name] = value; value == "" {
		delete(h.Fingerprint, name)
	}
	return h
}

func said(list []econbench.Difference) string {
	var words []string
	for _, d := range list {
		words = append(words, d.String())
	}
	return strings.Join(words, "; ")
}

// A decisive fact that changes is named with both values; what a reboot changes is no difference.
func TestDifferences(t *testing.T) {
	was := hostThatWas()
	for want, change := range map[string]func(*econbench.HostFacts){
		"": func(f *econbench.HostFacts) {
			f.BootID, f.Hostname, f.Underlay, f.WireDevice = "2", "b", "10.0.0.2", "eth1"
			for _, name := range []string{"nic.bus", "memory.total", "tools.iperf3", "bpf.oncache", "econbench.version", "sysctl.net.ipv4.tcp_mem"} {
				*f = with(*f, name, "another")
			}
		},
		`kernel.release is "6.2", was "6.1"`:     func(f *econbench.HostFacts) { f.Kernel = "6.2" },
		`cpu.model is "Y", was "X"`:              func(f *econbench.HostFacts) { f.CPUModel = "Y" },
		`cpu.assigned is "0", was "0 1"`:         func(f *econbench.HostFacts) { f.CPUs = []int{0} },
		`docker.version is "28.0", was "20.10"`:  func(f *econbench.HostFacts) { f.Engine = "28.0" },
		`nic.driver is "mlx5_core", was "veth"`:  func(f *econbench.HostFacts) { f.WireDriver = "mlx5_core" },
		`nic.mtu is "9000", was "1500"`:          func(f *econbench.HostFacts) { f.MTU = 9000 },
		`nic.lower0.firmware is "?", was "16.1"`: func(f *econbench.HostFacts) { *f = with(*f, "nic.lower0.firmware", "?") },
		`cpu.governor is "powersave", was "performance"; sysctl.net.core.rmem_max is "1", was "212992"`: func(f *econbench.HostFacts) {
			*f = with(with(*f, "sysctl.net.core.rmem_max", "1"), "cpu.governor", "powersave")
		},
	} {
		now := was
		change(&now)
		if got := said(now.Differences(was)); got != want {
			t.Errorf("differences %q, want %q", got, want)
		}
	}
}

// Of a run that had no fingerprint yet only what it tells is compared, and a fact that one version does not ask for informs.
func TestDifferencesOfWhatBothTell(t *testing.T) {
	now, was := hostThatWas(), hostThatWas()
	was.Fingerprint = nil
	if got := said(now.Differences(was)); got != "" {
		t.Errorf("differences from a run without a fingerprint: %q", got)
	}
	was.Kernel = "5.15"
	for _, pair := range [][2]econbench.HostFacts{{now, was}, {was, now}} {
		if got := pair[0].Differences(pair[1]); len(got) != 1 || got[0].Fact != "kernel.release" {
			t.Errorf("differences %+v, want the kernel's", got)
		}
	}
	was = with(hostThatWas(), "cpu.governor", "")
	if got := said(now.Differences(was, econbench.ClassIncidental)); got != `cpu.governor is "performance", was ""` {
		t.Errorf("a fact that was not told: %q", got)
	}
	if got := said(now.Differences(econbench.HostFacts{})); got != "" {
		t.Errorf("differences from nothing: %q", got)
	}
}

func TestDifferencesByClass(t *testing.T) {
	was := hostThatWas()
	now := with(with(with(was, "bpf.oncache", "4567"), "nic.bus", "else"), "cpu.governor", "powersave")
	now.Fingerprint["a.newer.version's"] = "x"
	for want, classes := range map[string][]econbench.Class{
		"cpu.governor":              nil,
		"bpf.oncache":               {econbench.ClassSubject},
		"bpf.oncache cpu.governor":  {econbench.ClassSubject, econbench.ClassMachine},
		"a.newer.version's nic.bus": {econbench.ClassIncidental},
	} {
		var got []string
		for _, d := range now.Differences(was, classes...) {
			got = append(got, d.Fact)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("classes %v: %q, want %q", classes, got, want)
		}
	}
}

func runThatWas() *econbench.Run {
	return &econbench.Run{
		Lab: "emulated", Plan: econbench.Plan{Wire: econbench.WireDefault, Placement: econbench.Split, CongestionControl: "cubic"},
		Hosts: map[string]econbench.HostFacts{"client": hostThatWas(), "server": hostThatWas()},
	}
}

// A key changes with what decides and with nothing else.
func TestMachineKey(t *testing.T) {
	key := runThatWas().MachineKey()
	if len(key) != 12 || strings.Trim(key, "0123456789abcdef") != "" {
		t.Errorf("key %q, want 12 hexadecimal digits", key)
	}
	for _, same := range []func(*econbench.Run){
		func(r *econbench.Run) {
			r.ID, r.Version, r.Image, r.Plan.Seed, r.Plan.Blocks = "r2", "2.0", "sha256:2", 9, 40
		},
		func(r *econbench.Run) {
			h := hostThatWas()
			h.Hostname, h.BootID, h.WireDevice, h.Underlay, h.Tunings = "b", "2", "eth9", "10.0.0.9", []string{"x"}
			r.Hosts["client"] = with(with(with(h, "nic.bus", "else"), "bpf.oncache", "4567"), "econbench.version", "2.0")
		},
	} {
		r := runThatWas()
		if same(r); r.MachineKey() != key {
			t.Errorf("key of %+v is %s, want %s", r, r.MachineKey(), key)
		}
	}
	seen := map[string]int{key: -1}
	for i, other := range []func(*econbench.Run){
		func(r *econbench.Run) { r.Lab = "real" },
		func(r *econbench.Run) { r.Plan.Wire = econbench.WireMTUFrames },
		func(r *econbench.Run) { r.Plan.Placement = econbench.Shared },
		func(r *econbench.Run) { r.Plan.CongestionControl = "bbr" },
		func(r *econbench.Run) { r.Hosts["client"] = with(hostThatWas(), "cpu.governor", "powersave") },
		func(r *econbench.Run) { r.Hosts["server"] = with(hostThatWas(), "cpu.governor", "powersave") },
		func(r *econbench.Run) { r.Hosts["server"] = with(hostThatWas(), "cpu.governor", "") },
		func(r *econbench.Run) { r.Hosts["server"] = with(hostThatWas(), "tools.iperf3", "3.19-1") },
		func(r *econbench.Run) { h := hostThatWas(); h.CPUs = []int{0}; r.Hosts["server"] = h },
	} {
		r := runThatWas()
		other(r)
		if k := r.MachineKey(); k == "" {
			t.Errorf("change %d: no key", i)
		} else if j, taken := seen[k]; taken {
			t.Errorf("changes %d and %d give one key", i, j)
		} else {
			seen[k] = i
		}
	}
	r := runThatWas()
	r.Hosts["server"] = econbench.HostFacts{Kernel: "6.1"}
	if k := r.MachineKey() + (&econbench.Run{}).MachineKey(); k != "" {
		t.Errorf("key %q of runs without fingerprints", k)
	}
}

// An unset field of an old or hand-made plan is its default.
func TestMachineKeyOfDefaults(t *testing.T) {
	r := runThatWas()
	r.Plan.Wire, r.Plan.Placement = "", ""
	if a, b := r.MachineKey(), runThatWas().MachineKey(); a != b {
		t.Errorf("keys %s and %s", a, b)
	}
}

func TestClassOf(t *testing.T) {
	for name, want := range map[string]string{
		"cpu.governor": "machine true", "cpu.mitigations.l1tf": "machine true", "cpu.halt_poll.guest_halt_poll_ns": "machine true",
		"sysctl.net.core.rmem_max": "machine true", "sysctl.net.ipv4.tcp_mem": "incidental true", "tools.iperf3": "subject true",
		"nic.lower3.bus": "incidental true", "nic.lower0.driver": "machine true", "nic.lower": "incidental false",
		"cpu.colour": "incidental false", "": "incidental false", "cpu": "incidental false", "cpu.": "incidental false", "sysctl.": "machine true",
	} {
		if got := fmt.Sprintf("%s %v", econbench.ClassOf(name), econbench.KnownFact(name)); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}
