// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/econbench/econbench"
)

// Switches is how often the tasks of the endpoint's container left a CPU, from /proc/PID/task/TID/status: voluntary, because they
// waited for something, and involuntary, because another task was to run. The machine's own count stands in stat ("ctxt"), with
// those of kernel threads and idle tasks.
//
// A program that waits for each packet is switched to once a packet; one that polls, or is always given more, is not.
type Switches struct{}

var _ econbench.Collector = Switches{}

func (Switches) Name() string { return "switches" }
func (Switches) Help() string {
	return "context switches of the workload's tasks, voluntary and not (/proc/PID/task/TID/status)"
}

func (Switches) Samples(w econbench.Window) (samples []econbench.Sample, _ []string) {
	client, server := hosts(w)
	var sum float64
	for _, h := range []host{client, server} {
		for _, kind := range []string{"voluntary", "involuntary"} {
			rate, ok := h.rate("switches", kind)
			if !ok {
				return nil, nil
			}
			sum += rate
		}
	}
	return []econbench.Sample{{Metric: "context_switches", Value: sum}}, nil
}

type switchesReader struct{ proc string }

func (switchesReader) Name() string { return "switches" }

func (r switchesReader) Open(s econbench.Scope) (econbench.Reading, error) {
	return each(s.PIDs(), func(pid int) (econbench.Reading, error) {
		tasks, err := openTasks(r.proc, pid, "status", parseSwitches)
		if err != nil {
			return nil, fmt.Errorf("switches: %w", err)
		}
		return switchesReading{tasks}, nil
	})
}

type switchesReading struct{ *tasks }

func (r switchesReading) Read() (econbench.Counters, error) {
	sum, err := r.sum()
	if err != nil {
		return nil, fmt.Errorf("switches: %w", err)
	}
	return econbench.Counters{"voluntary": float64(sum[0]), "involuntary": float64(sum[1]), "tasks_gone": float64(r.gone)}, nil
}

// switchesNames are the file's last lines (fs/proc/array.c: task_context_switch_counts).
var switchesNames = [...]string{"voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"}

// parseSwitches finds two lines of a task's status.
func parseSwitches(b []byte) (n numbers, err error) {
	for i, name := range switchesNames {
		at := bytes.Index(b, []byte("\n"+name))
		if at < 0 {
			return numbers{}, fmt.Errorf("no line %s", name)
		}
		line, _, _ := bytes.Cut(b[at+1:], []byte("\n"))
		if n[i], err = strconv.ParseUint(string(bytes.TrimSpace(line[len(name):])), 10, 64); err != nil {
			return numbers{}, fmt.Errorf("line %q: %w", line, err)
		}
	}
	return n, nil
}
