// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"

	"github.com/econbench/econbench"
)

// strangeName has all that a page, a drawing or a file's name could trip over.
const strangeName = "</title><script>alert(1)</script>\"'&,\n\t\x1b[31m${x}{{.}} ünïcødé–日本語-" + "averyveryveryveryveryveryveryveryveryveryveryveryverylongword"

// strangeRun has strange names everywhere, figures that are none, and trials that the plan does not know.
func strangeRun() *econbench.Run {
	run := sampleRun(6)
	run.ID, run.Version, run.Lab, run.Image, run.Error = strangeName, strangeName, strangeName, strangeName, strangeName
	run.Status = econbench.StatusFailed
	run.Command = []string{"/usr/bin/econbench", "run", "--suite", strangeName, "it's", ""}
	run.Warnings = []string{strangeName}
	run.Plan.Suite, run.Plan.CongestionControl = strangeName, strangeName
	run.Plan.Arms[2] = econbench.Arm{Topology: "overlay", Fastpath: strangeName}
	run.Plan.Workloads[1].Name = strangeName
	run.Plan.Workloads[1].Params = econbench.Params{strangeName: strangeName}
	run.Hosts = map[string]econbench.HostFacts{strangeName: {Hostname: strangeName, Kernel: strangeName, Fingerprint: econbench.Fingerprint{strangeName: strangeName}}}
	for i := range run.Trials {
		t := &run.Trials[i]
		if t.Workload == "tcp_rr" {
			t.Workload, t.Params = strangeName, run.Plan.Workloads[1].Params
		}
		if t.Arm.String() == "overlay+oncache" {
			t.Arm = run.Plan.Arms[2]
		}
		switch i % 7 {
		case 1:
			t.Valid, t.Invalid = false, []string{strangeName}
		case 2:
			t.Warnings = []string{strangeName}
		case 3:
			for name := range t.Metrics {
				t.Metrics[name] = ptr([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, -1, 1e300, 1e-300}[i/7%7])
			}
		case 4:
			t.Metrics[strangeName] = ptr(1)
		case 5:
			t.Metrics = nil
		}
	}
	run.Trials = append(run.Trials, econbench.Trial{Cell: econbench.Cell{Arm: arm("elsewhere"), Workload: "tcp_stream"}, Valid: true, Metrics: map[string]*float64{"throughput": ptr(1)}})
	return run
}
