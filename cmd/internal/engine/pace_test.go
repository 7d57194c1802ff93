// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// pacedWorkload is one whose rate may be a share; it notes what each client is started with.
type pacedWorkload struct{ fakeWorkload }

var _ econbench.Paced = pacedWorkload{}

func (pacedWorkload) Name() string { return "paced" }

func (pacedWorkload) Params(given econbench.Params) (econbench.Params, error) { return given, nil }

func (pacedWorkload) Share(p econbench.Params) (float64, econbench.Params, bool) {
	switch p["rate"] {
	case "50%":
		return 0.5, econbench.Params{"rate": "0"}, true
	case "80%":
		return 0.8, econbench.Params{"rate": "0"}, true
	}
	return 0, nil, false
}

func (pacedWorkload) At(_ econbench.Params, rate float64) econbench.Params {
	return econbench.Params{"rate": time.Duration(rate).String()} // in its own words
}

func (p pacedWorkload) Serve(_ context.Context, tb econbench.Testbed) (econbench.Process, error) {
	return p.serve(p.Name(), tb)
}

func (p pacedWorkload) Start(_ context.Context, _ econbench.Testbed, params econbench.Params, d time.Duration) (econbench.Load, error) {
	p.w.rates = append(p.w.rates, params["rate"])
	return p.start(p.Name(), d)
}

// pacing is a world whose host does 1000 transactions/s and whose overlay 600, with a plan of two shares and a number.
func pacing() (*world, *Engine, econbench.Plan) {
	w := &world{}
	w.window = func(_ int, arm, side string) agentproto.WindowReply {
		r := soundWindow(arm, side)
		if arm == "overlay" {
			for _, c := range []string{"bytes_received", "bytes_acked"} {
				r.Window.Counters["sockets"][c] = 6000
			}
		}
		return r
	}
	e := w.engine()
	e.Parts.Workloads = append(e.Parts.Workloads, pacedWorkload{fakeWorkload{w}})
	p := plan(1, "host", "overlay")
	p.Workloads = nil
	for _, rate := range []string{"50%", "80%", "7"} {
		p.Workloads = append(p.Workloads, econbench.PlannedWorkload{Name: "paced", Params: econbench.Params{"rate": rate}})
	}
	return w, e, p
}

// Shares are of what the slowest arm does; the closed loop is tried once for all shares of it, before the first trial.
func TestPace(t *testing.T) {
	w, e, p := pacing()
	tally, err := e.Run(t.Context(), p)
	if err != nil || tally.Valid != 6 {
		t.Fatalf("tally %+v, error %v, trials %+v", tally, err, w.trials)
	}
	if got := w.rates[:2*pilots]; !slices.Equal(got, []string{"0", "0", "0", "0"}) {
		t.Errorf("pilots ran %q", got)
	}
	rest := slices.Sorted(slices.Values(w.rates[2*pilots:]))
	if want := []string{"300ns", "300ns", "480ns", "480ns", "7", "7"}; !slices.Equal(rest, want) {
		t.Errorf("trials ran %q, want %q", rest, want)
	}
	got := w.replanned.Workloads
	if len(got) != 3 || got[0].Rate != 300 || got[1].Rate != 480 || got[2].Rate != 0 || got[0].Params["rate"] != "50%" || p.Workloads[0].Rate != 0 {
		t.Errorf("replanned %+v, was %+v", got, p.Workloads)
	}
}

// The pilots are in the estimate, once for all shares of a closed loop, and not when the pace is known.
func TestPaceIsEstimated(t *testing.T) {
	_, e, p := pacing()
	asked := e.Parts.Estimate(p)
	p.Workloads[0].Rate, p.Workloads[1].Rate = 300, 480
	known := e.Parts.Estimate(p)
	if want := pilots * (known - buildTime) / time.Duration(len(p.Workloads)); asked-known != want {
		t.Errorf("pilots are estimated to take %v, want %v", asked-known, want)
	}
}

// A run that is taken up again goes on at the pace that it had.
func TestPaceIsKept(t *testing.T) {
	w, e, p := pacing()
	p.Workloads[0].Rate, p.Workloads[1].Rate = 123, 456
	if tally, err := e.Run(t.Context(), p); err != nil || tally.Valid != 6 || slices.Contains(w.rates, "0") || !slices.Contains(w.rates, "123ns") {
		t.Errorf("tally %+v, error %v, ran %q", tally, err, w.rates)
	}
	if slices.Contains(w.events, "replan") {
		t.Error("the plan was written anew")
	}
}

// A load whose pace can't be found fails by itself.
func TestPaceUnknown(t *testing.T) {
	w, e, p := pacing()
	w.loadErr = func(n int) error {
		if w.rates[n] == "0" {
			return errors.New("connection refused")
		}
		return nil
	}
	tally, err := e.Run(t.Context(), p)
	if err != nil || tally != (Tally{6, 2, 4}) {
		t.Fatalf("tally %+v, error %v", tally, err)
	}
	for _, trial := range w.trials {
		if trial.Valid != (trial.Params["rate"] == "7") {
			t.Errorf("trial %+v", trial)
		}
		if want := "rate is a share of what is not known: finding the pace: host paced rate=0: connection refused"; !trial.Valid && trial.Invalid[0] != want {
			t.Errorf("got %q, want %q", trial.Invalid[0], want)
		}
	}
	if n := len(slices.DeleteFunc(slices.Clone(w.rates), func(r string) bool { return r != "0" })); n != 1 {
		t.Errorf("the pace was looked for %d times, want once", n)
	}
	if !strings.HasPrefix(w.events[len(w.events)-1], "close ") {
		t.Errorf("topologies still stand: %q", w.events)
	}
}
