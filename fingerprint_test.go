// SPDX-License-Identifier: Apache-2.0

package econbench_test

import (
	"testing"

	"github.com/econbench/econbench"
)

// A decisive fact that changes is named with both values; what a reboot changes is no difference.
func TestDifferences(t *testing.T) {
	was := econbench.HostFacts{
		Hostname: "a", BootID: "1", Kernel: "6.1", CPUModel: "X", CPUs: []int{0, 1}, Engine: "20.10", Underlay: "10.0.0.1",
		WireDevice: "eth0", WireDriver: "veth", MTU: 1500,
	}
	for want, change := range map[string]func(*econbench.HostFacts){
		"": func(f *econbench.HostFacts) {
			f.BootID, f.Hostname, f.Underlay, f.WireDevice = "2", "b", "10.0.0.2", "eth1"
		},
		`kernel is "6.2", was "6.1"`:        func(f *econbench.HostFacts) { f.Kernel = "6.2" },
		`cpu_model is "Y", was "X"`:         func(f *econbench.HostFacts) { f.CPUModel = "Y" },
		`cpus is "0", was "0 1"`:            func(f *econbench.HostFacts) { f.CPUs = []int{0} },
		`engine is "28.0", was "20.10"`:     func(f *econbench.HostFacts) { f.Engine = "28.0" },
		`wire_driver is "mlx5", was "veth"`: func(f *econbench.HostFacts) { f.WireDriver = "mlx5" },
		`mtu is "9000", was "1500"`:         func(f *econbench.HostFacts) { f.MTU = 9000 },
	} {
		now := was
		change(&now)
		got := ""
		for _, d := range now.Differences(was) {
			got += d.String()
		}
		if got != want {
			t.Errorf("differences %q, want %q", got, want)
		}
	}
}
