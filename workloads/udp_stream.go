// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/econbench/econbench"
)

// udpStreamPort is where iperf3 serves datagrams to the first client; tcp_stream's servers have ports of their own.
const udpStreamPort = 25221

// udpBuffer is the socket buffers' size, B: what a kernel grants as it comes (net.core.rmem_max), of which it makes twice as
// much. With the default of half that, 1 % was lost on the host's network at 20,000 datagrams/s, where nothing is with this.
const udpBuffer = 212992

// UDPStream is datagrams at one offered rate, the same in all arms, from client to server unless asked otherwise: iperf3 -u. What is
// received is the result.
//
// It is not Bulk: at a rate below what a path carries the receiver's CPU has time to spare, and its work is its own host's.
type UDPStream struct{}

var (
	_ econbench.Workload = UDPStream{}
	_ econbench.Covered  = UDPStream{}
)

var udpStreamParams = []param{
	directionParam,
	clientsParam,
	{name: "streams", standard: 1, min: 1, max: 128},                           // iperf3's MAX_STREAMS
	{name: "message", standard: 1400, min: 16, max: mostDatagram, bytes: true}, // B of payload; iperf3's own header has 16
	{name: "rate", standard: 20000, min: 1, max: 10_000_000},                   // datagrams/s offered in each direction, all streams and clients together
}

func (UDPStream) Name() string    { return "udp_stream" }
func (UDPStream) Primary() string { return "throughput" }

func (UDPStream) Help() string {
	return "datagrams at a fixed rate (iperf3 -u); direction: up, client to server, down or both (up), streams: parallel flows each way (1), " +
		"message: bytes a datagram (1400), rate: datagrams/s offered each way, by all streams (20000), clients: containers (1)"
}

func (UDPStream) Params(given econbench.Params) (econbench.Params, error) {
	return fill(udpStreamParams, given)
}

// Coverage demands nothing of a way without payload: it has a handful of packets.
func (UDPStream) Coverage(p econbench.Params) (c econbench.Coverage) {
	if way := ways[p["direction"]]; way.ToServer() {
		c.ToServer = nearlyAll
	}
	if way := ways[p["direction"]]; way.ToClient() {
		c.ToClient = nearlyAll
	}
	return c
}

func (UDPStream) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return serveIperf3(ctx, tb, udpStreamPort)
}

// Start runs iperf3, which paces each stream by itself. (Its --pacing-timer is of older versions, which looked every
// millisecond and sent in bursts; 3.18 ignores it.)
func (w UDPStream) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	n, err := numbers(p, "streams", econbench.ParamClients, "message", "rate")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	message, rate := n[2], n[3]
	run := iperf3{protocol: "UDP", port: udpStreamPort, streams: n[0], clients: n[1], way: ways[p["direction"]], options: []string{
		"-u", "-l", p["message"], "-b", strconv.Itoa(max(1, rate*message*8/n[0]/n[1])), "-w", strconv.Itoa(udpBuffer)}}
	flows := run.flows()
	flows.Kind, flows.MessageBytes = econbench.DatagramFlows, message
	return run.start(ctx, tb, atLeast, flows)
}
