// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/econbench/econbench"
)

// udpStreamPort is where iperf3 serves datagrams; tcp_stream's server has a port of its own.
const udpStreamPort = 25203

// udpBuffer is the socket buffers' size, B: what a kernel grants as it comes (net.core.rmem_max), of which it makes twice as
// much. With the default of half that, 1 % was lost on the host's network at 20,000 datagrams/s, where nothing is with this.
const udpBuffer = 212992

// UDPStream is datagrams from client to server at one offered rate, the same in all arms: iperf3 -u. What the server receives
// is the result.
//
// It is not Bulk: at a rate below what a path carries the receiver's CPU has time to spare, and its work is its own host's.
type UDPStream struct{}

var (
	_ econbench.Workload = UDPStream{}
	_ econbench.Covered  = UDPStream{}
)

var udpStreamParams = []param{
	{name: "streams", standard: 1, min: 1, max: 128},                           // iperf3's MAX_STREAMS
	{name: "message", standard: 1400, min: 16, max: mostDatagram, bytes: true}, // B of payload; iperf3's own header has 16
	{name: "rate", standard: 20000, min: 1, max: 10_000_000},                   // datagrams/s offered, all streams together
}

func (UDPStream) Name() string    { return "udp_stream" }
func (UDPStream) Primary() string { return "throughput" }

func (UDPStream) Help() string {
	return "datagrams from client to server at a fixed rate (iperf3 -u); streams: parallel flows (1), message: bytes a datagram (1400), " +
		"rate: datagrams/s offered by all streams (20000)"
}

func (UDPStream) Params(given econbench.Params) (econbench.Params, error) {
	return fill(udpStreamParams, given)
}

// Coverage demands nothing of the way back: it has a handful of packets.
func (UDPStream) Coverage(econbench.Params) econbench.Coverage {
	return econbench.Coverage{ToServer: nearlyAll}
}

func (UDPStream) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return serveIperf3(ctx, tb, udpStreamPort)
}

// Start runs iperf3, which paces each stream by itself. (Its --pacing-timer is of older versions, which looked every
// millisecond and sent in bursts; 3.18 ignores it.)
func (w UDPStream) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	n, err := numbers(p, "streams", "message", "rate")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	streams, message, rate := n[0], n[1], n[2]
	proc, err := tb.Client().Container.Start(ctx, "iperf3", "-u", "-c", tb.Server().Addr.String(), "-p", strconv.Itoa(udpStreamPort),
		"-J", "-i", "0", "-t", wholeSeconds(atLeast), "-P", p["streams"], "-l", p["message"],
		"-b", strconv.Itoa(max(1, rate*message*8/streams)), "-w", strconv.Itoa(udpBuffer), "--connect-timeout", "3000")
	if err != nil {
		return nil, fmt.Errorf("iperf3 client: start: %w", err)
	}
	return &load{
		name:  "iperf3",
		proc:  proc,
		flows: econbench.Flows{Kind: econbench.DatagramFlows, ServerPort: udpStreamPort, Count: streams, MessageBytes: message},
		parse: func(out econbench.Output) ([]econbench.Sample, []string, error) {
			return readIperf3(out, "UDP", streams)
		},
	}, nil
}
