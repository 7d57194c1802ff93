// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// Sockets counts the work of flows that last: what TCP received, sent and retransmitted on them, from TCP_INFO by way of
// sock_diag, in bytes and segments (a super-frame counts as the segments that it stands for). It is what the metrics of
// work are made of, at the receiver, over exactly the window, and blind to what the tools say.
//
// A tool's control connection may share the port (iperf3). Data flows are told from it by amount: they are the
// Flows.Count sockets that have carried most. Which ones is decided before the first read and may not change until the last.
type Sockets struct{}

var _ econbench.WorkCollector = Sockets{}

// streamPayload is how much a flow without requests must have carried to be a data flow under way, B. iperf3's control
// connection carries a few hundred bytes until the test ends.
const streamPayload = 16 << 10

func (Sockets) Name() string { return "sockets" }
func (Sockets) Help() string {
	return "payload, segments and retransmissions of TCP flows that last (TCP_INFO): throughput, packets, transactions"
}

// CountsWork makes it read in the middle of the window too.
func (Sockets) CountsWork() {}

func (Sockets) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	if w.Flows.Kind != econbench.LastingFlows {
		return nil, nil
	}
	client, server := hosts(w)
	add := func(metric string, value float64, ok bool) {
		if ok {
			samples = append(samples, econbench.Sample{Metric: metric, Value: value})
		}
	}
	received, ok := server.rate("sockets", "bytes_received")
	switch {
	case w.Flows.ByClient:
	case w.Flows.RequestBytes > 0:
		add("transactions", received/float64(w.Flows.RequestBytes), ok)
	default:
		add("throughput", received, ok)
	}
	packets, ok := server.rate("sockets", "data_segs_in")
	add("packets", packets, ok)
	fromClient, ok := client.rate("sockets", "retransmits")
	fromServer, also := server.rate("sockets", "retransmits")
	add("retransmits", fromClient+fromServer, ok && also)

	for _, h := range []host{client, server} {
		if flows, ok := h.Counters["sockets"]["flows"]; ok && int(flows) != w.Flows.Count {
			warnings = append(warnings, fmt.Sprintf("sockets: %s: %.0f of %d flows carried payload in the window", h.name, flows, w.Flows.Count))
		}
	}
	return samples, warnings
}

// waitForSockets waits for flows that last.
func waitForSockets(ctx context.Context, s econbench.Scope) error {
	d, err := openDiag("/proc", s.PID)
	if err != nil {
		return fmt.Errorf("flows on port %d: %w", s.Flows.ServerPort, err)
	}
	defer d.close()
	poll := time.NewTicker(flowPoll)
	defer poll.Stop()
	for {
		sockets, err := d.established(s.Side, s.Flows)
		if err != nil {
			return fmt.Errorf("flows: %w", err)
		}
		carrying := dataFlows(sockets, s.Flows)
		if len(carrying) >= s.Flows.Count {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("flows on port %d, %s's side: %d of %d carry payload, %d connections: %w", s.Flows.ServerPort, s.Side,
				len(carrying), s.Flows.Count, len(sockets), context.Cause(ctx))
		}
	}
}

// dataFlows picks the sockets that carry payload, those with most first.
func dataFlows(sockets []tcpSocket, f econbench.Flows) []tcpSocket {
	carrying := slices.DeleteFunc(slices.Clone(sockets), func(s tcpSocket) bool {
		if f.Transactions() {
			return s.bytesReceived == 0 // both ends of a transaction receive; the SYN counts as an acknowledged byte
		}
		return s.payload() < streamPayload
	})
	slices.SortFunc(carrying, func(a, b tcpSocket) int { return cmp.Compare(b.payload(), a.payload()) })
	return carrying
}

type socketsReader struct{ proc string }

func (socketsReader) Name() string { return "sockets" }

func (r socketsReader) Open(s econbench.Scope) (econbench.Reading, error) {
	if s.Flows.ServerPort == 0 || s.Flows.Count < 1 {
		return nil, fmt.Errorf("sockets: flows %+v: want a port and a number of flows", s.Flows)
	}
	if s.Flows.Kind != econbench.LastingFlows {
		return Nothing{}, nil
	}
	d, err := openDiag(r.proc, s.PID)
	if err != nil {
		return nil, fmt.Errorf("sockets: %w", err)
	}
	return &socketsReading{diag: d, side: s.Side, want: s.Flows}, nil
}

var (
	_ econbench.Noter    = (*socketsReading)(nil)
	_ econbench.Preparer = (*socketsReading)(nil)
)

type socketsReading struct {
	diag  *diag
	side  string
	want  econbench.Flows
	flows map[uint64]*flow // by cookie; nil until the first read
	begun bool             // it has been read
	again bool             // more than once
}

// Close looks at all sockets once more, which is too dear to be done within the window: another one may have become a data flow.
func (r *socketsReading) Close() error {
	defer r.diag.close()
	if !r.again {
		return nil
	}
	sockets, err := r.diag.established(r.side, r.want)
	if err != nil {
		return fmt.Errorf("sockets: %w", err)
	}
	return r.unchanged(sockets)
}

// Prepare picks the data flows, for which all of the machine's sockets are looked through.
func (r *socketsReading) Prepare() error {
	sockets, err := r.diag.established(r.side, r.want)
	if err == nil {
		err = r.pick(sockets)
	}
	if err != nil {
		return fmt.Errorf("sockets: port %d: %w", r.want.ServerPort, err)
	}
	return nil
}

// Read reads the data flows alone.
func (r *socketsReading) Read() (econbench.Counters, error) {
	if r.flows == nil {
		if err := r.Prepare(); err != nil {
			return nil, err
		}
	} else if err := r.update(); err != nil {
		return nil, fmt.Errorf("sockets: port %d: %w", r.want.ServerPort, err)
	}
	for _, f := range r.flows {
		f.moved = f.moved && r.begun
	}
	r.again, r.begun = r.begun, true
	sum := econbench.Counters{"flows": 0}
	for _, f := range r.flows {
		if f.moved {
			sum["flows"]++
		}
		f.addTo(sum)
	}
	return sum, nil
}

// Notes names the congestion control of the data flows.
func (r *socketsReading) Notes() map[string]string {
	var last []tcpSocket
	for _, f := range r.flows {
		last = append(last, f.last)
	}
	return noteCongestionControl(last)
}

// noteCongestionControl names the sockets' algorithms, each once.
func noteCongestionControl(sockets []tcpSocket) map[string]string {
	var names []string
	for _, s := range sockets {
		names = append(names, s.congestionControl)
	}
	slices.Sort(names)
	return map[string]string{econbench.NoteCongestionControl: strings.Join(slices.Compact(names), ",")}
}

// pick finds the data flows.
func (r *socketsReading) pick(sockets []tcpSocket) error {
	carrying := dataFlows(sockets, r.want)
	if len(carrying) < r.want.Count {
		return fmt.Errorf("%d of %d flows carry payload, %d connections", len(carrying), r.want.Count, len(sockets))
	}
	r.flows = map[uint64]*flow{}
	for _, s := range carrying[:r.want.Count] {
		r.flows[s.cookie] = newFlow(s)
	}
	return nil
}

// update reads the data flows again, no fewer than there were.
func (r *socketsReading) update() error {
	closed := 0
	for _, f := range r.flows {
		s, err := r.diag.again(f.last)
		switch {
		case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE):
			closed++
		case err != nil:
			return fmt.Errorf("sock_diag: %w", err)
		default:
			f.update(s)
		}
	}
	if closed > 0 {
		return fmt.Errorf("%d of %d flows closed between two reads: flows changed within the window", closed, len(r.flows))
	}
	return nil
}

// unchanged says whether the data flows are still those that have carried most.
func (r *socketsReading) unchanged(sockets []tcpSocket) error {
	least := uint64(math.MaxUint64)
	for _, f := range r.flows {
		least = min(least, f.last.payload())
	}
	for _, s := range dataFlows(sockets, r.want) {
		if r.flows[s.cookie] == nil && s.payload() > least {
			return fmt.Errorf("sockets: port %d: flow %s became one of the %d largest between two reads: flows changed within the window", r.want.ServerPort, s, r.want.Count)
		}
	}
	return nil
}

// flow is a socket under watch. TCP's segment counters have 32 bits and wrap within minutes; the sums here do not.
type flow struct {
	last                                                  tcpSocket
	moved                                                 bool // payload, since the first read
	dataSegsIn, dataSegsOut, segsIn, segsOut, retransmits counter32
}

func newFlow(s tcpSocket) *flow {
	f := &flow{last: s}
	f.update(s)
	return f
}

// update takes the socket's latest figures.
func (f *flow) update(s tcpSocket) {
	f.moved = f.moved || s.bytesReceived > f.last.bytesReceived || s.bytesAcked > f.last.bytesAcked
	f.last = s
	f.dataSegsIn.grow(s.dataSegsIn)
	f.dataSegsOut.grow(s.dataSegsOut)
	f.segsIn.grow(s.segsIn)
	f.segsOut.grow(s.segsOut)
	f.retransmits.grow(s.retransmits)
}

func (f *flow) addTo(sum econbench.Counters) {
	sum["bytes_received"] += float64(f.last.bytesReceived)
	sum["bytes_acked"] += float64(f.last.bytesAcked)
	sum["data_segs_in"] += f.dataSegsIn.total
	sum["data_segs_out"] += f.dataSegsOut.total
	sum["segs_in"] += f.segsIn.total
	sum["segs_out"] += f.segsOut.total
	sum["retransmits"] += f.retransmits.total
}
