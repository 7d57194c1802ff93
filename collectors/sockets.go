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
	packets, fromClient, fromServer, ok := 0.0, 0.0, 0.0, true
	for prefix, f := range w.Flows.Sets() {
		samples = append(samples, workSamples(client, server, f, prefix)...)
		_, _, segments, segmentsOK := received(client, server, f, prefix+"data_segs_in")
		again, also := client.rate("sockets", prefix+"retransmits")
		reply, too := server.rate("sockets", prefix+"retransmits")
		packets, fromClient, fromServer = packets+segments, fromClient+again, fromServer+reply
		ok = ok && segmentsOK && also && too
	}
	add("packets", packets, ok)
	add("retransmits", fromClient+fromServer, ok)

	for _, h := range []host{client, server} {
		for prefix, f := range w.Flows.Sets() {
			if flows, ok := h.Counters["sockets"][prefix+"flows"]; ok && int(flows) != f.Count {
				warnings = append(warnings, fmt.Sprintf("sockets: %s: %.0f of %d %sflows carried payload in the window",
					h.name, flows, f.Count, strings.Replace(prefix, ".", " ", 1)))
			}
		}
	}
	return samples, warnings
}

// workSamples are what one set of flows got done: transactions, or payload at the sockets that received it.
func workSamples(client, server host, f econbench.Flows, prefix string) (samples []econbench.Sample) {
	up, down, both, ok := received(client, server, f, prefix+"bytes_received")
	switch {
	case f.ByClient || !ok:
	case f.RequestBytes > 0:
		samples = []econbench.Sample{{Metric: "transactions", Value: up / float64(f.RequestBytes)}}
	case f.Way == econbench.WayBoth:
		samples = []econbench.Sample{{Metric: "throughput", Value: both}, {Metric: "throughput_up", Value: up}, {Metric: "throughput_down", Value: down}}
	default:
		samples = []econbench.Sample{{Metric: "throughput", Value: both}}
	}
	return samples
}

// received is a counter's rate at the receivers of flows' work: the server of requests and of what goes up, the client of what
// goes down.
func received(client, server host, f econbench.Flows, counter string) (up, down, both float64, ok bool) {
	ok = true
	if f.Transactions() || f.Way.ToServer() {
		up, ok = server.rate("sockets", counter)
	}
	if !f.Transactions() && f.Way.ToClient() {
		var also bool
		down, also = client.rate("sockets", counter)
		ok = ok && also
	}
	return up, down, up + down, ok
}

// waitForSockets waits for flows that last, of all sets.
func waitForSockets(ctx context.Context, s econbench.Scope) error {
	d, err := openDiags("/proc", s)
	if err != nil {
		return fmt.Errorf("flows on port %d: %w", s.Flows.ServerPort, err)
	}
	defer d.close()
	return poll(ctx, func() (missing string, err error) {
		for _, f := range s.Flows.Sets() {
			sockets, err := d.established(s.Side, f)
			if err != nil {
				return "", err
			}
			if carrying := dataFlows(sockets, f); len(carrying) < f.Count {
				missing = fmt.Sprintf("flows on port %d, %s's side: %d of %d carry payload, %d connections", f.ServerPort, s.Side,
					len(carrying), f.Count, len(sockets))
			}
		}
		return missing, nil
	})
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
	reading := &socketsReading{side: s.Side}
	for prefix, f := range s.Flows.Sets() {
		if f.ServerPort == 0 || f.Count < 1 {
			return nil, fmt.Errorf("sockets: flows %+v: want a port and a number of flows", f)
		}
		reading.sets = append(reading.sets, &flowSet{prefix: prefix, want: f})
	}
	if s.Flows.Kind != econbench.LastingFlows {
		return Nothing{}, nil
	}
	var err error
	if reading.diags, err = openDiags(r.proc, s); err != nil {
		return nil, fmt.Errorf("sockets: %w", err)
	}
	return reading, nil
}

var (
	_ econbench.Noter    = (*socketsReading)(nil)
	_ econbench.Preparer = (*socketsReading)(nil)
)

type socketsReading struct {
	diags diags
	side  string
	sets  []*flowSet
	begun bool // it has been read
	again bool // more than once
}

// flowSet is flows of one kind of work, under watch.
type flowSet struct {
	prefix string // of its counters
	want   econbench.Flows
	flows  map[uint64]*flow // by cookie; nil until they are found
}

// Close looks at all sockets once more, which is too dear to be done within the window: another one may have become a data flow.
func (r *socketsReading) Close() (err error) {
	defer r.diags.close()
	if !r.again {
		return nil
	}
	for _, set := range r.sets {
		sockets, failed := r.diags.established(r.side, set.want)
		if failed == nil {
			failed = set.unchanged(sockets)
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("sockets: port %d: %w", set.want.ServerPort, failed))
		}
	}
	return err
}

// Prepare picks the data flows, for which all of the machine's sockets are looked through.
func (r *socketsReading) Prepare() error {
	for _, set := range r.sets {
		sockets, err := r.diags.established(r.side, set.want)
		if err == nil {
			err = set.pick(sockets)
		}
		if err != nil {
			return fmt.Errorf("sockets: port %d: %w", set.want.ServerPort, err)
		}
	}
	return nil
}

// Read reads the data flows alone.
func (r *socketsReading) Read() (econbench.Counters, error) {
	if r.sets[0].flows == nil {
		if err := r.Prepare(); err != nil {
			return nil, err
		}
	}
	sum := econbench.Counters{}
	for _, set := range r.sets {
		if err := set.update(); err != nil {
			return nil, fmt.Errorf("sockets: port %d: %w", set.want.ServerPort, err)
		}
		sum[set.prefix+"flows"] = 0
		for _, f := range set.flows {
			if f.moved = f.moved && r.begun; f.moved {
				sum[set.prefix+"flows"]++
			}
			f.addTo(sum, set.prefix)
		}
	}
	r.again, r.begun = r.begun, true
	return sum, nil
}

// Notes names the congestion control of the data flows.
func (r *socketsReading) Notes() map[string]string {
	var last []tcpSocket
	for _, set := range r.sets {
		for _, f := range set.flows {
			last = append(last, f.last)
		}
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
func (r *flowSet) pick(sockets []tcpSocket) error {
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
func (r *flowSet) update() error {
	closed := 0
	for _, f := range r.flows {
		s, err := f.last.again()
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
func (r *flowSet) unchanged(sockets []tcpSocket) error {
	least := uint64(math.MaxUint64)
	for _, f := range r.flows {
		least = min(least, f.last.payload())
	}
	for _, s := range dataFlows(sockets, r.want) {
		if r.flows[s.cookie] == nil && s.payload() > least {
			return fmt.Errorf("flow %s became one of the %d largest between two reads: flows changed within the window", s, r.want.Count)
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

func (f *flow) addTo(sum econbench.Counters, prefix string) {
	sum[prefix+"bytes_received"] += float64(f.last.bytesReceived)
	sum[prefix+"bytes_acked"] += float64(f.last.bytesAcked)
	sum[prefix+"data_segs_in"] += f.dataSegsIn.total
	sum[prefix+"data_segs_out"] += f.dataSegsOut.total
	sum[prefix+"segs_in"] += f.segsIn.total
	sum[prefix+"segs_out"] += f.segsOut.total
	sum[prefix+"retransmits"] += f.retransmits.total
}
