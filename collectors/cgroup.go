// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// Cgroup is the CPU time of the endpoint's container in s: usage, and user and system where the kernel splits it, from
// cpu.stat (cgroup v2, whether or not its cpu controller is on) or cpuacct.usage… (v1). What is left of a host's busy CPU time
// (Stat) is the rest: kernel threads, ksoftirqd among them, softirqs and interrupts over the idle task, the engine, the agent.
//
// usage is the scheduler's clock, to the nanosecond, but it is of tasks: unless the kernel times interrupts by themselves
// (CONFIG_IRQ_TIME_ACCOUNTING), a softirq counts as the time of the task that it interrupted, whoever's packet it was for.
// So on a busy CPU most of the path's softirq work is in its programs' figures, on an idle one in the rest. Exact tells the two apart.
// The containers hold the programs of all workloads; those that don't run take none.
type Cgroup struct{}

var _ econbench.Collector = Cgroup{}

func (Cgroup) Name() string { return "cgroup" }
func (Cgroup) Help() string {
	return "CPU time of the client's and the server's container (cgroup), and what the rest of the hosts' CPUs took"
}

func (Cgroup) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	ofClient, ok := client.rate("cgroup", "usage")
	if ok {
		samples = append(samples, econbench.Sample{Metric: "cpu_of_client", Value: ofClient})
	}
	ofServer, also := server.rate("cgroup", "usage")
	if also {
		samples = append(samples, econbench.Sample{Metric: "cpu_of_server", Value: ofServer})
	}
	atClient, errClient := client.busy()
	atServer, errServer := server.busy()
	if ok && also && errClient == nil && errServer == nil {
		// busy is rounded to 10 ms a CPU: where there is next to no rest it may come out below 0.
		samples = append(samples, econbench.Sample{Metric: "cpu_of_rest", Value: max(0, atClient+atServer-ofClient-ofServer)})
	}
	for _, h := range []host{client, server} {
		if s := h.Counters["cgroup"]["throttled"]; s > 0 {
			warnings = append(warnings, fmt.Sprintf("cgroup: %s: the container was kept from running for %.3f s (its CPU limit)", h.name, s))
		}
	}
	return samples, warnings
}

type cgroupReader struct{ proc string }

func (cgroupReader) Name() string { return "cgroup" }

// Open finds the container's cgroup. A host that does not show it, to an agent with rights of another kind, say, is not counted.
func (r cgroupReader) Open(s econbench.Scope) (econbench.Reading, error) {
	return each(s.PIDs(), r.open)
}

func (r cgroupReader) open(pid int) (econbench.Reading, error) {
	dirs, err := cgroupOf(r.proc, pid)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	for _, reading := range []cgroupReading{
		{filepath.Join(dirs.unified, "cpu.stat"), dirs.unified, readCPUStat},
		{filepath.Join(dirs.cpuacct, "cpuacct.usage"), dirs.cpuacct, readCPUAcct},
	} {
		if _, err := os.Stat(reading.file); reading.dir != "" && err == nil {
			return reading, nil
		}
	}
	return Nothing{}, nil
}

type cgroupReading struct {
	file string // that tells whether there is such a cgroup
	dir  string
	read func(dir string) (econbench.Counters, error)
}

func (cgroupReading) Close() error { return nil }

func (r cgroupReading) Read() (econbench.Counters, error) {
	c, err := r.read(r.dir)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return c, nil
}

// readCPUStat reads a cgroup of version 2 (Documentation/admin-guide/cgroup-v2.rst).
func readCPUStat(dir string) (econbench.Counters, error) {
	name := filepath.Join(dir, "cpu.stat")
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	c, err := parseCPUStat(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// cpuStatNames are the lines that count, in µs.
var cpuStatNames = map[string]string{"usage_usec": "usage", "user_usec": "user", "system_usec": "system", "throttled_usec": "throttled"}

// parseCPUStat reads lines of a name and a number. throttled_usec is there only where the cpu controller is on.
func parseCPUStat(b []byte) (econbench.Counters, error) {
	c := econbench.Counters{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			return nil, fmt.Errorf("line %q: want a name and a number", strings.TrimSpace(line))
		}
		counter, known := cpuStatNames[name]
		if !known {
			continue
		}
		us, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", strings.TrimSpace(line), err)
		}
		c[counter] = float64(us) / 1e6
	}
	if _, ok := c["usage"]; !ok {
		return nil, fmt.Errorf("no line usage_usec")
	}
	return c, nil
}

// readCPUAcct reads a cgroup of version 1, in ns (Documentation/admin-guide/cgroup-v1/cpuacct.rst; the split since Linux 4.7).
func readCPUAcct(dir string) (econbench.Counters, error) {
	c := econbench.Counters{}
	for file, counter := range map[string]string{"cpuacct.usage": "usage", "cpuacct.usage_user": "user", "cpuacct.usage_sys": "system"} {
		name := filepath.Join(dir, file)
		b, err := os.ReadFile(name)
		if os.IsNotExist(err) && counter != "usage" {
			continue
		}
		if err != nil {
			return nil, err
		}
		ns, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: line %q: %w", name, bytes.TrimSpace(b), err)
		}
		c[counter] = float64(ns) / 1e9
	}
	return c, nil
}
