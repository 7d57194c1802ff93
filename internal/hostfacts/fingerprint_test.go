// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const config = "#\n# Linux/x86 6.12.9 Kernel Configuration\nCONFIG_HZ_250=y\nCONFIG_HZ=250\n# CONFIG_HZ_PERIODIC is not set\nCONFIG_NO_HZ_IDLE=y\n" +
	"CONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_PREEMPT_DYNAMIC=y\nCONFIG_VIRT_CPU_ACCOUNTING_GEN=y\nCONFIG_IRQ_TIME_ACCOUNTING=y\nCONFIG_DEFAULT_HOSTNAME=\"(none)\"\n"

// richHost has all that a machine in a rack has.
func richHost(t *testing.T) map[string]string {
	files := host()
	maps.Copy(files, map[string]string{
		"proc/sys/kernel/version": "#1 SMP PREEMPT_DYNAMIC  Debian 6.12.9-1\n",
		"proc/cmdline":            "BOOT_IMAGE=/vmlinuz-6.12.9 root=UUID=ab-cd ro mitigations=off quiet -- --token secret\n",
		"proc/config.gz":          zipped(t, config),
		"proc/meminfo":            "MemTotal:       263781284 kB\nMemFree:        1 kB\n",
		"proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nmodel name\t: Intel(R) Xeon(R) Gold 6338\n" +
			"stepping\t: 6\nmicrocode\t: 0xd0003f5\nflags\t\t: vme fpu\n\nprocessor\t: 1\nflags\t\t: other\n",
		"proc/77/comm":                                       "sshd\n",
		"proc/sys/net/core/rmem_max":                         "212992\n",
		"proc/sys/net/ipv4/tcp_rmem":                         "4096\t131072\t6291456\n",
		"proc/sys/net/ipv4/conf/all/rp_filter":               "2\n",
		"proc/sys/net/bridge/bridge-nf-call-iptables":        "1\n",
		"proc/sys/net/ipv4/tcp_available_congestion_control": "reno cubic bbr\n",

		"sys/devices/system/clocksource/clocksource0/current_clocksource":   "tsc\n",
		"sys/devices/system/cpu/online":                                     "0-1\n",
		"sys/devices/system/cpu/isolated":                                   "\n",
		"sys/devices/system/cpu/nohz_full":                                  "  (null)\n",
		"sys/devices/system/cpu/smt/control":                                "on\n",
		"sys/devices/system/cpu/intel_pstate/status":                        "active\n",
		"sys/devices/system/cpu/intel_pstate/no_turbo":                      "1\n",
		"sys/devices/system/cpu/vulnerabilities/l1tf":                       "Mitigation: PTE Inversion;  VMX: flush not necessary\n",
		"sys/devices/system/cpu/vulnerabilities/odd.name here":              "Not affected\n",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_driver":                "intel_pstate\n",
		"sys/devices/system/cpu/cpu1/cpufreq/scaling_driver":                "intel_pstate\n",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor":              "performance\n",
		"sys/devices/system/cpu/cpu1/cpufreq/scaling_governor":              "powersave\n",
		"sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference": "performance\n",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq":              "800000\n",
		"sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq":              "3200000\n",
		"sys/devices/system/cpu/cpu0/topology/physical_package_id":          "0\n",
		"sys/devices/system/cpu/cpu1/topology/physical_package_id":          "1\n",
		"sys/devices/system/cpu/cpuidle/current_driver":                     "intel_idle\n",
		"sys/devices/system/cpu/cpuidle/current_governor_ro":                "menu\n",
		"sys/devices/system/cpu/cpu0/cpuidle/state0/name":                   "POLL\n",
		"sys/devices/system/cpu/cpu0/cpuidle/state2/name":                   "C1E\n",
		"sys/devices/system/cpu/cpu0/cpuidle/state2/disable":                "0\n",
		"sys/devices/system/cpu/cpu0/cpuidle/state10/name":                  "C6\n",
		"sys/devices/system/cpu/cpu0/cpuidle/state11/name":                  "C8\n",
		"sys/devices/system/cpu/cpu0/cpuidle/state11/disable":               "1\n",
		"sys/devices/system/node/online":                                    "0-1\n",
		"sys/module/haltpoll/parameters/guest_halt_poll_ns":                 "200000\n",
		"sys/devices/virtual/dmi/id/sys_vendor":                             "Dell Inc.\n",
		"sys/devices/virtual/dmi/id/product_name":                           "PowerEdge R650\n",
		"sys/devices/virtual/dmi/id/product_serial":                         "SECRET\n",
		"sys/devices/virtual/dmi/id/bios_version":                           "1.5.4\n",
		"sys/devices/virtual/dmi/id/bios_date":                              "12/17/2021\n",
		"sys/kernel/mm/transparent_hugepage/enabled":                        "always [madvise] never\n",
		"sys/kernel/mm/transparent_hugepage/defrag":                         "always defer [never]\n",
		"sys/kernel/mm/ksm/run":                                             "0\n",
	})
	return files
}

// fileSubjects are those that read nothing but files.
func fileSubjects() []subject {
	return slices.DeleteFunc(slices.Clone(subjects), func(s subject) bool { return s.name == "nic" || s.name == "netfilter" })
}

func treesOf(t *testing.T, files map[string]string) trees {
	proc, sys := tree(t, files)
	return trees{proc, sys}
}

func TestFingerprintOfARichHost(t *testing.T) {
	got, doubts := collect(treesOf(t, richHost(t)), "eth0", fileSubjects())
	want := econbench.Fingerprint{
		"kernel.release": "6.12.9-amd64", "kernel.version": "#1 SMP PREEMPT_DYNAMIC Debian 6.12.9-1", "kernel.cmdline": "ro mitigations=off quiet",
		"kernel.clocksource": "tsc", "kernel.config": digest(config), "kernel.hz": "250", "kernel.tick": "idle",
		"kernel.preempt": "voluntary dynamic", "kernel.cpu_accounting": "virt-gen irq-time",
		"cpu.model": "Intel(R) Xeon(R) Gold 6338", "cpu.id": "GenuineIntel 6 106 6", "cpu.microcode": "0xd0003f5", "cpu.flags": digest("fpu vme"),
		"cpu.smt": "on", "cpu.isolated": "none", "cpu.nohz_full": "none", "cpu.count": "2", "cpu.packages": "2", "cpu.numa_nodes": "2",
		"cpu.scaling_driver": "intel_pstate", "cpu.scaling_mode": "active", "cpu.governor": "performance powersave",
		"cpu.preference": "performance", "cpu.frequency_min": "800000", "cpu.frequency_max": "3200000", "cpu.turbo": "off",
		"cpu.mitigations.l1tf": "Mitigation: PTE Inversion; VMX: flush not necessary", "cpu.mitigations.odd_name_here": "Not affected",
		"cpu.idle_driver": "intel_idle", "cpu.idle_governor": "menu", "cpu.idle_states": "POLL C1E C6", "cpu.halt_poll.guest_halt_poll_ns": "200000",
		"machine.vendor": "Dell Inc.", "machine.product": "PowerEdge R650", "machine.bios": "1.5.4 12/17/2021", "machine.virtual": "no",
		"memory.thp": "madvise", "memory.thp_defrag": "never", "memory.ksm": "0", "memory.total": "252 GiB",
		"sysctl.net.core.rmem_max": "212992", "sysctl.net.ipv4.tcp_rmem": "4096 131072 6291456", "sysctl.net.ipv4.conf.all.rp_filter": "2",
		"sysctl.net.bridge.bridge-nf-call-iptables": "1", "sysctl.net.ipv4.tcp_available_congestion_control": "bbr cubic reno",
	}
	if diff := cmp.Diff(want, got); diff != "" || doubts != nil {
		t.Errorf("doubts %q, fingerprint (-want +got):\n%s", doubts, diff)
	}
	if strings.Contains(strings.Join(slices.Collect(maps.Values(got)), " "), "SECRET") {
		t.Error("a serial number is in it")
	}
	for name := range got {
		if !econbench.KnownFact(name) {
			t.Errorf("fact %s has no class", name)
		}
	}
}

// What is not there is not told, and nothing fails.
func TestFingerprintOfAPoorHost(t *testing.T) {
	got, doubts := collect(treesOf(t, map[string]string{"proc/version": "x", "sys/x": "y"}), "eth0", fileSubjects())
	want := econbench.Fingerprint{"cpu.model": "unknown", "cpu.governor": "", "cpu.isolated": "none", "cpu.nohz_full": "none", "cpu.idle_driver": "none"}
	delete(want, "cpu.governor") // no CPUs to ask
	if diff := cmp.Diff(want, got); diff != "" || doubts != nil {
		t.Errorf("doubts %q, fingerprint (-want +got):\n%s", doubts, diff)
	}
}

func TestTurbo(t *testing.T) {
	for _, c := range []struct{ file, value, want string }{
		{"intel_pstate/no_turbo", "0", "on"}, {"intel_pstate/no_turbo", "1", "off"}, {"cpufreq/boost", "1", "on"}, {"cpufreq/boost", "0", "off"},
		{"cpufreq/policy0/boost", "1", "on"}, {"elsewhere", "1", ""},
	} {
		if got := treesOf(t, map[string]string{"proc/x": "", "sys/devices/system/cpu/" + c.file: c.value + "\n"}).turbo(); got != c.want {
			t.Errorf("%s %s: turbo %q, want %q", c.file, c.value, got, c.want)
		}
	}
}

// A config of the kernel's release in the host's root stands in for one that the kernel does not tell.
func TestKernelConfigOfTheHostsRoot(t *testing.T) {
	for _, name := range []string{"proc/1/root/boot/config-6.12.9-amd64", "proc/1/root/lib/modules/6.12.9-amd64/config"} {
		files := host()
		files[name], files["proc/config.gz"] = "CONFIG_HZ=1000\nCONFIG_TICK_CPU_ACCOUNTING=y\nCONFIG_PREEMPT=y\n", "not gzip"
		f, err := kernelFacts(treesOf(t, files), "")
		if err != nil || f["kernel.hz"] != "1000" || f["kernel.cpu_accounting"] != "tick" || f["kernel.preempt"] != "full" {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if b := (trees{"/proc", "/sys"}).kernelConfig("../../etc/passwd"); b != nil && !bytes.Contains(b, []byte("CONFIG_")) {
		t.Error("a release leads out of /boot")
	}
}

// A fault in one subject leaves the others and the run alone.
func TestFaultsAreDoubts(t *testing.T) {
	all := []subject{
		{"panics", func(trees, string) (econbench.Fingerprint, error) { panic("an odd file") }},
		{"fails", func(trees, string) (econbench.Fingerprint, error) {
			return econbench.Fingerprint{"nic.mtu": "9000", "nic.speed": ""}, errors.New("no such device")
		}},
	}
	f, doubts := collect(trees{}, "", all)
	if !maps.Equal(f, econbench.Fingerprint{"nic.mtu": "9000"}) || len(doubts) != 2 ||
		doubts[0] != "fingerprint: panics: panic: an odd file" || doubts[1] != "fingerprint: fails: no such device" {
		t.Errorf("fingerprint %v, doubts %q", f, doubts)
	}
}

// The real thing: what every machine has is there, all of it has a class, twice the same, and soon.
func TestFingerprintOfThisHost(t *testing.T) {
	start := time.Now()
	f, doubts := Fingerprint("lo")
	t.Logf("%d facts in %v, doubts %q", len(f), time.Since(start), doubts)
	for _, name := range []string{"kernel.release", "kernel.version", "cpu.model", "cpu.count", "nic.mtu", "nic.kind", "nic.qdisc", "nic.offloads",
		"sysctl.net.ipv4.tcp_rmem"} {
		if f[name] == "" {
			t.Errorf("%s is not told", name)
		}
	}
	for name, value := range f {
		if !econbench.KnownFact(name) || value == "" || value != words(value) {
			t.Errorf("fact %s is %q, known %v", name, value, econbench.KnownFact(name))
		}
	}
	again, _ := Fingerprint("lo")
	if d := again.Differences(f); len(d) > 0 {
		t.Errorf("a moment later: %v", d)
	}
	if f, doubts := Fingerprint("no-such-dev"); f["kernel.release"] == "" || !slices.ContainsFunc(doubts, func(d string) bool {
		return strings.Contains(d, `device "no-such-dev": none of that name`)
	}) {
		t.Errorf("of no device: %d facts, doubts %q", len(f), doubts)
	}
}

// Every name that stands in the code has a class, whatever device it takes to see it.
func TestNamesInTheCodeAreKnown(t *testing.T) {
	name := regexp.MustCompile(`"((?:kernel|cpu|machine|memory|nic|netfilter|sysctl)\.[a-z_.]+)"`)
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		if !strings.HasPrefix(file.Name(), "fingerprint_") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			if found++; slices.Contains(sysctls, m[1]) || m[1] == "kernel.bpf_stats_enabled" {
				continue
			}
			if !econbench.KnownFact(m[1]) && m[1] != "nic." {
				t.Errorf("%s: %s has no class", file.Name(), m[1])
			}
		}
	}
	if found < 80 {
		t.Errorf("%d names found: the pattern fits the code no more", found)
	}
	page, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sysctls {
		if !strings.Contains(string(page), "`"+s+"`") && !strings.Contains(string(page), "`sysctl."+s+"`") {
			t.Errorf("sysctl %s is not in docs/formats.md", s)
		}
	}
}

func TestRuns(t *testing.T) {
	for want, list := range map[string][]string{"": nil, "a": {"a"}, "a*3": {"a", "a", "a"}, "a b*2 a": {"a", "b", "b", "a"}} {
		if got := runs(list); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
	if got := same([]string{"a", "a"}) + "|" + same([]string{"a", "b", "b"}) + "|" + same(nil); got != "a|a b*2|" {
		t.Errorf("same: %q", got)
	}
}

func FuzzKernelFacts(f *testing.F) {
	f.Add(config, "BOOT_IMAGE=x ro -- y")
	f.Add("CONFIG_=\nCONFIG_HZ", "--")
	f.Fuzz(func(t *testing.T, config, line string) {
		c := parseConfig([]byte(config))
		for _, word := range []string{commandLine(line), c.preempt(), c.accounting(), c["HZ"]} {
			if word != words(word) && strings.ToValidUTF8(word, "") == word && !strings.Contains(word, "\x00") {
				t.Errorf("%q is not words with single blanks", word)
			}
		}
	})
}

func FuzzFirstCPU(f *testing.F) {
	f.Add([]byte("processor\t: 0\nflags : a b\n\nprocessor : 1\n"))
	f.Add([]byte(":\n\n:"))
	f.Fuzz(func(t *testing.T, cpuinfo []byte) {
		for key, value := range firstCPU(cpuinfo) {
			if value == "" || value != words(value) {
				t.Errorf("%q is %q", key, value)
			}
		}
	})
}
