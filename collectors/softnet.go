// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/prometheus/procfs"

	"github.com/econbench/econbench"
)

// Softnet is the receive backlog of each CPU, from /proc/net/softnet_stat, in packets and events ("cpu0.dropped"). The file
// is the machine's: every network namespace shows the same.
type Softnet struct{}

var _ econbench.Collector = Softnet{}

// starved is the share of squeezes to processed packets above which receive processing ran out of budget most of the time:
// a full run is 300 packets (net.core.netdev_budget), so at 1/300 every run ends squeezed. Some are normal in a stream.
const starved = 1.0 / 600

func (Softnet) Name() string { return "softnet" }
func (Softnet) Help() string {
	return "receive backlog per CPU from /proc/net/softnet_stat; warns of drops and of starved receive processing"
}

func (Softnet) Samples(w econbench.Window) (_ []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	for _, h := range []host{client, server} {
		if dropped, ok := h.sumCPUs("softnet", "dropped"); ok && dropped > 0 {
			warnings = append(warnings, fmt.Sprintf("softnet: %s: %.0f packets dropped: the backlog was full (net.core.netdev_max_backlog)", h.name, dropped))
		}
		squeezed, ok := h.sumCPUs("softnet", "time_squeezed")
		processed, also := h.sumCPUs("softnet", "processed")
		if ok && also && squeezed > 1 && squeezed > processed*starved {
			warnings = append(warnings, fmt.Sprintf("softnet: %s: receive processing ran out of budget %.0f times in %.0f packets", h.name, squeezed, processed))
		}
	}
	return nil, warnings
}

type softnetReader struct{ proc string }

func (softnetReader) Name() string { return "softnet" }

// Open finds out which CPU each line is. Since 5.14 the line says so; before, lines are the online CPUs in order, which
// the parser takes for 0 to n.
func (r softnetReader) Open(econbench.Scope) (econbench.Reading, error) {
	fs, err := procfs.NewFS(r.proc)
	if err != nil {
		return nil, fmt.Errorf("softnet: %w", err)
	}
	stat, err := fs.Stat()
	if err != nil {
		return nil, fmt.Errorf("softnet: online CPUs: %w", err)
	}
	reading := &softnetReading{fs: fs, name: filepath.Join(r.proc, "net/softnet_stat"), grown: map[string]*counter32{}}
	for cpu := range stat.CPU {
		reading.online = append(reading.online, int(cpu))
	}
	slices.Sort(reading.online)
	return reading, nil
}

type softnetReading struct {
	fs     procfs.FS
	name   string
	online []int
	grown  map[string]*counter32
}

func (r *softnetReading) Close() error { return nil }

func (r *softnetReading) Read() (econbench.Counters, error) {
	lines, err := r.fs.NetSoftnetStat()
	if err != nil {
		return nil, fmt.Errorf("softnet: %w", err)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("softnet: %s: empty", r.name)
	}
	counters := econbench.Counters{}
	for i, line := range lines {
		cpu := int(line.Index)
		if line.Width < 13 {
			if len(lines) != len(r.online) {
				return nil, fmt.Errorf("softnet: %s: %d lines without a CPU number for %d online CPUs", r.name, len(lines), len(r.online))
			}
			cpu = r.online[i]
		}
		for _, f := range []struct {
			name  string
			raw   uint32
			since int // columns of the first kernel that has it
		}{
			{"processed", line.Processed, 1}, {"dropped", line.Dropped, 2}, {"time_squeezed", line.TimeSqueezed, 3},
			{"received_rps", line.ReceivedRps, 10}, {"flow_limit", line.FlowLimitCount, 11},
		} {
			if line.Width >= f.since {
				name := perCPU(cpu, f.name)
				if r.grown[name] == nil {
					r.grown[name] = &counter32{}
				}
				counters[name] = r.grown[name].grow(f.raw)
			}
		}
	}
	return counters, nil
}

// counter32 makes a kernel's wrapping 32-bit counter one that only grows, as long as it is read once a lap.
type counter32 struct {
	last  uint32
	total float64
	begun bool
}

func (c *counter32) grow(raw uint32) float64 {
	if !c.begun {
		c.total, c.begun = float64(raw), true
	} else {
		c.total += float64(raw - c.last) // modulo 2³²
	}
	c.last = raw
	return c.total
}
