// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// sides builds a window in which devices count so many frames of so many bytes each way, wire and vxlan alike but for the
// encapsulation of 50 B a frame.
func sides(f econbench.Flows, client, server econbench.Counters, toServer, toClient float64, frameToServer, frameToClient float64) econbench.Window {
	devices := func(rx, rxBytes, tx, txBytes float64) econbench.Counters {
		return econbench.Counters{
			"wire.rx_packets": rx, "wire.rx_bytes": rx * (rxBytes + 50), "wire.tx_packets": tx, "wire.tx_bytes": tx * (txBytes + 50),
			"vxlan.rx_packets": rx, "vxlan.rx_bytes": rx * rxBytes, "vxlan.tx_packets": tx, "vxlan.tx_bytes": tx * txBytes,
		}
	}
	return econbench.Window{Flows: f,
		Client: econbench.HostWindow{Seconds: 1.5, Counters: map[string]econbench.Counters{
			"snmp": client, "devices": devices(toClient, frameToClient, toServer, frameToServer)}},
		Server: econbench.HostWindow{Seconds: 1.5, Counters: map[string]econbench.Counters{
			"snmp": server, "devices": devices(toServer, frameToServer, toClient, frameToClient)}},
	}
}

// datagramStream is 75000 datagrams of 1400 B over the overlay, 1000 of which found no room at the server.
func datagramStream() econbench.Window {
	return sides(econbench.Flows{Kind: econbench.DatagramFlows, ServerPort: 1, Count: 1, MessageBytes: 1400},
		econbench.Counters{"Udp.InDatagrams": 1, "Udp.OutDatagrams": 75_000},
		econbench.Counters{"Udp.InDatagrams": 74_000, "Udp.OutDatagrams": 1, "Udp.InErrors": 1000, "Udp.RcvbufErrors": 1000},
		75_010, 12, 1442, 60)
}

// datagramRR is 90000 requests and responses of a byte.
func datagramRR() econbench.Window {
	return sides(econbench.Flows{Kind: econbench.DatagramFlows, ServerPort: 1, Count: 1, RequestBytes: 1, ResponseBytes: 1},
		econbench.Counters{"Udp.InDatagrams": 90_000, "Udp.OutDatagrams": 90_000},
		econbench.Counters{"Udp.InDatagrams": 90_000, "Udp.OutDatagrams": 90_000}, 90_010, 90_010, 43, 43)
}

// connections are 10000 of one request and one response of a byte: five segments each way, as measured.
func connections() econbench.Window {
	return sides(econbench.Flows{Kind: econbench.ConnectFlows, ServerPort: 1, Count: 1, RequestBytes: 1, ResponseBytes: 1},
		econbench.Counters{"Tcp.ActiveOpens": 10_001, "Tcp.InSegs": 50_000, "Tcp.OutSegs": 50_000},
		econbench.Counters{"Tcp.PassiveOpens": 10_001, "Tcp.InSegs": 50_000, "Tcp.OutSegs": 50_000}, 50_010, 50_010, 68, 68)
}

func TestProofOfWhatNamespacesCount(t *testing.T) {
	type spoil = func(client, server map[string]econbench.Counters)
	for _, test := range []struct {
		name   string
		window func() econbench.Window
		spoil  spoil
		want   []string // beginnings of all failures
	}{
		{"stream", datagramStream, nil, nil},
		{"requests", datagramRR, nil, nil},
		{"connections", connections, nil, nil},

		{"stream goes around the tunnel", datagramStream, func(_, server map[string]econbench.Counters) {
			server["devices"]["vxlan.rx_bytes"], server["devices"]["vxlan.rx_packets"] = 1e6, 700
		}, []string{"server: vxlan rx 1000000 B, payload accounts for at least", "server: vxlan rx 700 frames, at least 72520 were needed"}},
		{"a quarter of the stream does", datagramStream, func(client, _ map[string]econbench.Counters) {
			client["devices"]["vxlan.tx_packets"] = 56_000
		}, []string{"client: vxlan tx 56000 frames, at least 73500 were needed"}},
		{"a tenth is dropped at the wire, and counted there", datagramStream, func(client, server map[string]econbench.Counters) {
			d := client["devices"]
			d["wire.tx_packets"], d["wire.tx_bytes"], d["wire.tx_dropped"] = 67_500, 67_500*1492, 7500
			d["vxlan.tx_packets"], d["vxlan.tx_bytes"], d["vxlan.tx_errors"] = 67_500, 67_500*1442, 7500
			server["snmp"]["Udp.InDatagrams"] = 66_500
		}, nil},
		{"as much is missing there without being counted", datagramStream, func(client, _ map[string]econbench.Counters) {
			client["devices"]["wire.tx_packets"] = 67_500
		}, []string{"client: wire tx 67500 frames, at least 73500 were needed"}},
		{"most is lost behind the server's wire", datagramStream, func(_, server map[string]econbench.Counters) {
			server["snmp"]["Udp.InDatagrams"] = 30_000
		}, nil},
		{"foreign frames on the wire", datagramStream, func(_, server map[string]econbench.Counters) {
			server["devices"]["wire.rx_bytes"] *= 1.5
		}, []string{"server: wire rx 167872380 B, payload accounts for at most"}},
		{"nothing arrived", datagramStream, func(_, server map[string]econbench.Counters) {
			server["snmp"]["Udp.InDatagrams"] = 0
		}, []string{"server: no payload moved in the window"}},
		{"the sender was not counted", datagramStream, func(client, _ map[string]econbench.Counters) {
			delete(client["snmp"], "Udp.OutDatagrams")
		}, []string{"client: snmp: Udp.OutDatagrams was not counted", "server: snmp: Udp.OutDatagrams was not counted"}},
		{"nobody counted", datagramRR, func(client, server map[string]econbench.Counters) {
			delete(client, "snmp")
			delete(server, "snmp")
		}, []string{"client: snmp were not counted", "server: snmp were not counted"}},

		{"responses go around the tunnel", datagramRR, func(_, server map[string]econbench.Counters) {
			server["devices"]["vxlan.tx_packets"] = 10
		}, []string{"server: vxlan tx 10 frames, at least 88200 were needed"}},
		{"connections go around the tunnel", connections, func(client, _ map[string]econbench.Counters) {
			client["devices"]["vxlan.tx_packets"], client["devices"]["vxlan.rx_packets"] = 40, 40
		}, []string{"client: vxlan rx 40 frames, at least 19602 were needed", "client: vxlan tx 40 frames, at least 29403 were needed"}},
		{"only handshakes go through it", connections, func(_, server map[string]econbench.Counters) {
			server["devices"]["vxlan.rx_packets"] = 20_000
		}, []string{"server: vxlan rx 20000 frames, at least 29403 were needed"}},
		{"twice the segments' bytes on the wire", connections, func(_, server map[string]econbench.Counters) {
			server["devices"]["wire.tx_bytes"] = 50_000 * 500
		}, []string{"server: wire tx 25000000 B, payload accounts for at most"}},
	} {
		w := test.window()
		if test.spoil != nil {
			test.spoil(w.Client.Counters, w.Server.Counters)
		}
		got := prove(overlayPath(), sameViews(view{roles: []string{"wire", "vxlan"}}), w, nil).Failures
		if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}

// In the host's arm the tunnel has to stay flat whatever the flows are.
func TestProofOfFlatTunnels(t *testing.T) {
	for name, w := range map[string]econbench.Window{"stream": datagramStream(), "requests": datagramRR(), "connections": connections()} {
		p := prove(econbench.Path{Through: []string{"wire"}}, sameViews(view{roles: []string{"wire", "vxlan"}}), w, nil)
		if len(p.Failures) < 2 || !strings.Contains(strings.Join(p.Failures, "; "), "should be flat") {
			t.Errorf("%s: %q", name, p.Failures)
		}
	}
}

func TestProofRecordsThePayload(t *testing.T) {
	for _, test := range []struct {
		window             econbench.Window
		toServer, toClient float64
	}{
		{datagramStream(), 74_000 * 1400, 0}, {datagramRR(), 90_000, 90_000}, {connections(), 10_001, 10_001},
	} {
		p := prove(overlayPath(), sameViews(view{}), test.window, nil)
		if p.PayloadToServer != test.toServer || p.PayloadToClient != test.toClient {
			t.Errorf("payload %g, %g, want %g, %g", p.PayloadToServer, p.PayloadToClient, test.toServer, test.toClient)
		}
	}
}

func TestFlowsOfNoKind(t *testing.T) {
	w := datagramRR()
	w.Flows.Kind = "sctp"
	if p := prove(overlayPath(), sameViews(view{}), w, nil); len(p.Failures) != 2 || p.Failures[0] != `client: flows of unknown kind "sctp"` {
		t.Errorf("%q", p.Failures)
	}
}

// A fast path's counters are held against what namespaces counted too.
func TestProveCarriedOfDatagrams(t *testing.T) {
	w := datagramStream()
	for _, h := range []*econbench.HostWindow{&w.Client, &w.Server} {
		h.Counters["fastpath"] = econbench.Counters{"egress.seen": 75_000, "egress.eligible": 75_000, "egress.hits": 75_000,
			"ingress.seen": 75_000, "ingress.eligible": 75_000, "ingress.hits": 75_000}
	}
	demand := econbench.Coverage{ToServer: 0.98}
	if got := proveCarried(carried(w, demand), w); len(got) > 0 {
		t.Errorf("%q", got)
	}
	w.Client.Counters["fastpath"] = econbench.Counters{"egress.seen": 40_000, "egress.eligible": 40_000, "egress.hits": 40_000}
	got := proveCarried(carried(w, demand), w)
	if len(got) != 1 || !strings.HasPrefix(got[0], "client: fast path, egress: saw 40000 segments, the workload accounts for at least 73372") {
		t.Errorf("%q", got)
	}
}

// Datagrams run no congestion control; of connections that come and go none may have been alive when looked at.
func TestCongestionControlByKindOfFlow(t *testing.T) {
	e := &Engine{plan: econbench.Plan{CongestionControl: "cubic"}}
	hosts := func(note string) map[string]econbench.HostWindow {
		h := econbench.HostWindow{Notes: map[string]string{econbench.NoteCongestionControl: note}}
		return map[string]econbench.HostWindow{econbench.ClientHost: h, econbench.ServerHost: h}
	}
	for _, test := range []struct {
		kind          econbench.FlowKind
		note          string
		wrong, doubts int
	}{
		{econbench.LastingFlows, "cubic", 0, 0}, {econbench.LastingFlows, "", 2, 0}, {econbench.LastingFlows, "bbr", 2, 0},
		{econbench.DatagramFlows, "", 0, 0},
		{econbench.ConnectFlows, "cubic", 0, 0}, {econbench.ConnectFlows, "bbr", 2, 0}, {econbench.ConnectFlows, "", 0, 2},
	} {
		wrong, doubts := e.checkCongestionControl(econbench.Flows{Kind: test.kind}, hosts(test.note))
		if len(wrong) != test.wrong || len(doubts) != test.doubts {
			t.Errorf("%q %q: wrong %q, doubts %q", test.kind, test.note, wrong, doubts)
		}
	}
}

// A trial has null for what its kind of flows should have had, and no word of what makes no sense for it.
func TestExpectedMetrics(t *testing.T) {
	for _, test := range []struct {
		flows     econbench.Flows
		cpu       econbench.CPUMethod
		has, lack []string
	}{
		{econbench.Flows{}, econbench.CPUStat, []string{"throughput", "retransmits", "packets"}, []string{"loss", "offered", "transactions", "cpu_exact"}},
		{econbench.Flows{}, econbench.CPUExact, []string{"cpu", "cpu_exact", "cpu_exact_idling"}, nil},
		{econbench.Flows{ByClient: true}, econbench.CPUStat, []string{"transactions", "latency_p99", "packets"}, []string{"throughput"}},
		{datagramStream().Flows, econbench.CPUStat, []string{"throughput", "offered", "loss", "packets"}, []string{"retransmits", "transactions"}},
		{datagramRR().Flows, econbench.CPUStat, []string{"transactions", "latency_p99", "packets"}, []string{"retransmits", "loss", "throughput"}},
		{connections().Flows, econbench.CPUStat, []string{"transactions", "latency_p99", "retransmits"}, []string{"packets", "cpu_per_packet", "throughput"}},
	} {
		m := (&Engine{plan: econbench.Plan{CPU: test.cpu}}).expected(econbench.Cell{}, test.flows)
		for _, name := range test.has {
			if v, there := m[name]; !there || v != nil {
				t.Errorf("%+v: no %s", test.flows, name)
			}
		}
		for _, name := range test.lack {
			if _, there := m[name]; there {
				t.Errorf("%+v: %s", test.flows, name)
			}
		}
	}
}
