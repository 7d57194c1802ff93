// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/econbench/econbench"
	generator "github.com/econbench/econbench/internal/load"
)

// NginxConn is a real nginx that gets a connection for each request, from econbench's own load generator. The kernel counts connections
// at the server. Client ports are those of tcp_crr, for the reason that stands there: the server closes first, and the table of
// connections that Docker's rules track must not run full.
type NginxConn struct{ paced }

var (
	_ econbench.Workload   = NginxConn{}
	_ econbench.Measured   = NginxConn{}
	_ econbench.Covered    = NginxConn{}
	_ econbench.Generating = NginxConn{}
)

// By sendfile the file would leave with the FIN: header and file are sent apart, the second part waits for the acknowledgement of the first,
// or for more to fill its segment (tcp_nopush), and what it gets is the end. What closes a connection is the kernel's to carry, so that a
// fast path would be left with nothing: measured with oncache, all answers of 1 kB went through the vxlan device.
var nginxConn = nginxServer{name: "nginx_conn", control: 25871, port: 25872, own: "sendfile off;"}

// largestConnFile is the largest that goes out at once, B: ten segments, by TCP's initial window. Of larger ones the FIN would close the last segments,
// up to 64 kB of them in one frame, and what closes a connection is the kernel's to carry.
const largestConnFile = 8 << 10

func (NginxConn) Name() string    { return nginxConn.name }
func (NginxConn) Primary() string { return "latency_p99" }
func (NginxConn) Generates() bool { return true }
func (NginxConn) Help() string {
	return "HTTP/1.1 requests of an nginx with a connection for each; size: of the file, bytes, 0 for an answer without one (1k), connections: at once (4), threads (1), " +
		"rate: 1/s in an open loop (0: closed); latencies have the handshake in them"
}

func (NginxConn) Params(given econbench.Params) (econbench.Params, error) {
	p, err := fill(httpParams(largestConnFile), given)
	if err != nil {
		return nil, err
	}
	return p, checkLoop(p)
}

func (NginxConn) Metrics(p econbench.Params) []string { return generatorMetrics(p["rate"] != "0") }

// Coverage is what is left when SYN, FIN and a connection's first packets are the kernel's; see nginxConnCoverage.
func (NginxConn) Coverage(econbench.Params) econbench.Coverage { return nginxConnCoverage }

func (NginxConn) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return nginxConn.Serve(ctx, tb)
}

func (w NginxConn) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (econbench.Load, error) {
	size, err := number(p, "size")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	o, err := httpOptions(p, tb, nginxConn, size)
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	o.PerReq, o.LowPort, o.HighPort = true, crrLowestPort, crrLowestPort+crrPorts-1
	return startGenerator(ctx, tb, o, atLeast, econbench.Flows{Kind: econbench.ConnectFlows, ServerPort: uint16(nginxConn.port), Count: o.Connections,
		RequestBytes: len(generator.HTTPRequest(o.Server.String(), o.Paths[0], true)), ResponseBytes: nginxAnswer(size)})
}

// nginxAnswer is how long nginx's whole answer is with the configuration above, B: TestNginxAnswer holds it against a recorded one.
func nginxAnswer(size int) int {
	header := "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 26 Nov 2026 22:26:00 GMT\r\nContent-Type: application/octet-stream\r\n" +
		"Content-Length: " + strconv.Itoa(nginxBody(size)) + "\r\n"
	if size > 0 {
		header += "Last-Modified: Thu, 26 Nov 2026 22:26:00 GMT\r\n"
	}
	header += "Connection: close\r\n"
	if size > 0 {
		header += "Accept-Ranges: bytes\r\n"
	}
	return len(header) + len("\r\n") + nginxBody(size)
}

// nginxConnCoverage is that of tcp_crr, for the same five segments each way.
var nginxConnCoverage = econbench.Coverage{ToServer: nearlyAll * 1 / 5, ToClient: nearlyAll * 2 / 5}
