// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/econbench/econbench"
)

// TCPRR is one request and one response at a time over a TCP connection: netperf's TCP_RR.
type TCPRR struct{}

var (
	_ econbench.Workload = TCPRR{}
	_ econbench.Covered  = TCPRR{}
)

// tcpRR sets TCP_NODELAY on both ends (-D), as programs that speak request-response do: without it a request larger than a
// segment would wait for an acknowledgement. Consecutive trials reuse the server's data ports: the client closes first, so
// TIME_WAIT is on its side.
var tcpRR = netperf{
	workload: "tcp_rr",
	test:     "TCP_RR",
	kind:     econbench.LastingFlows,
	dataPort: 25302,
	options: func(flow, _ int) []string {
		return []string{"-D", "-P", "," + strconv.Itoa(25302+flow)}
	},
	judge: func(c rrClient) (string, error) { return doubtRR(c), nil },
}

func (TCPRR) Name() string    { return tcpRR.workload }
func (TCPRR) Primary() string { return "transactions" }
func (TCPRR) Help() string {
	return "one request and one response at a time, closed loop (netperf TCP_RR); request, response: bytes (1), flows: at once (1); " +
		"percentiles of several flows: the slowest one's"
}

func (TCPRR) Params(given econbench.Params) (econbench.Params, error) {
	return fill(rrParams(64<<10), given)
}

// Coverage is nearly all of it: the handshake lies before the window.
func (TCPRR) Coverage() econbench.Coverage { return econbench.Coverage{ToServer: 0.98, ToClient: 0.98} }

func (TCPRR) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return tcpRR.serve(ctx, tb)
}

func (TCPRR) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	return tcpRR.start(ctx, tb, p, atLeast)
}

// doubtRR checks what must hold in a closed loop of one: the mean latency is the time of one transaction.
func doubtRR(c rrClient) string {
	if math.Abs(c.accounted()-1) <= 0.05 {
		return ""
	}
	return fmt.Sprintf("mean latency %.1f µs does not fit %.1f transactions/s, one at a time: a stall, or a broken histogram",
		c.mean*1e6, c.rate)
}
