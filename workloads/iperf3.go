// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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
	if r.enough().client != "" {
		atLeast += goesOn
	}
	seconds := wholeSeconds(r.lasts(atLeast))
	procs, err := startCrowd(ctx, tb, r.clients, func(client int) []string { return r.argv(client, tb.Server(), seconds) })
	if err != nil {
		return nil, fmt.Errorf("iperf3 client: start: %w", err)
	}
	return &crowd{name: "iperf3", procs: procs, flows: flows, parse: r.read, enough: r.enough()}, nil
}

// enough is what ends a client that then says what it knows by itself, which of datagrams both ways is neither what was sent nor what was
// received.
func (r iperf3) enough() enough {
	if r.protocol == "UDP" && r.way == econbench.WayBoth {
		return enough{}
	}
	return enough{client: "iperf3", by: unix.SIGTERM, port: r.port, ports: r.clients}
}

// read adds up what the clients say.
func (r iperf3) read(outs []econbench.Output) ([]econbench.Sample, []string, error) {
	sums := map[string]float64{}
	for _, out := range outs {
		claim, err := readIperf3(out, r.protocol, r.streams, r.way)
		if err != nil {
			return nil, nil, err
		}
		sums[claim.Metric] += claim.Value
	}
	if len(sums) > 1 {
		return nil, nil, nil // some have ended by themselves and others have been told to
	}
	return claims(sums), nil, nil
}

func claims(sums map[string]float64) (samples []econbench.Sample) {
	for metric, value := range sums {
		samples = append(samples, econbench.Sample{Metric: metric, Value: value})
	}
	return samples
}

// iperf3Sum is payload of all streams of a direction. What a server counted it tells by the control connection when a test ends as it
// should.
type iperf3Sum struct {
	Seconds       float64 `json:"seconds"`
	Bytes         float64 `json:"bytes"`
	BitsPerSecond float64 `json:"bits_per_second"`
	Packets       float64 `json:"packets"` // of datagrams
}

// iperf3Terminated begins what a client says against a signal to end. All else in its report is its own doing, without the server's.
const iperf3Terminated = "interrupt - the client has terminated"

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
		Sent     *iperf3Sum `json:"sum_sent"`
		Received *iperf3Sum `json:"sum_received"`
		Back     *iperf3Sum `json:"sum_received_bidir_reverse"`
	} `json:"end"`
}

// readIperf3 reads the whole output of an iperf3 client with the given number of streams of "TCP" or "UDP" in each of its
// directions. Its claim is what was received, both directions together. One that was told to end claims what it knows: of what it sent that
// the kernel took it, which is more by what its socket's buffer held then; of datagrams it is a claim of what was offered.
func readIperf3(out econbench.Output, protocol string, streams int, way econbench.Way) (claim econbench.Sample, err error) {
	var r iperf3Report
	if err := json.Unmarshal(out.Stdout, &r); err != nil {
		if out.ExitCode != 0 {
			return claim, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
		}
		return claim, fmt.Errorf("output: %w: %s", err, lastLine(out))
	}
	told := strings.HasPrefix(r.Error, iperf3Terminated)
	if err := r.check(out, protocol, streams, way, told); err != nil {
		return claim, err
	}
	up := r.End.Received
	if told && way.ToServer() {
		up = r.End.Sent
	}
	if told && protocol == "UDP" && way == econbench.WayUp {
		return econbench.Sample{Metric: ToolOffered, Value: up.Packets / up.Seconds}, up.check("the client sent")
	}
	claim = econbench.Sample{Metric: ToolThroughput}
	for _, s := range []*iperf3Sum{up, r.End.Back} {
		if s == nil {
			continue
		}
		if err := s.check("the receiver got"); err != nil {
			return claim, err
		}
		claim.Value += s.BitsPerSecond / 8
	}
	if !finite(claim.Value) {
		return claim, fmt.Errorf("output: the receivers got %g B/s", claim.Value)
	}
	return claim, nil
}

// check finds numbers that are none.
func (s *iperf3Sum) check(who string) error {
	if !finite(s.BitsPerSecond) || !finite(s.Bytes) {
		return fmt.Errorf("output: %s %g bytes in %g s", who, s.Bytes, s.Seconds)
	}
	return nil
}

// check holds a report against what was asked for. A client that was told to end says so as an error.
func (r *iperf3Report) check(out econbench.Output, protocol string, streams int, way econbench.Way, told bool) error {
	switch {
	case r.Error != "" && !told:
		return fmt.Errorf("%q", shorten(oneLine(r.Error))) // 3.12 says so and exits 0
	case out.ExitCode != 0 && !told:
		return fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
	case r.Start == nil || r.Start.Test == nil || r.End == nil || r.End.Received == nil || told && r.End.Sent == nil:
		return fmt.Errorf("output: no start.test_start or end.sum_received in the report; is its format newer than 3.18?")
	case r.Start.Test.Protocol != protocol || r.Start.Test.Streams != streams:
		return fmt.Errorf("output: reports %d %s streams, asked for %d %s", r.Start.Test.Streams, r.Start.Test.Protocol, streams, protocol)
	case (r.Start.Test.Reverse != 0) != (way == econbench.WayDown):
		return fmt.Errorf("output: reports reverse %d, asked for direction %q", r.Start.Test.Reverse, directionOf(way))
	case (r.End.Back != nil) != (way == econbench.WayBoth):
		return fmt.Errorf("output: sum_received_bidir_reverse is there: %v, asked for direction %q", r.End.Back != nil, directionOf(way))
	}
	return nil
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
