// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// recorded are streams over the overlay as the emulated lab measured them over 1.3 s: payload went from the client to the
// server, acknowledgements came back.
var recorded = map[string]econbench.Window{
	"super-frames": stream(
		counters{0, 15401, 15401, 6330703468, 4531755, 0}, traffic{1787389, 15404, 801420, 15402, 6339801065, 102674, 6333229816, 102672}, 0.0061,
		counters{6309133788, 4518334, 0, 0, 15385, 15385}, traffic{6324416155, 102428, 6317860650, 102426, 1785833, 15391, 800696, 15389}, 0.0033),
	"MTU frames": stream(
		counters{0, 2734, 2734, 1631026658, 1166535, 0}, traffic{319665, 2754, 143244, 2751, 1776714157, 1173529, 1640737024, 26156}, 0.0086,
		counters{1632205172, 1167533, 0, 0, 2730, 2730}, traffic{1767639241, 1167535, 1692916888, 1167533, 317229, 2733, 142256, 2732}, 0.0055),
}

// counters are payload, segments and pure acknowledgements, received and sent; traffic is bytes and frames of wire and
// vxlan, received and sent.
type counters struct{ rx, rxSegs, rxACKs, tx, txSegs, txACKs float64 }
type traffic struct{ wireRx, wireRxN, vxRx, vxRxN, wireTx, wireTxN, vxTx, vxTxN float64 }

func stream(client counters, clientDev traffic, clientReading econbench.Seconds, server counters, serverDev traffic, serverReading econbench.Seconds) econbench.Window {
	host := func(c counters, d traffic, reading econbench.Seconds) econbench.HostWindow {
		return econbench.HostWindow{Seconds: 1.3, Reading: reading, Counters: map[string]econbench.Counters{
			"sockets": {"bytes_received": c.rx, "segs_in": c.rxSegs, "data_segs_in": c.rxSegs - c.rxACKs,
				"bytes_acked": c.tx, "segs_out": c.txSegs, "data_segs_out": c.txSegs - c.txACKs},
			"devices": {"wire.rx_bytes": d.wireRx, "wire.rx_packets": d.wireRxN, "vxlan.rx_bytes": d.vxRx, "vxlan.rx_packets": d.vxRxN,
				"wire.tx_bytes": d.wireTx, "wire.tx_packets": d.wireTxN, "vxlan.tx_bytes": d.vxTx, "vxlan.tx_packets": d.vxTxN},
		}}
	}
	return econbench.Window{Flows: econbench.Flows{ServerPort: 1, Count: 1},
		Client: host(client, clientDev, clientReading), Server: host(server, serverDev, serverReading)}
}

func overlayPath() econbench.Path { return econbench.Path{Through: []string{"wire", "vxlan"}} }

func sameViews(v view) map[string]view {
	return map[string]view{econbench.ClientHost: v, econbench.ServerHost: v}
}

// recount is a copy that may be spoiled.
func recount(w econbench.Window) econbench.Window {
	for _, h := range []*econbench.HostWindow{&w.Client, &w.Server} {
		h.Counters = map[string]econbench.Counters{"sockets": maps.Clone(h.Counters["sockets"]), "devices": maps.Clone(h.Counters["devices"])}
	}
	return w
}

func TestProofOfRecordedStreams(t *testing.T) {
	for name, w := range recorded {
		if p := prove(overlayPath(), sameViews(view{roles: []string{"wire", "vxlan"}}), w, nil); len(p.Failures) > 0 {
			t.Errorf("%s: %q", name, p.Failures)
		}
		for _, spoiled := range []struct {
			what, want string
			spoil      func(client, server econbench.Counters)
		}{
			{"acknowledgements leave the server around the tunnel", "server: vxlan tx 3 frames, acknowledgements account for at least",
				func(_, server econbench.Counters) { server["vxlan.tx_packets"] = 3 }},
			{"acknowledgements reach the client around the tunnel", "client: vxlan rx 0 frames, acknowledgements account for at least",
				func(client, _ econbench.Counters) { client["vxlan.rx_packets"] = 0 }},
			{"payload goes around the tunnel", "server: vxlan rx 1000000 B, payload accounts for at least",
				func(_, server econbench.Counters) { server["vxlan.rx_bytes"] = 1e6 }},
		} {
			w := recount(w)
			spoiled.spoil(w.Client.Counters["devices"], w.Server.Counters["devices"])
			p := prove(overlayPath(), sameViews(view{roles: []string{"wire", "vxlan"}}), w, nil)
			if len(p.Failures) != 1 || !strings.HasPrefix(p.Failures[0], spoiled.want) {
				t.Errorf("%s: %s: %q", name, spoiled.what, p.Failures)
			}
		}
	}
}

// A handful of acknowledgements proves nothing either way.
func TestProofSkipsAFewAcknowledgements(t *testing.T) {
	w := recount(recorded["super-frames"])
	server := w.Server.Counters
	server["sockets"]["segs_out"], server["devices"]["vxlan.tx_packets"] = 9, 1
	server["devices"]["wire.tx_bytes"] = 1000
	if p := prove(overlayPath(), sameViews(view{}), w, nil); len(p.Failures) > 0 {
		t.Errorf("%q", p.Failures)
	}
}

// What is under way when counters are read is forgiven, up to half of the payload.
func TestProofForgivesBytesInFlight(t *testing.T) {
	for _, c := range []struct {
		payload, vxlan float64
		flows          int
		proven         bool
	}{
		{100e6, 98e6 - 2<<20, 1, true}, {100e6, 98e6 - 2<<20 - 1, 1, false}, {100e6, 98e6 - 4<<20, 2, true},
		{1e6, 480_000, 1, true}, {1e6, 479_000, 1, false},
	} {
		w := recount(recorded["super-frames"])
		w.Flows.Count, w.Server.Reading = c.flows, 0
		server := w.Server.Counters
		server["sockets"]["bytes_received"], server["devices"]["vxlan.rx_bytes"], server["devices"]["wire.rx_bytes"] = c.payload, c.vxlan, c.payload
		if p := prove(overlayPath(), sameViews(view{}), w, nil); (len(p.Failures) == 0) != c.proven {
			t.Errorf("payload %.0f, vxlan %.0f, %d flows: %q", c.payload, c.vxlan, c.flows, p.Failures)
		}
	}
	w := recount(recorded["super-frames"])
	w.Client.Reading = 0
	client := w.Client.Counters
	client["sockets"]["bytes_acked"], client["sockets"]["segs_out"], client["sockets"]["data_segs_out"] = 1e6, 700, 700
	client["devices"]["wire.tx_bytes"], client["devices"]["vxlan.tx_bytes"] = 1_600_000, 1_550_000 // sent and not yet acknowledged
	if p := prove(overlayPath(), sameViews(view{}), w, nil); len(p.Failures) > 0 {
		t.Errorf("%q", p.Failures)
	}
}

// A role that only the other host has is not asked for here.
func TestRolesAreRequiredWhereTheyAreWatched(t *testing.T) {
	w := recount(recorded["super-frames"])
	w.Client.Counters["devices"]["bridge.rx_bytes"], w.Client.Counters["devices"]["bridge.tx_bytes"] = 0, 0
	views := sameViews(view{roles: []string{"wire", "vxlan"}})
	views[econbench.ClientHost] = view{roles: []string{"wire", "vxlan", "bridge"}}
	p := prove(overlayPath(), views, w, nil)
	if len(p.Failures) > 0 || !slices.Equal(p.Around, []string{"bridge"}) {
		t.Errorf("around %q: %q", p.Around, p.Failures)
	}
	views[econbench.ServerHost] = views[econbench.ClientHost]
	if p := prove(overlayPath(), views, w, nil); !slices.Equal(p.Failures, []string{"server: bridge was not counted"}) {
		t.Errorf("%q", p.Failures)
	}
}

// Counters of some NICs lag by up to a second: their wire proves less, and the trial says so.
func TestSlowStatistics(t *testing.T) {
	for driver, valid := range map[string]bool{"mlx5_core": false, "bnxt_en": true, "bnx2x": true, "tg3": true} {
		w := &world{driver: driver, window: func(_ int, arm, side string) agentproto.WindowReply {
			r := soundWindow(arm, side)
			r.Window.Counters["devices"]["wire.rx_bytes"], r.Window.Counters["devices"]["wire.rx_packets"] = 0, 0
			return r
		}}
		if _, err := w.engine().Run(t.Context(), plan(1, "host")); err != nil {
			t.Fatal(err)
		}
		tr := w.trials[0]
		said := 0
		for _, text := range tr.Warnings {
			if strings.Contains(text, driver+" refreshes the wire's counters") {
				said++
			}
		}
		if tr.Valid != valid || (said == 2) != valid { // once a host
			t.Errorf("%s: valid is %v: %q, warnings %q", driver, tr.Valid, tr.Invalid, tr.Warnings)
		}
	}
	// Devices other than the wire are software and never lag.
	w := recount(recorded["super-frames"])
	w.Server.Counters["devices"]["vxlan.rx_bytes"] = 1e6
	if p := prove(overlayPath(), sameViews(view{stale: 1}), w, nil); len(p.Failures) != 1 {
		t.Errorf("%q", p.Failures)
	}
}

// Readers of trials.jsonl take lists for lists.
func TestRecordedListsAreNeverNull(t *testing.T) {
	w := &world{}
	if _, err := w.engine().Run(t.Context(), plan(1, "host")); err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{w.trials[0], econbench.PathProof{}, &econbench.PathProof{}, econbench.HostFacts{},
		econbench.Run{Hosts: map[string]econbench.HostFacts{econbench.ClientHost: {}}}} {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"through", "around", "failures", "tunings", "cpus", "online_cpus"} {
			if strings.Contains(string(body), `"`+field+`":null`) {
				t.Errorf("%s is null in %s", field, body)
			}
		}
	}
	body, _ := json.Marshal(w.trials[0])
	if !strings.Contains(string(body), `"around":[],"failures":[]`) {
		t.Errorf("no empty lists in %s", body)
	}
}

// A trial that failed while it was counted keeps what there is: the host that did count, the doubts, its metrics as null.
func TestFailedTrialKeepsWhatWasCounted(t *testing.T) {
	w := &world{countErr: map[string]error{econbench.ServerHost: errors.New("flows changed")}, doubts: []string{"the lab is strange"}}
	w.window = func(_ int, arm, side string) agentproto.WindowReply {
		r := soundWindow(arm, side)
		r.Warnings = []string{"a reader was slow"}
		return r
	}
	if _, err := w.engine().Run(t.Context(), plan(1, "host")); err != nil {
		t.Fatal(err)
	}
	tr := w.trials[0]
	if v, there := tr.Metrics["transactions"]; tr.Valid || v != nil || !there {
		t.Errorf("valid %v, transactions %v, %v: want null", tr.Valid, v, there)
	}
	_, client := tr.Hosts[econbench.ClientHost]
	_, server := tr.Hosts[econbench.ServerHost]
	if !client || server {
		t.Errorf("hosts %v, want the client's alone", tr.Hosts)
	}
	if want := []string{"the lab is strange", "client: a reader was slow"}; !slices.Equal(tr.Warnings, want) {
		t.Errorf("warnings %q, want %q", tr.Warnings, want)
	}
}

// start is the trial's, not that of some host's clock.
func TestStartIsTheTrials(t *testing.T) {
	w, before := &world{}, time.Now()
	if _, err := w.engine().Run(t.Context(), plan(1, "host")); err != nil {
		t.Fatal(err)
	}
	if start := w.trials[0].Start; start.Before(before) || start.After(time.Now()) { // soundWindow's is 1970
		t.Errorf("start %v", start)
	}
}

// The client runs until the farthest agent has read; what is strange about the lab stands on every trial.
func TestRoundTripsAndDoubts(t *testing.T) {
	w := &world{roundTrip: 70 * time.Millisecond, doubts: []string{"both engines are the same machine"}}
	p := plan(1, "host")
	if _, err := w.engine().Run(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if want := p.Warmup.Duration() + p.Duration.Duration() + margin + 140*time.Millisecond; w.ran != want {
		t.Errorf("the client was to run for %v, want %v", w.ran, want)
	}
	if tr := w.trials[0]; !slices.Equal(tr.Warnings, w.doubts) || !tr.Valid {
		t.Errorf("warnings %q", tr.Warnings)
	}
}
