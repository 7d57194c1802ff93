// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

const status = "Name:\tnetperf\nUmask:\t0022\nCpus_allowed_list:\t0-1\nvoluntary_ctxt_switches:\t%d\nnonvoluntary_ctxt_switches:\t%d\n"

// switchesHost is a fake host of which the container has processes 100 and 101, the latter with threads 101 and 103.
func switchesHost(t *testing.T, mounts string) (proc, root string) {
	t.Helper()
	proc, root = cgroupHost(t, mounts)
	for task, n := range map[string]int{"100/task/100": 1, "101/task/101": 20, "101/task/103": 300, "102/task/102": 5000} {
		write(t, filepath.Join(proc, task, "status"), fmt.Sprintf(status, n, 2*n))
	}
	cgroup, err := os.ReadFile(filepath.Join(proc, "100/cgroup"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(proc, "101/cgroup"), string(cgroup))
	return proc, root
}

// TestSwitchesReader: by the cgroup's own list or by looking through all processes, the tasks are the same.
func TestSwitchesReader(t *testing.T) {
	want := econbench.Counters{"voluntary": 321, "involuntary": 642, "tasks_gone": 0}
	for _, list := range []string{"", "100\n101\n", "101\n"} { // the last is another cgroup's: the container's first process is not in it
		proc, root := switchesHost(t, mountsUnified)
		if list != "" {
			write(t, filepath.Join(root, "docker/abc/cgroup.procs"), list)
		}
		reading, err := switchesReader{proc}.Open(econbench.Scope{PID: 100})
		if err != nil {
			t.Fatal(err)
		}
		if by := reading.(switchesReading).procs; (by != "") != (list == "100\n101\n") {
			t.Errorf("list %q: processes by %q", list, by)
		}
		same(t, read(t, reading), want)
	}
}

// TestTasksByTheirCgroup: processes come and go in the list; those that are listed and gone are left out.
func TestTasksByTheirCgroup(t *testing.T) {
	proc, root := switchesHost(t, mountsHybrid)
	list := filepath.Join(root, "cpu,cpuacct/docker/abc/cgroup.procs")
	write(t, list, "100\n101\n")
	reading, err := schedstatReader{proc}.Open(econbench.Scope{PID: 100})
	if err != nil {
		t.Fatal(err)
	}
	if reading.(schedstatReading).procs != list {
		t.Errorf("processes by %q", reading.(schedstatReading).procs)
	}
	before := read(t, reading)
	write(t, list, "100\n104\n105\n")
	write(t, filepath.Join(proc, "104/task/104/schedstat"), "1000000000 500000000 7\n")
	after := read(t, reading)
	same(t, difference(before, after), econbench.Counters{"run_time": 1, "run_delay": 0.5, "timeslices": 7, "tasks_gone": 2})
}

func TestSwitchesNameWhatIsWrong(t *testing.T) {
	for content, want := range map[string]string{
		"Name:\tx\n": "no line voluntary_ctxt_switches:", fmt.Sprintf(status, -1, 2): `line "voluntary_ctxt_switches:\t-1"`,
		"Name:\tx\nvoluntary_ctxt_switches:\t1\n": "no line nonvoluntary_ctxt_switches:",
	} {
		proc, _ := switchesHost(t, mountsUnified)
		name := filepath.Join(proc, "101/task/103/status")
		write(t, name, content)
		reading, err := switchesReader{proc}.Open(econbench.Scope{PID: 100})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = reading.Read(); err == nil || !strings.HasPrefix(err.Error(), "switches: "+name+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one that has %s", content, err, want)
		}
	}
}

func TestSwitchesSamples(t *testing.T) {
	at := func(seconds econbench.Seconds) econbench.HostWindow {
		return econbench.HostWindow{Seconds: seconds, Counters: map[string]econbench.Counters{"switches": {"voluntary": 30, "involuntary": 10}}}
	}
	w := econbench.Window{Client: at(2), Server: at(4)}
	samples, _ := Switches{}.Samples(w)
	same(t, values(samples), map[string]float64{"context_switches": 30})
	delete(w.Server.Counters["switches"], "involuntary")
	if samples, _ = (Switches{}).Samples(w); len(samples) > 0 {
		t.Errorf("one kind was not counted: %v", samples)
	}
}

// TestAgentSamples: the dearer agent counts, and above half a percent it is told.
func TestAgentSamples(t *testing.T) {
	at := func(user, system float64) econbench.HostWindow {
		return econbench.HostWindow{Seconds: 2, Counters: map[string]econbench.Counters{"agent": {"user": user, "system": system}}}
	}
	samples, warnings := Agent{}.Samples(econbench.Window{Client: at(0.001, 0.002), Server: at(0.001, 0.005)})
	same(t, values(samples), map[string]float64{"agent_cpu": 0.003})
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	_, warnings = Agent{}.Samples(econbench.Window{Client: at(0.001, 0.002), Server: at(0.01, 0.004)})
	same(t, warnings, []string{"agent: server: observing took 0.70 % of the window on one CPU, over 0.5 %"})
}

// TestAgentReaderCountsThisProcess holds its figure against what one thread burnt.
func TestAgentReaderCountsThisProcess(t *testing.T) {
	pin(t)
	reading, err := agentReader{}.Open(econbench.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	before, began := read(t, reading), threadTime(t)
	for threadTime(t)-began < 30e6 {
	}
	got := difference(before, read(t, reading))
	if cpu := got["user"] + got["system"]; cpu < 0.0299 {
		t.Errorf("a thread burnt 0.03 s, its process %v s", cpu)
	}
}

func FuzzParseSwitches(f *testing.F) {
	for _, s := range []string{fmt.Sprintf(status, 1, 2), "", "\nvoluntary_ctxt_switches:", "\nvoluntary_ctxt_switches:1\nnonvoluntary_ctxt_switches:x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseSwitches(b); err != nil && n != (numbers{}) || n[2] != 0 {
			t.Errorf("%v with %v", n, err)
		}
	})
}
