// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench"
)

// streamPort is where iperf3 serves. Its control connection and its data flows share the one port; readers tell them apart
// by amount. Below the ephemeral range, so that no client socket can hold it.
const streamPort = 25201

// TCPStream is bulk TCP from client to server: iperf3, with one or more streams. Before 3.16 iperf3 is single-threaded:
// more streams then share one CPU.
type TCPStream struct{}

var _ econbench.Workload = TCPStream{}

var streamParams = []param{
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
	return "bulk TCP from client to server (iperf3); streams: parallel flows (1), message: bytes a write (128k), window: socket buffers, 0 for autotuning (0)"
}

func (w TCPStream) Params(given econbench.Params) (econbench.Params, error) {
	return fill(streamParams, given)
}

func (TCPStream) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return serveIperf3(ctx, tb, streamPort)
}

// serveIperf3 starts an iperf3 that outlives its tests. A client that vanishes without a FIN would keep it busy for two minutes;
// --rcv-timeout (ms; iperf3 ≥ 3.11) ends such a test after ten seconds. -i 0 keeps interval reports out of its output and
// out of the measurement.
func serveIperf3(ctx context.Context, tb econbench.Testbed, port int) (econbench.Process, error) {
	at := tb.Server()
	return serve(ctx, at, port, "iperf3", "-s", "-B", at.Addr.String(), "-p", strconv.Itoa(port), "-i", "0", "--rcv-timeout", "10000")
}

func (w TCPStream) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	streams, err := number(p, "streams")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	argv := []string{"iperf3", "-c", tb.Server().Addr.String(), "-p", strconv.Itoa(streamPort),
		"-J", "-i", "0", "-t", wholeSeconds(atLeast), "-P", p["streams"], "-l", p["message"], "--connect-timeout", "3000"}
	if p["window"] != "0" {
		argv = append(argv, "-w", p["window"]) // iperf3 tells its server, which sets it as well
	}
	proc, err := tb.Client().Container.Start(ctx, argv...)
	if err != nil {
		return nil, fmt.Errorf("iperf3 client: start: %w", err)
	}
	return &load{
		name:  "iperf3",
		proc:  proc,
		flows: econbench.Flows{ServerPort: streamPort, Count: streams},
		parse: func(out econbench.Output) ([]econbench.Sample, []string, error) {
			return readIperf3(out, "TCP", streams)
		},
	}, nil
}

// iperf3Report is what we need of iperf3 -J, versions 3.12 to 3.18.
type iperf3Report struct {
	Error string `json:"error"`
	Start *struct {
		Version string `json:"version"`
		Test    *struct {
			Protocol string `json:"protocol"`
			Streams  int    `json:"num_streams"`
		} `json:"test_start"`
	} `json:"start"`
	End *struct {
		Received *struct {
			Seconds       float64 `json:"seconds"`
			Bytes         float64 `json:"bytes"`
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"` // by the server, told to the client over the control connection
	} `json:"end"`
}

// readIperf3 reads the whole output of an iperf3 client with the given number of streams of "TCP" or "UDP".
func readIperf3(out econbench.Output, protocol string, streams int) ([]econbench.Sample, []string, error) {
	var r iperf3Report
	if err := json.Unmarshal(out.Stdout, &r); err != nil {
		if out.ExitCode != 0 {
			return nil, nil, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
		}
		return nil, nil, fmt.Errorf("output: %w: %s", err, lastLine(out))
	}
	switch {
	case r.Error != "":
		return nil, nil, fmt.Errorf("%q", shorten(oneLine(r.Error))) // 3.12 says so and exits 0
	case out.ExitCode != 0:
		return nil, nil, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
	case r.Start == nil || r.Start.Test == nil || r.End == nil || r.End.Received == nil:
		return nil, nil, fmt.Errorf("output: no start.test_start or end.sum_received in the report; is its format newer than 3.18?")
	case r.Start.Test.Protocol != protocol || r.Start.Test.Streams != streams:
		return nil, nil, fmt.Errorf("output: reports %d %s streams, asked for %d %s", r.Start.Test.Streams, r.Start.Test.Protocol, streams, protocol)
	case !finite(r.End.Received.BitsPerSecond) || !finite(r.End.Received.Bytes):
		return nil, nil, fmt.Errorf("output: the server received %g bytes in %g s", r.End.Received.Bytes, r.End.Received.Seconds)
	}
	return []econbench.Sample{{Metric: ToolThroughput, Value: r.End.Received.BitsPerSecond / 8}}, nil, nil
}

// oneLine joins a message's lines.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
