// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"fmt"
	"slices"

	"github.com/econbench/econbench"
)

// bails are the reasons to leave a packet to the kernel's path, in the order of enum bail in bpf/lib/account.h.
var bails = [...]string{
	"protocol", "options", "fragment", "checksum", "flags", "length", "socket", "bound", "flow", "address", "outer", "spoofed", "superframe", "expired",
}

// direction is struct direction of bpf/lib/account.h, in segments.
type direction struct {
	Seen, Eligible, Hits, HitBytes, Misses, Dry, Masked, Direct uint64
	Bails                                                       [len(bails)]uint64
}

func (d *direction) addTo(c econbench.Counters, prefix string) {
	c[prefix+econbench.CounterSeen] += float64(d.Seen)
	c[prefix+econbench.CounterEligible] += float64(d.Eligible)
	c[prefix+econbench.CounterHits] += float64(d.Hits)
	c[prefix+econbench.CounterMisses] += float64(d.Misses)
	c[prefix+econbench.CounterDry] += float64(d.Dry)
	c[prefix+"hit_bytes"] += float64(d.HitBytes)
	c[prefix+econbench.CounterMasked] += float64(d.Masked)
	for i, n := range d.Bails {
		c[prefix+econbench.CounterBail+bails[i]] += float64(n)
	}
}

// account is one CPU's struct account, as the kernel hands it over.
type account struct {
	Egress, Ingress direction
	Refused, Failed uint64
	Assigned        uint64
	Answers         uint64
}

// counterDirect counts, of the segments that a host's containers sent by the fast path, those that went by their direct way.
const counterDirect = econbench.Egress + ".direct"

// counterAnswers counts what a host sent for containers that answer no datagrams (bpf/lib/answer.h).
const counterAnswers = "answers"

// Counters that not every fast path has.
var (
	countsXmasq    = []string{econbench.Egress + "." + econbench.CounterMasked, econbench.Ingress + "." + econbench.CounterMasked, counterAnswers}
	countsAssigned = []string{econbench.Ingress + ".assigned"}
)

// counters adds up the CPUs' accounts, and keeps each CPU's hits: which CPU carried the packets is half of what a placement
// did. Of the counters that not every fast path has it keeps those in own.
func counters(cpus []account, own []string) econbench.Counters {
	c := econbench.Counters{}
	for cpu, a := range cpus {
		a.Egress.addTo(c, econbench.Egress+".")
		a.Ingress.addTo(c, econbench.Ingress+".")
		c[counterDirect] += float64(a.Egress.Direct)
		c[econbench.CounterLost+"refused"] += float64(a.Refused)
		c[econbench.CounterLost+"failed"] += float64(a.Failed)
		c[countsAssigned[0]] += float64(a.Assigned)
		c[counterAnswers] += float64(a.Answers)
		for name, hits := range map[string]uint64{econbench.Egress: a.Egress.Hits, econbench.Ingress: a.Ingress.Hits} {
			c[fmt.Sprintf("cpu%d.%s.%s", cpu, name, econbench.CounterHits)] = float64(hits)
		}
	}
	for _, name := range slices.Concat(countsXmasq, countsAssigned) {
		if !slices.Contains(own, name) {
			delete(c, name)
		}
	}
	return c
}
