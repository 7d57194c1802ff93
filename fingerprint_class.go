// SPDX-License-Identifier: Apache-2.0

package econbench

import "strings"

// Class says what a difference in a fact means.
type Class string

const (
	// ClassMachine is what is measured on: runs that differ in it are not comparable, nor is one's noise the other's.
	ClassMachine Class = "machine"
	// ClassSubject is what is measured, or measures: a difference may be just what two runs are compared for.
	ClassSubject Class = "subject"
	// ClassIncidental informs: it changes by itself, or moves no figure.
	ClassIncidental Class = "incidental"
)

// classes of all facts that econbench tells of a host. A name with a dot at its end stands for all that begin with it.
var classes = map[string]Class{
	"kernel.release":        ClassMachine,
	"kernel.version":        ClassMachine,
	"kernel.cmdline":        ClassMachine,
	"kernel.config":         ClassMachine,
	"kernel.hz":             ClassMachine,
	"kernel.tick":           ClassMachine,
	"kernel.preempt":        ClassMachine,
	"kernel.cpu_accounting": ClassMachine,
	"kernel.clocksource":    ClassMachine,

	"cpu.model":          ClassMachine,
	"cpu.id":             ClassMachine,
	"cpu.flags":          ClassMachine,
	"cpu.microcode":      ClassMachine,
	"cpu.count":          ClassMachine,
	"cpu.assigned":       ClassMachine,
	"cpu.packages":       ClassMachine,
	"cpu.numa_nodes":     ClassMachine,
	"cpu.smt":            ClassMachine,
	"cpu.isolated":       ClassMachine,
	"cpu.nohz_full":      ClassMachine,
	"cpu.mitigations.":   ClassMachine,
	"cpu.scaling_driver": ClassMachine,
	"cpu.scaling_mode":   ClassMachine,
	"cpu.governor":       ClassMachine,
	"cpu.preference":     ClassMachine,
	"cpu.frequency_min":  ClassMachine,
	"cpu.frequency_max":  ClassMachine,
	"cpu.turbo":          ClassMachine,
	"cpu.idle_driver":    ClassMachine,
	"cpu.idle_governor":  ClassMachine,
	"cpu.idle_states":    ClassMachine,
	"cpu.halt_poll.":     ClassMachine,

	"machine.virtual": ClassMachine,
	"machine.vendor":  ClassMachine,
	"machine.product": ClassMachine,
	"machine.bios":    ClassMachine,
	"machine.os":      ClassIncidental,

	"memory.thp":        ClassMachine,
	"memory.thp_defrag": ClassMachine,
	"memory.ksm":        ClassMachine,
	"memory.total":      ClassIncidental, // a balloon moves it, and a kernel that keeps more for itself

	"nic.driver":             ClassMachine,
	"nic.driver_version":     ClassMachine,
	"nic.firmware":           ClassMachine,
	"nic.bus":                ClassIncidental,
	"nic.kind":               ClassMachine,
	"nic.speed":              ClassMachine,
	"nic.mtu":                ClassMachine,
	"nic.txqueuelen":         ClassMachine,
	"nic.qdisc":              ClassMachine,
	"nic.xdp":                ClassMachine,
	"nic.gso_max":            ClassMachine,
	"nic.gro_max":            ClassMachine,
	"nic.numa_node":          ClassMachine,
	"nic.threaded":           ClassMachine,
	"nic.gro_flush_timeout":  ClassMachine,
	"nic.defer_hard_irqs":    ClassMachine,
	"nic.queues":             ClassMachine,
	"nic.rps":                ClassMachine,
	"nic.rfs":                ClassMachine,
	"nic.xps":                ClassMachine,
	"nic.rings":              ClassMachine,
	"nic.coalesce":           ClassMachine,
	"nic.channels":           ClassMachine,
	"nic.pause":              ClassMachine,
	"nic.offloads":           ClassMachine,
	"nic.private_flags":      ClassMachine,
	"nic.irq_affinity":       ClassMachine,
	"nic.irq_affinity_found": ClassIncidental, // irqbalance moves it every 10 s

	"sysctl.": ClassMachine,
	// These follow from the memory that was free when the kernel started, and from what is loaded.
	"sysctl.net.ipv4.tcp_mem":                          ClassIncidental,
	"sysctl.net.ipv4.udp_mem":                          ClassIncidental,
	"sysctl.net.ipv4.tcp_available_congestion_control": ClassIncidental,

	"netfilter.iptables_legacy": ClassMachine,
	"netfilter.nft":             ClassMachine,
	"netfilter.docker":          ClassMachine,
	"netfilter.conntrack":       ClassMachine,
	"netfilter.flow_offload":    ClassMachine,

	"docker.version":        ClassMachine,
	"docker.storage":        ClassMachine,
	"docker.cgroup_driver":  ClassMachine,
	"docker.cgroup_version": ClassMachine,
	"docker.security":       ClassMachine,
	"docker.runtime":        ClassMachine,
	"docker.runc":           ClassMachine,
	"docker.firewall":       ClassMachine,
	"docker.experimental":   ClassMachine,
	"docker.containers":     ClassIncidental,

	"econbench.version": ClassSubject,
	"bpf.":              ClassSubject,
	"tools.":            ClassSubject,
}

// lowerPrefix begins the names of what a bond's or VLAN's devices below it are: "nic.lower0.driver" is of the class of
// "nic.driver".
const lowerPrefix = "nic.lower"

// ClassOf is the class of a fact. Of a name that this version does not know it is ClassIncidental: nobody here can say what
// it means.
func ClassOf(name string) Class {
	class, _ := classOf(name)
	return class
}

// KnownFact says whether this version gives a fact of that name a class.
func KnownFact(name string) bool {
	_, known := classOf(name)
	return known
}

func classOf(name string) (class Class, known bool) {
	if rest, lower := strings.CutPrefix(name, lowerPrefix); lower {
		_, fact, _ := strings.Cut(rest, ".")
		name = "nic." + fact
	}
	if class, known = classes[name]; known {
		return class, true
	}
	for end := len(name); ; {
		if end = strings.LastIndexByte(name[:end], '.'); end < 0 {
			return ClassIncidental, false
		}
		if class, known = classes[name[:end+1]]; known {
			return class, true
		}
	}
}
