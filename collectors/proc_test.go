// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/econbench/econbench"
)

// testdata/proc is the shape of Linux 6.18 with two CPUs, an engine and three processes of containers; testdata/proc-old
// that of an old kernel: no steal, nine softnet columns without a CPU number, CPU 1 offline.

func readOnce(t *testing.T, r econbench.Reader, s econbench.Scope) econbench.Counters {
	t.Helper()
	reading, err := r.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	counters, err := reading.Read()
	if err != nil {
		t.Fatal(err)
	}
	return counters
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(1e-12, 0)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestStatReader(t *testing.T) {
	got := readOnce(t, statReader{"testdata/proc"}, econbench.Scope{})
	same(t, got, econbench.Counters{
		"cpu0.user": 140.07, "cpu0.nice": 0.05, "cpu0.system": 32.97, "cpu0.idle": 3071.52, "cpu0.iowait": 7.38,
		"cpu0.irq": 0, "cpu0.softirq": 5.23, "cpu0.steal": 1.05, "cpu0.guest": 0.1, "cpu0.guest_nice": 0,
		"cpu1.user": 162.93, "cpu1.nice": 0.07, "cpu1.system": 48.48, "cpu1.idle": 3051.15, "cpu1.iowait": 7.6,
		"cpu1.irq": 0, "cpu1.softirq": 5.58, "cpu1.steal": 2.13, "cpu1.guest": 0.1, "cpu1.guest_nice": 0,
		"ctxt": 21398761,
	})
	got = readOnce(t, statReader{"testdata/proc-old"}, econbench.Scope{})
	same(t, got, econbench.Counters{
		"cpu0.user": 40.07, "cpu0.nice": 0, "cpu0.system": 12.97, "cpu0.idle": 871.52, "cpu0.iowait": 0.38, "cpu0.irq": 0, "cpu0.softirq": 0.23,
		"cpu2.user": 50.48, "cpu2.nice": 0, "cpu2.system": 18.28, "cpu2.idle": 851.15, "cpu2.iowait": 4.6, "cpu2.irq": 0, "cpu2.softirq": 0.58,
		"ctxt": 21398761,
	})
}

func TestSoftirqsReader(t *testing.T) {
	got := readOnce(t, softirqsReader{"testdata/proc"}, econbench.Scope{})
	if len(got) != 20 || got["cpu0.NET_RX"] != 1000000 || got["cpu1.NET_TX"] != 7 {
		t.Errorf("%v", got)
	}
	got = readOnce(t, softirqsReader{"testdata/proc-old"}, econbench.Scope{})
	same(t, got, econbench.Counters{
		"cpu0.HI": 1, "cpu0.NET_TX": 5, "cpu0.NET_RX": 1000000,
		"cpu2.HI": 0, "cpu2.NET_TX": 7, "cpu2.NET_RX": 1097152,
	})
}

func TestSoftnetReader(t *testing.T) {
	got := readOnce(t, softnetReader{"testdata/proc"}, econbench.Scope{})
	same(t, got, econbench.Counters{
		"cpu0.processed": 14, "cpu0.dropped": 1, "cpu0.time_squeezed": 2, "cpu0.received_rps": 10, "cpu0.flow_limit": 0,
		"cpu1.processed": 0xfffffff0, "cpu1.dropped": 0, "cpu1.time_squeezed": 3, "cpu1.received_rps": 11, "cpu1.flow_limit": 0,
	})
	got = readOnce(t, softnetReader{"testdata/proc-old"}, econbench.Scope{})
	same(t, got, econbench.Counters{
		"cpu0.processed": 14, "cpu0.dropped": 1, "cpu0.time_squeezed": 2,
		"cpu2.processed": 240, "cpu2.dropped": 0, "cpu2.time_squeezed": 3,
	})
}

func TestSoftnetCounterWraps(t *testing.T) {
	proc := copyProc(t)
	reading, err := softnetReader{proc}.Open(econbench.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	before, err := reading.Read()
	if err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(proc, "net/softnet_stat"), "fffffff0", "00000010")
	after, err := reading.Read()
	if err != nil {
		t.Fatal(err)
	}
	if d := after["cpu1.processed"] - before["cpu1.processed"]; d != 32 {
		t.Errorf("difference over the wrap %v, want 32", d)
	}
}

func TestSchedstatReader(t *testing.T) {
	got := readOnce(t, schedstatReader{"testdata/proc"}, econbench.Scope{PID: 100})
	same(t, got, econbench.Counters{"run_time": 3.001, "run_delay": 0.752, "timeslices": 1503, "tasks_gone": 0})
}

// TestSchedstatChurn: within the window a thread ends, another appears, a process ends and its PID goes to another.
func TestSchedstatChurn(t *testing.T) {
	proc := copyProc(t)
	reading, err := schedstatReader{proc}.Open(econbench.Scope{PID: 100})
	if err != nil {
		t.Fatal(err)
	}
	read := func() econbench.Counters {
		t.Helper()
		c, err := reading.Read()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	read()
	if err := os.RemoveAll(filepath.Join(proc, "101/task/103")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(proc, "101/task/104/schedstat"), "500000000 100000000 10\n")
	edit(t, filepath.Join(proc, "101/task/101/schedstat"), "2000000000 500000000 1000", "2500000000 600000000 1100")
	same(t, read(), econbench.Counters{"run_time": 4.001, "run_delay": 0.952, "timeslices": 1613, "tasks_gone": 1})

	write(t, filepath.Join(proc, "101/task/101/schedstat"), "1000000000 0 1\n") // another task with the same ID
	write(t, filepath.Join(proc, "101/task/104/schedstat"), "600000000 100000000 12\n")
	same(t, read(), econbench.Counters{"run_time": 5.101, "run_delay": 0.952, "timeslices": 1616, "tasks_gone": 2})
}

func TestReadersNameWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name, file, old, new string
		reader               func(proc string) econbench.Reader
		want                 []string
	}{
		{"stat", "stat", "cpu  30300", "garbage 30300", func(p string) econbench.Reader { return statReader{p} }, []string{"stat: ", "garbage 30300"}},
		{"stat line", "stat", "cpu1 16293", "cpu1 x", func(p string) econbench.Reader { return statReader{p} }, []string{"stat: ", "cpu1 x"}},
		{"softirqs header", "softirqs", "CPU1", "CPUx", func(p string) econbench.Reader { return softirqsReader{p} }, []string{"softirqs: ", `"CPUx"`}},
		{"softirqs row", "softirqs", "1000000", "100000x", func(p string) econbench.Reader { return softirqsReader{p} }, []string{"softirqs: ", "100000x"}},
		{"softirqs columns", "softirqs", "525576", "", func(p string) econbench.Reader { return softirqsReader{p} }, []string{"softirqs: ", "TIMER"}},
		{"softnet", "net/softnet_stat", "0000000e", "0000000g", func(p string) econbench.Reader { return softnetReader{p} }, []string{"softnet: ", "softnet_stat", "0000000g"}},
		{"schedstat", "101/task/101/schedstat", "2000000000", "-1", func(p string) econbench.Reader { return schedstatReader{p} },
			[]string{"schedstat: ", "101/task/101/schedstat", `"-1 500000000 1000"`}},
		{"schedstat cgroup", "", "", "", func(p string) econbench.Reader { return schedstatReader{p + "/none"} }, []string{"schedstat: ", "none"}},
	} {
		proc := copyProc(t)
		if test.file != "" {
			edit(t, filepath.Join(proc, test.file), test.old, test.new)
		}
		reading, err := test.reader(proc).Open(econbench.Scope{PID: 100})
		if err == nil {
			_, err = reading.Read()
		}
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: error %v does not name %s on one line", test.name, err, want)
			}
		}
	}
}

func TestReaderOfEveryCollector(t *testing.T) {
	names := map[string]int{}
	for _, c := range All() {
		names[c.Name()]++
		if strings.Contains(c.Help(), "\n") || c.Help() == "" {
			t.Errorf("%s: help is not one line", c.Name())
		}
	}
	for _, r := range Readers() {
		names[r.Name()]++
	}
	names[Fastpath{}.Name()]++ // its reader is the agent's own
	for name, n := range names {
		if n != 2 {
			t.Errorf("%s: one half has no other", name)
		}
	}
}

func FuzzParseSchedstat(f *testing.F) {
	for _, s := range []string{"1 2 3\n", "", "1 2", "1 2 3 4", "-1 2 3", "18446744073709551616 0 0"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSchedstat(b); err != nil && s != (numbers{}) {
			t.Errorf("%+v with %v", s, err)
		}
	})
}

func FuzzCPUColumns(f *testing.F) {
	for _, s := range []string{"CPU0 CPU2\n", "", "CPU", "CPU-1", "CPU99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if cpus, err := cpuColumns(s); (err == nil) != (len(cpus) > 0) {
			t.Errorf("%q: %v, %v", s, cpus, err)
		}
	})
}

// copyProc is testdata/proc, to be changed.
func copyProc(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/proc")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func edit(t *testing.T, name, old, new string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(b), old) {
		t.Fatalf("%s has no %q (%v)", name, old, err)
	}
	write(t, name, strings.Replace(string(b), old, new, 1))
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
