// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// sysfsFacts are what /sys tells of a device: its queues, and which CPUs work on them. A mount of /sys shows the devices of one
// network namespace; if that is another one, nothing is told.
func (t trees) sysfsFacts(device string, index int) econbench.Fingerprint {
	dir := filepath.Join(t.sys, "class/net", device)
	if device != filepath.Base(device) || text(dir, "ifindex") != strconv.Itoa(index) {
		return nil
	}
	f := econbench.Fingerprint{
		"nic.speed":             strings.TrimPrefix(text(dir, "speed"), "-1"), // Mbit/s; -1: not known
		"nic.numa_node":         text(dir, "device/numa_node"),
		"nic.threaded":          text(dir, "threaded"),
		"nic.gro_flush_timeout": text(dir, "gro_flush_timeout"),
		"nic.defer_hard_irqs":   text(dir, "napi_defer_hard_irqs"),
	}
	rx, tx := queues(dir, "rx-"), queues(dir, "tx-")
	if len(rx)+len(tx) > 0 {
		f["nic.queues"] = fmt.Sprintf("rx=%d tx=%d", len(rx), len(tx))
	}
	f["nic.rps"] = ofQueues(rx, "rps_cpus", trimMask)
	f["nic.rfs"] = ofQueues(rx, "rps_flow_cnt", nil)
	f["nic.xps"] = ofQueues(tx, "xps_cpus", trimMask)
	found := t.interrupts(dir)
	f["nic.irq_affinity_found"] = found
	if f["nic.irq_affinity"] = found; found != "" && t.running("irqbalance") {
		f["nic.irq_affinity"] = "irqbalance" // that it moves them is the fact
	}
	return f
}

// queues are the folders of a device's queues of a kind, by number.
func queues(dir, kind string) []string {
	dirs, _ := filepath.Glob(filepath.Join(dir, "queues", kind+"*")) // errs on bad patterns alone
	return byNumber(dirs, kind)
}

// byNumber sorts paths by the number behind a prefix of their last part, and drops those without one.
func byNumber(paths []string, prefix string) []string {
	number := func(path string) int {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), prefix))
		if err != nil {
			return -1
		}
		return n
	}
	paths = slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return number(p) < 0 })
	slices.SortFunc(paths, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	return paths
}

// ofQueues is what a file of all queues says; "" if not all of them have it.
func ofQueues(dirs []string, file string, write func(string) string) string {
	var values []string
	for _, dir := range dirs {
		v := text(dir, file)
		if v == "" {
			return ""
		}
		if write != nil {
			v = write(v)
		}
		values = append(values, v)
	}
	return runs(values)
}

// trimMask writes a CPU mask without the zeros that the kernel puts before it, as many as it knows CPUs.
func trimMask(mask string) string { return cmp.Or(strings.TrimLeft(mask, "0,"), "0") }

// interrupts are the CPUs that may work on each of a device's interrupts. A virtio device's are its PCI device's.
func (t trees) interrupts(dir string) string {
	device, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return "" // not a device of any bus
	}
	for _, at := range []string{device, filepath.Dir(device)} {
		var affinity []string
		for _, irq := range byNumber(list(at, "msi_irqs"), "") {
			affinity = append(affinity, cmp.Or(text(t.proc, "irq", irq, "smp_affinity_list"), "?"))
		}
		if len(affinity) > 0 {
			return runs(affinity)
		}
	}
	return ""
}

// running says whether a process of that name runs.
func (t trees) running(name string) bool {
	return slices.ContainsFunc(list(t.proc), func(pid string) bool {
		_, err := strconv.Atoi(pid)
		return err == nil && text(t.proc, pid, "comm") == name
	})
}
