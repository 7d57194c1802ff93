// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

// tree writes a fake /proc and /sys.
func tree(t *testing.T, files map[string]string) (proc, sys string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "proc"), filepath.Join(dir, "sys")
}

func host() map[string]string {
	return map[string]string{
		"proc/sys/kernel/hostname":       "rack7\n",
		"proc/sys/kernel/random/boot_id": "6b1f7a0e-5c1f-4b0e-9d55-2f6d1f5a9f10\n",
		"proc/sys/kernel/osrelease":      "6.12.9-amd64\n",
		"proc/cpuinfo":                   "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nmodel name\t: Intel(R) Xeon(R) Gold 6338\nflags\t\t: fpu vme\n\nprocessor\t: 1\n",
		"sys/devices/system/cpu/online":  "0-1,4\n",
		"sys/kernel/btf/vmlinux":         "\x9f\xeb",
	}
}

func TestFacts(t *testing.T) {
	got, err := factsAt(tree(t, host()))
	if err != nil {
		t.Fatal(err)
	}
	want := econbench.HostFacts{Hostname: "rack7", BootID: "6b1f7a0e-5c1f-4b0e-9d55-2f6d1f5a9f10", Kernel: "6.12.9-amd64",
		CPUModel: "Intel(R) Xeon(R) Gold 6338", OnlineCPUs: []int{0, 1, 4}, BTF: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFactsOfAPoorerHost(t *testing.T) {
	files := host()
	delete(files, "sys/kernel/btf/vmlinux")
	files["proc/cpuinfo"] = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
	got, err := factsAt(tree(t, files))
	if err != nil || got.BTF || got.CPUModel != "implementer 0x41 part 0xd0c" {
		t.Errorf("BTF %v, CPU %q, %v", got.BTF, got.CPUModel, err)
	}
	for name := range host() {
		if strings.HasSuffix(name, "vmlinux") {
			continue
		}
		files := host()
		delete(files, name)
		if _, err := factsAt(tree(t, files)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v, want an error that names it", name, err)
		}
	}
}

// Halves of the list must not share cores.
func TestSiblingsStandSideBySide(t *testing.T) {
	const topology = "sys/devices/system/cpu/cpu%d/topology/thread_siblings_list"
	for _, test := range []struct {
		online   string
		siblings map[int]string
		want     []int
	}{
		{"0-3", map[int]string{0: "0,2\n", 1: "1,3\n", 2: "0,2\n", 3: "1,3\n"}, []int{0, 2, 1, 3}},
		{"0-3", map[int]string{0: "0-1\n", 1: "0-1\n", 2: "2-3\n", 3: "2-3\n"}, []int{0, 1, 2, 3}},
		{"0-1,3", map[int]string{0: "0,2\n", 1: "1,3\n", 3: "1,3\n"}, []int{0, 1, 3}},
		{"0-2", nil, []int{0, 1, 2}},
	} {
		files := host()
		files["sys/devices/system/cpu/online"] = test.online + "\n"
		for cpu, list := range test.siblings {
			files[fmt.Sprintf(topology, cpu)] = list
		}
		got, err := factsAt(tree(t, files))
		if err != nil || !slices.Equal(got.OnlineCPUs, test.want) {
			t.Errorf("online %s, siblings %v: %v, %v; want %v", test.online, test.siblings, got.OnlineCPUs, err, test.want)
		}
	}
	files := host()
	files[fmt.Sprintf(topology, 0)] = "zero\n"
	if _, err := factsAt(tree(t, files)); err == nil || !strings.Contains(err.Error(), `"zero"`) {
		t.Errorf("error %v, want one that quotes the list", err)
	}
}

func TestFactsOfThisHost(t *testing.T) {
	f, err := Facts()
	if err != nil {
		t.Fatal(err)
	}
	if f.Hostname == "" || len(f.BootID) != 36 || f.Kernel == "" || f.CPUModel == "" || len(f.OnlineCPUs) == 0 {
		t.Errorf("facts: %+v", f)
	}
}

func TestParseCPUs(t *testing.T) {
	if got, err := ParseCPUs("0-2,5"); err != nil || !slices.Equal(got, []int{0, 1, 2, 5}) {
		t.Errorf("CPUs: %v, %v", got, err)
	}
	for _, bad := range []string{"", "a", "3-1", "-1", "0-99999999", "0,,1", strings.Repeat("0-65535,", 9) + "0"} {
		if got, err := ParseCPUs(bad); err == nil {
			t.Errorf("CPUs %.20q: %d CPUs, want an error", bad, len(got))
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	f.Add("0-3,8")
	f.Add("0-")
	f.Fuzz(func(t *testing.T, list string) {
		cpus, err := ParseCPUs(list)
		if err == nil && (len(cpus) == 0 || slices.Min(cpus) < 0) {
			t.Errorf("CPUs %v without an error", cpus)
		}
	})
}

func FuzzCPUModel(f *testing.F) {
	f.Add([]byte("model name\t: x\n"))
	f.Add([]byte("CPU implementer : 0x41\nCPU part : 1\n"))
	f.Fuzz(func(t *testing.T, cpuinfo []byte) {
		if cpuModel(cpuinfo) == "" {
			t.Error("no name, not even unknown")
		}
	})
}
