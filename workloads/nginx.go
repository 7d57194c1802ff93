// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	generator "github.com/econbench/econbench/internal/load"
)

// Nginx is a real nginx over connections that stay open, under econbench's own load generator or under wrk. All requests are equally long, so
// that the kernel counts transactions at the server, whatever a client says.
type Nginx struct{ paced }

var (
	_ econbench.Workload   = Nginx{}
	_ econbench.Measured   = Nginx{}
	_ econbench.Covered    = Nginx{}
	_ econbench.Generating = Nginx{}
)

var nginx = nginxServer{name: "nginx", control: 25861, port: 25862}

// Clients of Nginx.
const (
	clientOwn = "econbench"
	clientWrk = "wrk"
)

func (Nginx) Name() string    { return nginx.name }
func (Nginx) Primary() string { return "latency_p99" }
func (Nginx) Generates() bool { return true }
func (Nginx) Help() string {
	return "HTTP/1.1 requests of an nginx over connections that stay open; size: of the file, bytes, 0 for an answer without one (1k), connections (4), threads (1), " +
		"rate: 1/s in an open loop (0: closed), client: econbench or wrk, which is a closed loop (econbench)"
}

func (Nginx) Params(given econbench.Params) (econbench.Params, error) {
	p, err := fill(append(httpParams(largestFile), choiceParam("client", clientOwn, clientWrk)), given)
	if err != nil {
		return nil, err
	}
	if p["client"] == clientWrk && p["rate"] != "0" {
		return nil, fmt.Errorf("parameter rate: %q: want 0 with client=wrk, which knows a closed loop alone", p["rate"])
	}
	return p, checkLoop(p)
}

// httpParams are those of all HTTP clients.
func httpParams(mostSize int64) []param {
	list := []param{sizeParam(mostSize)}
	for _, p := range loopParams() {
		if p.name != "pipeline" { // browsers gave it up, and nginx answers one after the other anyway
			list = append(list, p)
		}
	}
	return list
}

func (Nginx) Metrics(p econbench.Params) []string {
	if p["client"] == clientWrk {
		return []string{"errors", "latency_max"}
	}
	return generatorMetrics(p["rate"] != "0")
}

// Coverage is of connections that last. Measured with oncache: see docs/applications.md.
func (Nginx) Coverage(econbench.Params) econbench.Coverage {
	return econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll}
}

func (Nginx) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return nginx.Serve(ctx, tb)
}

func (w Nginx) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	size, err := number(p, "size")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	o, err := httpOptions(p, tb, nginx, size)
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	flows := econbench.Flows{ServerPort: uint16(nginx.port), Count: o.Connections,
		RequestBytes: len(generator.HTTPRequest(o.Server.String(), o.Paths[0], false))}
	if p["client"] == clientWrk {
		return startWrk(ctx, tb, o, atLeast, flows)
	}
	return startGenerator(ctx, tb, o, atLeast, flows)
}

// httpOptions are the generator's for files of a size.
func httpOptions(p econbench.Params, tb econbench.Testbed, server nginxServer, size int) (o generator.Options, err error) {
	full := econbench.Params{"pipeline": "1"}
	for k, v := range p {
		full[k] = v
	}
	o, err = loopOptions(full, tb, uint16(server.control), uint16(server.port))
	o.Protocol, o.Paths, o.Body = generator.HTTP, nginxPaths(size), nginxBody(size)
	return o, err
}

// startWrk starts wrk, which asks for one path.
func startWrk(ctx context.Context, tb econbench.Testbed, o generator.Options, atLeast time.Duration, flows econbench.Flows) (econbench.Load, error) {
	proc, err := tb.Client().Container.Start(ctx, "wrk", "-t", strconv.Itoa(o.Threads), "-c", strconv.Itoa(o.Connections),
		"-d", wholeSeconds(atLeast+goesOn)+"s", "--latency", "http://"+o.Server.String()+o.Paths[0])
	if err != nil {
		return nil, fmt.Errorf("wrk client: start: %w", err)
	}
	return &load{name: "wrk", proc: proc, flows: flows, parse: readWrk, enough: enough{client: "wrk", by: unix.SIGINT}}, nil
}
