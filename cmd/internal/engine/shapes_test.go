// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// mice is a window of 20,000 requests beside a stream upwards, over the overlay: the stream as recorded, and what the mice add to it.
func mice(asked float64) econbench.Window {
	w := recount(recorded["super-frames"])
	w.Flows = econbench.Flows{ServerPort: 26102, Count: 1, RequestBytes: 1, ResponseBytes: 1, Beside: &econbench.Flows{ServerPort: 25241, Count: 1}}
	for _, h := range []*econbench.HostWindow{&w.Client, &w.Server} {
		sockets := econbench.Counters{"bytes_received": asked, "bytes_acked": asked,
			"segs_in": asked, "data_segs_in": asked, "segs_out": asked, "data_segs_out": asked}
		for name, v := range h.Counters["sockets"] {
			sockets[econbench.CounterBeside+name] = v
		}
		h.Counters["sockets"] = sockets
		for _, d := range []string{"rx", "tx"} {
			for role, header := range map[string]float64{"wire": 117, "vxlan": 67} {
				h.Counters["devices"][role+"."+d+"_packets"] += asked
				h.Counters["devices"][role+"."+d+"_bytes"] += asked * header
			}
		}
	}
	return w
}

// flat takes the tunnel's figures away: the same traffic by another way.
func flat(w econbench.Window) econbench.Window {
	for _, h := range []econbench.HostWindow{w.Client, w.Server} {
		for _, d := range []string{"rx", "tx"} {
			h.Counters["devices"]["wire."+d+"_bytes"] -= 50 * h.Counters["devices"]["wire."+d+"_packets"]
			h.Counters["devices"]["vxlan."+d+"_bytes"], h.Counters["devices"]["vxlan."+d+"_packets"] = 0, 0
		}
	}
	return w
}

// TestProofOfMice: both kinds' payload and segments are accounted for, and mice that took another way than the elephants are missed or
// found, though they are next to nothing of the bytes.
func TestProofOfMice(t *testing.T) {
	const asked = 20_000
	views := sameViews(view{roles: []string{"wire", "vxlan"}})
	around := econbench.Path{Through: []string{"wire"}}
	for _, test := range []struct {
		name  string
		path  econbench.Path
		w     econbench.Window
		spoil func(client, server econbench.Counters)
		want  []string // beginnings
	}{
		{"through the tunnel", overlayPath(), mice(asked), nil, nil},
		{"around it", around, flat(mice(asked)), nil, nil},
		{"a few strays", around, flat(mice(asked)), func(client, _ econbench.Counters) { client["vxlan.tx_packets"], client["vxlan.tx_bytes"] = 900, 60_000 }, nil},
		{"mice through a tunnel that elephants don't take", around, flat(mice(asked)), func(client, server econbench.Counters) {
			client["vxlan.tx_packets"], client["vxlan.tx_bytes"] = asked, asked*67
			server["vxlan.rx_packets"], server["vxlan.rx_bytes"] = asked, asked*67
		}, []string{"client: vxlan tx 20000 frames beside 20000 transactions, should be flat: at most 2128",
			"server: vxlan rx 20000 frames beside 20000 transactions, should be flat: at most 2128"}},
		{"few mice through such a tunnel", around, flat(mice(80)), func(client, _ econbench.Counters) {
			client["vxlan.tx_packets"], client["vxlan.tx_bytes"] = 80, 80*67
		}, []string{"client: vxlan tx 80 frames beside 80 transactions, should be flat: at most 48"}},
		{"mice around a tunnel that elephants take", overlayPath(), mice(asked), func(client, server econbench.Counters) {
			client["vxlan.rx_packets"] -= asked
			server["vxlan.tx_packets"] -= asked
			client["vxlan.tx_packets"] -= asked
			server["vxlan.rx_packets"] -= asked
		}, []string{"client: vxlan rx 15402 frames, at least 270", "client: vxlan tx 102672 frames, at least 113",
			"server: vxlan rx 102426 frames, at least 113", "server: vxlan tx 15389 frames, at least 270"}},
		{"elephants around the tunnel", overlayPath(), mice(asked), func(client, _ econbench.Counters) {
			client["vxlan.tx_bytes"], client["vxlan.tx_packets"] = asked*67, asked
		}, []string{"client: vxlan tx 1340000 B, payload accounts for at least", "client: vxlan tx 20000 frames, at least"}},
		{"foreign traffic on the wire", overlayPath(), mice(asked), func(_, server econbench.Counters) { server["wire.rx_bytes"] += 9e9 },
			[]string{"server: wire rx 15"}},
	} {
		if test.spoil != nil {
			test.spoil(test.w.Client.Counters["devices"], test.w.Server.Counters["devices"])
		}
		got := prove(test.path, views, test.w, nil).Failures
		if !slices.EqualFunc(got, test.want, strings.HasPrefix) {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}

// Without the counters of one kind nothing is proven of the other either.
func TestProofOfMiceNeedsBoth(t *testing.T) {
	w := mice(1000)
	delete(w.Client.Counters["sockets"], "beside.bytes_acked")
	got := prove(overlayPath(), sameViews(view{}), w, nil).Failures
	if len(got) == 0 || got[0] != "client: sockets: beside.bytes_acked was not counted" {
		t.Errorf("%q", got)
	}
}

// A fast path has to have seen the segments of both kinds.
func TestProveCarriedOfMice(t *testing.T) {
	w := mice(20_000)
	in, out, err := workOf(w, econbench.ClientHost)
	if err != nil {
		t.Fatal(err)
	}
	if in.passed != 15401+20_000 || out.passed != 4531755+20_000 || in.flows != 2 || in.payload != 20_000 || out.payload != 6330703468+20_000 {
		t.Errorf("in %+v, out %+v", in, out)
	}
	w.Client.Counters["fastpath"] = econbench.Counters{"ingress.seen": 15401, "ingress.eligible": 15401, "ingress.hits": 15401}
	got := proveCarried(carried(w, econbench.Coverage{ToClient: 0.98}), w)
	if !slices.ContainsFunc(got, func(s string) bool {
		return strings.HasPrefix(s, "client: fast path, ingress: saw 15401 segments, the workload accounts for at least 34")
	}) {
		t.Errorf("%q", got)
	}
}

// Datagrams that go down, or both ways, have payload there.
func TestWorkOfDatagramsByDirection(t *testing.T) {
	for way, want := range map[econbench.Way][2]float64{
		econbench.WayUp: {74_000 * 1400, 0}, econbench.WayDown: {0, 1 * 1400}, econbench.WayBoth: {74_000 * 1400, 1 * 1400},
	} {
		w := datagramStream()
		w.Flows.Way = way
		in, out, err := workOf(w, econbench.ServerHost)
		if err != nil || in.payload != want[0] || out.payload != want[1] {
			t.Errorf("%q: in %g, out %g, %v, want %v", way, in.payload, out.payload, err, want)
		}
	}
	// A whole stream downwards, proven as the one upwards is.
	up := datagramStream()
	down := econbench.Window{Flows: up.Flows, Client: up.Server, Server: up.Client}
	down.Flows.Way = econbench.WayDown
	p := prove(overlayPath(), sameViews(view{roles: []string{"wire", "vxlan"}}), down, nil)
	if len(p.Failures) > 0 || p.PayloadToClient != 75_000*1400 || p.PayloadToServer != 0 {
		t.Errorf("%+v", p)
	}
}

// A stream downwards is the recorded one, seen from the other host.
func TestProofOfStreamDownwards(t *testing.T) {
	for name, w := range recorded {
		w.Client, w.Server = w.Server, w.Client
		w.Flows.Way = econbench.WayDown
		if p := prove(overlayPath(), sameViews(view{roles: []string{"wire", "vxlan"}}), w, nil); len(p.Failures) > 0 || p.PayloadToClient == 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestExpectedMetricsOfShapes(t *testing.T) {
	e := &Engine{plan: econbench.Plan{CPU: econbench.CPUStat}}
	both := e.expected(econbench.Cell{}, econbench.Flows{Way: econbench.WayBoth})
	udp := e.expected(econbench.Cell{}, econbench.Flows{Kind: econbench.DatagramFlows, MessageBytes: 1, Way: econbench.WayBoth})
	beside := e.expected(econbench.Cell{}, mice(1).Flows)
	for _, test := range []struct {
		metrics map[string]*float64
		has     []string
		lack    []string
	}{
		{both, []string{"throughput", "throughput_up", "throughput_down", "cpu_per_byte"}, nil},
		{udp, []string{"throughput_up", "throughput_down", "loss"}, nil},
		{e.expected(econbench.Cell{}, econbench.Flows{Way: econbench.WayDown}), []string{"throughput"}, []string{"throughput_up", "throughput_down"}},
		{beside, []string{"transactions", "latency_p99", "throughput", "packets", "retransmits"},
			[]string{"cpu_per_transaction", "cpu_per_byte", "throughput_up"}},
	} {
		for _, name := range test.has {
			if v, there := test.metrics[name]; !there || v != nil {
				t.Errorf("no %s in %v", name, slices.Sorted(maps.Keys(test.metrics)))
			}
		}
		for _, name := range test.lack {
			if _, there := test.metrics[name]; there {
				t.Errorf("%s in %v", name, slices.Sorted(maps.Keys(test.metrics)))
			}
		}
	}
}

// CPU that was spent on two kinds of work is neither's.
func TestNoCPUPerWorkOfMice(t *testing.T) {
	one := 1.0
	for _, test := range []struct {
		flows econbench.Flows
		want  int
	}{{econbench.Flows{}, 3}, {mice(1).Flows, 1}} {
		m := map[string]*float64{"cpu": &one, "transactions": &one, "throughput": &one, "packets": &one}
		if derive(m, test.flows); len(m) != 4+test.want || m["cpu_per_packet"] == nil {
			t.Errorf("%v", slices.Sorted(maps.Keys(m)))
		}
	}
}

// crowdedBed is a testbed with clients whose containers are those of topologies "host" and "overlay".
type crowdedBed struct{ fakeBed }

func (b crowdedBed) Clients() []econbench.Endpoint {
	return []econbench.Endpoint{b.Client(), {Container: fakeBox{"overlay"}}, {Container: fakeBox{"host"}}}
}

// TestOthers: readers are told of as many containers as the flows come from, on the client's host.
func TestOthers(t *testing.T) {
	b := &bed{Testbed: crowdedBed{fakeBed{&world{}, "host"}}}
	for _, test := range []struct {
		host    string
		clients int
		want    []int
	}{{econbench.ClientHost, 0, nil}, {econbench.ClientHost, 1, nil}, {econbench.ClientHost, 2, []int{2}}, {econbench.ClientHost, 3, []int{2, 1}},
		{econbench.ServerHost, 3, nil}} {
		if got := b.others(test.host, econbench.Flows{Clients: test.clients}); !slices.Equal(got, test.want) {
			t.Errorf("%s, %d clients: %v, want %v", test.host, test.clients, got, test.want)
		}
	}
	if alone := (&bed{Testbed: fakeBed{&world{}, "host"}}); len(alone.Clients()) != 1 || alone.others(econbench.ClientHost, econbench.Flows{Clients: 3}) != nil {
		t.Error("a testbed with one client has others")
	}
}

func TestMostClients(t *testing.T) {
	of := func(workload string, clients ...string) (p econbench.Plan) {
		for _, n := range clients {
			p.Workloads = append(p.Workloads, econbench.PlannedWorkload{Name: workload, Params: econbench.Params{econbench.ParamClients: n}})
		}
		return p
	}
	parts := Parts{Workloads: []econbench.Workload{fakeWorkload{}, gatheredWorkload{}}}
	for _, test := range []struct {
		plan econbench.Plan
		want int
	}{{econbench.Plan{}, 1}, {of("gathered", "1", "4", "2"), 4}, {of("ask", "8"), 1}} { // to others the parameter means something else
		if got := parts.mostClients(test.plan); got != test.want {
			t.Errorf("%+v: %d, want %d", test.plan.Workloads, got, test.want)
		}
	}
}

// gatheredWorkload comes from several containers.
type gatheredWorkload struct{ fakeWorkload }

func (gatheredWorkload) Name() string { return "gathered" }
func (gatheredWorkload) Containers(p econbench.Params) int {
	n, _ := strconv.Atoi(p[econbench.ParamClients])
	return n
}

type bulkWorkload struct{ fakeWorkload }

func (bulkWorkload) Bulk() bool { return true }

// Bulk's clients run longer, and of many flows it takes longer until all are there.
func TestMargins(t *testing.T) {
	if a, b := marginOf(fakeWorkload{}), marginOf(bulkWorkload{}); a != 200*time.Millisecond || b != 500*time.Millisecond {
		t.Errorf("margins %v, %v", a, b)
	}
	f := mice(1).Flows
	f.Count, f.Beside.Count = 128, 2
	if got := appearWithin(f); got != 23*time.Second {
		t.Errorf("flows have to appear within %v, want 23 s", got)
	}
}
