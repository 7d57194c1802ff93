// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench"
)

// netperf's control connection and its data flow have ports of their own; both are fixed, so that readers know the data
// flow's socket. Consecutive trials reuse the server's data port: the client closes first, so TIME_WAIT is on its side.
const (
	rrControlPort = 25301
	rrDataPort    = 25302
)

// rrSelectors is what netperf is asked for, one KEY=VALUE a line. Unknown selectors are left out without an error or an
// exit code. Percentiles are whole µs, so at 25 µs one step is 4 %.
var rrSelectors = []string{
	"TRANSACTION_RATE", "THROUGHPUT_UNITS", "ELAPSED_TIME",
	"MEAN_LATENCY", "P50_LATENCY", "P90_LATENCY", "P99_LATENCY", "STDDEV_LATENCY", "MAX_LATENCY",
}

// TCPRR is one request and one response at a time over one TCP connection: netperf's TCP_RR. It is a closed loop: the next
// request waits for the last response.
type TCPRR struct{}

var _ econbench.Workload = TCPRR{}

var rrParams = []param{
	{name: "request", standard: 1, min: 1, max: 64 << 10, bytes: true},
	{name: "response", standard: 1, min: 1, max: 64 << 10, bytes: true},
}

func (TCPRR) Name() string    { return "tcp_rr" }
func (TCPRR) Primary() string { return "transactions" }

// Coverage is nearly all of it: the handshake lies before the window.
func (TCPRR) Coverage() econbench.Coverage { return econbench.Coverage{ToServer: 0.98, ToClient: 0.98} }

func (TCPRR) Help() string {
	return "one request and one response at a time, closed loop (netperf TCP_RR); request, response: bytes (1)"
}

func (w TCPRR) Params(given econbench.Params) (econbench.Params, error) {
	return fill(rrParams, given)
}

// Serve starts netserver in the foreground; it forks a child for each test, so that an aborted one does no harm.
func (TCPRR) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	at := tb.Server()
	return serve(ctx, at, rrControlPort, "netserver", "-D", "-4", "-L", at.Addr.String(), "-p", strconv.Itoa(rrControlPort))
}

// Start runs netperf. -D is TCP_NODELAY on both ends, as programs that speak request-response set it: without it a request
// larger than a segment would wait for an acknowledgement.
func (w TCPRR) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	request, err := number(p, "request")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	proc, err := tb.Client().Container.Start(ctx, "netperf", "-P", "0", "-4", "-t", "TCP_RR", "-l", wholeSeconds(atLeast),
		"-H", tb.Server().Addr.String(), "-p", strconv.Itoa(rrControlPort), "--",
		"-D", "-r", p["request"]+","+p["response"], "-P", ","+strconv.Itoa(rrDataPort), "-k", strings.Join(rrSelectors, ","))
	if err != nil {
		return nil, fmt.Errorf("netperf client: start: %w", err)
	}
	return &load{
		name:  "netperf",
		proc:  proc,
		flows: econbench.Flows{ServerPort: rrDataPort, Count: 1, RequestBytes: request},
		parse: readNetperfRR,
	}, nil
}

// readNetperfRR reads the whole output of a netperf request-response test.
func readNetperfRR(out econbench.Output) ([]econbench.Sample, []string, error) {
	values, rest := keyValues(out.Stdout)
	if out.ExitCode != 0 {
		return nil, nil, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(econbench.Output{Stdout: []byte(rest), Stderr: out.Stderr}))
	}
	if unit, ok := values["THROUGHPUT_UNITS"]; ok && unit != "Trans/s" {
		return nil, nil, fmt.Errorf("output: THROUGHPUT_UNITS=%q, want Trans/s", shorten(unit))
	}
	samples := []econbench.Sample{}
	for _, f := range []struct {
		key, metric string
		unit        float64
	}{
		{"TRANSACTION_RATE", ToolTransactions, 1},
		{"P50_LATENCY", "latency_p50", 1e-6},
		{"P90_LATENCY", "latency_p90", 1e-6},
		{"P99_LATENCY", "latency_p99", 1e-6},
		{"MEAN_LATENCY", "latency_mean", 1e-6},
	} {
		text, ok := values[f.key]
		if !ok {
			return nil, nil, fmt.Errorf("output: no %s: truncated, or a netperf older than 2.7: %s", f.key, lastLine(out))
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || !finite(x) {
			return nil, nil, fmt.Errorf("output: %s=%q, want a number above 0", f.key, shorten(text))
		}
		samples = append(samples, econbench.Sample{Metric: f.metric, Value: x * f.unit})
	}
	return samples, doubtRR(samples[0].Value, samples[4].Value), nil
}

// doubtRR checks what must hold in a closed loop of one: the mean latency is the time of one transaction.
func doubtRR(rate, mean float64) []string {
	if math.Abs(rate*mean-1) <= 0.05 {
		return nil
	}
	return []string{fmt.Sprintf("netperf: mean latency %.1f µs does not fit %.1f transactions/s, one at a time: a stall, or a broken histogram",
		mean*1e6, rate)}
}

// keyValues reads the KEY=VALUE lines of netperf -k; rest is every other line, which is where it complains.
func keyValues(b []byte) (values map[string]string, rest string) {
	values = map[string]string{}
	var others []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		key, value, ok := strings.Cut(line, "=")
		if ok && key != "" && strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == "" {
			values[key] = value
		} else if line != "" {
			others = append(others, line)
		}
	}
	return values, strings.Join(others, "\n")
}
