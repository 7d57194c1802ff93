// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"strconv"

	"github.com/econbench/econbench"
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

// tcpCRR is one connection for each transaction: connect, request, response, close: netperf's TCP_CRR. netserver waits
// for a next connection until 4 s after the test's end, unless it is told: see enough.
//
// Its coverage is what is carried where rules stand on the kernel's path, which SYN and FIN have to meet; without, all of it is. It follows
// from the five segments that a transaction takes each way (measured with oncache, 6141 connections: 30705 and 31073). To the server: SYN,
// the handshake's ACK, request, ACK of the response, FIN. SYN and FIN are the kernel's, and the server's side makes the connection known
// with its response: 1 of 5 is left (6141). To the client: SYN-ACK, ACK of the request by a socket that is not established yet, response,
// ACK of the FIN, FIN: 2 of 5 (12650).
var tcpCRR = netperf{
	name:     "tcp_crr",
	help:     "connect, one request, one response, close, one after the other",
	test:     "TCP_CRR",
	kind:     econbench.ConnectFlows,
	most:     64 << 10,
	dataPort: 25702,
	coverage: econbench.Coverage{ToServer: nearlyAll * 1 / 5, ToClient: nearlyAll * 2 / 5},
	options: func(port, flow, flows int) []string {
		each := crrPorts / flows
		lowest := crrLowestPort + flow*each
		return []string{"-D", "-P", "," + strconv.Itoa(port), "-p", fmt.Sprintf("%d,%d", lowest, lowest+each)}
	},
	judge: judgeCRR,
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
