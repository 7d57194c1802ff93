// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

func values(samples []econbench.Sample) map[string]float64 {
	m := map[string]float64{}
	for _, s := range samples {
		m[s.Metric] = s.Value
	}
	return m
}

// window has two hosts on one kernel; over 2 s CPU 0 was busy 1.5 s, CPU 1 0.5 s, each as both hosts read it.
func window(client, server []int) econbench.Window {
	stat := econbench.Counters{
		"cpu0.idle": 0.4, "cpu0.iowait": 0.1, "cpu0.softirq": 0.6, "cpu0.steal": 0,
		"cpu1.idle": 1.5, "cpu1.iowait": 0, "cpu1.softirq": 0.2, "cpu1.steal": 0.1,
	}
	h := econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"stat": stat}}
	return econbench.Window{Client: h, Server: h, ClientCPUs: client, ServerCPUs: server, SharedKernel: true, Apart: true}
}

func TestStatSamples(t *testing.T) {
	for _, test := range []struct {
		name   string
		window econbench.Window
		change func(*econbench.Window)
		want   map[string]float64
		warn   string // in one of the warnings; "" none
	}{
		{"split", window([]int{0}, []int{1}), nil,
			map[string]float64{"cpu": 1, "cpu_client": 0.75, "cpu_server": 0.25, "softirq": 0.4, "steal": 0.025}, "noisy: the hypervisor took 5.0 % of the busy"},
		{"split, but one host's CPUs did the other's softirq work", window([]int{0}, []int{1}), func(w *econbench.Window) { w.Apart = false },
			map[string]float64{"cpu": 1, "softirq": 0.4, "steal": 0.025}, "noisy"},
		{"shared", window([]int{0}, []int{0}), nil,
			map[string]float64{"cpu": 0.75, "softirq": 0.3, "steal": 0}, ""},
		{"shared, both CPUs", window([]int{0, 1}, []int{0, 1}), nil,
			map[string]float64{"cpu": 1, "softirq": 0.4, "steal": 0.025}, "noisy"},
		{"overlap", window([]int{0}, []int{0, 1}), nil,
			map[string]float64{"cpu": 1, "softirq": 0.4, "steal": 0.025}, "noisy"},
		{"two machines with the same CPU numbers", window([]int{0, 1}, []int{0, 1}), func(w *econbench.Window) { w.SharedKernel = false },
			map[string]float64{"cpu": 2, "cpu_client": 1, "cpu_server": 1, "softirq": 0.8, "steal": 0.025}, "noisy"},
		{"server not read", window([]int{0}, []int{1}), func(w *econbench.Window) { w.Server.Counters = nil },
			map[string]float64{"cpu_client": 0.75}, "stat: server: not collected"},
		{"no such CPU", window([]int{0}, []int{2}), nil,
			map[string]float64{"cpu_client": 0.75}, "stat: server: no figures for CPU 2"},
		{"work elsewhere", window([]int{1}, []int{1}), nil,
			map[string]float64{"cpu": 0.25, "softirq": 0.1, "steal": 0.05}, "stat: machine: 0.75 cores were busy on CPUs that the run does not count"},
		{"idle beyond the window", window([]int{0}, []int{1}), func(w *econbench.Window) {
			w.Client.Seconds, w.Server.Seconds = 1.49, 1.49
		}, map[string]float64{"cpu": 0.99 / 1.49, "cpu_client": 0.99 / 1.49, "cpu_server": 0, "softirq": 0.8 / 1.49, "steal": 0.1 / 1.49 / 2}, "noisy"},
		{"many idle CPUs, rounded up and down", window([]int{0, 2, 3, 4, 5}, []int{1}), func(w *econbench.Window) {
			for cpu, idle := range map[int]float64{2: 1.99, 3: 2.01, 4: 1.99, 5: 2.01} {
				w.Client.Counters["stat"][perCPU(cpu, "idle")] = idle
				w.Client.Counters["stat"][perCPU(cpu, "softirq")], w.Client.Counters["stat"][perCPU(cpu, "steal")] = 0, 0
			}
		}, map[string]float64{"cpu": 1, "cpu_client": 0.75, "cpu_server": 0.25, "softirq": 0.4, "steal": 0.05 / 6}, "took 5.0 % of the busy"},
		{"nothing", econbench.Window{}, nil, map[string]float64{}, "stat: client: not collected"},
	} {
		if test.change != nil {
			test.change(&test.window)
		}
		samples, warnings := Stat{}.Samples(test.window)
		same(t, values(samples), test.want)
		if joined := strings.Join(warnings, "; "); (joined == "") != (test.warn == "") || !strings.Contains(joined, test.warn) {
			t.Errorf("%s: warnings %q, want %q", test.name, joined, test.warn)
		}
	}
}

func TestStatSamplesWithoutSteal(t *testing.T) {
	w := window([]int{0}, []int{1})
	delete(w.Client.Counters["stat"], "cpu0.steal")
	samples, _ := Stat{}.Samples(w)
	if _, ok := values(samples)["steal"]; ok {
		t.Error("steal was not collected and is not left out")
	}
}

func TestSoftnetSamples(t *testing.T) {
	counters := econbench.Counters{
		"cpu0.processed": 1e6, "cpu0.dropped": 3, "cpu0.time_squeezed": 10,
		"cpu1.processed": 1e6, "cpu1.dropped": 0, "cpu1.time_squeezed": 3000,
	}
	h := econbench.HostWindow{Seconds: 1, Counters: map[string]econbench.Counters{"softnet": counters}}
	w := econbench.Window{Client: h, Server: h, ClientCPUs: []int{0}, ServerCPUs: []int{1}, SharedKernel: true, Apart: true}
	_, warnings := Softnet{}.Samples(w)
	same(t, warnings, []string{
		"softnet: client: 3 packets dropped: the backlog was full (net.core.netdev_max_backlog)",
		"softnet: server: receive processing ran out of budget 3000 times in 1000000 packets",
	})
	w.ServerCPUs = []int{0}
	if _, warnings = (Softnet{}).Samples(w); len(warnings) != 1 {
		t.Errorf("a shared CPU's drops are told %d times", len(warnings))
	}
}

func TestSocketsSamples(t *testing.T) {
	w := econbench.Window{
		Client: econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"sockets": {"retransmits": 4, "flows": 2}}},
		Server: econbench.HostWindow{Seconds: 4, Counters: map[string]econbench.Counters{
			"sockets": {"bytes_received": 4000, "data_segs_in": 40, "retransmits": 4, "flows": 1}}},
		Flows: econbench.Flows{ServerPort: 1, Count: 2},
	}
	samples, warnings := Sockets{}.Samples(w)
	same(t, values(samples), map[string]float64{"throughput": 1000, "packets": 10, "retransmits": 3})
	same(t, warnings, []string{"sockets: server: 1 of 2 flows carried payload in the window"})

	w.Flows.RequestBytes = 100
	samples, _ = Sockets{}.Samples(w)
	same(t, values(samples), map[string]float64{"transactions": 10, "packets": 10, "retransmits": 3})

	w.Server.Counters = nil
	if samples, warnings = (Sockets{}).Samples(w); len(samples)+len(warnings) > 0 {
		t.Errorf("not collected: %v, %v", samples, warnings)
	}
}

func TestSchedstatAndDevicesSamples(t *testing.T) {
	counters := map[string]econbench.Counters{
		"schedstat": {"run_delay": 0.5, "tasks_gone": 0},
		"devices":   {"wire.rx_dropped": 2, "wire.tx_errors": 0, "vxlan.rx_packets": 9},
	}
	w := econbench.Window{
		Client: econbench.HostWindow{Seconds: 1, Counters: counters},
		Server: econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"schedstat": {"run_delay": 0.5, "tasks_gone": 1}}},
	}
	samples, warnings := Schedstat{}.Samples(w)
	same(t, values(samples), map[string]float64{"run_delay": 0.75})
	same(t, warnings, []string{"schedstat: server: 1 tasks ended within the window; run_delay lacks their last stretch"})
	samples, warnings = Devices{}.Samples(w)
	if len(samples) > 0 {
		t.Errorf("samples %v", samples)
	}
	same(t, warnings, []string{"devices: client: wire.rx_dropped 2"})
}

// TestSamplesAreMetrics: every name that a collector gives is one that the record knows.
func TestSamplesAreMetrics(t *testing.T) {
	w := window([]int{0}, []int{1})
	w.Server.Counters["sockets"] = econbench.Counters{"bytes_received": 1, "data_segs_in": 1, "retransmits": 0}
	w.Server.Counters["schedstat"] = econbench.Counters{"run_delay": 0}
	w.Client.Counters = w.Server.Counters
	for _, c := range All() {
		samples, _ := c.Samples(w)
		for _, s := range samples {
			if _, ok := econbench.MetricNamed(s.Metric); !ok {
				t.Errorf("%s: no metric %q", c.Name(), s.Metric)
			}
		}
	}
}

// TestFlowsCountOnce: a flow that carries payload counts once, however often it is read; one that stands still does not.
func TestFlowsCountOnce(t *testing.T) {
	r := &socketsReading{want: econbench.Flows{Count: 2, RequestBytes: 1}}
	for read := range uint64(4) {
		sockets := []tcpSocket{{cookie: 1, bytesReceived: 10 + read}, {cookie: 2, bytesReceived: 5}}
		if read == 0 {
			if err := r.pick(sockets); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range sockets {
			r.flows[s.cookie].update(s)
		}
		if moving, still := r.flows[1].moved, r.flows[2].moved; moving != (read > 0) || still {
			t.Errorf("after read %d: moving flow %v, still flow %v", read, moving, still)
		}
	}
}
