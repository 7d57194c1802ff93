// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/nft"
)

// TestRun is the main job: two engines of its own, all arms, its workloads with parameters, a record, a table.
func TestRun(t *testing.T) {
	t.Parallel()
	root := ownLab(t)
	args := tiny("-p", "tcp_stream.streams=2", "-p", "tcp_rr.request=128")
	p := start(t, root, args...)
	p.until("building topology overlay")
	start(t, root, tiny()...).want(1).wantError("emulated lab is in use", "wait for it to end")
	start(t, root, "lab", "down").want(1).wantError("in use")
	if p.unlucky() {
		p = start(t, root, args...)
	}
	p.want(0)
	run := p.run()
	for _, tr := range allValid(t, run, 9) {
		wantMetrics(t, tr)
		through, around := []string{"wire"}, []string{"vxlan"}
		if tr.Arm.String() == "overlay" {
			through, around = []string{"wire", "vxlan"}, nil
		}
		if !slices.Equal(tr.Proof.Through, through) || !slices.Equal(tr.Proof.Around, around) {
			t.Errorf("%s: through %q around %q", tr.Cell, tr.Proof.Through, tr.Proof.Around)
		}
		if carries := tr.Arm.Fastpath == "oncache"; carries != (len(tr.Proof.Carried) == 4) || carries && *tr.Metrics["hit_ratio"] < 0.99 {
			t.Errorf("%s: carried %+v", tr.Cell, tr.Proof.Carried)
		}
		if log := filepath.Join(p.dir, "econbench-runs", run.ID, tr.Log); tr.Log == "" || empty(log) {
			t.Errorf("%s: log %q is empty", tr.Cell, log)
		}
	}
	wantRecord(t, run)
	table := p.stdout.String()
	for _, want := range []string{"tcp_stream", "streams=2", "tcp_rr", "request=128", "vs host", " overlay ", " overlay+oncache "} {
		if !strings.Contains(table, want) {
			t.Errorf("table: no %q in it:\n%s", want, table)
		}
	}
	wantJSON(t, filepath.Join(p.dir, "econbench-runs", run.ID))
	start(t, root, "clean").want(0).until("nothing to remove")
}

// TestRunFastpaths runs each fast path on both kinds of overlay networks, and looks whether each did what it is for.
func TestRunFastpaths(t *testing.T) {
	sharedHosts(t)
	p := start(t, sharedLab(), tiny("--workload", "tcp_rr,tcp_stream", "--arm", "overlay+econ,overlay+econ:sockets,overlay+xmasq,overlay+xmasq:untracked:direct,vxlan+econ,vxlan+xmasq,vxlan+oncache:direct")...)
	p.want(0)
	run := p.run()
	for _, tr := range allValid(t, run, 14) {
		if len(tr.Proof.Carried) != 4 || *tr.Metrics["hit_ratio"] < 0.99 || !slices.Equal(tr.Proof.Through, []string{"wire"}) {
			t.Errorf("%s: carried %+v through %q", tr.Cell, tr.Proof.Carried, tr.Proof.Through)
		}
		if masked := tr.Metrics["masqueraded"]; (masked != nil) != (tr.Arm.Fastpath == "xmasq") || masked != nil && *masked < 0.1 {
			t.Errorf("%s: masqueraded %v", tr.Cell, masked)
		}
		for role, h := range tr.Hosts {
			if given := h.Counters["fastpath"]["ingress.assigned"]; (given > 0) != (tr.Arm.Setting == "sockets") {
				t.Errorf("%s, %s: %v segments were given their sockets", tr.Cell, role, given)
			}
			if c := h.Counters["fastpath"]; (c["egress.direct"] > c["egress.hits"]/2) != strings.HasSuffix(tr.Arm.Setting, "direct") {
				t.Errorf("%s, %s: %v of %v segments went directly", tr.Cell, role, c["egress.direct"], c["egress.hits"])
			}
			rules, noted := h.Notes[econbench.NoteNetfilter]
			if want := tr.Arm.Topology == "overlay" && !strings.HasPrefix(tr.Arm.Setting, "untracked"); !noted || (rules == "ip nat") != want {
				t.Errorf("%s, %s: rules in the container: %q", tr.Cell, role, rules)
			}
		}
	}
}

func empty(file string) bool {
	info, err := os.Stat(file)
	return err != nil || info.Size() == 0
}

// wantMetrics checks that what a trial is for was collected.
func wantMetrics(t *testing.T, tr econbench.Trial) {
	t.Helper()
	names := []string{"cpu", "packets", "softirq", "run_delay"}
	switch tr.Workload {
	case "tcp_rr", "udp_rr":
		names = append(names, "transactions", "latency_p50", "latency_p90", "latency_p99", "cpu_per_transaction")
	default:
		names = append(names, "throughput", "cpu_per_byte")
	}
	for _, name := range names {
		if v := tr.Metrics[name]; v == nil || *v < 0 || (*v == 0 && name != "run_delay") {
			t.Errorf("%s: %s is %v", tr.Cell, name, v)
		}
	}
}

// wantRecord checks what run.json says about the run and its hosts.
func wantRecord(t *testing.T, run *econbench.Run) {
	t.Helper()
	if run.Lab != "emulated" || run.Image == "" || run.Finished == nil || run.Plan.Seed == 0 {
		t.Errorf("run: lab %q image %q finished %v seed %d", run.Lab, run.Image, run.Finished, run.Plan.Seed)
	}
	for _, role := range []string{econbench.ClientHost, econbench.ServerHost} {
		h := run.Hosts[role]
		if h.Underlay == "" || h.WireDevice != "wire0" || h.MTU != 1500 || h.Engine == "" || h.Kernel == "" || len(h.CPUs) == 0 {
			t.Errorf("%s: %+v", role, h)
		}
		if all := strings.Join(h.Tunings, "\n"); !strings.Contains(all, "dma-latency") {
			t.Errorf("%s: tunings %q, want the one against idle states among them", role, h.Tunings)
		}
		wantFingerprint(t, h)
	}
}

// wantFingerprint checks that a host of an emulated lab tells what it is, by names that have a class.
func wantFingerprint(t *testing.T, h econbench.HostFacts) {
	t.Helper()
	f := h.Fingerprint
	for name, want := range map[string]string{
		"kernel.release": h.Kernel, "cpu.model": h.CPUModel, "docker.version": h.Engine, "nic.driver": "veth", "nic.mtu": "1500", "nic.kind": "veth",
		"netfilter.docker": "rules", "netfilter.conntrack": "used", "docker.storage": f["docker.storage"], "tools.netperf": f["tools.netperf"],
		"nic.queues": f["nic.queues"], "nic.offloads": f["nic.offloads"], "bpf.oncache": objects()["oncache"], "econbench.version": f["econbench.version"],
		"cpu.assigned": h.Named()["cpu.assigned"],
	} {
		if f[name] != want || want == "" {
			t.Errorf("fact %s is %q, want %q", name, f[name], want)
		}
	}
	for name := range f {
		if !econbench.KnownFact(name) {
			t.Errorf("fact %s has no class", name)
		}
	}
}

// wantJSON checks the contract of `report -f json`.
func wantJSON(t *testing.T, dir string) {
	t.Helper()
	p := startCommand(t, shipped("report", dir, "-f", "json")).want(0)
	var r struct {
		Schema        int
		Run, Baseline string
		Cells         []struct {
			Arm, Workload  string
			Params         map[string]string
			Valid, Invalid int
			Metrics        map[string]struct {
				Unit, Better      string
				Primary           bool
				Median, Low, High *float64
				N                 int
				Ratio             *struct {
					Median  *float64
					Verdict string
				}
			}
		}
	}
	if err := json.Unmarshal(p.stdout.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Schema != 1 || r.Run == "" || r.Baseline != "host" || len(r.Cells) != 9 {
		t.Errorf("report: %s", p.stdout.String())
	}
	for _, c := range r.Cells {
		primary := map[string]string{"tcp_rr": "transactions", "udp_rr": "transactions", "tcp_stream": "throughput"}[c.Workload]
		m := c.Metrics[primary]
		if c.Valid != 1 || c.Invalid != 0 || len(c.Params) == 0 || !m.Primary || m.Better != "higher" || m.Unit == "" || m.Median == nil || m.N != 1 {
			t.Errorf("cell %s %s: %+v", c.Arm, c.Workload, c)
		}
		if (m.Ratio != nil) != (c.Arm != "host") {
			t.Errorf("cell %s %s: ratio %+v", c.Arm, c.Workload, m.Ratio)
		}
	}
}

// TestRunMTUFrames runs over an internal overlay with frames no larger than the MTU, and puts the offloads back.
func TestRunMTUFrames(t *testing.T) {
	sharedHosts(t)
	p := start(t, sharedLab(), tiny("--internal", "--wire", "mtu-frames", "--workload", "tcp_stream")...).want(0)
	run := p.run()
	allValid(t, run, 3)
	if !run.Plan.Internal || run.Plan.Wire != econbench.WireMTUFrames {
		t.Errorf("plan: %+v", run.Plan)
	}
	for role, h := range run.Hosts {
		if on := h.Fingerprint["nic.offloads"]; on == "" || strings.Contains(on, "tx-tcp-segmentation") {
			t.Errorf("%s: offloads %q, want those of the run without segmentation", role, on)
		}
	}
	for _, tr := range run.Trials {
		for host, w := range tr.Hosts {
			d := w.Counters["devices"]
			for _, dir := range []string{"rx", "tx"} {
				bytes, frames := d["wire."+dir+"_bytes"], d["wire."+dir+"_packets"]
				if frames == 0 || bytes/frames > 1514 {
					t.Errorf("%s %s: %.0f B in %.0f frames, mean over MTU and Ethernet header", tr.Cell, host, bytes, frames)
				}
			}
		}
	}
}

// TestRunShared puts both hosts on one CPU.
func TestRunShared(t *testing.T) {
	sharedHosts(t)
	p := start(t, sharedLab(), tiny("--placement", "shared", "--workload", "tcp_rr")...).want(0)
	run := p.run()
	allValid(t, run, 3)
	a, b := run.Hosts[econbench.ClientHost].CPUs, run.Hosts[econbench.ServerHost].CPUs
	if len(a) != 1 || !slices.Equal(a, b) {
		t.Errorf("CPUs %v and %v, want one and the same", a, b)
	}
}

// TestRunHostBare takes the hosts' rules out of effect while a trial runs, and puts them back after it: also when the run is
// killed in the middle of one.
func TestRunHostBare(t *testing.T) {
	hosts := sharedHosts(t)
	asleep := func(want bool) func() bool {
		return func() bool {
			return !slices.ContainsFunc(hosts[:], func(h *engineHost) bool { return (len(h.dormant(t)) > 0) != want })
		}
	}
	bare := []string{"run", "--blocks", "1", "--duration", "2s", "--warmup", "100ms", "--workload", "tcp_rr", "--arm", "host,host-bare"}
	p := start(t, sharedLab(), bare...)
	eventually(t, "rules out of effect on both hosts", 2*patience, asleep(true))
	run := p.want(0).run()
	allValid(t, run, 2)
	if !asleep(false)() {
		t.Errorf("after the run: out of effect are still %q and %q", hosts[0].dormant(t), hosts[1].dormant(t))
	}
	for _, tr := range run.Trials {
		for role, w := range tr.Hosts {
			want := tr.Arm.Topology == "host"
			if rules, noted := w.Notes[econbench.NoteNetfilter]; !noted || want != strings.Contains(rules, "ip filter") || !want && rules != nft.OwnTable {
				t.Errorf("%s, %s: in effect were %q (noted: %t)", tr.Cell, role, rules, noted)
			}
		}
	}

	p = start(t, sharedLab(), bare...)
	eventually(t, "rules out of effect on both hosts", 2*patience, asleep(true))
	p.signal(syscall.SIGKILL)
	p.want(-1)
	eventually(t, "rules in effect again", patience, asleep(false))
	start(t, sharedLab(), "clean", hostsFlag(hosts[0], hosts[1])).want(0)
}
