// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench"
)

// pgbenchRun is what pgbench was asked for.
type pgbenchRun struct {
	clients int
	rate    float64 // 1/s; 0: a closed loop
	sampled float64 // share of the transactions that are in the log
}

// transaction is a line of pgbench's log: when it ended and how long it took, from when it was due in an open loop.
type transaction struct {
	end     time.Time
	seconds float64
	failed  bool
}

// read reads pgbench's whole output, with its log behind it. What it said of itself is kept as its log; the transactions' own is not.
func (run pgbenchRun) read(out econbench.Output) (econbench.Result, error) {
	said, lines, complete := bytes.Cut(out.Stdout, []byte(pgbenchLog+"\n"))
	r := econbench.Result{Log: append(bytes.Clone(said), out.Stderr...)}
	if out.ExitCode != 0 || !complete {
		return r, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(econbench.Output{Stdout: said, Stderr: out.Stderr}))
	}
	processed, tps, err := readPgbench(string(said))
	if err != nil {
		return r, err
	}
	list, err := readPgbenchLog(lines)
	if err != nil {
		return r, err
	}
	done := 0
	for _, t := range list {
		if !t.failed {
			done++
		}
	}
	if run.sampled == 1 && done != processed {
		return r, fmt.Errorf("log: %d transactions, pgbench says %d: it was cut off, at 16 MB if it is that long", done, processed)
	}
	r.Samples = []econbench.Sample{{Metric: ToolTransactions, Value: tps}}
	r.Within = func(w econbench.HostWindow) ([]econbench.Sample, []string, error) { return run.within(list, w) }
	return r, nil
}

// Lines of pgbench's summary, PostgreSQL 14 to 17.
var (
	pgbenchProcessed = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	pgbenchRate      = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \(without initial connection time\)`)
)

// readPgbench reads the summary: transactions done, and their rate.
func readPgbench(said string) (processed int, tps float64, err error) {
	n, rate := pgbenchProcessed.FindStringSubmatch(said), pgbenchRate.FindStringSubmatch(said)
	if n == nil || rate == nil {
		return 0, 0, fmt.Errorf("output: no number of transactions or no tps: truncated, or a pgbench older than 14: %s", lastLine(econbench.Output{Stdout: []byte(said)}))
	}
	if processed, err = strconv.Atoi(n[1]); err == nil {
		tps, err = strconv.ParseFloat(rate[1], 64)
	}
	if err != nil || processed == 0 || !sane(tps) {
		return 0, 0, fmt.Errorf("output: %s transactions, tps = %s, want numbers above 0", shorten(n[1]), shorten(rate[1]))
	}
	return processed, tps, nil
}

// readPgbenchLog reads lines "CLIENT NUMBER TIME SCRIPT EPOCH MICROSECONDS [LAG]" (pgbench -l): TIME in µs, counted from the schedule
// under a rate; "failed" or "skipped" where there was none.
func readPgbenchLog(b []byte) (list []transaction, err error) {
	list = make([]transaction, 0, len(b)/24)
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		bad := func() error {
			return fmt.Errorf("log: line %q: want CLIENT NUMBER TIME SCRIPT EPOCH MICROSECONDS", shorten(strings.TrimSpace(string(line))))
		}
		if len(f) < 6 || line[len(line)-1] != '\n' {
			return nil, bad()
		}
		epoch, err1 := strconv.ParseInt(f[4], 10, 64)
		micros, err2 := strconv.ParseInt(f[5], 10, 64)
		t := transaction{end: time.Unix(epoch, micros*1000), failed: f[2] == "failed" || f[2] == "skipped"}
		if !t.failed {
			var took int64
			if took, err = strconv.ParseInt(f[2], 10, 64); err != nil || took < 0 {
				return nil, bad()
			}
			t.seconds = float64(took) / 1e6
		}
		if err1 != nil || err2 != nil || epoch <= 0 || micros < 0 || micros >= 1e6 {
			return nil, bad()
		}
		list = append(list, t)
	}
	return list, nil
}

// within counts the transactions that ended in the window.
func (run pgbenchRun) within(list []transaction, w econbench.HostWindow) (samples []econbench.Sample, warnings []string, err error) {
	end := w.Start.Add(w.Seconds.Duration())
	var took []float64
	failed, sum := 0, 0.0
	for _, t := range list {
		switch {
		case t.end.Before(w.Start) || !t.end.Before(end):
		case t.failed:
			failed++
		default:
			took = append(took, t.seconds)
			sum += t.seconds
		}
	}
	if len(took) == 0 {
		return nil, nil, fmt.Errorf("log: no transaction ended in the window: %d did in all", len(list))
	}
	slices.Sort(took)
	rate := float64(len(took)) / run.sampled / float64(w.Seconds)
	add := func(metric string, v float64) { samples = append(samples, econbench.Sample{Metric: metric, Value: v}) }
	add("transactions", rate)
	add("errors", float64(failed)/run.sampled/float64(w.Seconds))
	add("latency_mean", sum/float64(len(took)))
	for _, p := range percentiles {
		if p.known(len(took)) {
			add(p.metric, rank(took, p.share))
		}
	}
	add("latency_max", took[len(took)-1])
	if run.rate > 0 {
		add("offered", run.rate)
		if short := 1 - rate/run.rate; short > 0.1 {
			warnings = append(warnings, fmt.Sprintf("the open loop's rate was not reached: %.0f of %.0f transactions/s", rate, run.rate))
		}
	}
	return samples, warnings, nil
}
