// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"bufio"
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// cpuFacts are what the CPUs are, what guards them and how fast they may run.
func cpuFacts(t trees, _ string) (econbench.Fingerprint, error) {
	info := content(t.proc, "cpuinfo")
	first := firstCPU(info)
	f := econbench.Fingerprint{
		"cpu.model":     cpuModel(info),
		"cpu.id":        words(first["vendor_id"] + " " + first["cpu family"] + " " + first["model"] + " " + first["stepping"]),
		"cpu.microcode": first["microcode"],
		"cpu.smt":       text(t.sys, "devices/system/cpu/smt/control"),
		"cpu.isolated":  cmp.Or(text(t.sys, "devices/system/cpu/isolated"), "none"),
		"cpu.nohz_full": cmp.Or(strings.Trim(text(t.sys, "devices/system/cpu/nohz_full"), "()"), "none"), // "(null)"
	}
	if f["cpu.nohz_full"] == "null" {
		f["cpu.nohz_full"] = "none"
	}
	flags := strings.Fields(cmp.Or(first["flags"], first["Features"]))
	slices.Sort(flags)
	f["cpu.flags"] = digest(strings.Join(flags, " ")) // a virtual machine's model says little of what it may use
	if online, err := ParseCPUs(text(t.sys, "devices/system/cpu/online")); err == nil {
		f["cpu.count"] = strconv.Itoa(len(online))
		t.perCPU(f, online)
	}
	if nodes, err := ParseCPUs(text(t.sys, "devices/system/node/online")); err == nil {
		f["cpu.numa_nodes"] = strconv.Itoa(len(nodes))
	}
	f["cpu.turbo"] = t.turbo()
	f["cpu.scaling_mode"] = cmp.Or(text(t.sys, "devices/system/cpu/intel_pstate/status"), text(t.sys, "devices/system/cpu/amd_pstate/status"))
	for _, e := range list(t.sys, "devices/system/cpu/vulnerabilities") {
		f["cpu.mitigations."+plainName(e)] = text(t.sys, "devices/system/cpu/vulnerabilities", e)
	}
	return f, nil
}

// perCPU are facts of which each CPU has its own.
func (t trees) perCPU(f econbench.Fingerprint, online []int) {
	each := func(file string) string {
		var values []string
		for _, cpu := range online {
			if v := text(t.sys, "devices/system/cpu/cpu"+strconv.Itoa(cpu), file); v != "" {
				values = append(values, v)
			}
		}
		return same(values)
	}
	f["cpu.scaling_driver"] = each("cpufreq/scaling_driver")
	f["cpu.governor"] = cmp.Or(each("cpufreq/scaling_governor"), "none")
	f["cpu.preference"] = each("cpufreq/energy_performance_preference")
	f["cpu.frequency_min"] = each("cpufreq/scaling_min_freq")
	f["cpu.frequency_max"] = each("cpufreq/scaling_max_freq")
	packages := map[string]bool{}
	for _, cpu := range online {
		if id := text(t.sys, "devices/system/cpu/cpu"+strconv.Itoa(cpu), "topology/physical_package_id"); id != "" {
			packages[id] = true
		}
	}
	if len(packages) > 0 {
		f["cpu.packages"] = strconv.Itoa(len(packages))
	}
}

// turbo is whether CPUs may go beyond their nominal frequency: intel_pstate says it the other way round, others by boost.
func (t trees) turbo() string {
	for _, from := range []struct{ file, on string }{{"intel_pstate/no_turbo", "0"}, {"cpufreq/boost", "1"}, {"cpufreq/policy0/boost", "1"}} {
		switch v := text(t.sys, "devices/system/cpu", from.file); v {
		case "":
		case from.on:
			return "on"
		default:
			return "off"
		}
	}
	return ""
}

// firstCPU are the fields of the first CPU in /proc/cpuinfo.
func firstCPU(cpuinfo []byte) map[string]string {
	fields := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(cpuinfo))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if !ok && len(fields) > 0 {
			break // a blank line ends a CPU
		}
		if key, value = words(key), words(value); value != "" {
			fields[key] = value
		}
	}
	return fields
}

// list are the names in a folder, sorted; none if it can't be read.
func list(elem ...string) (names []string) {
	entries, err := os.ReadDir(filepath.Join(elem...))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// plainName keeps a file's name from being taken for more than the last part of a fact's.
func plainName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, s)
}
