// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// goesOn is how much longer than they have to clients are asked to run that can be told that it is enough: so that none has ended when its
// host has yet to read, however late that is. Most tools take whole seconds, of which a trial would wait for the rest.
const goesOn = 2 * time.Second

// enough is how a load's programs are told that they have run long enough: by signals that they take for the end of their time. The zero
// value is of programs that can't be told.
type enough struct {
	client string      // program
	by     unix.Signal // as its own timer does it
	// after is how long after the window they are told: a stall that began in it has to be long enough by then to be seen.
	after time.Duration
	// server is the program of a server that has a process for each client and does not notice a client's end by itself: those
	// processes get the same signal when the client opens no connections any more.
	server string
	// port is the first of ports at which servers make ready for the next client by themselves, which takes them a moment; 0: none do.
	port, ports int
}

// quiet is how long no connection must have been opened before a server is told: a client that was at work would find it gone. Transactions
// that take longer are stalls, which the trial is judged by. When a client has been told it makes no further one.
// A machine that was busy with something else left a client without a CPU for 70 ms.
const quiet = 100 * time.Millisecond

var (
	_ econbench.Ender = (*crowd)(nil)
	_ econbench.Ender = (*load)(nil)
	_ econbench.Ender = (*generated)(nil)
	_ econbench.Ender = (*miceLoad)(nil)
)

var (
	_ econbench.Endable = netperf{}
	_ econbench.Endable = TCPStream{}
	_ econbench.Endable = UDPStream{}
	_ econbench.Endable = Mice{}
	_ econbench.Endable = paced{}
)

func (netperf) Endable(econbench.Params) bool     { return true }
func (TCPStream) Endable(econbench.Params) bool   { return true }
func (UDPStream) Endable(p econbench.Params) bool { return ways[p["direction"]] != econbench.WayBoth }
func (Mice) Endable(econbench.Params) bool        { return true }
func (paced) Endable(econbench.Params) bool       { return true }

// tell sends the signals, to as many of the testbed's clients as there are at work.
func (e enough) tell(ctx context.Context, tb econbench.Testbed, clients int) error {
	if e.client == "" {
		return nil
	}
	if e.after > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(e.after):
		}
	}
	var g errgroup.Group
	for _, end := range econbench.ClientsOf(tb)[:clients] {
		g.Go(func() error { return signal(ctx, end, econbench.Signal{Program: e.client, Number: int(e.by)}) })
	}
	err := g.Wait()
	to, ok := tb.Server().Container.(econbench.Signaller)
	switch {
	case err != nil || !ok:
		return err
	case e.port > 0:
		return to.Idle(ctx, uint16(e.port), e.ports)
	case e.server == "":
		return nil
	}
	return to.Signal(ctx, econbench.Signal{Program: e.server, Number: int(e.by), Forked: true, Quiet: econbench.SecondsOf(quiet)})
}

// signal does nothing where programs can't be sent one: they run out their time.
func signal(ctx context.Context, at econbench.Endpoint, s econbench.Signal) error {
	if to, ok := at.Container.(econbench.Signaller); ok {
		return to.Signal(ctx, s)
	}
	return nil
}

// End tells the clients.
func (c *crowd) End(ctx context.Context, tb econbench.Testbed) error {
	return c.enough.tell(ctx, tb, len(c.procs))
}

// End tells the client.
func (l *load) End(ctx context.Context, tb econbench.Testbed) error { return l.enough.tell(ctx, tb, 1) }

// End tells the client.
func (g *generated) End(ctx context.Context, tb econbench.Testbed) error {
	return g.enough.tell(ctx, tb, 1)
}

// End tells the mice.
func (l *miceLoad) End(ctx context.Context, tb econbench.Testbed) error {
	return miceRR.enough().tell(ctx, tb, 1)
}
