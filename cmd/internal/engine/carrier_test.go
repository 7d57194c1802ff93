// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// carrierWindow is a window of a fast path that did all it had to: 100,000 segments each way, 10 not eligible, 10 missed.
func carrierWindow() econbench.Window {
	side := func() econbench.HostWindow {
		return econbench.HostWindow{Seconds: 1, Counters: map[string]econbench.Counters{
			"sockets": {"segs_in": 100_000, "segs_out": 100_000, "data_segs_in": 100_000, "data_segs_out": 100_000,
				"bytes_received": 100_000, "bytes_acked": 100_000},
			"fastpath": {
				"egress.seen": 100_000, "egress.eligible": 99_990, "egress.hits": 99_980,
				"ingress.seen": 100_000, "ingress.eligible": 99_990, "ingress.hits": 99_980,
			},
		}}
	}
	return econbench.Window{Client: side(), Server: side()}
}

func TestProveCarried(t *testing.T) {
	both := econbench.Coverage{ToServer: 0.98, ToClient: 0.98}
	for _, test := range []struct {
		name   string
		demand econbench.Coverage
		change econbench.Counters // of the server's fast path
		want   []string           // a part of each failure, in order
	}{
		{"all carried", both, nil, nil},
		{"ingress not attached", both, econbench.Counters{"ingress.seen": 0, "ingress.eligible": 0, "ingress.hits": 0},
			[]string{"server: fast path, ingress: saw 0 segments, the workload accounts for at least 97872", "server: fast path, ingress: nothing was eligible"}},
		{"never warmed", both, econbench.Counters{"egress.hits": 0, "ingress.eligible": 0, "ingress.hits": 0},
			[]string{"ingress: nothing was eligible of 100000", "egress: carried 0 of 99990 eligible segments, hit ratio 0.000"}},
		{"one in fifty missed", both, econbench.Counters{"egress.hits": 97_990}, []string{"egress: carried 97990 of 99990 eligible segments, hit ratio 0.980, want 0.99"}},
		{"little is eligible", both, econbench.Counters{"egress.eligible": 50_000, "egress.hits": 50_000}, []string{"egress: carried 50000 of 100000 segments, coverage 0.500, want 0.98"}},
		{"that is enough for the workload", econbench.Coverage{ToServer: 0.98, ToClient: 0.4},
			econbench.Counters{"egress.eligible": 50_000, "egress.hits": 50_000}, nil},
		{"no demand", econbench.Coverage{}, econbench.Counters{"egress.hits": 0, "ingress.hits": 0}, nil},
		{"sees a part alone", both, econbench.Counters{"egress.seen": 50_000, "egress.eligible": 50_000, "egress.hits": 50_000},
			[]string{"egress: saw 50000 segments, the workload accounts for at least"}},
	} {
		w := carrierWindow()
		maps.Copy(w.Server.Counters["fastpath"], test.change)
		got := proveCarried(carried(w, test.demand), w)
		if len(got) != len(test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], test.want[i]) {
				t.Errorf("%s: got %q, want %q", test.name, got[i], test.want[i])
			}
		}
	}
}

func TestCarrierMetricsAreTheWorst(t *testing.T) {
	w := carrierWindow()
	w.Server.Counters["fastpath"]["egress.hits"] = 90_000
	metrics := map[string]*float64{}
	carrierMetrics(carried(w, econbench.Coverage{ToServer: 0.98, ToClient: 0.98}), metrics)
	if got := *metrics["coverage"]; got != 0.9 {
		t.Errorf("coverage %g, want 0.9", got)
	}
	carrierMetrics(carried(w, econbench.Coverage{ToServer: 0.98}), metrics)
	if got := *metrics["coverage"]; got != 0.9998 {
		t.Errorf("coverage to the server %g, want 0.9998", got)
	}
	carrierMetrics(carried(w, econbench.Coverage{}), metrics)
	if metrics["hit_ratio"] != nil {
		t.Error("a hit ratio where nothing was demanded")
	}
}

// rememberingAttachment carries packets; forgetfulAttachment's flows end with their sockets, too.
type (
	rememberingAttachment struct {
		econbench.Attachment
		econbench.Carrier
	}
	forgetfulAttachment struct{ rememberingAttachment }
)

func (forgetfulAttachment) ForgetsClosed() {}

// demanding is a workload of which part has to be carried.
type demanding struct{ econbench.Workload }

func (demanding) Name() string { return "crr" }
func (demanding) Coverage(econbench.Params) econbench.Coverage {
	return econbench.Coverage{ToServer: 0.2, ToClient: 0.4}
}

// TestForgetter: who forgets closed connections is excused where a server has closed, and nowhere else.
func TestForgetter(t *testing.T) {
	e := &Engine{Parts: Parts{Workloads: []econbench.Workload{demanding{}}}}
	cell := econbench.Cell{Workload: "crr"}
	for _, c := range []struct {
		what     string
		attached econbench.Attachment
		kind     econbench.FlowKind
		want     []float64 // client out, server in, server out, client in
	}{
		{"connections", forgetfulAttachment{}, econbench.ConnectFlows, []float64{0.2, 0, 0.2, 0.2}},
		{"lasting flows", forgetfulAttachment{}, econbench.LastingFlows, []float64{0.2, 0.2, 0.4, 0.4}},
		{"one that remembers", rememberingAttachment{}, econbench.ConnectFlows, []float64{0.2, 0.2, 0.4, 0.4}},
	} {
		window := carrierWindow()
		window.Flows.Kind = c.kind
		var got []float64
		for _, one := range e.carriedBy(c.attached, window, cell) {
			got = append(got, one.Demanded)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: demanded %v, want %v", c.what, got, c.want)
		}
	}
}

func TestBypassedSegmentsMayBeOnTheTunnel(t *testing.T) {
	w := carrierWindow()
	list := carried(w, econbench.Coverage{})
	if got := bypassed(list, econbench.ServerHost); got["tx"] != 20 || got["rx"] != 20 {
		t.Errorf("bypassed %v, want 20 each way", got)
	}
	w.Server.Counters["fastpath"]["egress.hits"] = 0
	list = carried(w, econbench.Coverage{ToServer: 0.98, ToClient: 0.98})
	if got := bypassed(list, econbench.ServerHost)["tx"]; got < 2000 || got > 2001+inFlight {
		t.Errorf("bypassed %g of 100000, want no more than the demand leaves", got)
	}
}
