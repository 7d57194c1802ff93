// SPDX-License-Identifier: Apache-2.0

package collectors

// The headers in fastpath/bpf/lib/asm stand for the machine's, which -target bpfel must not see.
//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -I ../fastpath/bpf/lib" exact bpf/exact.bpf.c

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// Exact is CPU time by what it was spent on, in s per CPU ("cpu0.softirq"), from BPF programs on the tracepoints where a CPU
// goes over from one thing to another (see bpf/exact.bpf.c): nothing is sampled and nothing rounded.
//
//	program, kthread   tasks, less what interrupts them
//	softirq, irq       wherever they ran: over a task, in ksoftirqd, over the idle task
//	asleep, idle       the idle task: halted or polling; on its way there and back, which is work that nobody asked for
//	wall               all of these, by construction
//
// Busy is program + kthread + softirq + irq. It includes what the hypervisor stole while the CPU was not asleep. Interrupts
// are those with a tracepoint around their handler; the time before and after it, and all of the rest, stay with what they
// interrupted.
//
// It is not in every run, since each change of context then costs more: on two virtual cores a request-response lost 6 to 26 %
// of its rate, a stream 5 to 8 % (docs/measuring.md).
type Exact struct{}

var (
	_ econbench.Collector = Exact{}
	_ econbench.Costly    = Exact{}
)

func (Exact) Name() string { return "exact" }
func (Exact) Help() string {
	return "CPU time by context, each change of it timed by BPF; costs time itself: with --cpu exact"
}

// Wanted is what --cpu exact says.
func (Exact) Wanted(p econbench.Plan) bool { return p.CPU == econbench.CPUExact }

// exactMetrics are sums of parts, in cores.
var exactMetrics = []struct {
	metric string
	parts  []string
}{
	{"cpu_exact", []string{"program", "kthread", "softirq", "irq"}},
	{"cpu_exact_task", []string{"program", "kthread"}},
	{"cpu_exact_softirq", []string{"softirq"}},
	{"cpu_exact_irq", []string{"irq"}},
	{"cpu_exact_idling", []string{"idle"}},
}

func (Exact) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	if len(client.Counters["exact"])+len(server.Counters["exact"]) == 0 {
		return nil, nil // the plan did not ask for it
	}
	for _, m := range exactMetrics {
		var cores float64
		for _, h := range []host{client, server} {
			c, err := h.exactCores(m.parts)
			if err != nil {
				return nil, []string{err.Error()}
			}
			cores += c
		}
		samples = append(samples, econbench.Sample{Metric: m.metric, Value: cores})
	}
	return samples, nil
}

// exactCores adds parts up over the host's CPUs. Each CPU was read at a moment of its own, so its own wall time counts.
func (h host) exactCores(parts []string) (cores float64, err error) {
	for _, cpu := range h.cpus {
		wall := h.Counters["exact"][perCPU(cpu, "wall")]
		for _, part := range parts {
			v, ok := h.Counters["exact"][perCPU(cpu, part)]
			if !ok || wall <= 0 {
				return 0, fmt.Errorf("exact: %s: no figures for CPU %d", h.name, cpu)
			}
			cores += v / wall
		}
	}
	return cores, nil
}

type exactReader struct{}

func (exactReader) Name() string { return "exact" }

// Open attaches the programs, which count from then on, and reads each CPU once: that is what tells of one that does not
// switch from here to the end of the window.
func (exactReader) Open(s econbench.Scope) (_ econbench.Reading, err error) {
	r := &exactReading{cpus: s.CPUs}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("exact: %w", err), r.Close())
		}
	}()
	if err := exactSupported(); err != nil {
		return nil, err
	}
	if err := r.load(); err != nil {
		return nil, err
	}
	if err := r.attach(); err != nil {
		return nil, err
	}
	_, err = r.Read()
	return r, err
}

// exactSupported says what the kernel lacks, before the verifier does in its own words.
func exactSupported() error {
	if realtime, err := os.ReadFile("/sys/kernel/realtime"); err == nil && bytes.HasPrefix(realtime, []byte("1")) {
		return errors.New("kernel is PREEMPT_RT, whose softirqs are preempted: want one that is not; leave --cpu exact away")
	}
	if _, err := btf.LoadKernelSpec(); err != nil {
		return fmt.Errorf("kernel's types: %w: want Linux 5.10 or newer with CONFIG_DEBUG_INFO_BTF; leave --cpu exact away", err)
	}
	if err := features.HaveProgramType(ebpf.Tracing); errors.Is(err, ebpf.ErrNotSupported) {
		return fmt.Errorf("kernel has no tracing programs: want Linux 5.10 or newer: %w", err)
	}
	return nil // a probe that failed otherwise proves nothing: loading will tell
}

// tracepointPair is what stands around the handler of some interrupts.
type tracepointPair struct{ entry, exit string }

// otherInterrupts are those that are not in irq_handler, by the architectures that have them: the local APIC's vectors of
// x86 (include/asm/trace/irq_vectors.h), interrupts between CPUs on arm64 (kernel/smp.c).
var otherInterrupts = []tracepointPair{
	{"local_timer_entry", "local_timer_exit"}, {"reschedule_entry", "reschedule_exit"},
	{"call_function_entry", "call_function_exit"}, {"call_function_single_entry", "call_function_single_exit"},
	{"irq_work_entry", "irq_work_exit"}, {"ipi_entry", "ipi_exit"},
}

// The programs that each pair gets copies of, and the one that is run and not attached.
const (
	progIRQBegins = "irq_begins"
	progIRQEnds   = "irq_ends"
	progReadCPU   = "read_cpu"
)

// exactUnasked is UNASKED of enum state.
const exactUnasked = 1

type exactReading struct {
	cpus  []int
	coll  *ebpf.Collection
	links []link.Link
}

// load makes the maps as long as the host's CPUs need, and a copy of the interrupts' programs for each pair of tracepoints.
func (r *exactReading) load() error {
	if len(r.cpus) == 0 {
		return errors.New("no CPUs to count")
	}
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11, and there a few pages may fit all the same
		fmt.Fprintln(os.Stderr, "exact:", err)
	}
	spec, err := loadExact()
	if err != nil {
		return err
	}
	for _, name := range []string{"cpus", "accounts"} {
		spec.Maps[name].MaxEntries = uint32(slices.Max(r.cpus) + 1)
	}
	for _, pair := range otherInterrupts {
		if traced(pair.entry) && traced(pair.exit) {
			spec.Programs[pair.entry] = attachedTo(spec.Programs[progIRQBegins], pair.entry)
			spec.Programs[pair.exit] = attachedTo(spec.Programs[progIRQEnds], pair.exit)
		}
	}
	r.coll, err = ebpf.NewCollection(spec)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("load programs: %w (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, are needed)", err)
	}
	if err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	for _, cpu := range r.cpus {
		if err := r.coll.Maps["cpus"].Put(uint32(cpu), exactCpu{State: exactUnasked}); err != nil {
			return fmt.Errorf("CPU %d: %w", cpu, err)
		}
	}
	return nil
}

// traced says whether the kernel has a tracepoint, by the type that programs on it are checked against.
func traced(tracepoint string) bool {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return false
	}
	var t *btf.Typedef
	return spec.TypeByName("btf_trace_"+tracepoint, &t) == nil
}

// attachedTo is the same program for another tracepoint.
func attachedTo(p *ebpf.ProgramSpec, tracepoint string) *ebpf.ProgramSpec {
	p = p.Copy()
	p.AttachTo = tracepoint
	return p
}

// attach attaches all programs but the one that is run.
func (r *exactReading) attach() error {
	for _, name := range attachOrder(slices.Collect(maps.Keys(r.coll.Programs))) {
		l, err := link.AttachTracing(link.TracingOptions{Program: r.coll.Programs[name]})
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		r.links = append(r.links, l)
	}
	return nil
}

// attachOrder has ends before beginnings: a beginning whose end nobody saw would go on until the next one.
func attachOrder(programs []string) (order []string) {
	for _, ends := range []bool{true, false} {
		for _, name := range slices.Sorted(slices.Values(programs)) {
			if name != progReadCPU && (strings.HasSuffix(name, "_ends") || strings.HasSuffix(name, "_exit")) == ends {
				order = append(order, name)
			}
		}
	}
	return order
}

// Read runs a program on each CPU, which finds out what is under way there. CPUs are read one after the other, each with its
// own wall clock.
func (r *exactReading) Read() (econbench.Counters, error) {
	counters := econbench.Counters{}
	for _, cpu := range r.cpus {
		failed, err := r.coll.Programs[progReadCPU].Run(&ebpf.RunOptions{CPU: uint32(cpu), Flags: unix.BPF_F_TEST_RUN_ON_CPU})
		if err == nil && failed != 0 {
			err = errors.New("it is not counted")
		}
		if err != nil {
			return nil, fmt.Errorf("exact: read CPU %d: %w", cpu, err)
		}
		var found exactAccount
		if err := r.coll.Maps["accounts"].Lookup(uint32(cpu), &found); err != nil {
			return nil, fmt.Errorf("exact: reading of CPU %d: %w", cpu, err)
		}
		for name, ns := range found.parts() {
			counters[perCPU(cpu, name)] = float64(int64(ns)) / 1e9 // parts may go back a little, to below 0 at their beginning
		}
	}
	return counters, nil
}

// parts names what a CPU's time went to, the tasks in the order of enum kind.
func (r exactAccount) parts() map[string]uint64 {
	return map[string]uint64{
		"wall": r.Wall, "irq": r.Irq, "softirq": r.Softirq,
		"program": r.Tasks[0], "kthread": r.Tasks[1], "idle": r.Tasks[2], "asleep": r.Tasks[3],
	}
}

// Close detaches the programs before it lets go of what they count in.
func (r *exactReading) Close() (err error) {
	for _, l := range slices.Backward(r.links) {
		err = errors.Join(err, l.Close())
	}
	if r.coll != nil {
		r.coll.Close()
	}
	r.links, r.coll = nil, nil
	return err
}
