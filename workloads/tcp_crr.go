// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/econbench/econbench"
)

// TCPCRR is one connection for each transaction: connect, request, response, close: netperf's TCP_CRR. netserver notices the
// end of a test up to 4 s late, when its last connection is over, so a trial may take that much longer than its run.
type TCPCRR struct{}

var (
	_ econbench.Workload = TCPCRR{}
	_ econbench.Covered  = TCPCRR{}
)

// Client ports of all flows together, below the ephemeral ones, shared out among them. netperf takes them one after the other
// and begins again after the last. Its server closes first, so TIME_WAIT is on the server's side, where a SYN with a newer
// timestamp takes the old connection's place at once. What must not run full is the table of connections that Docker's
// rules track (nf_conntrack_max, 262144 as a rule): netperf's own range is 60000 ports a flow, which stay tracked for two
// minutes, so that SYNs of five flows and more would be dropped.
const (
	crrLowestPort = 10000
	crrPorts      = 14976 // 128 flows × 117
)

var tcpCRR = netperf{
	workload: "tcp_crr",
	test:     "TCP_CRR",
	kind:     econbench.ConnectFlows,
	dataPort: 25702,
	options: func(flow, flows int) []string {
		each := crrPorts / flows
		lowest := crrLowestPort + flow*each
		return []string{"-D", "-P", "," + strconv.Itoa(25702+flow), "-p", fmt.Sprintf("%d,%d", lowest, lowest+each)}
	},
	judge: judgeCRR,
}

func (TCPCRR) Name() string    { return tcpCRR.workload }
func (TCPCRR) Primary() string { return "transactions" }
func (TCPCRR) Help() string {
	return "connect, one request, one response, close, one after the other (netperf TCP_CRR); request, response: bytes (1), " +
		"flows: at once (1); percentiles of several flows: the slowest one's"
}

func (TCPCRR) Params(given econbench.Params) (econbench.Params, error) {
	return fill(rrParams(64<<10), given)
}

// Coverage follows from the five segments that a transaction takes each way (measured with oncache, 6141 connections: 30705 and
// 31073). To the server: SYN, the handshake's ACK, request, ACK of the response, FIN. SYN and FIN are the kernel's, and the
// server's side makes the connection known with its response: 1 of 5 is left (6141). To the client: SYN-ACK, ACK of the request
// by a socket that is not established yet, response, ACK of the FIN, FIN: 2 of 5 (12650). 0.98 of that, as for the others.
func (TCPCRR) Coverage() econbench.Coverage {
	return econbench.Coverage{ToServer: 0.98 * 1 / 5, ToClient: 0.98 * 2 / 5}
}

func (TCPCRR) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return tcpCRR.serve(ctx, tb)
}

func (TCPCRR) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	return tcpCRR.start(ctx, tb, p, atLeast)
}

const (
	// synTimeout is how long a client waits before it sends a SYN again, s: TCP_TIMEOUT_INIT.
	synTimeout = 1
	// segmentTimeout is the least time after which TCP sends other segments again, s: TCP_RTO_MIN.
	segmentTimeout = 0.2
)

// judgeCRR finds connections that waited for a SYN sent again, and one that was never made: a second of waiting does not
// measure what a connection costs. Shorter waits are doubts: eight clients on a crowded CPU had one of 0.31 s.
func judgeCRR(c rrClient) (doubt string, err error) {
	lost := (1 - c.accounted()) * c.elapsed
	switch {
	case c.longest >= synTimeout:
		return "", fmt.Errorf("stalled: a transaction took %.2f s: a SYN was lost, or met a connection in TIME_WAIT", c.longest)
	case lost >= segmentTimeout:
		return "", fmt.Errorf("stalled: the last transaction had not ended after %.2f s", lost)
	case c.longest >= segmentTimeout:
		return fmt.Sprintf("a transaction took %.2f s: a segment was sent again, or a program had to wait for its CPU", c.longest), nil
	}
	return doubtRR(c), nil
}
