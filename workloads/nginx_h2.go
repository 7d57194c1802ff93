// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench"
	generator "github.com/econbench/econbench/internal/load"
)

// NginxH2 is a real nginx that speaks HTTP/2 in clear text, under nghttp2's h2load, a closed loop. h2load logs each request, and econbench
// makes of it, in the client's container, what its own generator says. Requests' headers are compressed, each against those before
// it, so that requests differ in size and the client counts them.
type NginxH2 struct{}

var (
	_ econbench.Workload   = NginxH2{}
	_ econbench.Measured   = NginxH2{}
	_ econbench.Covered    = NginxH2{}
	_ econbench.Generating = NginxH2{}
	_ econbench.Imaged     = NginxH2{}
)

// By sendfile an answer would leave in two parts, of which the second one waits until the first is acknowledged, and that for the client's
// delayed acknowledgement: 44 ms a request, measured with nginx 1.22; 1.5 ms without, on the same crowded machine.
var nginxH2 = nginxServer{name: "nginx_h2", control: 25881, port: 25882, own: "http2 on; sendfile off;"}

func (NginxH2) Name() string    { return nginxH2.name }
func (NginxH2) Primary() string { return "latency_p99" }
func (NginxH2) Generates() bool { return true }
func (NginxH2) Image() string   { return "postgres" }
func (NginxH2) Help() string {
	return "HTTP/2 requests of an nginx, in clear text, over connections that stay open (h2load), closed loop; size: of the file, bytes, 0 for an answer without one (1k), " +
		"connections (4), threads (1), streams: requests under way on a connection (1)"
}

func (NginxH2) Params(given econbench.Params) (econbench.Params, error) {
	p, err := fill([]param{
		sizeParam(largestFile),
		{name: "connections", standard: 4, min: 1, max: 512},
		{name: "threads", standard: 1, min: 1, max: 64},
		{name: "streams", standard: 1, min: 1, max: 128}, // nginx's http2_max_concurrent_streams
	}, given)
	if err != nil {
		return nil, err
	}
	return p, checkThreads(p)
}

func (NginxH2) Metrics(econbench.Params) []string {
	return []string{"errors", "latency_p999", "latency_p9999", "latency_max"}
}

// Coverage is of connections that last.
func (NginxH2) Coverage(econbench.Params) econbench.Coverage {
	return econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll}
}

func (NginxH2) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return nginxH2.Serve(ctx, tb)
}

// h2loadScript runs h2load, whose command line is its arguments, and turns the log into a report.
const h2loadScript = "log=" + econbench.ScratchDir + "/h2load.log; rm -f $log; \"$@\" --log-file=$log || exit $?; exec " +
	econbench.ProgramPath + " " + generator.Command + " " + generator.H2loadLog + " $log"

func (w NginxH2) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	n, err := numbers(p, "size", "connections")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	argv := []string{"sh", "-c", h2loadScript, "sh", "h2load", "-t", p["threads"], "-c", p["connections"], "-m", p["streams"],
		"-D", strconv.FormatInt((atLeast+startUpTime).Milliseconds(), 10) + "ms"}
	for _, path := range nginxPaths(n[0]) {
		argv = append(argv, fmt.Sprintf("http://%s:%d%s", tb.Server().Addr, nginxH2.port, path))
	}
	proc, err := tb.Client().Container.Start(ctx, argv...)
	if err != nil {
		return nil, fmt.Errorf("h2load client: start: %w", err)
	}
	return &generated{name: "h2load", proc: proc, read: readH2load,
		flows: econbench.Flows{ServerPort: uint16(nginxH2.port), Count: n[1], ByClient: true}}, nil
}

// h2loadSum is what h2load says of its whole run.
var h2loadSum = regexp.MustCompile(`(?m)^requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$`)

// readH2load reads h2load's output and the report behind it, and holds one against the other: a request that failed without a line in the
// log is one of the errors all the same.
func readH2load(stdout []byte) (*generator.Report, error) {
	at := bytes.LastIndex(stdout, []byte("\n{"))
	sum := h2loadSum.FindSubmatch(stdout)
	if at < 0 || sum == nil {
		return nil, fmt.Errorf("output: no sum of requests, or no report behind it: %s", lastLine(econbench.Output{Stdout: stdout}))
	}
	r, err := generator.ReadReport(stdout[at+1:])
	if err != nil {
		return nil, err
	}
	n := make([]int, len(sum))
	for i, digits := range sum[1:] {
		if n[i+1], err = strconv.Atoi(string(digits)); err != nil {
			return nil, fmt.Errorf("output: %q: want whole numbers", shorten(string(sum[0])))
		}
	}
	done, wrong := n[3], n[5]+n[6]+n[7]
	if logged := r.Answered + r.Errors; logged < done {
		return nil, fmt.Errorf("h2load: %d requests done, and %d in its log", done, logged)
	}
	if wrong > r.Errors {
		r.Warnings = append(r.Warnings, "h2load: "+strings.TrimSpace(string(sum[0])))
	}
	return r, nil
}
