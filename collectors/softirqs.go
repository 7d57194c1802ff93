// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"

	"github.com/econbench/econbench"
)

// Softirqs is how often each softirq ran on each CPU, from /proc/softirqs ("cpu0.NET_RX", 1). No metric comes of it; it is
// in the record for whoever asks why a CPU was busy.
type Softirqs struct{}

var _ econbench.Collector = Softirqs{}

func (Softirqs) Name() string { return "softirqs" }
func (Softirqs) Help() string {
	return "softirq runs per CPU and type from /proc/softirqs, for the record"
}

func (Softirqs) Samples(econbench.Window) ([]econbench.Sample, []string) { return nil, nil }

type softirqsReader struct{ proc string }

func (softirqsReader) Name() string { return "softirqs" }

// Open reads which CPU each column is: those that are possible, which need not be 0 to n. The parser drops the header.
func (r softirqsReader) Open(econbench.Scope) (econbench.Reading, error) {
	fs, err := procfs.NewFS(r.proc)
	if err != nil {
		return nil, fmt.Errorf("softirqs: %w", err)
	}
	name := filepath.Join(r.proc, "softirqs")
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("softirqs: %w", err)
	}
	defer f.Close()
	header, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("softirqs: %s: line %q: %w", name, header, err)
	}
	cpus, err := cpuColumns(header)
	if err != nil {
		return nil, fmt.Errorf("softirqs: %s: %w", name, err)
	}
	return &softirqsReading{fs, name, cpus}, nil
}

// cpuColumns reads a header such as "CPU0 CPU2".
func cpuColumns(header string) (cpus []int, err error) {
	for _, column := range strings.Fields(header) {
		digits, ok := strings.CutPrefix(column, "CPU")
		cpu, err := strconv.Atoi(digits)
		if !ok || err != nil || cpu < 0 {
			return nil, fmt.Errorf("column %q: want CPU and a number", column)
		}
		cpus = append(cpus, cpu)
	}
	if len(cpus) == 0 {
		return nil, fmt.Errorf("line %q: no CPUs", header)
	}
	return cpus, nil
}

type softirqsReading struct {
	fs   procfs.FS
	name string
	cpus []int
}

func (r *softirqsReading) Close() error { return nil }

func (r *softirqsReading) Read() (econbench.Counters, error) {
	s, err := r.fs.Softirqs()
	if err != nil {
		return nil, fmt.Errorf("softirqs: %w", err)
	}
	counters := econbench.Counters{}
	for name, row := range map[string][]uint64{
		"HI": s.Hi, "TIMER": s.Timer, "NET_TX": s.NetTx, "NET_RX": s.NetRx, "BLOCK": s.Block, "IRQ_POLL": s.IRQPoll,
		"TASKLET": s.Tasklet, "SCHED": s.Sched, "HRTIMER": s.HRTimer, "RCU": s.RCU,
	} {
		if len(row) != len(r.cpus) && row != nil {
			return nil, fmt.Errorf("softirqs: %s: line %q has %d columns, the header %d", r.name, name, len(row), len(r.cpus))
		}
		for i, n := range row {
			counters[perCPU(r.cpus[i], name)] = float64(n)
		}
	}
	return counters, nil
}
