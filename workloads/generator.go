// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	generator "github.com/econbench/econbench/internal/load"
)

// startUpTime is how much longer than it has to the generator runs: its flows were noticed up to 0.5 s after the first request, on a crowded machine. Tools that take whole seconds have as much on average.
const startUpTime = 600 * time.Millisecond

// generated is a client at work that notes when each of its transactions was: the load generator, or a tool with a log that it reads.
type generated struct {
	name     string
	proc     econbench.Process
	read     func(stdout []byte) (*generator.Report, error)
	flows    econbench.Flows
	byKernel bool // its transactions are counted by the kernel: what it says is held against that
	enough   enough
}

// startGenerator starts econbench's own load generator in the client's container.
func startGenerator(ctx context.Context, tb econbench.Testbed, o generator.Options, atLeast time.Duration, flows econbench.Flows) (econbench.Load, error) {
	o.Duration = atLeast + startUpTime + goesOn
	proc, err := tb.Client().Container.Start(ctx, append([]string{econbench.ProgramPath, generator.Command}, o.Args()...)...)
	if err != nil {
		return nil, fmt.Errorf("load generator: start: %w", err)
	}
	return &generated{name: "load generator", proc: proc, read: generator.ReadReport, flows: flows, byKernel: !flows.ByClient,
		enough: enough{client: path.Base(econbench.ProgramPath), by: unix.SIGALRM}}, nil
}

func (g *generated) Flows() econbench.Flows          { return g.flows }
func (g *generated) Close(ctx context.Context) error { return g.proc.Close(ctx) }

// Wait returns the log even when the generator failed.
func (g *generated) Wait(ctx context.Context) (econbench.Result, error) {
	out, err := g.proc.Wait(ctx)
	result := econbench.Result{Log: append(bytes.Clone(out.Stdout), out.Stderr...)}
	var r *generator.Report
	if err == nil && out.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
	}
	if err == nil {
		r, err = g.read(out.Stdout)
	}
	if err != nil {
		return result, fmt.Errorf("%s: %w", g.name, err)
	}
	result.Samples = []econbench.Sample{{Metric: ToolTransactions, Value: float64(r.Answered) / r.Elapsed}}
	result.Warnings = r.Warnings
	if r.Errors > 0 {
		result.Warnings = append(result.Warnings, fmt.Sprintf("%s: %d requests of %d went wrong, the first one: %s", g.name, r.Errors, r.Errors+r.Answered, shorten(oneLine(r.FirstError))))
	}
	result.Within = func(w econbench.HostWindow) ([]econbench.Sample, []string, error) {
		cut, err := r.Within(w.Start, w.Seconds.Duration())
		if err != nil {
			return nil, nil, err
		}
		return generatorSamples(r, cut, g.byKernel), generatorDoubts(r, cut), nil
	}
	return result, nil
}

// generatorMetrics are what the generator delivers beyond what its flows' kind has.
func generatorMetrics(open bool) []string {
	names := []string{"errors", "latency_p999", "latency_p9999", "latency_max", "generator_cpu"}
	if open {
		names = append(names, "offered", "generator_lag")
	}
	return names
}

// generatorSamples draws samples from what happened in a window. A percentile that no answer lies beyond is not known.
func generatorSamples(r *generator.Report, c generator.Cut, byKernel bool) []econbench.Sample {
	transactions := "transactions"
	if byKernel {
		transactions = ToolTransactions
	}
	samples := []econbench.Sample{{Metric: transactions, Value: float64(c.Answered) / c.Seconds}, {Metric: "errors", Value: float64(c.Errors) / c.Seconds}}
	if r.Tool == "" {
		samples = append(samples, econbench.Sample{Metric: "generator_cpu", Value: (c.CPUUser + c.CPUSys) / c.Seconds})
	}
	n := c.Latency.TotalCount()
	for _, p := range percentiles {
		if p.known(int(n)) {
			samples = append(samples, econbench.Sample{Metric: p.metric, Value: float64(c.Latency.ValueAtPercentile(100*p.share)) * 1e-9})
		}
	}
	if n > 0 {
		samples = append(samples, econbench.Sample{Metric: "latency_mean", Value: c.Latency.Mean() * 1e-9},
			econbench.Sample{Metric: "latency_max", Value: float64(c.Latency.Max()) * 1e-9})
	}
	if r.Open {
		samples = append(samples, econbench.Sample{Metric: "offered", Value: float64(c.Due) / c.Seconds})
		if c.Lag.TotalCount() > 0 {
			samples = append(samples, econbench.Sample{Metric: "generator_lag", Value: float64(c.Lag.ValueAtPercentile(99)) * 1e-9})
		}
	}
	return samples
}

const (
	// noCPULeft is the share of its threads' time from which on the generator has none to spare.
	noCPULeft = 0.95
	// tooLate is the lag's 99th percentile, as a share of the latency's median, from which on a latency tells of the generator.
	tooLate = 0.1
	// notKeptUp is the share of an open loop's requests that may lack an answer in the window without a doubt.
	notKeptUp = 0.02
)

// generatorDoubts finds out whether it was the path that was measured.
func generatorDoubts(r *generator.Report, c generator.Cut) (doubts []string) {
	if busy := (c.CPUUser + c.CPUSys) / c.Seconds / float64(r.Threads); busy >= noCPULeft {
		doubts = append(doubts, fmt.Sprintf("load generator: busy for %.0f %% of the time, %.0f %% in its own code: it may be what was measured, and not the path",
			100*busy, 100*c.CPUUser/c.Seconds/float64(r.Threads)))
	}
	if c.Beyond > 0 || c.Late > 0 {
		doubts = append(doubts, fmt.Sprintf("load generator: %d answers took longer than a histogram holds, and %d requests were as late: they are in no percentile", c.Beyond, c.Late))
	}
	if !r.Open {
		return doubts
	}
	if lag, median := c.Lag.ValueAtPercentile(99), c.Latency.ValueAtPercentile(50); float64(lag) > tooLate*float64(median) {
		doubts = append(doubts, fmt.Sprintf("load generator: 1 %% of its requests were sent %.1f µs late or more, and half of all answers took less than %.1f µs: it was measured, too, not the path alone",
			float64(lag)/1e3, float64(median)/1e3))
	}
	if missing := float64(c.Due-c.Answered-c.Errors) / float64(max(1, c.Due)); missing > notKeptUp {
		doubts = append(doubts, fmt.Sprintf("load generator: of %d requests that were due in the window %.0f %% were not answered in it: the rate is more than this path carries, and latencies grow as long as it runs",
			c.Due, 100*missing))
	}
	return doubts
}

// shareParam is a number from 0 to most.
func shareParam(name, standard string, most float64) param {
	return param{name: name, text: standard, read: func(s string) (string, error) {
		x, err := strconv.ParseFloat(s, 64)
		if err != nil || !(x >= 0 && x <= most) {
			return "", fmt.Errorf("%q: want a number from 0 to %g", s, most)
		}
		return strconv.FormatFloat(x, 'g', -1, 64), nil
	}}
}

// serverCPUs is how many CPUs an endpoint's programs have, so many threads or processes a server gets.
func serverCPUs(at econbench.Endpoint) int {
	if at.Host == nil {
		return 1
	}
	return max(1, len(at.Host.Facts().CPUs))
}
