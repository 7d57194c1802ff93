// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// Fastpath is the counters of the fast path that is attached, in segments: what it saw, carried, and left to the kernel with
// the reason, in each direction. What they prove is the engine's business, which knows what was demanded; here they are
// looked over for what nobody should have lost. Its reader is the agent's own, as only the agent holds what it attached.
type Fastpath struct{}

var _ econbench.Collector = Fastpath{}

// mostlyMasked is the least share of what a masquerading fast path carried for its figures to be those of masquerading.
const mostlyMasked = 0.9

func (Fastpath) Name() string { return "fastpath" }
func (Fastpath) Help() string {
	return "hits, misses and bails by reason of the attached fast path, both directions, per CPU: hit_ratio, coverage, masqueraded; warns of lost frames"
}

func (Fastpath) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	var hits, masked float64
	masks := false
	for _, h := range []host{{econbench.ClientHost, w.Client, nil}, {econbench.ServerHost, w.Server, nil}} {
		for _, direction := range []string{econbench.Egress + ".", econbench.Ingress + "."} {
			n, counted := h.Counters["fastpath"][direction+econbench.CounterMasked]
			masks = masks || counted
			masked, hits = masked+n, hits+h.Counters["fastpath"][direction+econbench.CounterHits]
		}
		for name, n := range h.Counters["fastpath"] {
			if why, lost := strings.CutPrefix(name, econbench.CounterLost); lost && n > 0 {
				warnings = append(warnings, fmt.Sprintf("fastpath: %s: %.0f segments dropped by the fast path (%s)", h.name, n, why))
			}
		}
	}
	slices.Sort(warnings)
	if masks && hits > 0 {
		samples = append(samples, econbench.Sample{Metric: "masqueraded", Value: masked / hits})
		if masked < mostlyMasked*hits {
			warnings = append(warnings, fmt.Sprintf("fastpath: %.0f %% of what was carried went without encapsulation: the rest is an encapsulating fast path's", 100*masked/hits))
		}
	}
	return samples, warnings
}
