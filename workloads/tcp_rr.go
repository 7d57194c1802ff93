// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"math"
	"strconv"

	"github.com/econbench/econbench"
)

// tcpRR is one request and one response at a time over a TCP connection: netperf's TCP_RR. It sets TCP_NODELAY on both ends
// (-D), as programs that speak request-response do: without it a request larger than a segment would wait for an
// acknowledgement. Consecutive trials reuse the server's data ports: the client closes first, so TIME_WAIT is on its side.
var tcpRR = netperf{
	name:     "tcp_rr",
	help:     "one request and one response at a time, closed loop",
	test:     "TCP_RR",
	kind:     econbench.LastingFlows,
	most:     64 << 10,
	dataPort: 25302,
	coverage: econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll},
	options:  func(port, _, _ int) []string { return []string{"-D", "-P", "," + strconv.Itoa(port)} },
	judge:    func(c rrClient) (string, error) { return doubtRR(c), nil },
}

// doubtRR checks what must hold in a closed loop of one: the mean latency is the time of one transaction.
func doubtRR(c rrClient) string {
	if math.Abs(c.accounted()-1) <= 0.05 {
		return ""
	}
	return fmt.Sprintf("mean latency %.1f µs does not fit %.1f transactions/s, one at a time: a stall, or a broken histogram",
		c.mean*1e6, c.rate)
}
