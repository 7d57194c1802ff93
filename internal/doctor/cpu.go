// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func checkCPUs(_ context.Context, m *machine) []Result {
	const name = "CPUs"
	text, err := m.read("sys/devices/system/cpu/online")
	if err != nil {
		return warn(name, err.Error(), "placement split may not be possible", "mount /sys")
	}
	n, err := countCPUs(text)
	if err != nil {
		return warn(name, err.Error(), "placement split may not be possible", "")
	}
	if n < 2 {
		return required(missing(name, text, "placement split, the default, gives each emulated host CPUs of its own",
			"a machine with two; or --placement shared"))
	}
	return required(ok(name, fmt.Sprintf("%d online (%s)", n, text)))
}

// countCPUs reads a list such as "0-3,8".
func countCPUs(list string) (n int, err error) {
	for _, part := range strings.Split(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		if err != nil {
			return 0, fmt.Errorf("CPU list %q: %q is not a number", list, first)
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(last); err != nil || b < a {
				return 0, fmt.Errorf("CPU list %q: %q is not a range", list, part)
			}
		}
		n += b - a + 1
	}
	return n, nil
}

func checkIdle(_ context.Context, m *machine) []Result {
	const name = "idle states"
	driver, err := m.read("sys/devices/system/cpu/cpuidle/current_driver")
	if err != nil {
		return ok(name, "no cpuidle in this kernel: CPUs halt or poll at once")
	}
	governor, _ := m.read("sys/devices/system/cpu/cpuidle/current_governor")
	if governor == "" {
		governor, _ = m.read("sys/devices/system/cpu/cpuidle/current_governor_ro")
	}
	return ok(name, fmt.Sprintf("driver %s, governor %s", driver, governor))
}

func checkLatencyDevice(_ context.Context, m *machine) []Result {
	const name, path = "cpu_dma_latency", "dev/cpu_dma_latency"
	if m.has(path) {
		return ok(name, "/"+path)
	}
	return warn(name, "no /"+path, "CPUs that go idle between requests move latency several times over, and its spread",
		"a kernel with CONFIG_CPU_IDLE, or boot with idle=poll")
}

// noisySteal is the share above which a trial is called noisy.
const noisySteal = 0.02

// checkSteal watches for a moment what the hypervisor gives to others.
func checkSteal(ctx context.Context, m *machine) []Result {
	const name = "steal"
	steal, total, err := m.cpuTicks()
	if err != nil {
		return warn(name, err.Error(), "it is not known whether others use this machine's CPUs", "mount /proc")
	}
	select {
	case <-time.After(m.window):
	case <-ctx.Done():
		return warn(name, "not watched: "+context.Cause(ctx).Error(), "", "")
	}
	stealAfter, totalAfter, err := m.cpuTicks()
	if err != nil || totalAfter <= total {
		return ok(name, "no clock tick in the time it was watched")
	}
	share := (stealAfter - steal) / (totalAfter - total)
	found := fmt.Sprintf("%.1f %% now", 100*share)
	if share > noisySteal {
		return warn(name, found, "the hypervisor gives CPU time to others: trials are marked noisy above 2 %", "a quieter machine, or a quieter hour")
	}
	return ok(name, found)
}

// cpuTicks are the first line of /proc/stat: user nice system idle iowait irq softirq steal; see proc_stat(5).
func (m *machine) cpuTicks() (steal, total float64, err error) {
	text, err := m.read("proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat: %q has no steal", line)
	}
	for i, v := range f[1:9] {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %q is not a number", v)
		}
		total += n
		if i == 7 {
			steal = n
		}
	}
	return steal, total, nil
}

// checkMitigations sums up what guards the CPU. None is a fault: they cost time, and only like machines compare.
func checkMitigations(_ context.Context, m *machine) []Result {
	const name, dir = "mitigations", "sys/devices/system/cpu/vulnerabilities"
	entries, err := os.ReadDir(filepath.Join(m.root, dir))
	if err != nil {
		return ok(name, "not told by this kernel")
	}
	var mitigated, vulnerable []string
	unaffected := 0
	for _, e := range entries {
		text, _ := m.read(filepath.Join(dir, e.Name()))
		switch {
		case strings.HasPrefix(text, "Not affected"):
			unaffected++
		case strings.HasPrefix(text, "Mitigation"):
			mitigated = append(mitigated, e.Name())
		default:
			vulnerable = append(vulnerable, e.Name())
		}
	}
	found := fmt.Sprintf("%d not affected", unaffected)
	if len(mitigated) > 0 {
		found += "; on: " + strings.Join(mitigated, ", ")
	}
	if len(vulnerable) > 0 {
		found += "; off: " + strings.Join(vulnerable, ", ")
	}
	return ok(name, found)
}
