// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// both plans two workloads, whose servers are their own.
func both(blocks int) econbench.Plan {
	p := plan(blocks, "host", "overlay")
	p.Workloads = append(p.Workloads, econbench.PlannedWorkload{Name: "tell", Params: econbench.Params{"size": "10"}})
	return p
}

// A server that does not start costs its workload's trials, with what it printed; the others are measured to the end, and the
// topologies stay. Each trial tries it once more.
func TestServerThatDoesNotStart(t *testing.T) {
	starts := 0
	w := &world{}
	w.serveErr = func(workload string) error {
		if workload != "tell" {
			return nil
		}
		starts++
		return &econbench.ProgramError{Err: errors.New("exit code 1: no such file"), Log: []byte("usage\nno such file")}
	}
	p := both(8)
	p.RebuildEvery = 8
	tally, err := w.engine().Run(t.Context(), p)
	if err != nil || tally != (Tally{32, 16, 16}) {
		t.Fatalf("tally %+v, error %v", tally, err)
	}
	if starts != 2+16 {
		t.Errorf("the server was started %d times, want once a topology and once a trial", starts)
	}
	if builds := len(slices.DeleteFunc(w.events, func(e string) bool { return !strings.HasPrefix(e, "build ") })); builds != 2 {
		t.Errorf("%d topologies were built, want 2", builds)
	}
	for _, trial := range w.trials {
		if trial.Valid != (trial.Workload == "ask") {
			t.Errorf("trial %+v", trial)
		}
		if !trial.Valid && (trial.Invalid[0] != "server of tell: exit code 1: no such file" || w.logs[strings.TrimPrefix(trial.Log, "logs/")] != "usage\nno such file") {
			t.Errorf("invalid %q, log %q", trial.Invalid, trial.Log)
		}
	}
}

// A server that starts at last is measured.
func TestServerStartsLater(t *testing.T) {
	starts := 0
	w := &world{serveErr: func(string) error {
		if starts++; starts == 1 {
			return errors.New("address in use")
		}
		return nil
	}}
	tally, err := w.engine().Run(t.Context(), plan(2, "host"))
	if err != nil || tally != (Tally{2, 2, 0}) || starts != 2 {
		t.Errorf("tally %+v, error %v, %d starts", tally, err, starts)
	}
}

// A server that ends in the middle is why the trial failed, whatever the client said of it; all is made anew after it.
func TestServerEndsInTheMiddle(t *testing.T) {
	w := &world{serverEnd: func(workload string) error {
		if workload != "tell" {
			return nil
		}
		return &econbench.ProgramError{Err: errors.New("exit code 137: killed"), Log: []byte("out of memory")}
	}}
	tally, err := w.engine().Run(t.Context(), both(2))
	if err != nil || tally != (Tally{8, 4, 4}) {
		t.Fatalf("tally %+v, error %v", tally, err)
	}
	i := slices.IndexFunc(w.trials, func(trial econbench.Trial) bool { return !trial.Valid })
	bad := w.trials[i]
	if bad.Invalid[0] != "server ended: exit code 137: killed" || w.logs[strings.TrimPrefix(bad.Log, "logs/")] != "no answer"+"out of memory" {
		t.Errorf("invalid %q, logs %q", bad.Invalid, w.logs)
	}
	if i+1 < len(w.trials) && w.trials[i+1].Build != bad.Build+1 {
		t.Errorf("the trial after it was measured on build %d, as it was on %d", w.trials[i+1].Build, bad.Build)
	}
}

// A topology that is another one, changed, has that one's servers.
func TestServersOfABase(t *testing.T) {
	w := &world{}
	e := w.engine()
	e.Parts.Topologies = append(e.Parts.Topologies, basedTopology{fakeTopology{w, "host-bare"}})
	p := plan(1, "host")
	p.Arms = append(p.Arms, econbench.Arm{Topology: "host-bare", Fastpath: econbench.NoFastpath})
	if tally, err := e.Run(t.Context(), p); err != nil || tally.Valid != 2 || len(w.served) != 1 {
		t.Errorf("tally %+v, error %v, served %q", tally, err, w.served)
	}
}

// What the client knows of the window is taken from the client's window, and an error in it ends the trial.
func TestWithin(t *testing.T) {
	w := &world{within: func(h econbench.HostWindow) ([]econbench.Sample, []string, error) {
		return []econbench.Sample{{Metric: "latency_p50", Value: float64(h.Seconds) * 1e-5}}, []string{"the generator had no CPU to spare"}, nil
	}}
	if _, err := w.engine().Run(t.Context(), plan(1, "host")); err != nil {
		t.Fatal(err)
	}
	got := w.trials[0]
	if v := got.Metrics["latency_p50"]; v == nil || *v != 1e-5 || !slices.Contains(got.Warnings, "the generator had no CPU to spare") {
		t.Errorf("metrics %v, warnings %q", got.Metrics, got.Warnings)
	}
	w = &world{within: func(econbench.HostWindow) ([]econbench.Sample, []string, error) {
		return nil, nil, errors.New("nothing was noted in the window")
	}}
	if tally, err := w.engine().Run(context.Background(), plan(1, "host")); err != nil || tally.Invalid != 1 || w.trials[0].Invalid[0] != "nothing was noted in the window" {
		t.Errorf("tally %+v, error %v", tally, err)
	}
}
