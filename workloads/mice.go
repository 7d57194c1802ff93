// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench"
)

const (
	// elephantsPort is where the elephants' iperf3 serves; miceRR has the mice's ports.
	elephantsPort = 25241
	// elephantsGoOn is how much longer elephants would run than mice. They are ended when the mice have: percentiles are of the mice's
	// whole run. A crowded machine once took two seconds to start them.
	elephantsGoOn = 10 * time.Second
	// underWay is how much an elephant must have carried when mice are started, B: what readers ask of a data flow.
	underWay = 16 << 10
	// elephantsPoll is the pause between two looks for them. Each is an exec through the engine, 50 to 100 ms by itself.
	elephantsPoll = 20 * time.Millisecond
)

// Mice is elephants and mice: bulk TCP (iperf3) that fills the path, and beside it, between the same containers, one small request and
// one response at a time (netperf TCP_RR). What the mice wait is the number: a queue that the elephants fill is in it.
//
// Both are counted by their own sockets: ports tell them apart. Percentiles are netperf's, of its whole run, so elephants come first and
// go last: they are killed when the mice have ended, and their tool says nothing that could be held against the counters.
type Mice struct{}

var (
	_ econbench.Workload = Mice{}
	_ econbench.Covered  = Mice{}
	_ econbench.Bulk     = Mice{}
)

// miceRR is the mice's client and server.
var miceRR = netperf{
	name:     "mice",
	test:     "TCP_RR",
	kind:     econbench.LastingFlows,
	most:     64 << 10,
	dataPort: 26102,
	options:  tcpRR.options,
	judge:    tcpRR.judge,
}

var miceParams = []param{
	directionParam, // of the elephants
	{name: "streams", standard: 1, min: 1, max: 128},
	{name: "message", standard: 128 << 10, min: 1, max: 1 << 20, bytes: true},
	{name: "flows", standard: 1, min: 1, max: mostFlows},
	{name: "request", standard: 1, min: 1, max: 64 << 10, bytes: true},
	{name: "response", standard: 1, min: 1, max: 64 << 10, bytes: true},
}

func (Mice) Name() string    { return "mice" }
func (Mice) Primary() string { return "latency_p99" }

// Bulk is true: elephants keep both ends' CPUs busy.
func (Mice) Bulk() bool { return true }

// Coverage is nearly all of it: handshakes lie before the window. By segments it is the elephants' coverage; that no mouse took another
// way is proven by the frames of the devices off the path.
func (Mice) Coverage(econbench.Params) econbench.Coverage {
	return econbench.Coverage{ToServer: nearlyAll, ToClient: nearlyAll}
}

func (Mice) Help() string {
	return "elephants and mice: requests and responses (netperf TCP_RR) beside bulk (iperf3); mice's flows (1), request, response: bytes (1); " +
		"elephants' direction: up, client to server, down or both (up), streams each way (1), message: bytes a write (128k)"
}

func (Mice) Params(given econbench.Params) (econbench.Params, error) { return fill(miceParams, given) }

// Serve starts both servers.
func (Mice) Serve(ctx context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return serveAll(ctx,
		func(ctx context.Context) (econbench.Process, error) {
			return serveOneIperf3(ctx, tb.Server(), elephantsPort)
		},
		func(ctx context.Context) (econbench.Process, error) { return miceRR.Serve(ctx, tb) })
}

// Start starts the elephants, and the mice once all elephants are under way.
func (w Mice) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, atLeast time.Duration) (_ econbench.Load, err error) {
	n, err := numbers(p, "streams", "flows", "request", "response")
	if err != nil {
		return nil, fmt.Errorf("workload %s: %w", w.Name(), err)
	}
	elephants := iperf3{protocol: "TCP", port: elephantsPort, streams: n[0], clients: 1, way: ways[p["direction"]], options: []string{"-l", p["message"]}}
	argv := miceRR.argv(tb.Server(), p, n[1], atLeast)
	big := elephants.flows()
	l := &miceLoad{mice: n[1], flows: econbench.Flows{ServerPort: uint16(miceRR.dataPort), Ports: n[1], Count: n[1], RequestBytes: n[2],
		ResponseBytes: n[3], Beside: &big}}
	long := wholeSeconds(elephants.lasts(atLeast+2*time.Duration(n[1])*perNetperf) + elephantsGoOn)
	in := tb.Client().Container
	proc, err := in.Start(ctx, elephants.argv(0, tb.Server(), long)...)
	if err != nil {
		return nil, fmt.Errorf("iperf3 client: start: %w", err)
	}
	l.elephants = watchOver(ctx, proc)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err = l.untilUnderWay(ctx, in, big.Count); err != nil {
		return nil, fmt.Errorf("iperf3 client: %w", err)
	}
	if l.proc, err = in.Start(ctx, together(argv)...); err != nil {
		return nil, fmt.Errorf("netperf client: start: %w", err)
	}
	return l, nil
}

// miceLoad is both clients at work.
type miceLoad struct {
	elephants *server           // whose end is noticed while nobody waits for it
	proc      econbench.Process // of the mice
	mice      int
	flows     econbench.Flows
}

func (l *miceLoad) Flows() econbench.Flows { return l.flows }

func (l *miceLoad) Close(ctx context.Context) error {
	return errors.Join(closeAll(ctx, []econbench.Process{l.proc}), l.elephants.Close(ctx))
}

// untilUnderWay returns when all elephants carry payload.
func (l *miceLoad) untilUnderWay(ctx context.Context, in econbench.Container, count int) error {
	for {
		carrying, err := carryingTo(ctx, in, elephantsPort)
		if err != nil || carrying >= count {
			return err
		}
		select {
		case <-l.elephants.ended:
			return l.elephantsEnded()
		case <-ctx.Done():
			return fmt.Errorf("%d of %d streams are under way: %w", carrying, count, context.Cause(ctx))
		case <-time.After(elephantsPoll):
		}
	}
}

// elephantsEnded says why their client ended, which has time left.
func (l *miceLoad) elephantsEnded() error {
	var r iperf3Report
	if json.Unmarshal(l.elephants.out.Stdout, &r) == nil && r.Error != "" {
		return fmt.Errorf("%q", shorten(oneLine(r.Error)))
	}
	return fmt.Errorf("ended before the mice: %w", l.elephants.diagnosis())
}

// carryingTo asks the kernel how many connections to a server's port have carried some payload.
func carryingTo(ctx context.Context, in econbench.Container, port int) (int, error) {
	look, err := in.Start(ctx, "ss", "-Htin", "state", "established", "dport", "=", ":"+strconv.Itoa(port))
	if err != nil {
		return 0, fmt.Errorf("look for streams: %w", err)
	}
	out, err := look.Wait(ctx)
	if err = errors.Join(err, look.Close(context.WithoutCancel(ctx))); err != nil {
		return 0, fmt.Errorf("look for streams: %w", err)
	}
	if out.ExitCode != 0 {
		return 0, fmt.Errorf("look for streams: ss: exit code %d: %s", out.ExitCode, lastLine(out))
	}
	return readCarrying(out.Stdout), nil
}

// readCarrying counts the connections in ss -i whose either direction has carried enough.
func readCarrying(b []byte) (count int) {
	for line := range bytes.Lines(b) {
		for _, field := range strings.Fields(string(line)) {
			name, value, _ := strings.Cut(field, ":")
			if name != "bytes_acked" && name != "bytes_received" {
				continue
			}
			if n, err := strconv.ParseUint(value, 10, 64); err == nil && n >= underWay {
				count++
				break
			}
		}
	}
	return count
}

// Wait waits for the mice, and ends the elephants. It returns the log even when one failed.
func (l *miceLoad) Wait(ctx context.Context) (result econbench.Result, err error) {
	out, err := l.proc.Wait(ctx)
	result.Log = append(bytes.Clone(out.Stdout), out.Stderr...)
	select {
	case <-l.elephants.ended:
		result.Log = append(result.Log, l.elephants.log()...)
		return result, fmt.Errorf("iperf3 client: %w", l.elephantsEnded())
	default:
	}
	if err == nil {
		err = l.elephants.Close(ctx)
	}
	if err == nil {
		result.Samples, result.Warnings, err = miceRR.readAll([]econbench.Output{out}, l.mice)
	}
	if err != nil {
		return result, fmt.Errorf("netperf client: %w", err)
	}
	return result, nil
}
