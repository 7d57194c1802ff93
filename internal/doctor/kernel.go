// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// release is a kernel's version, as far as features go by it.
type release struct{ major, minor int }

// minimum is what the emulated lab and the agents need: pidfd_open (5.3), CAP_BPF and CAP_PERFMON by name (5.8).
var minimum = release{5, 8}

func (r release) less(o release) bool {
	return r.major < o.major || r.major == o.major && r.minor < o.minor
}

func (r release) String() string { return fmt.Sprintf("%d.%d", r.major, r.minor) }

// parseRelease takes the version from the front of "6.18.44-generic".
func parseRelease(text string) (r release, err error) {
	if _, err := fmt.Sscanf(text, "%d.%d", &r.major, &r.minor); err != nil {
		return r, fmt.Errorf("kernel release %q: want MAJOR.MINOR in front", text)
	}
	return r, nil
}

func checkRelease(_ context.Context, m *machine) []Result {
	const name = "kernel release"
	text, err := m.read("proc/sys/kernel/osrelease")
	if err != nil {
		return required(missing(name, err.Error(), "nothing is known of the kernel", "mount /proc"))
	}
	r, err := parseRelease(text)
	switch {
	case err != nil:
		return warn(name, err.Error(), "what the kernel can do is not known by its version", "")
	case r.less(minimum):
		return required(missing(name, text, "agents need CAP_BPF by name, and process file descriptors", "Linux "+minimum.String()+" or newer"))
	}
	return required(ok(name, fmt.Sprintf("%s (%s or newer is needed)", text, minimum)))
}

// devices are the kinds of network devices that matter, and what for.
var devices = []struct {
	kind, config string
	required     bool
	cost         string
}{
	{"veth", "CONFIG_VETH", true, "no wire between the emulated hosts, no containers on networks"},
	{"bridge", "CONFIG_BRIDGE", true, "no Docker networks"},
	{"vxlan", "CONFIG_VXLAN", true, "no overlay networks"},
	{"macvlan", "CONFIG_MACVLAN", false, "no fast path: there is no other kind of lane yet; host and overlay arms do without"},
	{"netkit", "CONFIG_NETKIT", false, "fast paths will have no lane of that kind (Linux 6.7); no arm of today needs it"},
}

func checkDevices(_ context.Context, m *machine) (all []Result) {
	p, err := m.probe()
	if err != nil {
		return warn("devices, qdiscs", "not tried: "+err.Error(), "it is not known whether the kernel can make a wire and an overlay", "run doctor as root")
	}
	for _, d := range devices {
		r := judge("device "+d.kind, p.devices[d.kind], d.cost, "a kernel with "+d.config)
		if d.required && r[0].Status == Missing {
			r = required(r)
		}
		all = append(all, r...)
	}
	return all
}

func checkQdiscs(_ context.Context, m *machine) (all []Result) {
	p, err := m.probe()
	if err != nil {
		return nil // checkDevices said so
	}
	for _, q := range []struct{ kind, config, cost string }{
		{"netem", "CONFIG_NET_SCH_NETEM", "delay and loss can't be emulated on the wire; no arm of today needs it"},
		{"fq", "CONFIG_NET_SCH_FQ", "TCP paces with timers of its own: congestion control bbr is slower than with it"},
		{"clsact", "CONFIG_NET_CLS_ACT", "no fast path: a filter of that kind guards a lane, with tcx too; host and overlay arms do without"},
	} {
		all = append(all, judge("qdisc "+q.kind, p.qdiscs[q.kind], q.cost, "a kernel with "+q.config)...)
	}
	return all
}

// tcxSince is the release that brought tcx.
var tcxSince = release{6, 6}

// checkTCX tries it; what can't be tried is judged by the version.
func checkTCX(_ context.Context, m *machine) []Result {
	const name, cost = "tcx", "fast paths attach as clsact filters, which the death of an agent does not remove"
	p, err := m.probe()
	if err == nil && p.tcx == nil {
		return ok(name, "works")
	}
	text, _ := m.read("proc/sys/kernel/osrelease")
	r, parseErr := parseRelease(text)
	if err != nil || errors.Is(p.tcx, unix.EPERM) {
		if parseErr == nil && !r.less(tcxSince) {
			return ok(name, fmt.Sprintf("by version: %s has it; not tried: %v", r, errors.Join(err, p.tcx)))
		}
		return warn(name, fmt.Sprintf("not tried: %v", errors.Join(err, p.tcx)), cost, "Linux "+tcxSince.String()+" or newer")
	}
	return missing(name, p.tcx.Error(), cost, "Linux "+tcxSince.String()+" or newer with CONFIG_NET_XGRESS and CONFIG_BPF_SYSCALL")
}

// checkNoTrack tries what host-bare needs of nf_tables.
func checkNoTrack(_ context.Context, m *machine) []Result {
	const name, cost, fix = "nf_tables", "no arm host-bare; all others do without", "Linux 5.12 or newer with CONFIG_NF_TABLES, CONFIG_NF_TABLES_IPV4 and CONFIG_NFT_CT"
	p, err := m.probe()
	switch {
	case err != nil:
		return warn(name, "not tried: "+err.Error(), "if it is missing: "+cost, "run doctor as root")
	case errors.Is(p.notrack, unix.EPERM):
		return warn(name, "not known: "+p.notrack.Error(), "if it is missing: "+cost, fix)
	case p.notrack != nil:
		return missing(name, p.notrack.Error(), cost, fix)
	}
	return ok(name, "works, notrack and tables that go with their maker too")
}

// judge makes a result of an attempt in the throw-away namespace.
func judge(name string, tried error, cost, fix string) []Result {
	switch {
	case tried == nil:
		return ok(name, "works")
	case errors.Is(tried, errUnknownKind):
		return missing(name, "the kernel does not know it", cost, fix)
	}
	return warn(name, "not known: "+tried.Error(), "if it is missing: "+cost, fix)
}

func checkBTF(_ context.Context, m *machine) []Result {
	const path = "sys/kernel/btf/vmlinux"
	if m.has(path) {
		return ok("BTF", "/"+path)
	}
	return missing("BTF", "no /"+path, "fast paths can't be loaded; host and overlay arms work", "a kernel with CONFIG_DEBUG_INFO_BTF")
}

func checkJIT(_ context.Context, m *machine) []Result {
	const name, path = "BPF JIT", "proc/sys/net/core/bpf_jit_enable"
	text, err := m.read(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return warn(name, "not known: "+err.Error(), "if it is off, fast paths are interpreted and slow", "run doctor as root")
	case err != nil:
		return missing(name, "no /"+path, "fast paths are interpreted and slow", "a kernel with CONFIG_BPF_JIT")
	case text == "0":
		return warn(name, "off", "fast paths are interpreted and slow", "sysctl net.core.bpf_jit_enable=1")
	}
	return ok(name, "on")
}

func checkOverlayfs(_ context.Context, m *machine) []Result {
	const name = "overlayfs"
	text, err := m.read("proc/filesystems")
	for line := range strings.Lines(text) {
		if slices.Contains(strings.Fields(line), "overlay") {
			return ok(name, "works")
		}
	}
	if err == nil && m.hasModule("overlay") {
		return ok(name, "as a module")
	}
	return warn(name, "the kernel does not know it", "engines store containers with vfs: slow to start, and large", "a kernel with CONFIG_OVERLAY_FS")
}

// hasModule tells whether a module of that name can be loaded.
func (m *machine) hasModule(name string) bool {
	kernel, err := m.read("proc/sys/kernel/osrelease")
	if err != nil {
		return false
	}
	text, err := m.read(filepath.Join("lib/modules", kernel, "modules.dep"))
	return err == nil && strings.Contains(text, "/"+name+".ko")
}

func checkCgroups(_ context.Context, m *machine) []Result {
	const name = "cgroups"
	text, err := m.read("proc/self/mountinfo")
	if err != nil {
		return required(missing(name, err.Error(), "it is not known whether engines can run", "mount /proc"))
	}
	v1, v2 := 0, ""
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		before, after, _ := strings.Cut(sc.Text(), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(g) < 1 {
			continue
		}
		switch g[0] {
		case "cgroup":
			v1++
		case "cgroup2":
			v2 = f[4]
		}
	}
	switch {
	case v1 > 0 && v2 != "":
		return required(ok(name, fmt.Sprintf("hybrid: %d hierarchies of version 1, version 2 at %s", v1, v2)))
	case v1 > 0:
		return required(ok(name, fmt.Sprintf("version 1: %d hierarchies", v1)))
	case v2 != "":
		return required(ok(name, "version 2 at "+v2))
	}
	return required(missing(name, "none mounted", "engines can't start containers", "mount -t cgroup2 none /sys/fs/cgroup"))
}

// congestionControl is what every suite uses unless told otherwise.
const congestionControl = "cubic"

func checkCongestion(_ context.Context, m *machine) []Result {
	const name = "congestion control"
	text, err := m.read("proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil {
		return warn(name, err.Error(), "it is not known whether "+congestionControl+" can be used", "")
	}
	if slices.Contains(strings.Fields(text), congestionControl) {
		return ok(name, text)
	}
	return warn(name, text, "runs ask for "+congestionControl+" and fail where the kernel can't load it",
		"modprobe tcp_"+congestionControl+", or --congestion-control with one of these")
}
