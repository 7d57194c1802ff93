// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/procfs"

	"github.com/econbench/econbench"
)

// Stat is CPU time from /proc/stat, in s per CPU ("cpu0.idle"), and the machine's context switches ("ctxt", 1).
//
// Busy is wall time less idle and iowait. On kernels with NO_HZ those two are exact (get_cpu_idle_time_us: the clock at
// entry and exit of idle and around interrupts within, tick_irq_enter). What an idle CPU takes to wake up and to change to a
// task is busy, then: in a request-response it was 0.09 of 1.1 cores more than what programs, softirqs and handlers of
// interrupts took (docs/measuring.md holds it against Exact). It is what the path costs all the same. Meanwhile user, system and softirq are whatever the tick found (CONFIG_TICK_CPU_ACCOUNTING): in a
// TCP_RR of many short sleeps they added up to 15 % less than wall time, and softirq to half as much again as it was. The file's unit is 10 ms (USER_HZ), so over a
// window of 1 s busy is good to about 1 % of a CPU. Busy includes what the hypervisor stole while the CPU was not idle;
// steal stands beside it.
type Stat struct{}

var _ econbench.Collector = Stat{}

const (
	// noisySteal is the share of busy time stolen above which a trial is marked noisy.
	noisySteal = 0.02
	// escaped is how many cores' worth of work outside the hosts' CPUs is worth a warning.
	escaped = 0.25
)

func (Stat) Name() string { return "stat" }
func (Stat) Help() string {
	return "CPU time per CPU from /proc/stat: busy (exact), softirq (sampled), steal"
}

func (Stat) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	add := func(metric string, v float64) {
		samples = append(samples, econbench.Sample{Metric: metric, Value: v})
	}
	busyClient, errClient := client.busy()
	busyServer, errServer := server.busy()
	for _, err := range []error{errClient, errServer} {
		if err != nil {
			warnings = append(warnings, err.Error())
		}
	}
	if errClient == nil && errServer == nil {
		add("cpu", busyClient+busyServer)
	}
	if separate(w) {
		if errClient == nil {
			add("cpu_client", busyClient)
		}
		if errServer == nil {
			add("cpu_server", busyServer)
		}
	}
	if softirq, ok := coresOfBoth(client, server, "softirq"); ok {
		add("softirq", softirq)
	}
	if stolen, ok := coresOfBoth(client, server, "steal"); ok {
		add("steal", stolen/float64(len(client.cpus)+len(server.cpus)))
		// Held against what was busy, for idle CPUs, from which nothing is stolen, would dilute it.
		if busy := busyClient + busyServer; errClient == nil && errServer == nil && stolen > noisySteal*busy {
			warnings = append(warnings, fmt.Sprintf("noisy: the hypervisor took %.1f %% of the busy CPU time away", 100*min(1, stolen/busy)))
		}
	}
	return samples, append(warnings, strays(w)...)
}

// busy is the host's busy time in cores. Rounding may make an idle CPU's idle time exceed the window a little; its errors
// have no bias, so they are left to cancel out over the CPUs: clamping each one at 0 would keep those above alone.
func (h host) busy() (float64, error) {
	counters := h.Counters["stat"]
	if len(counters) == 0 || h.Seconds <= 0 {
		return 0, fmt.Errorf("stat: %s: not collected", h.name)
	}
	var sum float64
	for _, cpu := range h.cpus {
		busy, ok := busyOf(counters, cpu, float64(h.Seconds))
		if !ok {
			return 0, fmt.Errorf("stat: %s: no figures for CPU %d; did it go offline?", h.name, cpu)
		}
		sum += busy
	}
	return max(0, sum) / float64(h.Seconds), nil
}

// busyOf is one CPU's busy time in s. Idle time is rounded to 10 ms at both ends: of an idle CPU it may be a little negative.
func busyOf(counters econbench.Counters, cpu int, wall float64) (float64, bool) {
	idle, ok := counters[perCPU(cpu, "idle")]
	return wall - idle - counters[perCPU(cpu, "iowait")], ok
}

// coresOfBoth adds a field up over both hosts, in cores.
func coresOfBoth(client, server host, field string) (float64, bool) {
	var sum float64
	for _, h := range []host{client, server} {
		s, ok := h.sumCPUs("stat", field)
		if !ok || h.Seconds <= 0 {
			return 0, false
		}
		sum += s / float64(h.Seconds)
	}
	return sum, len(client.cpus)+len(server.cpus) > 0
}

// strays warns of work on CPUs that belong to neither host: the workload's, it would be missing from cpu.
func strays(w econbench.Window) (warnings []string) {
	client, server := hosts(w)
	if w.SharedKernel {
		both := slices.Concat(w.ClientCPUs, w.ServerCPUs)
		client.cpus, client.name = both, "machine"
		return client.strays()
	}
	return append(client.strays(), server.strays()...)
}

func (h host) strays() []string {
	var busy float64
	for name := range h.Counters["stat"] {
		var cpu int
		if field := strings.TrimPrefix(name, "cpu"); !strings.HasSuffix(name, ".idle") || field == name {
			continue
		} else if _, err := fmt.Sscanf(field, "%d.idle", &cpu); err != nil || slices.Contains(h.cpus, cpu) {
			continue
		}
		b, _ := busyOf(h.Counters["stat"], cpu, float64(h.Seconds))
		busy += b
	}
	if h.Seconds <= 0 || busy/float64(h.Seconds) <= escaped {
		return nil
	}
	return []string{fmt.Sprintf("stat: %s: %.2f cores were busy on CPUs that the run does not count", h.name, busy/float64(h.Seconds))}
}

type statReader struct{ proc string }

func (statReader) Name() string { return "stat" }

// Open finds out how many columns this kernel has, since the parser gives 0 for those that are missing.
func (r statReader) Open(econbench.Scope) (econbench.Reading, error) {
	fs, err := procfs.NewFS(r.proc)
	if err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	name := filepath.Join(r.proc, "stat")
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	columns := len(strings.Fields(first)) - 1
	if !strings.HasPrefix(first, "cpu ") || columns < 4 {
		return nil, fmt.Errorf("stat: %s: line %q: want cpu and four or more numbers", name, first)
	}
	return &statReading{fs, name, columns}, nil
}

type statReading struct {
	fs      procfs.FS
	name    string
	columns int // of a cpu line, its name not counted
}

func (r *statReading) Close() error { return nil }

func (r *statReading) Read() (econbench.Counters, error) {
	stat, err := r.fs.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat: %w", err)
	}
	if len(stat.CPU) == 0 {
		return nil, fmt.Errorf("stat: %s: no cpu lines", r.name)
	}
	counters := econbench.Counters{"ctxt": float64(stat.ContextSwitches)}
	for cpu, s := range stat.CPU {
		for i, field := range []struct {
			name string
			s    float64
		}{
			{"user", s.User}, {"nice", s.Nice}, {"system", s.System}, {"idle", s.Idle}, {"iowait", s.Iowait},
			{"irq", s.IRQ}, {"softirq", s.SoftIRQ}, {"steal", s.Steal}, {"guest", s.Guest}, {"guest_nice", s.GuestNice},
		} {
			if i < r.columns {
				counters[perCPU(int(cpu), field.name)] = field.s
			}
		}
	}
	return counters, nil
}
