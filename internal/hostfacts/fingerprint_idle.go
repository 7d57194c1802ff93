// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"cmp"
	"path/filepath"
	"strings"

	"github.com/econbench/econbench"
)

// idleFacts are what CPUs do when there is nothing to do, which moves latency more than most paths differ. During a run
// deep states are held off besides (HostFacts.Tunings).
func idleFacts(t trees, _ string) (econbench.Fingerprint, error) {
	const dir = "devices/system/cpu/cpuidle"
	f := econbench.Fingerprint{
		"cpu.idle_driver": cmp.Or(text(t.sys, dir, "current_driver"), "none"),
		// The file without _ro came with Linux 5.8.
		"cpu.idle_governor": cmp.Or(text(t.sys, dir, "current_governor"), text(t.sys, dir, "current_governor_ro")),
		"cpu.idle_states":   t.idleStates(),
	}
	// haltpoll's, in use or not: a guest polls before it leaves its CPU to the hypervisor (drivers/cpuidle/governors/haltpoll.c).
	for _, name := range list(t.sys, "module/haltpoll/parameters") {
		f["cpu.halt_poll."+plainName(name)] = text(t.sys, "module/haltpoll/parameters", name)
	}
	return f, nil
}

// idleStates are the first CPU's states, in order, without those that are disabled.
func (t trees) idleStates() string {
	dirs, _ := filepath.Glob(filepath.Join(t.sys, "devices/system/cpu/cpu0/cpuidle/state*")) // errs on bad patterns alone
	var states []string
	for _, dir := range byNumber(dirs, "state") {
		if name := text(dir, "name"); name != "" && cmp.Or(text(dir, "disable"), "0") == "0" {
			states = append(states, name)
		}
	}
	return strings.Join(states, " ")
}
