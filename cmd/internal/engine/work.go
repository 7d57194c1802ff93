// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"

	"github.com/econbench/econbench"
)

// work is what a workload's flows received or sent on one host in the window, whichever collector counted it.
type work struct {
	name     string  // of the devices' counters: "rx" or "tx"
	payload  float64 // B
	lost     float64 // B that may have come this way beyond the payload: no program received them
	passed   float64 // segments or datagrams of all kinds that this host counted
	segments float64 // at most so many carried it all
	acks     float64 // segments without payload
	frames   float64 // at least so many frames were needed, however segments are merged
	datagram float64 // B of payload in one, where nobody sends again what is lost; else 0
	asked    float64 // transactions among bulk that would hide their absence; else 0
	flows    int
}

// flight is how many bytes may have been under way when counters were read.
func (d work) flight() float64 { return min(flightPerFlow*float64(d.flows), d.payload/2) }

// workOf is what was received and sent on one host, or says which counter is missing.
func workOf(w econbench.Window, host string) (in, out work, err error) {
	own, peer := w.Client, w.Server
	if host == econbench.ServerHost {
		own, peer = w.Server, w.Client
	}
	switch w.Flows.Kind {
	case econbench.LastingFlows:
		in, out, err = workOfSockets(own, w.Flows, host)
	case econbench.DatagramFlows:
		in, out, err = workOfDatagrams(own, peer, w.Flows, host)
	case econbench.ConnectFlows:
		in, out, err = workOfConnects(own, peer, w.Flows, host)
	default:
		err = fmt.Errorf("flows of unknown kind %q", w.Flows.Kind)
	}
	in.name, out.name = "rx", "tx"
	for _, f := range w.Flows.Sets() {
		in.flows, out.flows = in.flows+f.Count, out.flows+f.Count
	}
	return in, out, err
}

// need takes counters of one collector, all of which must have been counted.
func need(h econbench.HostWindow, collector string, names ...string) ([]float64, error) {
	c := h.Counters[collector]
	if c == nil {
		return nil, fmt.Errorf("%s were not counted", collector)
	}
	values := make([]float64, len(names))
	for i, name := range names {
		v, ok := c[name]
		if !ok {
			return nil, fmt.Errorf("%s: %s was not counted", collector, name)
		}
		values[i] = v
	}
	return values, nil
}

// workOfSockets is of flows that last: bytes in order, bytes acknowledged, segments. Each request and each response needs a
// frame. Sets of flows beside each other add up.
func workOfSockets(own econbench.HostWindow, flows econbench.Flows, host string) (in, out work, err error) {
	for prefix, f := range flows.Sets() {
		names := []string{"bytes_received", "segs_in", "data_segs_in", "bytes_acked", "segs_out", "data_segs_out"}
		for i := range names {
			names[i] = prefix + names[i]
		}
		n, err := need(own, "sockets", names...)
		if err != nil {
			return in, out, err
		}
		received := work{payload: n[0], passed: n[1], segments: n[1], acks: n[1] - n[2]}
		sent := work{payload: n[3], passed: n[4], segments: n[4], acks: n[4] - n[5]}
		if f.RequestBytes > 0 {
			asked := received.payload
			if host == econbench.ClientHost {
				asked = sent.payload
			}
			received.frames, sent.frames = asked/float64(f.RequestBytes), asked/float64(f.RequestBytes)
		}
		if prefix != "" {
			received.beside(f.Count)
			sent.beside(f.Count)
		}
		in.add(received)
		out.add(sent)
	}
	if flows.Beside != nil {
		in.asked, out.asked = requests(own, flows, host), requests(own, flows, host)
	}
	return in, out, nil
}

// workOfDatagrams takes each datagram for one segment and one frame: workloads send none that need fragments, and nothing
// on the way merges datagrams that were not sent as one. What the other host sent and no program received here may still
// have crossed this host's wire: it was lost behind it.
func workOfDatagrams(own, peer econbench.HostWindow, f econbench.Flows, host string) (in, out work, err error) {
	n, err := need(own, "snmp", "Udp.InDatagrams", "Udp.OutDatagrams")
	if err != nil {
		return in, out, err
	}
	sent, err := need(peer, "snmp", "Udp.OutDatagrams")
	if err != nil {
		return in, out, err
	}
	toServer, toClient := 0.0, 0.0
	if f.Way.ToServer() {
		toServer = float64(f.MessageBytes)
	}
	if f.Way.ToClient() {
		toClient = float64(f.MessageBytes)
	}
	if f.RequestBytes > 0 {
		toServer, toClient = float64(f.RequestBytes), float64(f.ResponseBytes)
	}
	bytesIn, bytesOut := toClient, toServer
	if host == econbench.ServerHost {
		bytesIn, bytesOut = toServer, toClient
	}
	in = work{payload: n[0] * bytesIn, passed: n[0], segments: max(n[0], sent[0]), frames: n[0], datagram: bytesIn}
	in.lost = in.segments*bytesIn - in.payload
	out = work{payload: n[1] * bytesOut, passed: n[1], segments: n[1], frames: n[1], datagram: bytesOut}
	return in, out, nil
}

// Frames that a connection of one request and one response can't do without, however its segments are merged: to the
// server SYN, request and FIN; to the client SYN-ACK and response, which the FIN may be part of.
const (
	connectFramesToServer = 3
	connectFramesToClient = 2
)

// workOfConnects is of connections that come and go: payload by the connections opened, segments by what the namespace
// counted of all kinds: handshake, data, acknowledgements, FIN. Who receives counts merged segments once, who sends does
// not, so the larger figure allows for headers.
func workOfConnects(own, peer econbench.HostWindow, f econbench.Flows, host string) (in, out work, err error) {
	opened := "Tcp.ActiveOpens"
	if host == econbench.ServerHost {
		opened = "Tcp.PassiveOpens"
	}
	n, err := need(own, "snmp", opened, "Tcp.InSegs", "Tcp.OutSegs")
	if err != nil {
		return in, out, err
	}
	sent, err := need(peer, "snmp", "Tcp.OutSegs")
	if err != nil {
		return in, out, err
	}
	toServer := work{payload: n[0] * float64(f.RequestBytes), frames: n[0] * connectFramesToServer}
	toClient := work{payload: n[0] * float64(f.ResponseBytes), frames: n[0] * connectFramesToClient}
	in, out = toClient, toServer
	if host == econbench.ServerHost {
		in, out = toServer, toClient
	}
	in.passed, in.segments = n[1], max(n[1], sent[0])
	out.passed, out.segments = n[2], n[2]
	return in, out, nil
}
