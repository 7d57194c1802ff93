// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"slices"

	"github.com/econbench/econbench"
)

// cpuSplit is what the CPU time of a workload's arms was spent on, in cores, by whichever way of counting the run has.
type cpuSplit struct {
	parts []string // in the order of stacking
	note  string   // how it was counted, and what that is worth; follows "counted by"
	rows  map[cellKey]cpuRow
}

// cpuRow is a cell's: means over its valid trials, since means add up to the mean of the whole and medians do not.
type cpuRow struct {
	sums   []float64
	trials int
}

func (r cpuRow) mean(part int) float64 { return r.sums[part] / float64(r.trials) }

// splitters are the ways of counting, the best first. Each tells a trial's parts; false: it was not counted so.
var splitters = []struct {
	parts []string
	note  string
	of    func(econbench.Trial, [][]int) ([]float64, bool)
}{
	{[]string{"programs and kernel threads", "softirq", "interrupts"}, "each change of context timed (--cpu exact)",
		ofMetrics("cpu_exact_task", "cpu_exact_softirq", "cpu_exact_irq")},
	{[]string{"user", "system", "softirq", "irq", "steal"},
		"/proc/stat, whose split the kernel's tick samples: it is rough, and --cpu exact has a better one", ofStat},
	{[]string{"client's container", "server's container", "rest"}, "by whom: cgroups of the containers, and what is left of cpu",
		ofMetrics("cpu_of_client", "cpu_of_server", "cpu_of_rest")},
}

// ofMetrics takes parts that are metrics.
func ofMetrics(names ...string) func(econbench.Trial, [][]int) ([]float64, bool) {
	return func(t econbench.Trial, _ [][]int) (list []float64, ok bool) {
		for _, n := range names {
			v := t.Metrics[n]
			if !drawable(v) || *v < 0 {
				return nil, false
			}
			list = append(list, *v)
		}
		return list, true
	}
}

// statFields are the columns of /proc/stat of each part.
var statFields = [][]string{{"user", "nice"}, {"system"}, {"softirq"}, {"irq"}, {"steal"}}

// ofStat adds up what the tick found on the CPUs of both hosts. Time of guests is in user already (proc_stat(5)).
func ofStat(t econbench.Trial, cpus [][]int) ([]float64, bool) {
	sums := make([]float64, len(statFields))
	found := false
	for i, role := range []string{econbench.ClientHost, econbench.ServerHost} {
		h := t.Hosts[role]
		counters := h.Counters["stat"]
		if len(cpus[i]) > 0 && (len(counters) == 0 || !(h.Seconds > 0)) {
			return nil, false
		}
		for _, cpu := range cpus[i] {
			prefix := fmt.Sprintf("cpu%d.", cpu)
			if _, ok := counters[prefix+"user"]; !ok {
				return nil, false
			}
			for part, fields := range statFields {
				for _, f := range fields {
					sums[part] += counters[prefix+f] / float64(h.Seconds)
				}
			}
			found = true
		}
	}
	for _, v := range sums {
		if !drawable(&v) || v < 0 {
			return nil, false
		}
	}
	return sums, found
}

// countedCPUs are the CPUs to add up on the client and on the server. What both share on one kernel counts once.
func countedCPUs(run *econbench.Run) [][]int {
	client, server := run.Hosts[econbench.ClientHost], run.Hosts[econbench.ServerHost]
	mine := slices.Clone(server.CPUs)
	if client.BootID == server.BootID {
		mine = slices.DeleteFunc(mine, func(cpu int) bool { return slices.Contains(client.CPUs, cpu) })
	}
	return [][]int{client.CPUs, mine}
}

// splitCPU splits the CPU time of each cell the same way: the first that at least one valid trial of the workload has.
func splitCPU(run *econbench.Run) map[string]cpuSplit {
	cpus := countedCPUs(run)
	found := make(map[string][]cpuSplit) // by workload and parameters; one for each way
	for _, t := range run.Trials {
		if !t.Valid {
			continue
		}
		key := keyOf(t.Cell)
		workload := key.workload + " " + key.params
		if found[workload] == nil {
			found[workload] = make([]cpuSplit, len(splitters))
		}
		for i, way := range splitters {
			sums, ok := way.of(t, cpus)
			if !ok {
				continue
			}
			split := &found[workload][i]
			if split.rows == nil {
				*split = cpuSplit{parts: way.parts, note: way.note, rows: make(map[cellKey]cpuRow)}
			}
			row := split.rows[key]
			if row.sums == nil {
				row.sums = make([]float64, len(way.parts))
			}
			for j, v := range sums {
				row.sums[j] += v
			}
			row.trials++
			split.rows[key] = row
			break
		}
	}
	best := make(map[string]cpuSplit)
	for workload, ways := range found {
		if i := slices.IndexFunc(ways, func(s cpuSplit) bool { return s.rows != nil }); i >= 0 {
			best[workload] = ways[i].withoutEmpty()
		}
	}
	return best
}

// withoutEmpty leaves out parts that are nothing in any arm: a kernel that does not count steal, say.
func (s cpuSplit) withoutEmpty() cpuSplit {
	out := cpuSplit{note: s.note, rows: make(map[cellKey]cpuRow)}
	for part, name := range s.parts {
		used := false
		for _, r := range s.rows {
			used = used || r.sums[part] > 0
		}
		if !used {
			continue
		}
		out.parts = append(out.parts, name)
		for key, r := range s.rows {
			row := out.rows[key]
			row.sums, row.trials = append(row.sums, r.sums[part]), r.trials
			out.rows[key] = row
		}
	}
	return out
}
