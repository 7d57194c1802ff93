// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"math"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// exactWindow: over 2 s CPU 0 was busy 1.5 s, CPU 1 0.5 s, each as both hosts read it.
func exactWindow(client, server []int) econbench.Window {
	counters := econbench.Counters{
		"cpu0.wall": 2, "cpu0.program": 0.8, "cpu0.kthread": 0.1, "cpu0.softirq": 0.5, "cpu0.irq": 0.1, "cpu0.idle": 0.2, "cpu0.asleep": 0.3,
		"cpu1.wall": 2, "cpu1.program": 0.2, "cpu1.kthread": 0, "cpu1.softirq": 0.2, "cpu1.irq": 0.1, "cpu1.idle": 0, "cpu1.asleep": 1.5,
	}
	h := econbench.HostWindow{Seconds: 1.99, Counters: map[string]econbench.Counters{"exact": counters}}
	return econbench.Window{Client: h, Server: h, ClientCPUs: client, ServerCPUs: server, SharedKernel: true, Apart: true}
}

func TestExactSamples(t *testing.T) {
	both := map[string]float64{"cpu_exact": 1, "cpu_exact_task": 0.55, "cpu_exact_softirq": 0.35, "cpu_exact_irq": 0.1, "cpu_exact_idling": 0.1}
	one := map[string]float64{"cpu_exact": 0.75, "cpu_exact_task": 0.45, "cpu_exact_softirq": 0.25, "cpu_exact_irq": 0.05, "cpu_exact_idling": 0.1}
	for _, test := range []struct {
		name           string
		client, server []int
		change         func(*econbench.Window)
		want           map[string]float64
		warn           []string
	}{
		{"split", []int{0}, []int{1}, nil, both, nil},
		{"shared counts once", []int{0}, []int{0}, nil, one, nil},
		{"two machines with the same CPU numbers", []int{0}, []int{0}, func(w *econbench.Window) { w.SharedKernel = false },
			map[string]float64{"cpu_exact": 1.5, "cpu_exact_task": 0.9, "cpu_exact_softirq": 0.5, "cpu_exact_irq": 0.1, "cpu_exact_idling": 0.2}, nil},
		{"not asked for", []int{0}, []int{1}, func(w *econbench.Window) { w.Client.Counters, w.Server.Counters = nil, nil }, map[string]float64{}, nil},
		{"one host alone", []int{0}, []int{1}, func(w *econbench.Window) { w.Server.Counters = nil }, map[string]float64{},
			[]string{"exact: server: no figures for CPU 1"}},
		{"a part went backwards", []int{0}, []int{1}, func(w *econbench.Window) { delete(w.Client.Counters["exact"], "cpu0.irq") }, map[string]float64{},
			[]string{"exact: client: no figures for CPU 0"}},
		{"no time passed", []int{0}, []int{1}, func(w *econbench.Window) { w.Client.Counters["exact"]["cpu0.wall"] = 0 }, map[string]float64{},
			[]string{"exact: client: no figures for CPU 0"}},
	} {
		w := exactWindow(test.client, test.server)
		if test.change != nil {
			test.change(&w)
		}
		samples, warnings := Exact{}.Samples(w)
		got := values(samples)
		if len(got) != len(test.want) || !slices.Equal(warnings, test.warn) {
			t.Errorf("%s: %v, warnings %q, want %v, %q", test.name, got, warnings, test.want, test.warn)
		}
		for name, want := range test.want {
			if v, ok := got[name]; !ok || math.Abs(v-want) > 1e-9 {
				t.Errorf("%s: %s is %v, want %v", test.name, name, v, want)
			}
			if _, ok := econbench.MetricNamed(name); !ok {
				t.Errorf("no metric %q", name)
			}
		}
	}
}

func TestExactIsWanted(t *testing.T) {
	for method, want := range map[econbench.CPUMethod]bool{"": false, econbench.CPUStat: false, econbench.CPUExact: true} {
		if got := (Exact{}).Wanted(econbench.Plan{CPU: method}); got != want {
			t.Errorf("cpu %q: wanted %v", method, got)
		}
	}
}

// TestKindsAreThePrograms holds the order of tasks against the enum that the programs count by.
func TestKindsAreThePrograms(t *testing.T) {
	source, err := os.ReadFile("bpf/exact.bpf.c")
	if err != nil {
		t.Fatal(err)
	}
	enum := regexp.MustCompile(`enum kind \{ (.*), KINDS \}`).FindStringSubmatch(string(source))
	if enum == nil {
		t.Fatal("no enum kind that ends with KINDS in exact.bpf.c")
	}
	parts := exactAccount{Wall: 1, Irq: 2, Softirq: 3, Tasks: [4]uint64{10, 11, 12, 13}}.parts()
	for i, name := range strings.Split(strings.ToLower(enum[1]), ", ") {
		if parts[name] != uint64(10+i) {
			t.Errorf("%s is %d of enum kind, and part %d", name, i, parts[name])
		}
	}
}

func TestExactAttachOrder(t *testing.T) {
	got := attachOrder([]string{"softirq_begins", "read_cpu", "switched", "irq_ends", "local_timer_exit", "local_timer_entry", "idled", "softirq_ends", "irq_begins"})
	want := []string{"irq_ends", "local_timer_exit", "softirq_ends", "idled", "irq_begins", "local_timer_entry", "softirq_begins", "switched"}
	if !slices.Equal(got, want) {
		t.Errorf("order is %q, want %q", got, want)
	}
}

// needBPF skips where the kernel is not asked, and fails where root is and yet cannot.
func needBPF(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: CAP_BPF and CAP_PERFMON are needed to load programs")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skip("kernel without BTF (CONFIG_DEBUG_INFO_BTF, Linux 5.10 or newer)")
	}
}

// pin keeps the test's thread on one CPU that it may use, which it returns.
func pin(t testing.TB) int {
	t.Helper()
	var before, one unix.CPUSet
	runtime.LockOSThread()
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !before.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
	return cpu
}

// threadTime is the CPU time of this thread, by the scheduler's own account.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func readExact(t *testing.T, r econbench.Reading) econbench.Counters {
	t.Helper()
	c, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// grown is what a CPU's counters grew by, by part; the parts must add up to the wall clock.
func grown(t *testing.T, cpu int, before, after econbench.Counters) map[string]float64 {
	t.Helper()
	parts, sum := map[string]float64{}, 0.0
	for _, name := range []string{"wall", "program", "kthread", "idle", "asleep", "softirq", "irq"} {
		a, ok := before[perCPU(cpu, name)]
		b, also := after[perCPU(cpu, name)]
		if !ok || !also {
			t.Fatalf("cpu%d.%s is missing in %v or %v", cpu, name, before, after)
		}
		parts[name] = b - a
		if name != "wall" {
			sum += b - a
		}
	}
	if math.Abs(sum-parts["wall"]) > 1e-6 { // floating point at days of uptime
		t.Errorf("CPU %d: parts add up to %v s of %v: %v", cpu, sum, parts["wall"], parts)
	}
	return parts
}

// TestExactBusyThread: what a thread that never waits was given by the scheduler is in the account of its CPU, though others
// may have run there too, and though nothing may have switched in between.
func TestExactBusyThread(t *testing.T) {
	needBPF(t)
	cpu := pin(t)
	r, err := exactReader{}.Open(econbench.Scope{CPUs: []int{cpu}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before, began := readExact(t, r), threadTime(t)
	for threadTime(t)-began < 100*time.Millisecond {
	}
	ran := (threadTime(t) - began).Seconds()
	after := readExact(t, r)
	parts := grown(t, cpu, before, after)
	// Interrupts and softirqs are in a thread's time unless the kernel times them by itself (CONFIG_IRQ_TIME_ACCOUNTING).
	if busy := parts["program"] + parts["softirq"] + parts["irq"]; busy < 0.99*ran || parts["program"] <= 0 {
		t.Errorf("the thread ran %.4f s, its CPU's programs and what interrupted them %.4f s: %v", ran, busy, parts)
	}
	for name := range after {
		if !strings.HasPrefix(name, perCPU(cpu, "")) {
			t.Errorf("%s is of a CPU that is not counted", name)
		}
	}
}

// TestExactSoftirq: what goes over a loopback device is received in softirqs.
func TestExactSoftirq(t *testing.T) {
	needBPF(t)
	box := newSandbox(t)
	from, to := box.connect(t, box.listen(t, "127.0.0.1:25204"))
	cpus := allCPUs()
	r, err := exactReader{}.Open(econbench.Scope{CPUs: cpus})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	before := readExact(t, r)
	send(t, from, to, 1_000_000)
	after := readExact(t, r)
	var softirq float64
	for _, cpu := range cpus {
		softirq += grown(t, cpu, before, after)["softirq"]
	}
	if softirq <= 0 {
		t.Error("no softirq time for 1 MB over a loopback device")
	}
}

func allCPUs() (cpus []int) {
	for cpu := range runtime.NumCPU() {
		cpus = append(cpus, cpu)
	}
	return cpus
}

// TestExactAllCPUs reads every CPU, idle or not, that this machine has.
func TestExactAllCPUs(t *testing.T) {
	needBPF(t)
	cpus := allCPUs()
	r, err := exactReader{}.Open(econbench.Scope{CPUs: cpus})
	if err != nil {
		t.Fatal(err)
	}
	before := readExact(t, r)
	time.Sleep(20 * time.Millisecond)
	after := readExact(t, r)
	for _, cpu := range cpus {
		if parts := grown(t, cpu, before, after); parts["wall"] < 0.02 {
			t.Errorf("CPU %d: %v s of wall time in 20 ms", cpu, parts["wall"])
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestExactErrors(t *testing.T) {
	needBPF(t)
	if _, err := (exactReader{}).Open(econbench.Scope{}); err == nil || err.Error() != "exact: no CPUs to count" {
		t.Errorf("no CPUs: %v", err)
	}
	if _, err := (exactReader{}).Open(econbench.Scope{CPUs: []int{4095}}); err == nil || !strings.Contains(err.Error(), "read CPU 4095") {
		t.Errorf("a CPU that is not there: %v", err)
	}
}

// byHand loads the programs for a CPU such that they can be run one by one.
func byHand(t *testing.T, cpu int) (*ebpf.Collection, func(name string, ctx ...uint64)) {
	t.Helper()
	spec, err := loadExact()
	if err != nil {
		t.Fatal(err)
	}
	delete(spec.Programs, "switched") // reads the kernel's task, which only a tracepoint hands over
	for _, p := range spec.Programs {
		p.Type, p.AttachType, p.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, "" // tracepoint programs can't be run by hand
	}
	for _, m := range []string{"cpus", "accounts"} {
		spec.Maps[m].MaxEntries = uint32(cpu + 1)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	return coll, func(name string, ctx ...uint64) {
		t.Helper()
		opt := ebpf.RunOptions{CPU: uint32(cpu), Flags: unix.BPF_F_TEST_RUN_ON_CPU}
		if ctx != nil {
			opt.Context = ctx
		}
		if _, err := coll.Programs[name].Run(&opt); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// TestExactArithmetic runs the programs one by one, attached to nothing, so that what they count is the test's alone: an
// interrupt within a softirq within a task, then sleep.
func TestExactArithmetic(t *testing.T) {
	needBPF(t)
	cpu := pin(t)
	coll, run := byHand(t, cpu)
	r := &exactReading{cpus: []int{cpu}, coll: coll}
	defer r.Close()
	if _, err := r.Read(); err == nil {
		t.Error("a CPU that is not counted was read")
	}
	if err := coll.Maps["cpus"].Put(uint32(cpu), exactCpu{State: exactUnasked}); err != nil {
		t.Fatal(err)
	}
	run("softirq_ends") // of one that began before us
	run("irq_ends")
	before := readExact(t, r)
	if before[perCPU(cpu, "softirq")] != 0 || before[perCPU(cpu, "irq")] != 0 {
		t.Errorf("ends without a beginning count: %v", before)
	}
	const ms = 0.001
	run("softirq_begins")
	time.Sleep(2 * time.Millisecond)
	run("irq_begins")
	time.Sleep(3 * time.Millisecond)
	during := grown(t, cpu, before, readExact(t, r)) // an interrupt under way
	if during["irq"] < 3*ms || during["softirq"] < 2*ms || during["softirq"] > during["wall"]-3*ms {
		t.Errorf("2 ms of softirq, then 3 ms of interrupt under way: %v", during)
	}
	run("irq_ends")
	run("softirq_ends")
	run("idled", 1, uint64(cpu)) // what ran until here was this program
	asleep := readExact(t, r)
	time.Sleep(4 * time.Millisecond)
	run("idled", math.MaxUint32, uint64(cpu))
	after := readExact(t, r)
	if parts := grown(t, cpu, before, asleep); parts["irq"] < 3*ms || parts["softirq"] < 2*ms || parts["program"] <= 0 || parts["kthread"] != 0 || parts["idle"] != 0 {
		t.Errorf("a program, a softirq, an interrupt within: %v", parts)
	}
	if parts := grown(t, cpu, asleep, after); parts["asleep"] < 4*ms || parts["softirq"] != 0 || parts["irq"] != 0 || parts["program"] != 0 {
		t.Errorf("4 ms of sleep: %v", parts)
	}
}
