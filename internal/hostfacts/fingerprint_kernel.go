// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"bytes"
	"compress/gzip"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// kernelFacts are which kernel runs, how it was built and how it was started.
func kernelFacts(t trees, _ string) (econbench.Fingerprint, error) {
	f := econbench.Fingerprint{
		"kernel.release":     text(t.proc, "sys/kernel/osrelease"),
		"kernel.version":     text(t.proc, "sys/kernel/version"),
		"kernel.cmdline":     commandLine(text(t.proc, "cmdline")),
		"kernel.clocksource": text(t.sys, "devices/system/clocksource/clocksource0/current_clocksource"),
	}
	raw := t.kernelConfig(f["kernel.release"])
	if raw == nil {
		return f, nil
	}
	c := parseConfig(raw)
	f["kernel.config"] = digest(string(raw)) // a kernel of the same release and version may be another build
	f["kernel.hz"] = c["HZ"]
	f["kernel.tick"] = c.first("HZ_PERIODIC periodic", "NO_HZ_IDLE idle", "NO_HZ_FULL full")
	f["kernel.preempt"] = c.preempt()
	f["kernel.cpu_accounting"] = c.accounting()
	return f, nil
}

// otherBoot are parameters that name a machine's disks, addresses or the kernel's file, which move no figure.
var otherBoot = []string{"BOOT_IMAGE=", "initrd=", "root=", "rootflags=", "resume=", "resume_offset=", "rd.luks.", "rd.lvm.", "rd.md.",
	"ip=", "hostname=", "systemd.hostname=", "systemd.machine_id=", "crashkernel=", "cryptdevice="}

// commandLine is the kernel's command line without what belongs to one machine's disks. What is behind "--" is for init.
func commandLine(line string) string {
	var kept []string
	for _, word := range strings.Fields(line) {
		if word == "--" {
			break
		}
		if !slices.ContainsFunc(otherBoot, func(prefix string) bool { return strings.HasPrefix(word, prefix) }) {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}

// kernelConfig is what the kernel was built with: from itself (CONFIG_IKCONFIG_PROC), or from where distributions put it in
// the host's root, which the first process has; nil where neither is.
func (t trees) kernelConfig(release string) []byte {
	if packed := content(t.proc, "config.gz"); packed != nil {
		if z, err := gzip.NewReader(bytes.NewReader(packed)); err == nil {
			if b, err := io.ReadAll(io.LimitReader(z, maxFile)); err == nil {
				return b
			}
		}
	}
	if release == "" || release != filepath.Base(release) {
		return nil
	}
	for _, name := range []string{"boot/config-" + release, "lib/modules/" + release + "/config"} {
		if b := content(t.proc, "1/root", name); b != nil {
			return b
		}
	}
	return nil
}

// kernelConfig are options that are set, without their CONFIG_.
type kernelConfig map[string]string

func parseConfig(raw []byte) kernelConfig {
	c := kernelConfig{}
	for line := range strings.Lines(string(raw)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if name, isOption := strings.CutPrefix(name, "CONFIG_"); ok && isOption {
			c[name] = words(strings.Trim(value, `"`))
		}
	}
	return c
}

// first is the word behind the first option that is built in, of "OPTION word"s.
func (c kernelConfig) first(options ...string) string {
	for _, o := range options {
		if name, word, _ := strings.Cut(o, " "); c[name] == "y" {
			return word
		}
	}
	return ""
}

// preempt is what the scheduler may interrupt. A dynamic one is chosen by the command line, else it is what it was built as
// (kernel/sched/core.c, sched_dynamic_mode); what /sys/kernel/debug says since is behind a mount that agents don't make.
func (c kernelConfig) preempt() string {
	built := c.first("PREEMPT_RT rt", "PREEMPT_LAZY lazy", "PREEMPT full", "PREEMPT_VOLUNTARY voluntary", "PREEMPT_NONE none")
	if built != "" && c["PREEMPT_DYNAMIC"] == "y" {
		built += " dynamic"
	}
	return built
}

// accounting is how time is ascribed to user, system and interrupts: sampled by the tick, or at each border
// (init/Kconfig, "Cputime accounting"); irq-time: that of interrupts exactly.
func (c kernelConfig) accounting() string {
	how := c.first("TICK_CPU_ACCOUNTING tick", "VIRT_CPU_ACCOUNTING_GEN virt-gen", "VIRT_CPU_ACCOUNTING_NATIVE virt-native")
	if how != "" && c["IRQ_TIME_ACCOUNTING"] == "y" {
		how += " irq-time"
	}
	return how
}
