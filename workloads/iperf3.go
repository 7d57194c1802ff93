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

// Directions of a stream, as users type them, the usual one first.
var (
	directions = []string{"up", "down", "both"}
	ways       = map[string]econbench.Way{"up": econbench.WayUp, "down": econbench.WayDown, "both": econbench.WayBoth}

	directionParam = choiceParam("direction", directions...)
)

// perStream is how much longer an iperf3 runs for each stream: a thread each, all begun at once, which share one CPU. Of 128 on a
// crowded machine 49 had sent or received 16 kB after 2 s, and the run of 32 was over before they had been counted with 15 ms.
const perStream = 40 * time.Millisecond

// iperf3 is a run of clients, each a program in a container of its own with a server of its own: a server serves one at a time.
type iperf3 struct {
	protocol         string // "TCP" or "UDP"
	port             int    // of the first client's server; each has the next one
	streams, clients int
	way              econbench.Way
	options          []string
}

// serveIperf3 starts a server for each client of the testbed.
func serveIperf3(ctx context.Context, tb econbench.Testbed, port int) (econbench.Process, error) {
	var start []func(context.Context) (econbench.Process, error)
	for i := range econbench.ClientsOf(tb) {
		start = append(start, func(ctx context.Context) (econbench.Process, error) { return serveOneIperf3(ctx, tb.Server(), port+i) })
	}
	return serveAll(ctx, start...)
}

// serveOneIperf3 starts a server that outlives its tests. A client that vanishes without a FIN would keep it busy for two minutes;
// --rcv-timeout (ms; iperf3 ≥ 3.11) ends such a test after ten seconds. -i 0 keeps interval reports out of its output and out of
// the measurement.
func serveOneIperf3(ctx context.Context, at econbench.Endpoint, port int) (econbench.Process, error) {
	return serve(ctx, at, port, "iperf3", "-s", "-B", at.Addr.String(), "-p", strconv.Itoa(port), "-i", "0", "--rcv-timeout", "10000")
}

// argv is the command line of one client.
func (r iperf3) argv(client int, server econbench.Endpoint, seconds string) []string {
	argv := []string{"iperf3", "-c", server.Addr.String(), "-p", strconv.Itoa(r.port + client),
		"-J", "-i", "0", "-t", seconds, "-P", strconv.Itoa(r.streams)}
	argv = append(argv, r.options...)
	switch r.way {
	case econbench.WayDown:
		argv = append(argv, "-R")
	case econbench.WayBoth:
		argv = append(argv, "--bidir")
	}
	return append(argv, "--connect-timeout", "3000")
}

// lasts is how long a client has to run to be at work for so long once all are.
func (r iperf3) lasts(atLeast time.Duration) time.Duration {
	if r.streams*r.clients > 1 {
		atLeast += time.Duration(r.streams*r.clients)*perStream + time.Duration(r.clients-1)*perClient
	}
	return atLeast
}

// flows are the data flows: --bidir has as many for the way back.
func (r iperf3) flows() econbench.Flows {
	f := econbench.Flows{ServerPort: uint16(r.port), Ports: r.clients, Count: r.streams * r.clients, Way: r.way, Clients: r.clients}
	if r.way == econbench.WayBoth {
		f.Count *= 2
	}
	return f
}

// start starts the clients, for at least that long.
func (r iperf3) start(ctx context.Context, tb econbench.Testbed, atLeast time.Duration, flows econbench.Flows) (econbench.Load, error) {
	seconds := wholeSeconds(r.lasts(atLeast))
	procs, err := startCrowd(ctx, tb, r.clients, func(client int) []string { return r.argv(client, tb.Server(), seconds) })
	if err != nil {
		return nil, fmt.Errorf("iperf3 client: start: %w", err)
	}
	return &crowd{name: "iperf3", procs: procs, flows: flows, parse: r.read}, nil
}

// read adds up what the clients say.
func (r iperf3) read(outs []econbench.Output) ([]econbench.Sample, []string, error) {
	sum := 0.0
	for _, out := range outs {
		rate, err := readIperf3(out, r.protocol, r.streams, r.way)
		if err != nil {
			return nil, nil, err
		}
		sum += rate
	}
	return []econbench.Sample{{Metric: ToolThroughput, Value: sum}}, nil, nil
}

// iperf3Sum is payload of all streams of a direction, as the receiver told: a server by the control connection.
type iperf3Sum struct {
	Seconds       float64 `json:"seconds"`
	Bytes         float64 `json:"bytes"`
	BitsPerSecond float64 `json:"bits_per_second"`
}

// iperf3Report is what we need of iperf3 -J, versions 3.12 to 3.18.
type iperf3Report struct {
	Error string `json:"error"`
	Start *struct {
		Version string `json:"version"`
		Test    *struct {
			Protocol string `json:"protocol"`
			Streams  int    `json:"num_streams"` // of one direction
			Reverse  int    `json:"reverse"`
		} `json:"test_start"`
	} `json:"start"`
	End *struct {
		Received *iperf3Sum `json:"sum_received"`
		Back     *iperf3Sum `json:"sum_received_bidir_reverse"`
	} `json:"end"`
}

// readIperf3 reads the whole output of an iperf3 client with the given number of streams of "TCP" or "UDP" in each of its
// directions: B/s received, both directions together.
func readIperf3(out econbench.Output, protocol string, streams int, way econbench.Way) (rate float64, err error) {
	var r iperf3Report
	if err := json.Unmarshal(out.Stdout, &r); err != nil {
		if out.ExitCode != 0 {
			return 0, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
		}
		return 0, fmt.Errorf("output: %w: %s", err, lastLine(out))
	}
	switch {
	case r.Error != "":
		return 0, fmt.Errorf("%q", shorten(oneLine(r.Error))) // 3.12 says so and exits 0
	case out.ExitCode != 0:
		return 0, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
	case r.Start == nil || r.Start.Test == nil || r.End == nil || r.End.Received == nil:
		return 0, fmt.Errorf("output: no start.test_start or end.sum_received in the report; is its format newer than 3.18?")
	case r.Start.Test.Protocol != protocol || r.Start.Test.Streams != streams:
		return 0, fmt.Errorf("output: reports %d %s streams, asked for %d %s", r.Start.Test.Streams, r.Start.Test.Protocol, streams, protocol)
	case (r.Start.Test.Reverse != 0) != (way == econbench.WayDown):
		return 0, fmt.Errorf("output: reports reverse %d, asked for direction %q", r.Start.Test.Reverse, directionOf(way))
	case (r.End.Back != nil) != (way == econbench.WayBoth):
		return 0, fmt.Errorf("output: sum_received_bidir_reverse is there: %v, asked for direction %q", r.End.Back != nil, directionOf(way))
	}
	for _, s := range []*iperf3Sum{r.End.Received, r.End.Back} {
		if s == nil {
			continue
		}
		if !finite(s.BitsPerSecond) || !finite(s.Bytes) {
			return 0, fmt.Errorf("output: the receiver got %g bytes in %g s", s.Bytes, s.Seconds)
		}
		rate += s.BitsPerSecond / 8
	}
	if !finite(rate) {
		return 0, fmt.Errorf("output: the receivers got %g B/s", rate)
	}
	return rate, nil
}

// directionOf is a way as users type it.
func directionOf(way econbench.Way) string {
	for name, w := range ways {
		if w == way {
			return name
		}
	}
	return string(way)
}

// oneLine joins a message's lines.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
