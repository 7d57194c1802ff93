// SPDX-License-Identifier: Apache-2.0

// Package hostfacts reads what an agent can tell of its host without being told anything: what kind of machine it is
// and which of its addresses may be its end of the wire. It changes nothing.
package hostfacts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// Facts reads the host's facts. Of HostFacts it fills in Hostname, BootID, Kernel, CPUModel, OnlineCPUs and BTF.
func Facts() (econbench.HostFacts, error) { return factsAt("/proc", "/sys") }

func factsAt(proc, sys string) (econbench.HostFacts, error) {
	var f econbench.HostFacts
	for path, into := range map[string]*string{
		"sys/kernel/hostname":       &f.Hostname,
		"sys/kernel/random/boot_id": &f.BootID,
		"sys/kernel/osrelease":      &f.Kernel,
	} {
		b, err := os.ReadFile(filepath.Join(proc, path))
		if err != nil {
			return f, fmt.Errorf("host facts: %w", err)
		}
		if *into = strings.TrimSpace(string(b)); *into == "" {
			return f, fmt.Errorf("host facts: %s: empty", filepath.Join(proc, path))
		}
	}
	cpuinfo, err := os.ReadFile(filepath.Join(proc, "cpuinfo"))
	if err != nil {
		return f, fmt.Errorf("host facts: %w", err)
	}
	f.CPUModel = cpuModel(cpuinfo)
	online, err := os.ReadFile(filepath.Join(sys, "devices/system/cpu/online"))
	if err != nil {
		return f, fmt.Errorf("host facts: %w", err)
	}
	if f.OnlineCPUs, err = ParseCPUs(strings.TrimSpace(string(online))); err != nil {
		return f, fmt.Errorf("host facts: online CPUs: %w", err)
	}
	if f.OnlineCPUs, err = besideSiblings(f.OnlineCPUs, sys); err != nil {
		return f, fmt.Errorf("host facts: %w", err)
	}
	_, err = os.Stat(filepath.Join(sys, "kernel/btf/vmlinux"))
	if f.BTF = err == nil; err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f, fmt.Errorf("host facts: BTF: %w", err)
	}
	return f, nil
}

// cpuModel finds the first CPU's name in /proc/cpuinfo. What architectures call it differs, and arm64 gives only
// numbers (arch/*/kernel/{proc,cpuinfo,setup}.c); "unknown" when there is nothing to go by.
func cpuModel(cpuinfo []byte) string {
	fields := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(cpuinfo))
	lines.Buffer(nil, 1<<20) // the flags of a CPU are a long line
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if _, seen := fields[key]; !seen && value != "" {
			fields[key] = value
		}
	}
	for _, key := range []string{"model name", "Model Name", "cpu model", "uarch", "cpu", "Model"} {
		if fields[key] != "" {
			return fields[key]
		}
	}
	if implementer, part := fields["CPU implementer"], fields["CPU part"]; implementer != "" && part != "" {
		return "implementer " + implementer + " part " + part
	}
	return "unknown"
}

// besideSiblings orders CPUs such that the threads of a core stand side by side: a list cut in half then gives no two
// hosts the threads of one core, but for one core if the cut falls into it. Many machines number all first threads before
// all second ones. Where the kernel tells no topology the order stays.
func besideSiblings(cpus []int, sys string) (ordered []int, err error) {
	for _, cpu := range cpus {
		if slices.Contains(ordered, cpu) {
			continue
		}
		siblings := []int{cpu}
		name := filepath.Join(sys, "devices/system/cpu", fmt.Sprintf("cpu%d", cpu), "topology/thread_siblings_list")
		b, err := os.ReadFile(name)
		if err == nil {
			if siblings, err = ParseCPUs(strings.TrimSpace(string(b))); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		ordered = append(ordered, cpu)
		for _, s := range siblings {
			if slices.Contains(cpus, s) && !slices.Contains(ordered, s) {
				ordered = append(ordered, s)
			}
		}
	}
	return ordered, nil
}

// ParseCPUs reads a kernel's CPU list, "0-3,8".
func ParseCPUs(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		from, err1 := strconv.Atoi(low)
		to, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || from < 0 || to < from || to >= maxCPUs {
			return nil, fmt.Errorf("CPU list %q: want numbers and ranges, as in 0-3,8", list)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, cpu)
		}
		if len(cpus) > maxCPUs {
			return nil, fmt.Errorf("CPU list %.40q…: names CPUs more than once", list)
		}
	}
	return cpus, nil
}

// maxCPUs is above what any kernel is built for (NR_CPUS is 8192 at most), so that a list cannot ask for all memory.
const maxCPUs = 1 << 16
