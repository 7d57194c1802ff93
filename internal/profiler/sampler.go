// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"

	"github.com/econbench/econbench/internal/profile"
)

// sampler adds samples up by stack, with addresses in the place of names.
type sampler struct {
	proc      string
	stacks    map[string]*rawStack
	processes map[int]*process
	binaries  binaries
	samples   int
	lost      int
	stops     int
}

// rawStack is a stack as the kernel tells it.
type rawStack struct {
	pid          int // as this process's PID namespace shows it; 0: it does not, or there is no process
	kernel, user []uint64
	count        int
}

// take adds what was drained from a ring. Processes are looked at when they are first seen: some end soon.
func (s *sampler) take(drained []byte) {
	parseRecords(drained, func(r record) {
		s.lost += r.lost
		s.stops += r.stops
		if !r.sample {
			return
		}
		s.samples++
		pid := max(r.pid, 0)
		key := binary.NativeEndian.AppendUint64(nil, uint64(pid))
		for _, ip := range r.chain {
			key = binary.NativeEndian.AppendUint64(key, ip)
		}
		raw := s.stacks[string(key)]
		if raw == nil {
			raw = &rawStack{pid: pid}
			raw.kernel, raw.user = splitChain(r.chain)
			s.stacks[string(key)] = raw
			if pid != 0 && s.processes[pid] == nil {
				s.processes[pid] = s.binaries.lookAt(s.proc, pid)
			}
		}
		raw.count++
	})
}

// lookAgain looks at processes once more that have become another program since they were first seen.
func (s *sampler) lookAgain() {
	for pid, was := range s.processes {
		if now := s.binaries.lookAt(s.proc, pid); len(now.maps) > 0 && (now.name != was.name || len(now.maps) > len(was.maps)) {
			s.processes[pid] = now
		}
	}
}

// name turns addresses into names.
func (s *sampler) name(symbols kernelSymbols) (r profile.Recording) {
	r.Samples, r.Lost, r.Throttled = s.samples, s.lost, s.stops
	numbers := map[string]int{}
	merged := map[string]*profile.Counted{}
	for _, raw := range s.stacks {
		owner, frames, resolved := s.frames(raw, symbols)
		if !resolved {
			r.Unresolved += raw.count
		}
		key := owner + ";" + strings.Join(frames, ";")
		c := merged[key]
		if c == nil {
			c = &profile.Counted{Owner: owner}
			for _, f := range frames {
				n, known := numbers[f]
				if !known {
					n = len(r.Frames)
					numbers[f] = n
					r.Frames = append(r.Frames, f)
				}
				c.Frames = append(c.Frames, n)
			}
			merged[key] = c
		}
		c.Count += raw.count
	}
	for _, c := range merged {
		r.Stacks = append(r.Stacks, *c)
	}
	return r
}

// unknown is a function without a name.
const unknown = "[unknown]"

// frames are a stack's names, the process's first, and whose it is. resolved tells whether its innermost function has a name.
func (s *sampler) frames(raw *rawStack, symbols kernelSymbols) (owner string, frames []string, resolved bool) {
	var kernel []string
	resolved = true
	for i, ip := range raw.kernel {
		if i > 0 {
			ip-- // where a call returns to may be the next function
		}
		name, ok := symbols.at(ip)
		if !ok {
			name = unknown + profile.KernelSuffix
		}
		resolved = resolved && (ok || i > 0)
		kernel = append(kernel, name)
	}
	slices.Reverse(kernel)
	p := s.processes[raw.pid]
	owner, name := owned(raw.pid, p, kernel)
	if name == profile.Idle {
		return owner, []string{name}, true
	}
	if name == profile.Others || name == profile.Agent {
		if from := networkSoftirq(kernel); from >= 0 {
			return owner, append([]string{profile.Interrupted}, kernel[from:]...), resolved
		}
		return owner, []string{name}, true
	}
	frames = []string{name}
	if p != nil {
		user, ok := p.frames(raw.user)
		frames = append(frames, user...)
		resolved = resolved && (ok || len(kernel) > 0)
	}
	return owner, append(frames, kernel...), resolved
}

// owned tells whose a task is, and what it is called. Where the agent's PID namespace is not the machine's first one it does not
// show kernel threads: they tell themselves by what they run.
func owned(pid int, p *process, kernel []string) (owner, name string) {
	has := func(functions ...string) bool {
		return slices.ContainsFunc(kernel, func(f string) bool {
			return slices.Contains(functions, strings.TrimSuffix(f, profile.KernelSuffix))
		})
	}
	thread := len(kernel) > 0 && strings.HasPrefix(kernel[0], "ret_from_fork")
	switch {
	case pid == 0 && has("do_idle", "cpu_startup_entry"):
		if slices.Contains(waits, strings.TrimSuffix(kernel[len(kernel)-1], profile.KernelSuffix)) {
			return profile.OwnerKernel, profile.Idle
		}
		return profile.OwnerKernel, "swapper" // interrupts and their softirqs, and the way to sleep and back
	case has("run_ksoftirqd"):
		return profile.OwnerKernel, "ksoftirqd"
	case has("napi_threaded_poll", "napi_threaded_poll_loop"):
		return profile.OwnerKernel, "napi"
	case thread: // writes files back, scans memory: the machine's
		return profile.OwnerKernel, profile.Others
	case pid == os.Getpid():
		return profile.OwnerHost, profile.Agent
	case p != nil:
		return profile.OwnerHost, p.name
	}
	return profile.OwnerOther, profile.Others
}

// networkSoftirq finds where softirqs begin to be handled, if they are the network's; else -1. Others (timers, RCU) are the whole
// machine's. The function's name is another from Linux 6.9 on.
func networkSoftirq(kernel []string) int {
	is := func(names ...string) func(string) bool {
		return func(f string) bool { return slices.Contains(names, strings.TrimSuffix(f, profile.KernelSuffix)) }
	}
	if !slices.ContainsFunc(kernel, is("net_rx_action", "net_tx_action")) {
		return -1
	}
	return slices.IndexFunc(kernel, is("handle_softirqs", "__do_softirq"))
}

// waits are the functions in which an idle CPU waits, by the ways that there are to wait.
var waits = []string{
	"default_idle", "default_idle_call", "native_safe_halt", "pv_native_safe_halt", "arch_cpu_idle", "cpu_idle_poll", "poll_idle",
	"mwait_idle", "mwait_idle_with_hints", "intel_idle", "intel_idle_irq", "intel_idle_ibrs", "intel_idle_xstate", "acpi_idle_enter", "acpi_idle_do_entry", "acpi_safe_halt",
	"default_enter_idle", "haltpoll_enter_idle", "cpuidle_enter_state", "cpuidle_enter", "tdx_safe_halt", "xen_safe_halt", "cpu_do_idle", "amd_e400_idle",
}
