// SPDX-License-Identifier: Apache-2.0

package econbench

import (
	"fmt"
	"strings"
)

// Fingerprint is facts by name, "cpu.governor", as text.
type Fingerprint map[string]string

// Difference is a fact in which a host is not what it was.
type Difference struct {
	Fact     string // as run.json spells it
	Was, Now string
}

// String is the difference in words.
func (d Difference) String() string { return fmt.Sprintf("%s is %q, was %q", d.Fact, d.Now, d.Was) }

// decisive are the facts of a host that decide what is measured on it: two hosts that differ in one of them are not the
// same to a trial. Boot, name and addresses are not among them, as a reboot changes no figure by itself.
var decisive = []struct {
	name string
	of   func(HostFacts) string
}{
	{"kernel", func(f HostFacts) string { return f.Kernel }},
	{"cpu_model", func(f HostFacts) string { return f.CPUModel }},
	{"cpus", func(f HostFacts) string { return strings.Trim(fmt.Sprint(f.CPUs), "[]") }},
	{"engine", func(f HostFacts) string { return f.Engine }},
	{"wire_driver", func(f HostFacts) string { return f.WireDriver }},
	{"mtu", func(f HostFacts) string { return fmt.Sprint(f.MTU) }},
}

// Differences are the decisive facts in which a host is not what it was.
func (f HostFacts) Differences(was HostFacts) (list []Difference) {
	for _, d := range decisive {
		if a, b := d.of(was), d.of(f); a != b {
			list = append(list, Difference{d.name, a, b})
		}
	}
	return list
}
