// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/econbench/econbench"
)

// pageRun is a made-up run with all that a page can show: many workloads and arms, latency, CPU in parts, trials that are invalid, warnings,
// hosts that differ and a resumption. Always the same one.
func pageRun(blocks int) *econbench.Run {
	run := sampleRun(0)
	p := &run.Plan
	p.Suite, p.Blocks = "nightly", blocks
	p.Arms = []econbench.Arm{arm("host"), arm("overlay"), arm("overlay+oncache"), arm("overlay+econ"), arm("overlay+xmasq")}
	one := func(name, primary string, params econbench.Params) econbench.PlannedWorkload {
		return econbench.PlannedWorkload{Name: name, Params: params, Primary: primary}
	}
	p.Workloads = []econbench.PlannedWorkload{
		one("tcp_stream", "throughput", econbench.Params{"flows": "1", "message": "131072", "direction": "up", "clients": "1"}),
		one("tcp_rr", "transactions", econbench.Params{"flows": "1", "request": "1", "response": "1", "clients": "1"}),
		one("tcp_crr", "transactions", econbench.Params{"flows": "1", "request": "1", "response": "1"}),
		one("udp_rr", "transactions", econbench.Params{"flows": "1", "request": "1", "response": "1"}),
		one("udp_stream", "throughput", econbench.Params{"message": "1400", "rate": "1000000"}),
		one("memcached", "latency_p99", econbench.Params{"connections": "16", "rate": "50%", "value": "100", "threads": "1"}),
	}
	p.Workloads[5].Rate = 31250
	run.Command = []string{"/opt/econbench/bin/econbench", "run", "--suite", "nightly", "--arm", "host,overlay,overlay+oncache,overlay+econ,overlay+xmasq", "-o", "night 1"}
	run.Image, run.Lab = "sha256:3f9a1b2c", "real"
	run.Hosts = pageHosts()
	run.Resumed = []econbench.Resumption{{
		Started: run.Started.Add(2 * time.Hour), Version: run.Version, Command: []string{"econbench", "run", "--resume", "night 1"}, Hosts: pageHosts(),
		Before: econbench.Ending{Status: econbench.StatusFailed, Error: "engine of server stopped answering: context deadline exceeded"},
	}}
	h := run.Resumed[0].Hosts[econbench.ServerHost]
	h.BootID, h.Fingerprint["nic.irq_affinity_found"] = "b-3", "2 3"
	run.Resumed[0].Hosts[econbench.ServerHost] = h
	random := rand.New(rand.NewPCG(3, 4))
	for b := range blocks {
		for i, c := range p.Cells() {
			t := pageTrial(run, b, i, c, random)
			switch {
			case c.Workload == "udp_rr" && c.Arm.String() == "overlay+xmasq":
				t.Valid, t.Invalid = false, []string{"hit ratio 0.41 of client is below 0.99"}
			case c.Workload == "tcp_stream" && c.Arm.String() == "overlay+econ" && b%4 == 1:
				t.Valid, t.Invalid = false, []string{"path proof: vxlan device on server carried 3.1 MB, want at most 65 kB"}
			case b == 2 && c.Workload == "memcached":
				t.Warnings = []string{fmt.Sprintf("noisy: the hypervisor took %.1f %% of the busy CPU time away", 2+random.Float64())}
			}
			run.Trials = append(run.Trials, t)
		}
	}
	return run
}

func pageHosts() map[string]econbench.HostFacts {
	facts := func(name, addr string, cpus []int) econbench.HostFacts {
		return econbench.HostFacts{
			Hostname: name, BootID: "b-" + name, Kernel: "6.18.0", CPUModel: "AMD EPYC 9354P", OnlineCPUs: []int{0, 1, 2, 3, 4, 5, 6, 7}, CPUs: cpus,
			Engine: "28.5.2", Underlay: addr, WireDevice: "enp1s0f0np0", WireDriver: "mlx5_core", MTU: 1500, BTF: true,
			Tunings: []string{"idle states held off", "net.ipv4.tcp_no_metrics_save = 1 (was 0)"},
			Fingerprint: econbench.Fingerprint{
				"kernel.release": "6.18.0", "kernel.hz": "250", "kernel.preempt": "voluntary dynamic", "cpu.governor": "performance", "cpu.smt": "off",
				"cpu.mitigations.spectre_v2": "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional; STIBP: disabled; RSB filling; PBRSB-eIBRS: Not affected; BHI: Not affected",
				"nic.driver":                 "mlx5_core", "nic.speed": "25000", "nic.offloads": "rx-checksumming tx-checksumming scatter-gather tcp-segmentation-offload generic-segmentation-offload generic-receive-offload",
				"nic.irq_affinity_found": "0 1 2 3", "docker.version": "28.5.2", "netfilter.docker": "rules", "tools.iperf3": "3.18", "sysctl.net.ipv4.tcp_rmem": "4096 131072 6291456",
			},
		}
	}
	a, b := facts("a", "198.18.0.1", []int{0, 1, 2, 3}), facts("b", "198.18.0.2", []int{0, 1, 2, 3})
	b.Fingerprint["cpu.microcode"], a.Fingerprint["cpu.microcode"] = "0xa101148", "0xa101144"
	return map[string]econbench.HostFacts{econbench.ClientHost: a, econbench.ServerHost: b}
}

// pageSpeeds are shares of the host's, of streams and of requests.
var pageSpeeds = map[string][2]float64{"host": {1, 1}, "overlay": {0.54, 0.62}, "overlay+oncache": {0.86, 0.93}, "overlay+econ": {0.88, 0.962}, "overlay+xmasq": {0.93, 0.951}}

func pageTrial(run *econbench.Run, block, position int, c econbench.Cell, random *rand.Rand) econbench.Trial {
	noise := func(cv float64) float64 { return math.Exp(cv * random.NormFloat64()) }
	t := econbench.Trial{Schema: 1, Run: run.ID, Block: block, Position: position, Cell: c, Valid: true, Elapsed: 3, Metrics: map[string]*float64{"retransmits": nil}}
	speed := pageSpeeds[c.Arm.String()]
	cpu := 1.98 * noise(0.004)
	if !strings.HasSuffix(c.Workload, "stream") {
		cpu = 1.25 * noise(0.01) * (0.7 + 0.3/speed[1])
	}
	t.Metrics["cpu"] = &cpu
	switch c.Workload {
	case "tcp_stream", "udp_stream":
		rate := map[string]float64{"tcp_stream": 23.4e9, "udp_stream": 9.6e9}[c.Workload] / 8 * speed[0] * noise(0.02)
		t.Metrics["throughput"], t.Metrics["cpu_per_byte"] = &rate, ptr(cpu/rate)
	default:
		rate := map[string]float64{"tcp_rr": 52.3e3, "tcp_crr": 9.1e3, "udp_rr": 55.1e3, "memcached": 31250}[c.Workload] * noise(0.006)
		p50 := 0.95 / rate / speed[1]
		if c.Workload == "memcached" {
			p50 = 61e-6 / speed[1] * noise(0.02)
		} else {
			rate *= speed[1]
		}
		t.Metrics["transactions"], t.Metrics["cpu_per_transaction"] = &rate, ptr(cpu/rate)
		for i, times := range []float64{1, 1.3, 1.9, 4.2, 11} {
			if c.Workload == "memcached" || i < 3 { // netperf has no finer ones
				t.Metrics[latencyPercentiles[i].metric] = ptr(p50 * times * noise(0.02))
			}
		}
	}
	if c.Arm.Fastpath != econbench.NoFastpath {
		t.Metrics["hit_ratio"], t.Metrics["coverage"] = ptr(0.9998), ptr(0.997)
	}
	t.Hosts = make(map[string]econbench.HostWindow)
	for _, role := range []string{econbench.ClientHost, econbench.ServerHost} {
		stat := econbench.Counters{}
		for cpuNumber := range 4 {
			system, softirq := 0.44*noise(0.05), 0.3*noise(0.05)/speed[1]
			for field, share := range map[string]float64{"user": 0.08, "nice": 0, "system": system, "softirq": softirq, "irq": 0.02, "steal": 0, "idle": 1} {
				stat[fmt.Sprintf("cpu%d.%s", cpuNumber, field)] = share * cpu / 8 * 2
			}
		}
		t.Hosts[role] = econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"stat": stat}}
	}
	return t
}

// pageFolder has the traces and profiles that other packages keep as golden files.
func pageFolder(t testing.TB) fstest.MapFS {
	t.Helper()
	folder := fstest.MapFS{}
	copyIn := func(to, from string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		folder[to] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	for _, name := range []string{"host", "overlay", "overlay+oncache"} {
		copyIn("traces/"+name+".json", "../internal/trace/testdata/"+name+".json")
	}
	copyIn("traces/host.events.json", "../internal/trace/testdata/host.events.json")
	for name, text := range map[string]string{
		"overlay": `{"schema":1,"arm":"overlay","baseline":"overlay","workload":"tcp_rr","params":{"request":"1"},"frequency":999,"window":5,"transactions":27120,"lab":"emulated","kernel":"6.18"}`,
		"oncache": `{"schema":1,"arm":"overlay+oncache","baseline":"overlay","workload":"tcp_rr","params":{"request":"1"},"frequency":999,"window":5,"transactions":32090,"lab":"emulated","kernel":"6.18"}`,
	} {
		folder["profiles/"+name+".json"] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		copyIn("profiles/"+name+".folded", "../internal/profile/testdata/"+name+".folded")
	}
	return folder
}
