// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// mostFlows is how many netperf clients may run at once; as many ports are kept for each workload's data.
const mostFlows = 128

// perFlow is how much longer clients run for each of their flows, which begin one after the other on one CPU: the first must not end
// before the last has been counted.
const perFlow = 20 * time.Millisecond

// perNetperf is that of netperf, whose flows are programs. On a crowded machine 5 ms were too few for eight, and 20 for 32.
const perNetperf = 40 * time.Millisecond

// manyFlows is from how many flows on all are set up before any is at work: a start takes some 5 ms of CPU, of which it gets one in a
// hundred beside a hundred flows. After 10 s 44 of 128 were at work, and of 32 the first had ended before the last began.
const manyFlows = 16

// Set-up of many flows may take setup, and perSetup more for each. On a machine with twenty other programs at work 128 took 4 s; there,
// in containers, which get a twentieth of a CPU, 2 s were too few for 32. It can't take more than setupMost: a server process ends 4 s
// (netperf's PAD_TIME) after the run time, counted from its set-up and not from the connection, and resets a flow that still runs.
const (
	setup     = time.Second
	perSetup  = 60 * time.Millisecond
	setupMost = 3 * time.Second
)

// rrSelectors is what netperf is asked for, one KEY=VALUE a line. Unknown selectors are left out without an error or an
// exit code. Percentiles are whole µs, so at 25 µs one step is 4 %.
var rrSelectors = []string{
	"TRANSACTION_RATE", "THROUGHPUT_UNITS", "ELAPSED_TIME",
	"MEAN_LATENCY", "P50_LATENCY", "P90_LATENCY", "P99_LATENCY", "STDDEV_LATENCY", "MAX_LATENCY",
}

// netperf is what netperf's request-response tests have in common: one transaction at a time in each of one or more flows,
// a closed loop, as the next request waits for the last response. A flow is a client process, since netperf has no
// other way; all run in one container.
//
// netperf's control connection and its data flows have ports of their own, all fixed, so that readers know the data flows'
// sockets. The control port is the one below the data ports; none is an ephemeral one, which some client might hold.
type netperf struct {
	name     string
	help     string
	test     string // netperf -t
	kind     econbench.FlowKind
	most     int64 // B of a request or a response
	dataPort int   // of the first flow; each has the next one
	coverage econbench.Coverage
	// options are what the client of a flow, of so many, gets beyond sizes; its data port is given.
	options func(port, flow, flows int) []string
	// judge looks at what one client said. A doubt is a warning, an error the trial's end.
	judge func(rrClient) (doubt string, err error)
}

var (
	_ econbench.Workload = netperf{}
	_ econbench.Covered  = netperf{}
)

// nearlyAll is what a fast path has to carry of flows whose first packets lie before the window.
const nearlyAll = 0.98

func (n netperf) Name() string    { return n.name }
func (n netperf) Primary() string { return "transactions" }
func (n netperf) Help() string {
	return n.help + " (netperf " + n.test + "); request, response: bytes (1), flows: at once from each client (1), clients: containers (1); " +
		"percentiles of several flows: the slowest one's"
}

func (n netperf) Params(given econbench.Params) (econbench.Params, error) {
	full, err := fill([]param{
		{name: "request", standard: 1, min: 1, max: n.most, bytes: true},
		{name: "response", standard: 1, min: 1, max: n.most, bytes: true},
		{name: "flows", standard: 1, min: 1, max: mostFlows},
		clientsParam,
	}, given)
	if err != nil {
		return nil, err
	}
	count, err := numbers(full, "flows", econbench.ParamClients)
	if err == nil && count[0]*count[1] > mostFlows {
		err = fmt.Errorf("parameters flows, clients: %d of each of %d clients: want %d flows at most", count[0], count[1], mostFlows)
	}
	return full, err
}

func (n netperf) Coverage(econbench.Params) econbench.Coverage { return n.coverage }

// Serve starts netserver in the foreground; it forks a child for each test, so that an aborted one does no harm.
func (n netperf) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	at := tb.Server()
	return serve(ctx, at, n.dataPort-1, "netserver", "-D", "-4", "-L", at.Addr.String(), "-p", strconv.Itoa(n.dataPort-1))
}

// Start runs the clients.
func (n netperf) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	count, err := numbers(p, "request", "response", "flows", econbench.ParamClients)
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", n.name, err)
	}
	flows, clients := count[2], count[3]
	argv := n.argv(tb.Server(), p, flows*clients, atLeast+time.Duration(clients-1)*perClient)
	procs, err := startCrowd(ctx, tb, clients, func(client int) []string { return together(argv[client*flows : (client+1)*flows]) })
	if err != nil {
		return nil, fmt.Errorf("netperf client: start: %w", err)
	}
	return &crowd{
		name: "netperf", procs: procs,
		flows: econbench.Flows{Kind: n.kind, ServerPort: uint16(n.dataPort), Ports: len(argv), Count: len(argv), Clients: clients,
			RequestBytes: count[0], ResponseBytes: count[1]},
		parse:  func(outs []econbench.Output) ([]econbench.Sample, []string, error) { return n.readAll(outs, flows) },
		enough: n.enough(),
	}, nil
}

// showsStalls is how long a run goes on after its window: what judges stalls (judgeUDP, judgeCRR, judgeRR) finds one that began in the
// window by how long it took.
const showsStalls = 200 * time.Millisecond

// enough is what netperf's own timer sends, to itself and in the server to the process of a test. The server's of a test with a connection for
// each transaction waits for the next one until then, 4 s (PAD_TIME) after the run time; others read an end-of-file.
func (n netperf) enough() enough {
	e := enough{client: "netperf", by: unix.SIGALRM, after: showsStalls}
	if n.kind == econbench.ConnectFlows {
		e.server = "netserver"
	}
	return e
}

// argv are the command lines of so many flows, to run for at least that long once all are at work. From manyFlows on each waits between
// its set-up (control connection, a server process, its listener) and its data connection (-s), until all should be set up.
func (n netperf) argv(server econbench.Endpoint, p econbench.Params, flows int, atLeast time.Duration) [][]string {
	if flows > 1 {
		atLeast += time.Duration(flows) * perNetperf
	}
	lines := make([][]string, flows)
	for i := range lines {
		line := []string{"netperf", "-P", "0", "-4", "-t", n.test, "-l", wholeSeconds(atLeast + goesOn)}
		if flows >= manyFlows {
			line = append(line, "-s", leftOf(min(setupMost, setup+time.Duration(flows)*perSetup)))
		}
		line = append(line, "-H", server.Addr.String(), "-p", strconv.Itoa(n.dataPort-1), "--")
		line = append(line, n.options(n.dataPort+i, i, flows)...)
		lines[i] = append(line, "-r", p["request"]+","+p["response"], "-k", strings.Join(rrSelectors, ","))
	}
	return lines
}

// clientEnded begins the line that introduces a client's output among several's.
const clientEnded = "econbench: client "

// leftOf is, in a line of together's script, what is left of a time in whole seconds since the script began, 1 at least: so clients that
// are started one after the other wait until one and the same second.
func leftOf(d time.Duration) string {
	return "$((begun+" + wholeSeconds(d) + ">now?begun+" + wholeSeconds(d) + "-now:1))"
}

// clock sets now, s since boot, without another process.
const clock = `clock() { read -r now _ </proc/uptime; now=${now%.*}; }; clock; begun=$now` + "\n"

// together is a command line that runs all of the clients at once: the client itself if there is one. To start each by the
// engine would take 50 to 100 ms of CPU apiece, in the middle of the others' measurement. The shell prints each client's
// output in one write at its end, which a pipe keeps together (PIPE_BUF). A shell that is killed leaves its clients to run
// out by themselves or to end with their container, which is made anew after a trial that failed.
func together(clients [][]string) []string {
	if len(clients) == 1 && !slices.ContainsFunc(clients[0], func(arg string) bool { return strings.Contains(arg, "$") }) {
		return clients[0]
	}
	script := `client() { n=$1; shift; said=$("$@" 2>&1); printf '` + clientEnded + `%s exit code %s\n%s\n' $n $? "$said"; }` + "\n" + clock
	for i, argv := range clients {
		script += fmt.Sprintf("clock; client %d %s &\n", i, strings.Join(argv, " "))
	}
	return []string{"sh", "-c", script + "wait"}
}

// apart takes the outputs of clients that ran together apart, in the order of their ends.
func apart(out econbench.Output, clients int) ([]econbench.Output, error) {
	if clients == 1 {
		return []econbench.Output{out}, nil
	}
	before, rest, some := strings.Cut("\n"+string(out.Stdout), "\n"+clientEnded)
	if out.ExitCode != 0 || strings.TrimSpace(before) != "" || !some {
		return nil, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out))
	}
	var all []econbench.Output
	for _, text := range strings.Split(rest, "\n"+clientEnded) {
		head, body, _ := strings.Cut(text, "\n")
		_, code, ok := strings.Cut(head, " exit code ")
		exit, err := strconv.Atoi(code)
		if !ok || err != nil {
			return nil, fmt.Errorf("output: %q, want a client and its exit code", shorten(head))
		}
		all = append(all, econbench.Output{Stdout: []byte(body), ExitCode: exit})
	}
	if len(all) != clients {
		return nil, fmt.Errorf("output: %d clients, want %d", len(all), clients)
	}
	return all, nil
}

// rrClient is what one client says of its whole run, in base units.
type rrClient struct {
	rate, elapsed       float64
	mean, p50, p90, p99 float64
	longest             float64
}

// accounted is the share of the run that its transactions took. In a closed loop it is nearly 1; what is missing is time in
// which a transaction waited that never ended.
func (c rrClient) accounted() float64 { return c.rate * c.mean }

// readAll reads the outputs of all clients, each of so many flows. Rates add up, and the mean is that of all transactions. Percentiles
// can't be merged: the slowest flow's are given, than which those of all transactions together can't be higher.
func (n netperf) readAll(outs []econbench.Output, flows int) (samples []econbench.Sample, warnings []string, err error) {
	var all rrClient
	for _, out := range outs {
		outputs, err := apart(out, flows)
		if err != nil {
			return nil, nil, err
		}
		for _, o := range outputs {
			c, err := readNetperf(o)
			if err != nil {
				return nil, nil, err
			}
			doubt, err := n.judge(c)
			if err != nil {
				return nil, nil, err
			}
			if doubt != "" {
				warnings = append(warnings, "netperf: "+doubt)
			}
			all.mean = (all.mean*all.rate + c.mean*c.rate) / (all.rate + c.rate)
			all.rate += c.rate
			all.p50, all.p90, all.p99 = max(all.p50, c.p50), max(all.p90, c.p90), max(all.p99, c.p99)
		}
	}
	return []econbench.Sample{
		{Metric: ToolTransactions, Value: all.rate},
		{Metric: "latency_p50", Value: all.p50}, {Metric: "latency_p90", Value: all.p90}, {Metric: "latency_p99", Value: all.p99},
		{Metric: "latency_mean", Value: all.mean},
	}, warnings, nil
}

// sane bounds what netperf may print; beyond it sums would not stay numbers.
func sane(x float64) bool { return x > 1e-9 && x < 1e15 }

// readNetperf reads the whole output of one client.
func readNetperf(out econbench.Output) (c rrClient, err error) {
	values, rest := keyValues(out.Stdout)
	if out.ExitCode != 0 {
		return c, fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(econbench.Output{Stdout: []byte(rest), Stderr: out.Stderr}))
	}
	if unit, ok := values["THROUGHPUT_UNITS"]; ok && unit != "Trans/s" {
		return c, fmt.Errorf("output: THROUGHPUT_UNITS=%q, want Trans/s", shorten(unit))
	}
	for _, f := range []struct {
		key  string
		to   *float64
		unit float64
	}{
		{"TRANSACTION_RATE", &c.rate, 1},
		{"P50_LATENCY", &c.p50, 1e-6}, {"P90_LATENCY", &c.p90, 1e-6}, {"P99_LATENCY", &c.p99, 1e-6},
		{"MEAN_LATENCY", &c.mean, 1e-6}, {"MAX_LATENCY", &c.longest, 1e-6}, {"ELAPSED_TIME", &c.elapsed, 1},
	} {
		text, ok := values[f.key]
		if !ok {
			return c, fmt.Errorf("output: no %s: truncated, or a netperf older than 2.7: %s", f.key, lastLine(out))
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || !sane(x) {
			return c, fmt.Errorf("output: %s=%q, want a number above 0", f.key, shorten(text))
		}
		*f.to = x * f.unit
	}
	return c, nil
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
