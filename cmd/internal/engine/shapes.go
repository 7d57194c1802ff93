// SPDX-License-Identifier: Apache-2.0

package engine

import "github.com/econbench/econbench"

// Shapes of load: clients in several containers, and bulk beside requests.

// mostClients is the largest number of client containers that a workload of the plan asks for. Topologies have so many all the
// time, of which a trial uses as many as its cell says.
func (parts Parts) mostClients(p econbench.Plan) int {
	most := 1
	for _, w := range p.Workloads {
		if g, ok := named(parts.Workloads, w.Name).(econbench.Gathered); ok {
			most = max(most, g.Containers(w.Params))
		}
	}
	return most
}

var _ econbench.Crowded = (*bed)(nil)

// Clients are those of the topology.
func (b *bed) Clients() []econbench.Endpoint { return econbench.ClientsOf(b.Testbed) }

// others are the first processes of the containers that flows come from beside the first client.
func (b *bed) others(host string, f econbench.Flows) (pids []int) {
	if host != econbench.ClientHost {
		return nil
	}
	clients := b.Clients()
	for _, c := range clients[1:min(len(clients), max(1, f.Clients))] {
		pids = append(pids, c.Container.PID())
	}
	return pids
}

// waysOf are the metrics of each direction of flows that go both ways.
func waysOf(f econbench.Flows) []string {
	if f.Way != econbench.WayBoth {
		return nil
	}
	return []string{"throughput_up", "throughput_down"}
}

const (
	// largestFrame is the most that one frame counted by a device holds, B: a super-frame (GSO_LEGACY_MAX_SIZE). Larger ones (BIG
	// TCP) have to be switched on, device by device.
	largestFrame = 64 << 10
	// strayShare is how many frames a device off the path may count for each transaction that went on beside bulk: with bulk's bytes
	// its share of bytes would forgive all of theirs. inFlight ones come on top, of few transactions half as many as they are.
	strayShare = 0.1
)

// beside has bulk ask for as many frames as it can't do without: so what small requests need comes on top of them, and is not
// found among bulk's.
func (d *work) beside(flows int) {
	flight := min(flightPerFlow*float64(flows), d.payload/2)
	d.frames = (d.payload-flight)/largestFrame + d.acks*ackFrames
}

// add adds up what different flows did.
func (d *work) add(o work) {
	d.payload += o.payload
	d.passed += o.passed
	d.segments += o.segments
	d.acks += o.acks
	d.frames += o.frames
}

// requests is how many transactions a host's sockets saw.
func requests(own econbench.HostWindow, f econbench.Flows, host string) float64 {
	counter := "bytes_received"
	if host == econbench.ClientHost {
		counter = "bytes_acked"
	}
	return own.Counters["sockets"][counter] / float64(max(1, f.RequestBytes))
}

// noRequests makes sure that requests did not take a way that bulk beside them did not: its bytes would cover theirs.
func (h *witness) noRequests(role string, d work) {
	if d.asked == 0 {
		return
	}
	n, ok := h.counted(role, d.name+"_packets")
	if most := strayShare*d.asked + min(inFlight, d.asked/2); ok && n > most {
		h.fail("%s %s %.0f frames beside %.0f transactions, should be flat: at most %.0f", role, d.name, n, d.asked, most)
	}
}
