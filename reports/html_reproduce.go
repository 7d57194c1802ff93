// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// replayCommand measures the plan again in the same order, whatever suite it came from; "" where that takes a suite's file: its programs and
// figures have no flags, nor have workloads of one name with different parameters.
func replayCommand(p econbench.Plan) string {
	if len(p.Programs) > 0 || len(p.Arms) == 0 || len(p.Workloads) == 0 {
		return ""
	}
	words := []string{"econbench", "run"}
	var arms, names []string
	for _, a := range p.Arms {
		arms = append(arms, a.String())
	}
	var params []string
	seen := make(map[string]bool)
	for _, w := range p.Workloads {
		if seen[w.Name] {
			return ""
		}
		seen[w.Name] = true
		names = append(names, w.Name)
		for _, k := range slices.Sorted(maps.Keys(w.Params)) {
			params = append(params, "-p", w.Name+"."+k+"="+w.Params[k])
		}
	}
	flag := func(name, value string) {
		if value != "" && value != "0" && value != "0s" {
			words = append(words, "--"+name, value)
		}
	}
	flag("arm", strings.Join(arms, ","))
	flag("baseline", p.Baseline.String())
	flag("workload", strings.Join(names, ","))
	words = append(words, params...)
	flag("blocks", strconv.Itoa(p.Blocks))
	flag("duration", showSeconds(p.Duration))
	words = append(words, "--warmup", showSeconds(p.Warmup))
	flag("rebuild-every", strconv.Itoa(p.RebuildEvery))
	words = append(words, "--seed", strconv.FormatUint(p.Seed, 10))
	flag("placement", string(p.Placement))
	flag("wire", string(p.Wire))
	flag("congestion-control", p.CongestionControl)
	flag("cpu", string(p.CPU))
	flag("lane", p.Attach.Lane)
	flag("hook", p.Attach.Hook)
	if p.Attach.MaxFlows != 0 {
		flag("max-flows", strconv.Itoa(p.Attach.MaxFlows))
	}
	flag("without", p.Attach.Without)
	if p.Histograms {
		words = append(words, "--histograms")
	}
	if p.Internal {
		words = append(words, "--internal")
	}
	return commandLine(words)
}

// fact is a name with a value.
type fact struct{ Name, Value string }

// planFacts are what decides what a run measures.
func planFacts(run *econbench.Run) (list []fact) {
	p := run.Plan
	add := func(name, value string) {
		if value = clean(value); strings.TrimSpace(value) != "" {
			list = append(list, fact{name, value})
		}
	}
	add("econbench", run.Version)
	add("suite", p.Suite)
	add("seed of the order", strconv.FormatUint(p.Seed, 10))
	add("blocks", fmt.Sprintf("%d, topologies made anew every %d", p.Blocks, p.RebuildEvery))
	add("window", fmt.Sprintf("%s after %s of warm-up", showSeconds(p.Duration), showSeconds(p.Warmup)))
	add("placement", string(p.Placement))
	add("wire", string(p.Wire))
	add("congestion control", p.CongestionControl)
	add("CPU time", string(p.CPU))
	add("histograms", map[bool]string{true: "yes"}[p.Histograms])
	add("overlay network", map[bool]string{true: "--internal"}[p.Internal])
	add("lab", run.Lab)
	add("tool image", run.Image)
	add("machine's key", run.MachineKey())
	for _, w := range p.Workloads {
		if w.Rate > 0 {
			add("rate of "+w.Name+" "+w.Params.String(), fmt.Sprintf("%.6g/s", w.Rate))
		}
	}
	return list
}
