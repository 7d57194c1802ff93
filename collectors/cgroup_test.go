// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// Mounts of process 1: of a machine with version 2 alone, with version 1 as systemd mounts it, and with both.
const (
	mountsUnified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
	mountsLegacy  = "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct\n" +
		"32 25 0:28 / /sys/fs/cgroup/cpuset rw,relatime shared:6 - cgroup cgroup rw,cpuset\n"
	mountsHybrid = mountsLegacy + "33 25 0:29 / /sys/fs/cgroup/unified rw,relatime shared:7 - cgroup2 cgroup2 rw\n"
)

// cgroupHost is a fake host whose process 100 is in a container's cgroup, docker/abc, by such mounts.
func cgroupHost(t *testing.T, mounts string) (proc, root string) {
	t.Helper()
	proc = copyProc(t)
	write(t, filepath.Join(proc, "1/mountinfo"), mounts)
	write(t, filepath.Join(proc, "100/cgroup"), "3:cpu,cpuacct:/docker/abc\n1:cpuset:/docker/abc\n0::/docker/abc\n")
	return proc, filepath.Join(proc, "1/root/sys/fs/cgroup")
}

const cpuStat = "usage_usec 3500000\nuser_usec 1000000\nsystem_usec 2500000\nnice_usec 0\nnr_periods 0\nthrottled_usec 250000\n"

func TestCgroupReader(t *testing.T) {
	for _, test := range []struct {
		name, mounts string
		files        map[string]string
		want         econbench.Counters
	}{
		{"version 2", mountsUnified, map[string]string{"docker/abc/cpu.stat": cpuStat},
			econbench.Counters{"usage": 3.5, "user": 1, "system": 2.5, "throttled": 0.25}},
		{"both", mountsHybrid, map[string]string{
			"unified/docker/abc/cpu.stat": "usage_usec 3500000\nuser_usec 1000000\nsystem_usec 2500000\n", "cpu,cpuacct/docker/abc/cpuacct.usage": "1\n"},
			econbench.Counters{"usage": 3.5, "user": 1, "system": 2.5}},
		{"version 1", mountsLegacy, map[string]string{"cpu,cpuacct/docker/abc/cpuacct.usage": "3500000000\n",
			"cpu,cpuacct/docker/abc/cpuacct.usage_user": "1000000000\n", "cpu,cpuacct/docker/abc/cpuacct.usage_sys": "2500000000\n"},
			econbench.Counters{"usage": 3.5, "user": 1, "system": 2.5}},
		{"version 1 before Linux 4.7", mountsLegacy, map[string]string{"cpu,cpuacct/docker/abc/cpuacct.usage": "3500000000\n"},
			econbench.Counters{"usage": 3.5}},
		{"part of the tree", strings.Replace(mountsUnified, "0:26 /", "0:26 /docker", 1), map[string]string{"abc/cpu.stat": "usage_usec 7\n"},
			econbench.Counters{"usage": 7e-6}},
		{"another part of the tree", strings.Replace(mountsUnified, "0:26 /", "0:26 /system", 1), map[string]string{"docker/abc/cpu.stat": cpuStat}, econbench.Counters{}},
		{"not shown", mountsHybrid, nil, econbench.Counters{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			proc, root := cgroupHost(t, test.mounts)
			for name, content := range test.files {
				write(t, filepath.Join(root, name), content)
			}
			same(t, readOnce(t, cgroupReader{proc}, econbench.Scope{PID: 100}), test.want)
		})
	}
}

func TestCgroupNamesWhatIsWrong(t *testing.T) {
	proc, root := cgroupHost(t, mountsUnified)
	name := filepath.Join(root, "docker/abc/cpu.stat")
	for content, want := range map[string]string{"usage_usec x\n": `line "usage_usec x"`, "usage_usec": `line "usage_usec": want a name`, "user_usec 1\n": "no line usage_usec"} {
		write(t, name, content)
		reading, err := cgroupReader{proc}.Open(econbench.Scope{PID: 100})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = reading.Read(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: error %v, want one that has %s", content, err, want)
		}
	}
	if _, err := (cgroupReader{proc}).Open(econbench.Scope{PID: 999}); err == nil || !strings.HasPrefix(err.Error(), "cgroup: process 999: ") {
		t.Errorf("no such process: %v", err)
	}
}

// TestCgroupOfThisProcess: what a thread burns is in its cgroup, as this machine mounts it.
func TestCgroupOfThisProcess(t *testing.T) {
	dirs, err := cgroupOf("/proc", os.Getpid())
	if err != nil || dirs == (cgroupFolders{}) {
		t.Skipf("process 1's mounts show no cgroup of this process (%v): needs root", err)
	}
	pin(t)
	reading, err := cgroupReader{"/proc"}.Open(econbench.Scope{PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	before, began := read(t, reading), threadTime(t)
	if len(before) == 0 {
		t.Skipf("no CPU time in %+v", dirs)
	}
	for threadTime(t)-began < 50*time.Millisecond {
	}
	if got := read(t, reading)["usage"] - before["usage"]; got < 0.045 {
		t.Errorf("the cgroup of a thread that burnt 0.05 s took %v s", got)
	}
}

func TestCgroupSamples(t *testing.T) {
	w := window([]int{0}, []int{1}) // 2 s; busy 0.75 and 0.25 cores
	of := func(usage float64) map[string]econbench.Counters {
		return map[string]econbench.Counters{"stat": w.Client.Counters["stat"], "cgroup": {"usage": usage}}
	}
	w.Client.Counters, w.Server.Counters = of(0.8), of(0.4)
	samples, warnings := Cgroup{}.Samples(w)
	same(t, values(samples), map[string]float64{"cpu_of_client": 0.4, "cpu_of_server": 0.2, "cpu_of_rest": 0.4})
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	w.Client.Counters["cgroup"] = econbench.Counters{"usage": 1.9, "throttled": 0.1}
	samples, warnings = Cgroup{}.Samples(w)
	same(t, values(samples), map[string]float64{"cpu_of_client": 0.95, "cpu_of_server": 0.2, "cpu_of_rest": 0})
	same(t, warnings, []string{"cgroup: client: the container was kept from running for 0.100 s (its CPU limit)"})
	delete(w.Server.Counters, "cgroup")
	samples, _ = Cgroup{}.Samples(w)
	same(t, values(samples), map[string]float64{"cpu_of_client": 0.95})
}

func FuzzParseCPUStat(f *testing.F) {
	for _, s := range []string{cpuStat, "", "usage_usec", "usage_usec -1", "usage_usec 18446744073709551616", "x y\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCPUStat(b)
		if _, ok := c["usage"]; ok == (err != nil) {
			t.Errorf("%q: %v, %v", b, c, err)
		}
	})
}
