// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

func checkUser(_ context.Context, m *machine) []Result {
	if m.euid == 0 {
		return required(ok("user", "root"))
	}
	return required(missing("user", fmt.Sprintf("user id %d", m.euid),
		"the emulated lab makes namespaces, mounts and network devices",
		"use sudo; or --hosts with two engines, which needs no root"))
}

// capabilityNames are those of include/uapi/linux/capability.h, by bit.
var capabilityNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
	SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE
	AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)

// needs are the capabilities by whom they are used. An engine can give its containers only what the bounding set has.
var needs = []struct{ name, use string }{
	{"SYS_ADMIN", "namespaces and mounts of the lab"},
	{"NET_ADMIN", "the wire, routes, BPF links"},
	{"DAC_OVERRIDE", "files of other users"},
	{"NET_RAW", "packet sockets of the agent"},
	{"SYS_PTRACE", "namespaces of containers, as seen by the agent"},
	{"MKNOD", "the agent's /dev/cpu_dma_latency; devices of containers"},
	{"KILL", "programs of endpoint containers"},
	{"BPF", "fast paths"},
	{"PERFMON", "fast paths"},
	{"SYS_CHROOT", "containers"},
	{"SETUID", "containers"},
	{"SETGID", "containers"},
}

func checkCapabilities(_ context.Context, m *machine) []Result {
	const name = "capabilities"
	sets, err := m.capabilitySets()
	if err != nil {
		return required(missing(name, err.Error(), "rights are not known", "mount /proc"))
	}
	var lacking, uses []string
	for _, n := range needs {
		// Somebody who is not root has none in effect, which checkUser says; the bounding set is what root would get.
		if sets["CapBnd"].has(n.name) && (m.euid != 0 || sets["CapEff"].has(n.name)) {
			continue
		}
		lacking = append(lacking, "CAP_"+n.name)
		if !slices.Contains(uses, n.use) {
			uses = append(uses, n.use)
		}
	}
	if len(lacking) > 0 {
		return required(missing(name, "lacks "+strings.Join(lacking, ", "), "not possible: "+strings.Join(uses, "; "),
			"run as root of the machine, or in a container that is given them"))
	}
	if m.euid != 0 {
		return required(ok(name, fmt.Sprintf("root would have the %d needed", len(needs))))
	}
	return required(ok(name, fmt.Sprintf("%d effective, the %d needed among them", sets["CapEff"].count(), len(needs))))
}

func checkBounding(_ context.Context, m *machine) []Result {
	const name = "bounding set"
	sets, err := m.capabilitySets()
	if err != nil {
		return nil // checkCapabilities said so
	}
	last := len(capabilityNames) - 1
	if text, err := m.read("proc/sys/kernel/cap_last_cap"); err == nil {
		if n, err := strconv.Atoi(text); err == nil {
			last = n
		}
	}
	var lacking []string
	for bit := 0; bit <= last; bit++ {
		if sets["CapBnd"]&(1<<bit) == 0 {
			lacking = append(lacking, "CAP_"+capabilityName(bit))
		}
	}
	if len(lacking) == 0 {
		return ok(name, fmt.Sprintf("all %d of this kernel", last+1))
	}
	return warn(name, "lacks "+strings.Join(lacking, ", "),
		"docker run --privileged and --cap-add ALL fail on engines started here; econbench asks by name and needs neither",
		"start the container or machine that this is with all capabilities")
}

func capabilityName(bit int) string {
	if bit < len(capabilityNames) {
		return capabilityNames[bit]
	}
	return strconv.Itoa(bit)
}

// capabilitySet is a bit mask as /proc/PID/status shows it.
type capabilitySet uint64

func (s capabilitySet) count() int { return bits.OnesCount64(uint64(s)) }

func (s capabilitySet) has(name string) bool {
	for bit, n := range capabilityNames {
		if n == name {
			return s&(1<<bit) != 0
		}
	}
	return false
}

// capabilitySets reads this process's sets; see proc_pid_status(5).
func (m *machine) capabilitySets() (map[string]capabilitySet, error) {
	text, err := m.read("proc/self/status")
	if err != nil {
		return nil, err
	}
	sets := map[string]capabilitySet{}
	for sc := bufio.NewScanner(strings.NewReader(text)); sc.Scan(); {
		key, value, _ := strings.Cut(sc.Text(), ":")
		if !strings.HasPrefix(key, "Cap") {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("/proc/self/status: %s: %q is not a mask", key, strings.TrimSpace(value))
		}
		sets[key] = capabilitySet(n)
	}
	if _, found := sets["CapEff"]; !found {
		return nil, fmt.Errorf("/proc/self/status: has no CapEff")
	}
	return sets, nil
}
