// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"time"

	"github.com/econbench/econbench"
)

// streamPort is where iperf3 serves the first client; each has a server of its own at the next one. Its control connection and its data
// flows share the one port; readers tell them apart by amount. Below the ephemeral range, so that no client socket can hold it.
const streamPort = 25201

// TCPStream is bulk TCP, from client to server unless asked otherwise: iperf3, with one or more streams. Before 3.16 iperf3 is single-threaded:
// more streams then share one CPU.
type TCPStream struct{}

var _ econbench.Workload = TCPStream{}

var streamParams = []param{
	directionParam,
	clientsParam,
	{name: "streams", standard: 1, min: 1, max: 128},                          // iperf3's MAX_STREAMS
	{name: "message", standard: 128 << 10, min: 1, max: 1 << 20, bytes: true}, // B a write and a read; iperf3's own, its MAX_BLOCKSIZE
	{name: "window", standard: 0, min: 0, max: 512 << 20, bytes: true},        // B of socket buffers; 0: the kernel's autotuning
}

func (TCPStream) Name() string    { return "tcp_stream" }
func (TCPStream) Primary() string { return "throughput" }

// Bulk is true: a stream keeps both ends' CPUs busy.
func (TCPStream) Bulk() bool { return true }

// Coverage is nearly all of it: the handshake lies before the window.
func (TCPStream) Coverage(econbench.Params) econbench.Coverage {
	return econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll}
}

func (TCPStream) Help() string {
	return "bulk TCP (iperf3); direction: up, client to server, down or both (up), streams: parallel flows each way (1), message: bytes a write (128k), " +
		"window: socket buffers, 0 for autotuning (0), clients: containers, each with so many streams (1)"
}

func (w TCPStream) Params(given econbench.Params) (econbench.Params, error) {
	return fill(streamParams, given)
}

func (TCPStream) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return serveIperf3(ctx, tb, streamPort)
}

func (w TCPStream) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	n, err := numbers(p, "streams", econbench.ParamClients)
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	run := iperf3{protocol: "TCP", port: streamPort, streams: n[0], clients: n[1], way: ways[p["direction"]], options: []string{"-l", p["message"]}}
	if p["window"] != "0" {
		run.options = append(run.options, "-w", p["window"]) // iperf3 tells its server, which sets it as well
	}
	return run.start(ctx, tb, atLeast, run.flows())
}
