// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// Schedstat is what the scheduler did to the workload's tasks: run_time and run_delay in s, timeslices in 1, summed over
// all tasks of the endpoint containers' cgroups, from /proc/PID/task/TID/schedstat (CONFIG_SCHED_INFO; no switch needed).
// A running task's run time is as old as the last tick. Tasks that end within the window take their last stretch with
// them; tasks_gone says how many did.
type Schedstat struct{}

var _ econbench.Collector = Schedstat{}

func (Schedstat) Name() string { return "schedstat" }
func (Schedstat) Help() string {
	return "time that the workload's tasks ran and waited for a CPU (/proc/PID/task/TID/schedstat)"
}

func (Schedstat) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	clientDelay, ok := client.rate("schedstat", "run_delay")
	serverDelay, also := server.rate("schedstat", "run_delay")
	if ok && also {
		samples = append(samples, econbench.Sample{Metric: "run_delay", Value: clientDelay + serverDelay})
	}
	for _, h := range []host{client, server} {
		if gone := h.Counters["schedstat"]["tasks_gone"]; gone > 0 {
			warnings = append(warnings, fmt.Sprintf("schedstat: %s: %.0f tasks ended within the window; run_delay lacks their last stretch", h.name, gone))
		}
	}
	return samples, warnings
}

type schedstatReader struct{ proc string }

func (schedstatReader) Name() string { return "schedstat" }

func (r schedstatReader) Open(s econbench.Scope) (econbench.Reading, error) {
	return each(s.PIDs(), func(pid int) (econbench.Reading, error) {
		tasks, err := openTasks(r.proc, pid, "schedstat", parseSchedstat)
		if err != nil {
			return nil, fmt.Errorf("schedstat: %w", err)
		}
		return schedstatReading{tasks}, nil
	})
}

type schedstatReading struct{ *tasks }

func (r schedstatReading) Read() (econbench.Counters, error) {
	sum, err := r.sum()
	if err != nil {
		return nil, fmt.Errorf("schedstat: %w", err)
	}
	return econbench.Counters{
		"run_time":   float64(sum[0]) / 1e9,
		"run_delay":  float64(sum[1]) / 1e9,
		"timeslices": float64(sum[2]),
		"tasks_gone": float64(r.gone),
	}, nil
}

// parseSchedstat reads "RUN DELAY SLICES" (Documentation/scheduler/sched-stats.rst): ns, ns, 1.
func parseSchedstat(b []byte) (n numbers, err error) {
	fields := strings.Fields(string(b))
	if len(fields) != 3 {
		return n, fmt.Errorf("line %q: want three numbers", strings.TrimSpace(string(b)))
	}
	for i, field := range fields {
		if n[i], err = strconv.ParseUint(field, 10, 64); err != nil {
			return numbers{}, fmt.Errorf("line %q: %w", strings.TrimSpace(string(b)), err)
		}
	}
	return n, nil
}
