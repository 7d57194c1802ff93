// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// Psi is how long tasks were kept from their work for want of CPU, memory or input and output, in s (pressure stall
// information, Documentation/accounting/psi.rst, CONFIG_PSI): "cpu.some", while at least one waited; "cpu.full", while all that were
// not idle did. The machine's is from /proc/pressure, in which hosts of one kernel are not told apart; "container.cpu.…" is of the
// endpoint's container alone, where its cgroup is of version 2.
//
// A kernel without it, or one that was started with psi=0, is not counted.
type Psi struct{}

var _ econbench.Collector = Psi{}

func (Psi) Name() string { return "psi" }
func (Psi) Help() string {
	return "time that tasks waited for CPU, memory or I/O, the machine's and the container's (/proc/pressure, cpu.pressure)"
}

// Samples takes the worse of two machines; of one the two hosts read the same figure. Counters lie a little further apart than the
// window is long.
func (Psi) Samples(w econbench.Window) (samples []econbench.Sample, _ []string) {
	client, server := hosts(w)
	atClient, ok := client.rate("psi", "cpu.some")
	atServer, also := server.rate("psi", "cpu.some")
	if ok && also {
		samples = append(samples, econbench.Sample{Metric: "psi_cpu", Value: min(1, max(atClient, atServer))})
	}
	return samples, nil
}

type psiReader struct{ proc string }

func (psiReader) Name() string { return "psi" }

// Open finds the files that can be read. With psi=0 they are there and reading fails.
func (r psiReader) Open(s econbench.Scope) (econbench.Reading, error) {
	reading := psiReading{}
	files := map[string]string{}
	for _, resource := range []string{"cpu", "memory", "io"} {
		files[resource] = filepath.Join(r.proc, "pressure", resource)
	}
	dirs, err := cgroupOf(r.proc, s.PID)
	if err != nil {
		return nil, fmt.Errorf("psi: %w", err)
	}
	if dirs.unified != "" {
		files["container.cpu"] = filepath.Join(dirs.unified, "cpu.pressure")
	}
	for resource, name := range files {
		if _, err := os.ReadFile(name); err == nil {
			reading[resource] = name
		}
	}
	return reading, nil
}

// psiReading are files by what their counters' names begin with.
type psiReading map[string]string

func (psiReading) Close() error { return nil }

func (r psiReading) Read() (econbench.Counters, error) {
	counters := econbench.Counters{}
	for resource, name := range r {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("psi: %w", err)
		}
		stalls, err := parsePressure(b)
		if err != nil {
			return nil, fmt.Errorf("psi: %s: %w", name, err)
		}
		for kind, s := range stalls {
			counters[resource+"."+kind] = s
		}
	}
	return counters, nil
}

// parsePressure reads lines such as "some avg10=0.00 avg60=0.00 avg300=0.00 total=12", whose total is in µs, as s. A machine has
// had "full" of its CPUs since Linux 5.13, as 0 always.
func parsePressure(b []byte) (map[string]float64, error) {
	stalls := map[string]float64{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		kind, rest, _ := strings.Cut(line, " ")
		_, total, ok := strings.Cut(rest, "total=")
		if kind != "some" && kind != "full" || !ok {
			return nil, fmt.Errorf("line %q: want some or full, and a total", line)
		}
		us, err := strconv.ParseUint(total, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		stalls[kind] = float64(us) / 1e6
	}
	if len(stalls) == 0 {
		return nil, fmt.Errorf("empty")
	}
	return stalls, nil
}
