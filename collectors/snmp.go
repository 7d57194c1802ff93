// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/prometheus/procfs"

	"github.com/econbench/econbench"
)

// Snmp counts the work of flows that sockets can't count: datagrams, and connections that come and go. It reads the
// counters of the endpoint's network namespace (/proc/PID/net/snmp and netstat), by the kernel's own names.
//
// A namespace counts whatever goes on in it. An overlay's container has its own and nothing else in it. The host's also has
// the swarm's gossip and control connections, which are tolerated and not taken off. InDatagrams are those that a program
// received: what found no room in its socket is in InErrors.
type Snmp struct{}

var _ econbench.WorkCollector = Snmp{}

// lossOfNote is the share of lost datagrams from which on a trial says where they went.
const lossOfNote = 0.01

func (Snmp) Name() string { return "snmp" }
func (Snmp) Help() string {
	return "datagrams, connections and retransmissions of the endpoint's namespace (/proc/PID/net/snmp), where sockets can't tell"
}

// CountsWork makes it read in the middle of the window too.
func (Snmp) CountsWork() {}

func (Snmp) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	switch w.Flows.Kind {
	case econbench.DatagramFlows:
		return datagramSamples(w)
	case econbench.ConnectFlows:
		return connectSamples(w)
	}
	return nil, nil
}

func datagramSamples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	for _, h := range []host{client, server} {
		if n := h.Counters["snmp"]["Ip.FragCreates"]; n > 0 {
			warnings = append(warnings, fmt.Sprintf("snmp: %s: %.0f fragments were sent: datagrams are too large for the path", h.name, n))
		}
	}
	received, ok := server.rate("snmp", "Udp.InDatagrams")
	offered, also := client.rate("snmp", "Udp.OutDatagrams")
	if w.Flows.RequestBytes > 0 && ok {
		return append(samples, econbench.Sample{Metric: "packets", Value: received}, econbench.Sample{Metric: "transactions", Value: received}), warnings
	}
	down, downOK := client.rate("snmp", "Udp.InDatagrams")
	back, backOK := server.rate("snmp", "Udp.OutDatagrams")
	message := float64(w.Flows.MessageBytes)
	switch w.Flows.Way {
	case econbench.WayDown:
		received, ok, offered, also = down, downOK, back, backOK
	case econbench.WayBoth:
		if ok && downOK {
			samples = append(samples, econbench.Sample{Metric: "throughput_up", Value: received * message},
				econbench.Sample{Metric: "throughput_down", Value: down * message})
		}
		received, ok, offered, also = received+down, ok && downOK, offered+back, also && backOK
	}
	if !ok {
		return nil, warnings
	}
	samples = append(samples, econbench.Sample{Metric: "packets", Value: received}, econbench.Sample{Metric: "throughput", Value: received * message})
	if !also || offered <= 0 {
		return samples, warnings
	}
	// The hosts' windows are equally long but don't begin at the same moment: a little more may be received than was sent.
	// That is no loss.
	loss := max(0, 1-received/offered)
	if loss > lossOfNote {
		full, _ := server.rate("snmp", "Udp.RcvbufErrors")
		if w.Flows.Way.ToClient() {
			atClient, _ := client.rate("snmp", "Udp.RcvbufErrors")
			full += atClient
		}
		warnings = append(warnings, fmt.Sprintf("snmp: %.1f %% of the datagrams were lost, %.0f a second of them at a full socket: the offered rate is more than this path carries",
			100*loss, full))
	}
	return append(samples, econbench.Sample{Metric: "offered", Value: offered}, econbench.Sample{Metric: "loss", Value: loss}), warnings
}

func connectSamples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	if opened, ok := server.rate("snmp", "Tcp.PassiveOpens"); ok {
		samples = append(samples, econbench.Sample{Metric: "transactions", Value: opened})
	}
	fromClient, ok := client.rate("snmp", "Tcp.RetransSegs")
	fromServer, also := server.rate("snmp", "Tcp.RetransSegs")
	if ok && also {
		samples = append(samples, econbench.Sample{Metric: "retransmits", Value: fromClient + fromServer})
	}
	for _, h := range []host{client, server} {
		if n := h.Counters["snmp"]["TcpExt.TCPSynRetrans"]; n > 0 {
			warnings = append(warnings, fmt.Sprintf("snmp: %s: %.0f SYNs were sent again, a second or more after the first", h.name, n))
		}
		if n := h.Counters["snmp"]["TcpExt.ListenOverflows"]; n > 0 {
			warnings = append(warnings, fmt.Sprintf("snmp: %s: %.0f connections found the listener's queue full", h.name, n))
		}
	}
	return samples, warnings
}

type snmpReader struct{ proc string }

func (snmpReader) Name() string { return "snmp" }

func (r snmpReader) Open(s econbench.Scope) (econbench.Reading, error) {
	if s.Flows.Kind == econbench.LastingFlows {
		return Nothing{}, nil
	}
	n, err := openNamespaces(r.proc, s)
	if err != nil {
		return nil, fmt.Errorf("snmp: %w", err)
	}
	reading := &snmpReading{namespaces: n, scope: s}
	if s.Flows.Kind == econbench.DatagramFlows {
		return reading, nil
	}
	if reading.diags, err = openDiags(r.proc, s); err != nil {
		return nil, fmt.Errorf("snmp: %w", err)
	}
	return reading, nil
}

var _ econbench.Noter = (*snmpReading)(nil)

type snmpReading struct {
	namespaces
	scope econbench.Scope
	diags diags // of connections; nil for datagrams
}

func (r *snmpReading) Read() (econbench.Counters, error) {
	c, err := r.counters()
	if err != nil {
		return nil, fmt.Errorf("snmp: %w", err)
	}
	return c, nil
}

func (r *snmpReading) Close() error {
	r.diags.close()
	return nil
}

// noteTries is how many looks it may take to find a connection alive: they come and go thousands of times a second.
const noteTries = 50

// Notes names the congestion control of connections that are alive after the window; none when none is met.
func (r *snmpReading) Notes() map[string]string {
	if r.diags == nil {
		return nil
	}
	for range noteTries {
		alive, err := r.diags.established(r.scope.Side, r.scope.Flows)
		if err != nil {
			return nil
		}
		if len(alive) > 0 {
			return noteCongestionControl(alive)
		}
	}
	return nil
}

// namespace is the network namespace of a process, seen through its folder in /proc.
type namespace struct {
	process procfs.Proc
	net     procfs.FS // whose net/ is that namespace's
}

func openNamespace(proc string, pid int) (n namespace, err error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return n, err
	}
	if n.process, err = fs.Proc(pid); err != nil {
		return n, fmt.Errorf("process %d: %w", pid, err)
	}
	n.net, err = procfs.NewFS(filepath.Join(proc, strconv.Itoa(pid)))
	return n, err
}

// counters are those that some flows' work, losses or stalls show in; what this kernel does not have is left out.
func (n namespace) counters() (econbench.Counters, error) {
	snmp, err := n.process.Snmp()
	if err != nil {
		return nil, err
	}
	stat, err := n.process.Netstat()
	if err != nil {
		return nil, err
	}
	c := econbench.Counters{}
	for name, value := range map[string]*float64{
		"Udp.InDatagrams": snmp.Udp.InDatagrams, "Udp.OutDatagrams": snmp.Udp.OutDatagrams, "Udp.InErrors": snmp.Udp.InErrors,
		"Udp.RcvbufErrors": snmp.Udp.RcvbufErrors, "Udp.SndbufErrors": snmp.Udp.SndbufErrors, "Udp.NoPorts": snmp.Udp.NoPorts,
		"Tcp.ActiveOpens": snmp.Tcp.ActiveOpens, "Tcp.PassiveOpens": snmp.Tcp.PassiveOpens, "Tcp.AttemptFails": snmp.Tcp.AttemptFails,
		"Tcp.InSegs": snmp.Tcp.InSegs, "Tcp.OutSegs": snmp.Tcp.OutSegs, "Tcp.RetransSegs": snmp.Tcp.RetransSegs,
		"Ip.FragCreates":       snmp.Ip.FragCreates,
		"TcpExt.TCPSynRetrans": stat.TcpExt.TCPSynRetrans, "TcpExt.ListenOverflows": stat.TcpExt.ListenOverflows,
	} {
		if value != nil {
			c[name] = *value
		}
	}
	return c, nil
}

// udpSockets is how many UDP sockets are the flows': by their own port, or by the one they are connected to.
func (n namespace) udpSockets(f econbench.Flows) (count int, err error) {
	sockets, err := n.net.NetUDP()
	for _, s := range sockets {
		if f.Has(uint16(s.LocalPort)) || f.Has(uint16(s.RemPort)) {
			count++
		}
	}
	return count, err
}

// opensPerFlow is how many connections a flow must have opened, on average, to be under way. Its tool's control connection
// is one.
const opensPerFlow = 10

// datagramsPerFlow is how many datagrams, sent or received, must have passed for each flow of requests. The host's namespace has the
// swarm's gossip as well, a handful a second: one would be enough to take a client for under way that takes seconds to begin
// (sockperf on a crowded machine: its socket was there 2 s before its first datagram).
const datagramsPerFlow = 50

// waitForCounters waits for flows whose work a namespace counts. Datagrams: all sockets are there and some datagrams have passed since,
// of a stream as many as flows, since its rate may be low. Connections: some for each flow.
func waitForCounters(ctx context.Context, proc string, s econbench.Scope) error {
	n, err := openNamespaces(proc, s)
	if err != nil {
		return fmt.Errorf("flows on port %d: %w", s.Flows.ServerPort, err)
	}
	start, sockets := -1.0, 0
	return poll(ctx, func() (missing string, err error) {
		c, err := n.counters()
		if err != nil {
			return "", err
		}
		now, want := passed(c, s.Flows)
		if s.Flows.Kind == econbench.DatagramFlows {
			if sockets, err = n.udpSockets(s.Flows); err != nil {
				return "", err
			}
		}
		if start < 0 || s.Flows.Kind == econbench.DatagramFlows && sockets < s.Flows.Count {
			start = now
		}
		if moved := now - start; moved < want {
			missing = fmt.Sprintf("flows on port %d, %s's side: %s", s.Flows.ServerPort, s.Side, underWay(s.Flows, sockets, moved))
		}
		return missing, nil
	})
}

// passed is what has passed so far of flows' work, and how much of it says that all of them are under way.
func passed(c econbench.Counters, f econbench.Flows) (now, want float64) {
	if f.Kind == econbench.ConnectFlows {
		return c["Tcp.ActiveOpens"] + c["Tcp.PassiveOpens"], float64(opensPerFlow * f.Count)
	}
	want = float64(f.Count)
	if f.RequestBytes > 0 {
		want *= datagramsPerFlow
	}
	return c["Udp.InDatagrams"] + c["Udp.OutDatagrams"], want
}

// underWay says how far flows are that are not all under way.
func underWay(f econbench.Flows, sockets int, moved float64) string {
	if f.Kind == econbench.ConnectFlows {
		return fmt.Sprintf("%.0f connections opened, %d wanted", moved, opensPerFlow*f.Count)
	}
	return fmt.Sprintf("%d of %d sockets are there, %.0f datagrams since", sockets, f.Count, moved)
}
