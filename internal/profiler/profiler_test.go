// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/profile"
)

// needPerf skips where a right is missing, and fails where that can't be why.
func needPerf(t *testing.T) {
	t.Helper()
	rings, err := openRings([]int{0}, 99)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		if os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("no right to sample (CAP_PERFMON): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rings {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestMain is also the program that is sampled: the agent's own stacks are not told.
func TestMain(m *testing.M) {
	switch os.Getenv("ECONBENCH_TEST_SAMPLED") {
	case "spin":
		spinForTheProfiler()
	case "read":
		readForTheProfiler()
	}
	os.Exit(m.Run())
}

var spun int

//go:noinline
func spinForTheProfiler() {
	for {
		spun = spun*31 + 7
	}
}

func readForTheProfiler() {
	f, err := os.Open("/dev/zero")
	for b := make([]byte, 1<<16); err == nil; {
		_, err = f.Read(b)
	}
	os.Exit(1)
}

// sampled starts this program to do something until the test ends, and tells how it is called in stacks.
func sampled(t *testing.T, what string) (comm string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "ECONBENCH_TEST_SAMPLED="+what)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed
	})
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// sampleHere samples all CPUs for a moment.
func sampleHere(t *testing.T, duration float64) profile.Recording {
	t.Helper()
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		t.Fatal(err)
	}
	o := profile.Order{Scope: econbench.Scope{Side: "client"}, Frequency: 999, Duration: econbench.Seconds(duration)}
	for cpu := range 1024 {
		if cpus.IsSet(cpu) {
			o.Scope.CPUs = append(o.Scope.CPUs, cpu)
		}
	}
	r, err := Sample(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// find adds up the samples of stacks that have all these frames, in this order.
func find(r profile.Recording, frames ...string) (n int) {
	for _, s := range r.Stacks {
		rest := frames
		for _, f := range s.Frames {
			if len(rest) > 0 && r.Frames[f] == rest[0] {
				rest = rest[1:]
			}
		}
		if len(rest) == 0 {
			n += s.Count
		}
	}
	return n
}

// A program that spins shows up, by its process's and its function's name, with as many samples as it had time.
func TestSampleSpinning(t *testing.T) {
	needPerf(t)
	comm := sampled(t, "spin")
	r := sampleHere(t, 1)
	if r.Samples < 100 || r.Window < 1 || r.Side != "client" || len(r.CPUs) == 0 {
		t.Fatalf("%d samples in %g s on %v", r.Samples, r.Window, r.CPUs)
	}
	if n := find(r, comm, spinName); n < 20 { // one CPU has 999 of them; on a crowded machine others want it too
		t.Errorf("%d samples of %s in %s, of %d: %q", n, spinName, comm, r.Samples, r.Frames)
	}
	total := 0
	for _, s := range r.Stacks {
		total += s.Count
	}
	if total != r.Samples {
		t.Errorf("stacks have %d samples of %d", total, r.Samples)
	}
}

const spinName = "github.com/econbench/econbench/internal/profiler.spinForTheProfiler"

// What the kernel does for a program is seen under the program, by its functions' names.
func TestSampleKernel(t *testing.T) {
	needPerf(t)
	comm := sampled(t, "read")
	r := sampleHere(t, 1)
	if n := find(r, comm, "vfs_read_[k]"); n < 20 {
		t.Errorf("%d samples of vfs_read in %s, of %d: %q", n, comm, r.Samples, r.Frames)
	}
}

// An order that can't be done is refused, and one that is cancelled ends at once; neither leaves a descriptor open.
func TestSampleRefused(t *testing.T) {
	needPerf(t)
	before := descriptors(t)
	for want, o := range map[string]profile.Order{
		"profile: no CPUs: want one or more":                     {Frequency: 99, Duration: 1},
		"profile: frequency 0/s: want 1 to 20000":                {Scope: econbench.Scope{CPUs: []int{0}}, Duration: 1},
		"profile: duration -1s after 0s: want at most 1h0m0s":    {Scope: econbench.Scope{CPUs: []int{0}}, Frequency: 99, Duration: -1},
		"profile: sample CPU 100000: ":                           {Scope: econbench.Scope{CPUs: []int{0, 100000}}, Frequency: 99, Duration: 1},
		"profile: duration 1s after -2s: want at most 1h0m0s":    {Scope: econbench.Scope{CPUs: []int{0}}, Frequency: 99, Duration: 1, Warmup: -2},
		"profile: frequency 100000/s: want 1 to 20000":           {Scope: econbench.Scope{CPUs: []int{0}}, Frequency: 1e5, Duration: 1},
		"profile: duration 2h0m0s after 0s: want at most 1h0m0s": {Scope: econbench.Scope{CPUs: []int{0}}, Frequency: 99, Duration: 7200},
	} {
		_, err := Sample(t.Context(), o)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := Sample(ctx, profile.Order{Scope: econbench.Scope{CPUs: []int{0}}, Frequency: 99, Duration: 60}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %v, want the deadline", err, time.Since(begin))
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open, were %d", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

const kallsyms = `ffffffff81000000 T srso_alias_untrain_ret
ffffffff81000000 T _text
ffffffff81001000 T __tcp_sendmsg
ffffffff81001000 T tcp_sendmsg
ffffffff81002000 t skb_release_data.isra.0.cold
ffffffff81003000 D jiffies
ffffffffc0201000 t vxlan_xmit	[vxlan]
ffffffffc0a01234 t bpf_prog_6deef7357e7b4530_oncache_egress	[bpf]
ffffffffc0a02000 t bpf_prog_0123456789abcdef	[bpf]
`

func TestKallsyms(t *testing.T) {
	list, err := parseKallsyms(strings.NewReader(kallsyms))
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[uint64]string{
		0xffffffff80ffffff: "",
		0xffffffff81000000: "srso_alias_untrain_ret_[k]",
		0xffffffff81001abc: "tcp_sendmsg_[k]",
		0xffffffff81003abc: "skb_release_data_[k]", // data is no function
		0xffffffffc0201000: "vxlan_xmit_[k]",
		0xffffffffc0a01300: "bpf:oncache_egress",
		0xffffffffc0a02010: "bpf:0123456789abcdef",
	} {
		if got, _ := list.at(address); got != want {
			t.Errorf("%x: %q, want %q", address, got, want)
		}
	}
	for text, want := range map[string]string{
		"0000000000000000 T _text\n0000000000000000 t x\n": "kernel's symbols are hidden",
		"":                 "kernel's symbols are hidden",
		"ffff T\n":         "line 1",
		"xyz T a\n":        "address \"xyz\"",
		"ffff T a\nnone\n": "line 2",
	} {
		if _, err := parseKallsyms(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// The test binary's own functions are found by their addresses, through its own maps.
func TestOwnSymbols(t *testing.T) {
	files := binaries{}
	defer files.close()
	p := files.lookAt("/proc", os.Getpid())
	at := uint64(reflect.ValueOf(spinForTheProfiler).Pointer())
	names, resolved := p.frames([]uint64{at, 0x10}) // an address of nobody ends the stack
	if want := []string{spinName}; !resolved || !slices.Equal(names, want) {
		t.Errorf("%q %v, want %q", names, resolved, want)
	}
	if names, resolved := p.frames([]uint64{0x10}); resolved || !slices.Equal(names, []string{unknown}) {
		t.Errorf("%q %v", names, resolved)
	}
	if gone := files.lookAt("/proc", 1<<22+1); gone.name != "[ended]" || len(gone.maps) != 0 {
		t.Errorf("%+v", gone)
	}
}

func TestMaps(t *testing.T) {
	got := parseMaps("55d0-55e0 r--p 00000000 fe:00 12 /bin/x\n55e0-55f0 r-xp 00001000 fe:00 12   /bin/a file (deleted)\nbroken\n7ff0-7ff1 r-xp 00000000 00:00 0 [vdso]\nzz-1 r-xp 0 0 0\n8000-9000 rwxp 00000000 00:00 0\n")
	want := []mapping{{0x55e0, 0x55f0, 0x1000, "/bin/a file (deleted)"}, {0x7ff0, 0x7ff1, 0, "[vdso]"}, {0x8000, 0x9000, 0, ""}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Whose a task is is told by what it runs where its PID says nothing.
func TestOwned(t *testing.T) {
	k := func(names ...string) []string {
		for i := range names {
			names[i] += profile.KernelSuffix
		}
		return names
	}
	for _, c := range []struct {
		pid         int
		p           *process
		kernel      []string
		owner, name string
	}{
		{0, nil, k("start_secondary", "cpu_startup_entry", "do_idle", "default_idle"), profile.OwnerKernel, profile.Idle},
		{0, nil, k("start_secondary", "cpu_startup_entry", "do_idle", "cpu_idle_poll"), profile.OwnerKernel, profile.Idle},
		{0, nil, k("cpu_startup_entry", "do_idle", "default_idle", "sysvec_apic", "net_rx_action"), profile.OwnerKernel, "swapper"},
		{0, nil, k("cpu_startup_entry", "do_idle", "tick_nohz_idle_exit"), profile.OwnerKernel, "swapper"},
		{0, nil, k("ret_from_fork_asm", "ret_from_fork", "kthread", "smpboot_thread_fn", "run_ksoftirqd"), profile.OwnerKernel, "ksoftirqd"},
		{0, nil, k("ret_from_fork_asm", "kthread", "worker_thread", "blk"), profile.OwnerKernel, profile.Others},
		{0, nil, k("ret_from_fork_asm", "kthread", "napi_threaded_poll", "__napi_poll"), profile.OwnerKernel, "napi"},
		{17, &process{name: "kcompactd0"}, k("ret_from_fork_asm", "kthread"), profile.OwnerKernel, profile.Others},
		{0, nil, k("entry_SYSCALL_64_after_hwframe", "tcp_sendmsg"), profile.OwnerOther, "[others]"},
		{0, nil, nil, profile.OwnerOther, "[others]"},
		{os.Getpid(), &process{name: "econbench"}, nil, profile.OwnerHost, profile.Agent},
		{9, &process{name: "netperf"}, k("entry_SYSCALL_64_after_hwframe", "do_idle"), profile.OwnerHost, "netperf"},
	} {
		if owner, name := owned(c.pid, c.p, c.kernel); owner != c.owner || name != c.name {
			t.Errorf("%d %q: %s %s, want %s %s", c.pid, c.kernel, owner, name, c.owner, c.name)
		}
	}
}

// What is told apart from the work has one frame, but for the softirqs that interrupted it.
func TestApartFrames(t *testing.T) {
	symbols := kernelSymbols{{0x1000, "entry_SYSCALL_64_[k]"}, {0x2000, "handle_softirqs_[k]"}, {0x3000, "net_rx_action_[k]"}, {0x4000, "do_idle_[k]"}, {0x5000, "default_idle_[k]"}}
	s := &sampler{processes: map[int]*process{}}
	for _, c := range []struct {
		raw      rawStack
		frames   []string
		resolved bool
	}{
		{rawStack{kernel: []uint64{0x1010}, user: []uint64{7}}, []string{profile.Others}, true},
		{rawStack{kernel: []uint64{0x3010, 0x2010, 0x1010}}, []string{profile.Interrupted, "handle_softirqs_[k]", "net_rx_action_[k]"}, true},
		{rawStack{kernel: []uint64{0x10, 0x3010, 0x2010}}, []string{profile.Interrupted, "handle_softirqs_[k]", "net_rx_action_[k]", "[unknown]_[k]"}, false},
		{rawStack{kernel: []uint64{0x1010, 0x2010}}, []string{profile.Others}, true},
		{rawStack{pid: os.Getpid(), kernel: []uint64{0x1010}}, []string{profile.Agent}, true},
		{rawStack{kernel: []uint64{0x5010, 0x4010}}, []string{profile.Idle}, true},
		{rawStack{kernel: []uint64{0x3010, 0x2010, 0x5010, 0x4010}}, []string{"swapper", "do_idle_[k]", "default_idle_[k]", "handle_softirqs_[k]", "net_rx_action_[k]"}, true},
	} {
		if _, frames, resolved := s.frames(&c.raw, symbols); !slices.Equal(frames, c.frames) || resolved != c.resolved {
			t.Errorf("%+v: %q %v, want %q %v", c.raw, frames, resolved, c.frames, c.resolved)
		}
	}
}

// FuzzRecords: whatever a ring holds, records are within it.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{9, 0, 0, 0, 0, 0, 40, 0, 7, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 24, 0, 7, 0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{9, 0, 0, 0, 0, 0, 24, 0, 7, 0, 0, 0, 7, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		parseRecords(b, func(r record) {
			n += 8 + 8*len(r.chain)
			kernel, user := splitChain(r.chain)
			if len(kernel)+len(user) > len(r.chain) {
				t.Errorf("%d addresses of %d", len(kernel)+len(user), len(r.chain))
			}
		})
		if n > len(b) {
			t.Errorf("records of %d B in %d B", n, len(b))
		}
	})
}

// The kernel's marks part the chain.
func TestSplitChain(t *testing.T) {
	kernel, user := splitChain([]uint64{1, markKernel, 10, 11, markUser, 20, 21, firstMark, 30})
	if !slices.Equal(kernel, []uint64{10, 11}) || !slices.Equal(user, []uint64{20, 21}) {
		t.Errorf("%v %v", kernel, user)
	}
}
