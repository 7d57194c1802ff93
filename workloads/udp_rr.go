// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"strconv"

	"github.com/econbench/econbench"
)

// mostDatagram is the largest payload of a datagram that an overlay carries in one piece, B: Ethernet's 1500 less 50 of
// encapsulation, 20 of IP and 8 of UDP. Larger ones would go in fragments, which is another path than the one in question.
const mostDatagram = 1500 - 50 - 20 - 8

// udpRR is one request and one response at a time, a datagram each: netperf's UDP_RR. Both ends' sockets have the same port,
// so that the client's can be told as well: it is not connected.
//
// netperf sends nothing again. A datagram that is lost ends its flow's transactions for the rest of the run, and the trial is
// invalid then.
var udpRR = netperf{
	name:     "udp_rr",
	help:     "one request and one response at a time, a datagram each, closed loop",
	test:     "UDP_RR",
	kind:     econbench.DatagramFlows,
	most:     mostDatagram,
	dataPort: 25502,
	coverage: econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll},
	options: func(port, _, _ int) []string {
		both := strconv.Itoa(port)
		return []string{"-P", both + "," + both}
	},
	judge: judgeUDP,
}

const (
	// unaccounted is how much of a run may be in no transaction without a doubt, as a share: netperf's own doings are 0.1 to
	// 0.3 % of it (in recorded outputs).
	unaccounted = 0.02
	// datagramLost is how much is a stall for certain, s. A run goes on for 50 ms to 200 ms after its window, so that a shorter
	// one took at most a few hundredths of the window. A machine that was busy with something else left 60 ms unaccounted for.
	datagramLost = 0.1
)

// judgeUDP finds the time that a lost datagram took: until the end of the run, in a transaction that never ended and is in no
// latency.
func judgeUDP(c rrClient) (doubt string, err error) {
	lost := 1 - c.accounted()
	text := fmt.Sprintf("%.1f transactions/s of %.1f µs leave %.2f of %.2f s unaccounted for", c.rate, c.mean*1e6, lost*c.elapsed, c.elapsed)
	switch {
	case lost > unaccounted && lost*c.elapsed >= datagramLost:
		return "", fmt.Errorf("stalled: %s: a datagram was lost", text)
	case lost > unaccounted:
		return text + ": a datagram may have been lost at the end", nil
	}
	return "", nil
}
