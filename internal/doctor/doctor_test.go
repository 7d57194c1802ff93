// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/docker"
	"github.com/econbench/econbench/internal/image"
	"github.com/econbench/econbench/internal/lab"
)

// goodFiles are those of a machine that lacks nothing.
var goodFiles = map[string]string{
	"proc/self/status":                                   "Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t000001ffffffffff\n",
	"proc/self/mountinfo":                                "31 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
	"proc/sys/kernel/cap_last_cap":                       "40\n",
	"proc/sys/kernel/osrelease":                          "6.12.9-cloud-amd64\n",
	"proc/sys/net/core/bpf_jit_enable":                   "1\n",
	"proc/sys/net/ipv4/tcp_available_congestion_control": "reno cubic\n",
	"proc/filesystems":                                   "nodev\tproc\nnodev\toverlay\n",
	"proc/meminfo":                                       "MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n",
	"proc/stat":                                          "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n",
	"sys/kernel/btf/vmlinux":                             "BTF",
	"sys/devices/system/cpu/online":                      "0-1\n",
	"sys/devices/system/cpu/cpuidle/current_driver":      "intel_idle\n",
	"sys/devices/system/cpu/cpuidle/current_governor":    "menu\n",
	"sys/devices/system/cpu/vulnerabilities/meltdown":    "Not affected\n",
	"sys/devices/system/cpu/vulnerabilities/retbleed":    "Vulnerable\n",
	"sys/devices/system/cpu/vulnerabilities/mds":         "Mitigation: Clear CPU buffers\n",
	"dev/cpu_dma_latency":                                "",
	"etc/os-release":                                     "ID=debian\n",
	"etc/apt/sources.list.d/debian.sources":              "Types: deb\nURIs: http://mirror.invalid/debian\n",
	"usr/share/keyrings/debian-archive-keyring.gpg":      "key",
}

// goodMachine has everything; a test takes away what it is about.
func goodMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{root: t.TempDir(), euid: 0, window: time.Millisecond}
	for name, text := range goodFiles {
		m.put(t, name, text)
	}
	m.path = []string{filepath.Join(m.root, "bin")}
	for _, p := range programs {
		m.put(t, "bin/"+p.name, "")
	}
	m.run = func(_ context.Context, program string, _ ...string) (string, error) {
		return filepath.Base(program) + " version 20.10.24+dfsg1, build x\nmore 1.2", nil
	}
	m.space = func(path string) (space, error) { return space{free: 10 << 30, dir: path}, nil }
	m.probe = func() (probed, error) { return probed{devices: map[string]error{}, qdiscs: map[string]error{}}, nil }
	m.cached = func() (*image.Image, error) { return &image.Image{Ref: "econbench/tools:x", Size: 50e6}, nil }
	m.labIs = func(context.Context) (lab.State, error) { return lab.State{Phase: lab.PhaseNone}, nil }
	m.engine = func(_ context.Context, host string) (engineFacts, error) {
		return engineFacts{name: host, id: host, version: "28.5", arch: runtime.GOARCH}, nil
	}
	return m
}

func (m *machine) put(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(m.root, name)); err != nil {
		t.Fatal(err)
	}
}

func TestGoodMachine(t *testing.T) {
	all := examine(context.Background(), goodMachine(t))
	for _, r := range all {
		if r.Status != OK {
			t.Errorf("%s: %s, found %q", r.Name, r.Status, r.Found)
		}
	}
	if err := Ready(all); err != nil {
		t.Error(err)
	}
}

// TestLacking takes one thing away at a time and looks what the doctor says of it.
func TestLacking(t *testing.T) {
	unknown := unknownKind(unix.EOPNOTSUPP)
	for _, c := range []struct {
		title  string
		spoil  func(*testing.T, *machine)
		name   string
		status Status
		found  string // is part of what is said
		runs   bool   // a run works all the same
	}{
		{"not root", func(_ *testing.T, m *machine) { m.euid = 1000 }, "user", Missing, "1000", false},
		{"no CAP_NET_ADMIN", func(t *testing.T, m *machine) {
			m.put(t, "proc/self/status", "CapEff:\t000001ffffffefff\nCapBnd:\t000001ffffffffff\n")
		}, "capabilities", Missing, "CAP_NET_ADMIN", false},
		{"no CAP_SYS_RESOURCE", func(t *testing.T, m *machine) {
			m.put(t, "proc/self/status", "CapEff:\t000001fffeffffff\nCapBnd:\t000001fffeffffff\n")
		}, "bounding set", Warn, "lacks CAP_SYS_RESOURCE", true},
		{"no status", func(t *testing.T, m *machine) { m.put(t, "proc/self/status", "CapEff:\tzz\n") }, "capabilities", Missing, `"zz" is not a mask`, false},
		{"old kernel", func(t *testing.T, m *machine) { m.put(t, "proc/sys/kernel/osrelease", "5.4.0-100-generic") }, "kernel release", Missing, "5.4.0", false},
		{"odd kernel", func(t *testing.T, m *machine) { m.put(t, "proc/sys/kernel/osrelease", "custom") }, "kernel release", Warn, "custom", true},
		{"no vxlan", func(_ *testing.T, m *machine) { lose(m, "vxlan", unknown) }, "device vxlan", Missing, "does not know", false},
		{"no netkit", func(_ *testing.T, m *machine) { lose(m, "netkit", unknown) }, "device netkit", Missing, "does not know", true},
		{"odd veth", func(_ *testing.T, m *machine) { lose(m, "veth", unix.EBUSY) }, "device veth", Warn, "busy", true},
		{"no probe", func(_ *testing.T, m *machine) {
			m.probe = func() (probed, error) { return probed{}, errors.New("needs root") }
		}, "devices, qdiscs", Warn, "needs root", true},
		{"no tcx", func(_ *testing.T, m *machine) {
			m.probe = func() (probed, error) { return probed{tcx: unix.EINVAL}, nil }
		}, "tcx", Missing, "invalid", true},
		{"no nf_tables", func(_ *testing.T, m *machine) {
			m.probe = func() (probed, error) { return probed{notrack: unix.EPROTONOSUPPORT}, nil }
		}, "nf_tables", Missing, "not supported", true},
		{"nf_tables not allowed", func(_ *testing.T, m *machine) {
			m.probe = func() (probed, error) { return probed{notrack: unix.EPERM}, nil }
		}, "nf_tables", Warn, "not permitted", true},
		{"no BTF", func(t *testing.T, m *machine) { m.remove(t, "sys/kernel/btf") }, "BTF", Missing, "vmlinux", true},
		{"JIT off", func(t *testing.T, m *machine) { m.put(t, "proc/sys/net/core/bpf_jit_enable", "0") }, "BPF JIT", Warn, "off", true},
		{"no overlayfs", func(t *testing.T, m *machine) { m.put(t, "proc/filesystems", "ext4\n") }, "overlayfs", Warn, "does not know", true},
		{"no cgroups", func(t *testing.T, m *machine) { m.put(t, "proc/self/mountinfo", "") }, "cgroups", Missing, "none", false},
		{"no cubic", func(t *testing.T, m *machine) {
			m.put(t, "proc/sys/net/ipv4/tcp_available_congestion_control", "reno bbr")
		}, "congestion control", Warn, "reno bbr", true},
		{"one CPU", func(t *testing.T, m *machine) { m.put(t, "sys/devices/system/cpu/online", "0") }, "CPUs", Missing, "0", false},
		{"odd CPU list", func(t *testing.T, m *machine) { m.put(t, "sys/devices/system/cpu/online", "3-1") }, "CPUs", Warn, "3-1", true},
		{"no latency device", func(t *testing.T, m *machine) { m.remove(t, "dev/cpu_dma_latency") }, "cpu_dma_latency", Warn, "no /dev", true},
		{"no runc", func(t *testing.T, m *machine) { m.remove(t, "bin/runc") }, "runc", Missing, "not in", false},
		{"disk full", func(_ *testing.T, m *machine) {
			m.space = func(path string) (space, error) { return space{free: 5e6, dir: path}, nil }
		}, "engines' data", Missing, "5 MB free", false},
		{"on overlayfs", func(_ *testing.T, m *machine) {
			m.space = func(path string) (space, error) { return space{overlay: true, dir: path}, nil }
		}, "engines' data", Warn, "overlayfs", true},
		{"little memory", func(t *testing.T, m *machine) { m.put(t, "proc/meminfo", "MemAvailable: 1000 kB") }, "memory", Warn, "1 MB", true},
		{"dead lab", func(_ *testing.T, m *machine) {
			m.labIs = func(context.Context) (lab.State, error) {
				return lab.State{Phase: lab.PhaseDead, Remains: []string{"/run/x"}}, nil
			}
		}, "emulated lab", Warn, "/run/x", true},
		{"lab in use", func(_ *testing.T, m *machine) {
			m.labIs = func(context.Context) (lab.State, error) {
				return lab.State{Phase: lab.PhaseUp, Live: true, Holder: "r1"}, nil
			}
		}, "emulated lab", Warn, "held by r1", true},
		{"no image, no keyring", func(t *testing.T, m *machine) {
			m.cached = func() (*image.Image, error) { return nil, image.ErrNotCached }
			m.remove(t, "usr/share/keyrings")
		}, "archive keyring", Missing, "none of debian's", false},
		{"no keyring, but an image", func(t *testing.T, m *machine) { m.remove(t, "usr/share/keyrings") }, "archive keyring", Warn, "none of debian's", true},
		{"no image, no mirror", func(t *testing.T, m *machine) {
			m.cached = func() (*image.Image, error) { return nil, image.ErrNotCached }
			m.put(t, "etc/apt/sources.list.d/debian.sources", "# nothing\n")
		}, "apt mirror", Missing, "none in /etc/apt", false},
		{"foreign system", func(_ *testing.T, m *machine) {
			m.cached = func() (*image.Image, error) { return nil, image.ErrUnsupported }
		}, "tool image", Missing, "unsupported", false},
	} {
		t.Run(c.title, func(t *testing.T) {
			m := goodMachine(t)
			c.spoil(t, m)
			all := examine(context.Background(), m)
			i := slices.IndexFunc(all, func(r Result) bool { return r.Name == c.name })
			if i < 0 {
				t.Fatalf("no result %q", c.name)
			}
			if r := all[i]; r.Status != c.status || !strings.Contains(r.Found, c.found) || r.Cost == "" {
				t.Errorf("got %+v, want %s, %q, and a cost", r, c.status, c.found)
			}
			if err := Ready(all); (err == nil) != c.runs || err != nil && !errors.Is(err, ErrNotReady) {
				t.Errorf("ready: %v, want a run to work: %v", err, c.runs)
			}
		})
	}
}

func lose(m *machine, device string, err error) {
	m.probe = func() (probed, error) { return probed{devices: map[string]error{device: err}}, nil }
}

func TestSteal(t *testing.T) {
	m := goodMachine(t)
	m.window = time.Hour
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r := checkSteal(ctx, m)[0]; r.Status != Warn {
		t.Errorf("watch that was stopped: %+v", r)
	}
	m.put(t, "proc/stat", "intr 1\n")
	if r := checkSteal(context.Background(), m)[0]; r.Status != Warn {
		t.Errorf("no cpu line: %+v", r)
	}
}

func TestHosts(t *testing.T) {
	answers := map[string]engineFacts{
		"unix:///a": {name: "a", id: "1", version: "28.5", arch: runtime.GOARCH, swarm: docker.Swarm{Member: true, Manager: true}},
		"unix:///b": {name: "b", id: "2", version: "28.5", arch: runtime.GOARCH, swarm: docker.Swarm{Member: true}},
		"unix:///l": {name: "l", id: "3", version: "28.5", arch: runtime.GOARCH, swarm: docker.Swarm{State: "locked"}},
		"unix:///o": {name: "o", id: "4", version: "28.5", arch: "other"},
	}
	for _, c := range []struct {
		hosts []string
		want  []string // part of what is said of each
		runs  bool
	}{
		{[]string{"unix:///a", "unix:///b"}, []string{"manager", "worker"}, true},
		{[]string{"unix:///a", "unix:///a"}, []string{"manager", "the same engine as unix:///a"}, false},
		{[]string{"unix:///l", "unix:///o"}, []string{"locked", "architecture other"}, false},
		{[]string{"unix:///a", "unix:///gone"}, []string{"manager", "no such engine"}, false},
	} {
		m := goodMachine(t)
		m.euid = 1000 // a real lab needs no root here
		m.options.Hosts = c.hosts
		m.engine = func(_ context.Context, host string) (engineFacts, error) {
			f, found := answers[host]
			if !found {
				return f, errors.New("no such engine")
			}
			return f, nil
		}
		all := examine(context.Background(), m)
		var said []string
		for _, r := range all {
			if r.Group == "rights" {
				t.Errorf("%v: looked at %s, which only an emulated lab needs", c.hosts, r.Name)
			}
			if r.Group == "hosts" {
				said = append(said, r.Found)
			}
		}
		for i, want := range c.want {
			if i >= len(said) || !strings.Contains(said[i], want) {
				t.Errorf("%v: said %q, want %q", c.hosts, said, want)
			}
		}
		if err := Ready(all); (err == nil) != c.runs {
			t.Errorf("%v: ready: %v", c.hosts, err)
		}
	}
}

func TestSSHProgram(t *testing.T) {
	m := goodMachine(t)
	m.options.Hosts = []string{"ssh://a", "ssh://b"}
	if r := checkSSH(context.Background(), m); len(r) != 1 || r[0].Status != Missing || !r[0].Required {
		t.Errorf("without ssh: %+v", r)
	}
	m.put(t, "bin/ssh", "")
	if r := checkSSH(context.Background(), m); len(r) != 1 || r[0].Status != OK {
		t.Errorf("with ssh: %+v", r)
	}
}

func TestSystemEngine(t *testing.T) {
	m := goodMachine(t)
	m.root = "/tmp" // a socket's path is short
	dir, err := os.MkdirTemp(m.root, "d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m.root = dir
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "run/docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if r := checkSystemEngine(context.Background(), m)[0]; !strings.Contains(r.Found, "Docker 28.5") {
		t.Errorf("with an engine: %+v", r)
	}
}

func TestVersion(t *testing.T) {
	m := goodMachine(t)
	for out, want := range map[string]string{
		"Docker version 20.10.24+dfsg1, build 297e128":             "20.10.24+dfsg1",
		"containerd github.com/containerd/containerd 1.6.20~ds1 x": "1.6.20~ds1",
		"runc version 1.1.5+ds1\ncommit: 1.1.5\nspec: 1.0.2-dev":   "1.1.5+ds1",
		"iptables v1.8.9 (nf_tables)":                              "1.8.9",
		"usage":                                                    "",
	} {
		m.run = func(context.Context, string, ...string) (string, error) { return out, nil }
		if got := m.version(context.Background(), "x"); got != want {
			t.Errorf("%q: version %q, want %q", out, got, want)
		}
	}
}

func TestPrint(t *testing.T) {
	all := []Result{
		{Group: "rights", Name: "user", Status: OK, Found: "root", Required: true},
		{Group: "kernel", Name: "device vxlan", Status: Missing, Found: "not known", Required: true, Cost: "no overlay", Fix: "a kernel"},
	}
	var b bytes.Buffer
	if err := Print(&b, all); err != nil {
		t.Fatal(err)
	}
	want := `rights
  ok       user          root
kernel
  missing  device vxlan  not known
                           cost: no overlay
                           get:  a kernel

1 ok, 0 warn, 1 missing: econbench run can't work here: missing: device vxlan
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

// TestThisMachine looks at the machine that the test runs on: at the answers' shape, as their values are not ours.
func TestThisMachine(t *testing.T) {
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	all := Examine(context.Background(), Options{})
	names, found := map[string]bool{}, map[string]bool{}
	for _, r := range all {
		if names[r.Name] {
			t.Errorf("%s: twice", r.Name)
		}
		names[r.Name], found[r.Group] = true, true
		if r.Name == "" || r.Found == "" {
			t.Errorf("no name or nothing found: %+v", r)
		}
		switch r.Status {
		case OK:
		case Warn, Missing:
			if r.Cost == "" {
				t.Errorf("%s: %s, but does not say what that costs", r.Name, r.Status)
			}
		default:
			t.Errorf("%s: status %q", r.Name, r.Status)
		}
		if strings.ContainsRune(r.Found+r.Cost+r.Fix, '\n') {
			t.Errorf("%s: more than one line: %q", r.Name, r.Found)
		}
	}
	for _, g := range groups {
		if !found[g.name] && g.name != "hosts" {
			t.Errorf("group %s: no results, have %v", g.name, slices.Sorted(maps.Keys(found)))
		}
	}
	after, err := os.Readlink("/proc/self/ns/net")
	if err != nil || before != after {
		t.Errorf("this process's network namespace was %s, is %s (%v)", before, after, err)
	}
}

// TestProbeKernel runs where there is a right to: what a kernel that runs this repository's tests must have, is there.
func TestProbeKernel(t *testing.T) {
	p, err := probeKernel(os.Geteuid())
	if os.Geteuid() != 0 {
		if err == nil {
			t.Error("probed without root")
		}
		t.Skip("needs root to make a network namespace")
	}
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_SYS_ADMIN to make a network namespace")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		tried, made := p.devices[d.kind]
		if !made {
			t.Errorf("device %s: not tried", d.kind)
		}
		if tried != nil && !errors.Is(tried, errUnknownKind) {
			t.Errorf("device %s: neither made nor unknown: %v", d.kind, tried)
		}
	}
	for _, link := range []string{"probe0", "probe1", "probe2", "probe3", "probe4", "probe5"} {
		if _, err := net.InterfaceByName(link); err == nil {
			t.Errorf("link %s is in the machine's own namespace", link)
		}
	}
}
