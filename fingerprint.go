// SPDX-License-Identifier: Apache-2.0

package econbench

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Fingerprint is facts by name, "cpu.governor", as text. A name's part before the first dot says what it is about. What a
// host does not have, or does not tell, is absent; where not to have it is worth knowing, a word says so ("none", "off").
// docs/formats.md lists the names.
type Fingerprint map[string]string

// Difference is a fact in which a host is not what it was.
type Difference struct {
	Fact     string // its name in Fingerprint
	Was, Now string // "": not told
	Class    Class
}

// String is the difference in words.
func (d Difference) String() string { return fmt.Sprintf("%s is %q, was %q", d.Fact, d.Now, d.Was) }

// Differences are the facts of some classes, ClassMachine unless others are named, in which f is not what was is, sorted by
// name. A fact that only one of them tells is of ClassIncidental, whatever its name: another version of econbench may ask
// for more, and who was not asked has not given another answer.
func (f Fingerprint) Differences(was Fingerprint, of ...Class) (list []Difference) {
	if len(of) == 0 {
		of = []Class{ClassMachine}
	}
	names := maps.Clone(f)
	if names == nil {
		names = Fingerprint{}
	}
	maps.Copy(names, was)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		before, told := was[name]
		now, tells := f[name]
		class := ClassIncidental
		if told && tells {
			class = ClassOf(name)
		}
		if (before != now || told != tells) && slices.Contains(of, class) {
			list = append(list, Difference{name, before, now, class})
		}
	}
	return list
}

// Named are all facts of the host that may differ, by the fingerprint's names: the fingerprint, and what other fields tell of
// the same, which is all that runs from before there were fingerprints have.
func (f HostFacts) Named() Fingerprint {
	all := Fingerprint{}
	for name, value := range map[string]string{
		"kernel.release": f.Kernel,
		"cpu.model":      f.CPUModel,
		"cpu.assigned":   strings.Trim(fmt.Sprint(f.CPUs), "[]"),
		"docker.version": f.Engine,
		"nic.driver":     f.WireDriver,
		"nic.mtu":        strconv.Itoa(f.MTU),
	} {
		if value != "" && value != "0" || name == "cpu.assigned" && len(f.CPUs) > 0 {
			all[name] = value
		}
	}
	maps.Copy(all, f.Fingerprint)
	return all
}

// Differences are the facts in which a host is not what it was, as Fingerprint.Differences finds them. Boot, host name and
// addresses are no facts of a fingerprint: a reboot or another name changes no figure by itself.
func (f HostFacts) Differences(was HostFacts, of ...Class) []Difference {
	return f.Named().Differences(was.Named(), of...)
}

// keyLength is how many hexadecimal digits a machine's key has: 48 bits tell a million machines apart.
const keyLength = 12

// MachineKey names what a run measured on, for what was learnt about it (its noise, say) to be found again. Equal keys mean
// equal facts of ClassMachine and equal tools on both hosts, the same kind of lab, wire, placement, congestion control and
// CPUs. Host names, boots, addresses and the devices' names are not in it: they move no figure, and those of an emulated lab
// differ from run to run. Neither are econbench's version and its programs: they are what is measured. The roles are: a
// client's machine and a server's are not interchangeable. A version of econbench that knows more facts gives other keys.
//
// It is "" for a run whose hosts have no fingerprints.
func (r *Run) MachineKey() string {
	sum := sha256.New()
	keyed(sum, "lab", r.Lab)
	keyed(sum, "wire", string(cmp.Or(r.Plan.Wire, WireDefault)))
	keyed(sum, "placement", string(cmp.Or(r.Plan.Placement, Split)))
	keyed(sum, "congestion_control", r.Plan.CongestionControl)
	for _, role := range []string{ClientHost, ServerHost} {
		host := r.Hosts[role]
		if len(host.Fingerprint) == 0 {
			return ""
		}
		facts := host.Named()
		for _, name := range slices.Sorted(maps.Keys(facts)) {
			if ClassOf(name) == ClassMachine || strings.HasPrefix(name, "tools.") {
				keyed(sum, role, name, facts[name])
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:keyLength]
}

// keyed writes words such that other words are other bytes.
func keyed(w io.Writer, words ...string) { fmt.Fprintf(w, "%q\n", words) } // a hash takes all
