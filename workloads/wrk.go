// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/econbench/econbench"
)

// What wrk 4.1 prints, line by line. Times have a unit, of which it knows us, ms, s, m and h.
var (
	wrkLatency  = regexp.MustCompile(`(?m)^ +Latency +(\S+) +(\S+) +(\S+) +\S+%$`) // mean, standard deviation, longest
	wrkShare    = regexp.MustCompile(`(?m)^ +(50|75|90|99)% +(\S+)$`)
	wrkTotal    = regexp.MustCompile(`(?m)^ +(\d+) requests in (\S+), \S+ read$`)
	wrkSockets  = regexp.MustCompile(`(?m)^ +Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$`)
	wrkStatuses = regexp.MustCompile(`(?m)^ +Non-2xx or 3xx responses: (\d+)$`)
	wrkTime     = regexp.MustCompile(`^(\d+(?:\.\d+)?)(us|ms|s|m|h)$`)
)

// wrkUnits are in seconds.
var wrkUnits = map[string]float64{"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}

// readWrk reads wrk's whole output. Answers with another status than 2xx or 3xx are in its percentiles and can't be taken out: there are
// none then.
func readWrk(out econbench.Output) (samples []econbench.Sample, warnings []string, err error) {
	text := string(out.Stdout)
	total := wrkTotal.FindStringSubmatch(text)
	if out.ExitCode != 0 || total == nil {
		return nil, nil, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
	}
	requests, err := strconv.ParseFloat(total[1], 64)
	elapsed, also := wrkSeconds(total[2])
	if err != nil || also != nil || !sane(elapsed) || !(requests >= 1 && requests < 1e15) {
		return nil, nil, fmt.Errorf("output: %q: want requests and a time above 0", shorten(total[0]))
	}
	broken, text1, err := wrkErrors(wrkSockets.FindStringSubmatch(text))
	if err != nil {
		return nil, nil, err
	}
	refused, text2, err := wrkErrors(wrkStatuses.FindStringSubmatch(text))
	if err != nil {
		return nil, nil, err
	}
	for _, told := range []string{text1, text2} {
		if told != "" {
			warnings = append(warnings, "wrk: "+oneLine(told))
		}
	}
	samples = []econbench.Sample{{Metric: ToolTransactions, Value: (requests - refused) / elapsed}, {Metric: "errors", Value: (broken + refused) / elapsed}}
	if refused > 0 {
		return samples, append(warnings, "wrk: such answers are in its percentiles, which are left out therefore"), nil
	}
	latencies, err := wrkLatencies(text)
	return append(samples, latencies...), warnings, err
}

// wrkErrors sums the numbers of a line that wrk prints only when one of them is above 0.
func wrkErrors(found []string) (sum float64, line string, err error) {
	if found == nil {
		return 0, "", nil
	}
	for _, digits := range found[1:] {
		n, err := strconv.ParseFloat(digits, 64)
		if err != nil || n > 1e15 {
			return 0, "", fmt.Errorf("output: %q: want whole numbers", shorten(found[0]))
		}
		sum += n
	}
	return sum, found[0], nil
}

func wrkLatencies(text string) (samples []econbench.Sample, err error) {
	add := func(metric, value string) {
		x, e := wrkSeconds(value)
		if e != nil && err == nil {
			err = fmt.Errorf("output: %s: %w", metric, e)
		}
		samples = append(samples, econbench.Sample{Metric: metric, Value: x})
	}
	shares := wrkShare.FindAllStringSubmatch(text, -1)
	stats := wrkLatency.FindStringSubmatch(text)
	if len(shares) != 4 || stats == nil {
		return nil, fmt.Errorf("output: %d percentiles of 4, or no line of latencies: truncated, or a wrk other than 4", len(shares))
	}
	for i, metric := range []string{"latency_p50", "", "latency_p90", "latency_p99"} {
		if want := []string{"50", "75", "90", "99"}[i]; shares[i][1] != want {
			return nil, fmt.Errorf("output: percentile %s, want %s", shares[i][1], want)
		}
		if metric != "" {
			add(metric, shares[i][2])
		}
	}
	add("latency_mean", stats[1])
	add("latency_max", stats[3])
	return samples, err
}

// wrkSeconds reads a time as wrk writes it.
func wrkSeconds(s string) (float64, error) {
	parts := wrkTime.FindStringSubmatch(s)
	if parts == nil {
		return 0, fmt.Errorf("%q: want a time as in 123.45us", shorten(s))
	}
	x, err := strconv.ParseFloat(parts[1], 64)
	if err != nil || x > 1e9 {
		return 0, fmt.Errorf("%q: want a time as in 123.45us", shorten(s))
	}
	return x * wrkUnits[parts[2]], nil
}
