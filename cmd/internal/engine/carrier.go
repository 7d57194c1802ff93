// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"

	"github.com/econbench/econbench"
)

const (
	// fastpathCounters is the name of the reader that delivers a carrier's counters.
	fastpathCounters = "fastpath"
	// leastHitRatio is the least share of eligible packets that a fast path must carry once warmed up.
	leastHitRatio = 0.99
	// inFlight is how many segments may have been counted as eligible or seen and not yet as hits when counters were read:
	// two super-frames of 64 kB.
	inFlight = 128
)

// handles tells what the hosts' agents know an attachment by; 0 where it counts nothing.
func handles(a econbench.Attachment) func(host string) int {
	c, ok := a.(econbench.Counted)
	if !ok {
		return func(string) int { return 0 }
	}
	return c.Handle
}

// pathOf is the way of the packets of a trial.
func pathOf(b *bed, a econbench.Attachment) econbench.Path {
	if c, ok := a.(econbench.Carrier); ok {
		return c.Path(b.Path())
	}
	return b.Path()
}

// demandOf is how much of a workload a fast path has to carry.
func demandOf(w econbench.Workload, p econbench.Params) econbench.Coverage {
	if c, ok := w.(econbench.Covered); ok {
		return c.Coverage(p)
	}
	return econbench.Coverage{}
}

// carriedBy is what an attachment carried; nil where it carries no packets.
func (e *Engine) carriedBy(a econbench.Attachment, w econbench.Window, cell econbench.Cell) []econbench.Carried {
	if _, ok := a.(econbench.Carrier); !ok {
		return nil
	}
	list := carried(w, demandOf(named(e.Parts.Workloads, cell.Workload), cell.Params))
	if _, forgets := a.(econbench.Forgetter); forgets && w.Flows.Kind == econbench.ConnectFlows {
		excuseClosed(list)
	}
	return list
}

// excuseClosed demands nothing of what comes for servers that have closed, and half of what goes to the client: the response. The acknowledgement
// of the client's FIN comes before the server's program lets go or behind it (tcp_crr with econ: coverage 0.385 to 0.394). See Forgetter.
func excuseClosed(list []econbench.Carried) {
	for i, c := range list {
		switch {
		case c.Host == econbench.ServerHost && c.Direction == econbench.Ingress:
			list[i].Demanded = 0
		case c.Host == econbench.ServerHost || c.Direction == econbench.Ingress:
			list[i].Demanded /= 2
		}
	}
}

// carried reads what the fast path counted on each host, in the order of a round trip.
func carried(w econbench.Window, demand econbench.Coverage) (list []econbench.Carried) {
	for _, at := range []struct {
		host, direction string
		window          econbench.HostWindow
		demanded        float64
	}{
		{econbench.ClientHost, econbench.Egress, w.Client, demand.ToServer},
		{econbench.ServerHost, econbench.Ingress, w.Server, demand.ToServer},
		{econbench.ServerHost, econbench.Egress, w.Server, demand.ToClient},
		{econbench.ClientHost, econbench.Ingress, w.Client, demand.ToClient},
	} {
		counters := at.window.Counters[fastpathCounters]
		count := func(name string) float64 { return counters[at.direction+"."+name] }
		c := econbench.Carried{Host: at.host, Direction: at.direction, Seen: count(econbench.CounterSeen),
			Eligible: count(econbench.CounterEligible), Hits: count(econbench.CounterHits), Demanded: at.demanded}
		c.HitRatio, c.Coverage = share(c.Hits, c.Eligible), share(c.Hits, c.Seen)
		list = append(list, c)
	}
	return list
}

// share is null where there is nothing to have a share of. Packets on their way between two counters never make it more
// than the whole.
func share(part, whole float64) *float64 {
	if whole <= 0 {
		return nil
	}
	s := min(1, part/whole)
	return &s
}

// proveCarried says where the fast path did not carry what it had to. Its counters are held against what the
// workload's own sockets or namespace counted: a fast path that sees a part of the packets alone would have a fine share of them.
func proveCarried(list []econbench.Carried, w econbench.Window) (failures []string) {
	for _, c := range list {
		if c.Demanded == 0 {
			continue
		}
		fail := func(format string, args ...any) {
			failures = append(failures, fmt.Sprintf("%s: fast path, %s: ", c.Host, c.Direction)+fmt.Sprintf(format, args...))
		}
		window := w.Client
		if c.Host == econbench.ServerHost {
			window = w.Server
		}
		in, out, err := workOf(w, c.Host) // an error is told by the devices' part of the proof
		passed := out.passed
		if c.Direction == econbench.Ingress {
			passed = in.passed
		}
		apart := float64(window.Reading) / max(float64(window.Seconds), 1e-9)
		if least := passed*max(0, carriedShare-apart) - inFlight; err == nil && c.Seen < least {
			fail("saw %.0f segments, the workload accounts for at least %.0f", c.Seen, least)
		}
		switch {
		case c.Eligible == 0:
			fail("nothing was eligible of %.0f segments: not attached, or the cache was never warmed", c.Seen)
		case c.Hits+inFlight < leastHitRatio*c.Eligible:
			fail("carried %.0f of %.0f eligible segments, hit ratio %.3f, want %.2f", c.Hits, c.Eligible, *c.HitRatio, leastHitRatio)
		case c.Hits+inFlight < c.Demanded*c.Seen:
			fail("carried %.0f of %.0f segments, coverage %.3f, want %.2f", c.Hits, c.Seen, *c.Coverage, c.Demanded)
		}
	}
	return failures
}

// bypassed is how many segments the fast path left to the kernel's path on a host, as far as the workload's demand lets it,
// by the direction's name in devices' counters.
func bypassed(list []econbench.Carried, host string) map[string]float64 {
	left := map[string]float64{}
	for _, c := range list {
		if c.Host == host {
			left[map[string]string{econbench.Egress: "tx", econbench.Ingress: "rx"}[c.Direction]] =
				min(max(0, c.Seen-c.Hits), (1-c.Demanded)*c.Seen+inFlight)
		}
	}
	return left
}

// carrierMetrics are the smallest shares of the directions that something was demanded of; null without any.
func carrierMetrics(list []econbench.Carried, metrics map[string]*float64) {
	metrics["hit_ratio"], metrics["coverage"] = nil, nil
	least := func(name string, v *float64) {
		if v != nil && (metrics[name] == nil || *v < *metrics[name]) {
			metrics[name] = v
		}
	}
	for _, c := range list {
		if c.Demanded > 0 {
			least("hit_ratio", c.HitRatio)
			least("coverage", c.Coverage)
		}
	}
}
