// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// toldWorkload has a client that runs until it is told to end.
type toldWorkload struct {
	fakeWorkload
	endErr error
}

func (toldWorkload) Name() string                    { return "told" }
func (toldWorkload) Endable(p econbench.Params) bool { return p["size"] != "0" }

func (t toldWorkload) Start(ctx context.Context, tb econbench.Testbed, p econbench.Params, d time.Duration) (econbench.Load, error) {
	l, err := t.start(t.Name(), d)
	return &toldLoad{fakeLoad: l.(fakeLoad), endErr: t.endErr, told: make(chan struct{})}, err
}

type toldLoad struct {
	fakeLoad
	endErr error
	told   chan struct{}
}

var _ econbench.Ender = (*toldLoad)(nil)

func (l *toldLoad) End(context.Context, econbench.Testbed) error {
	l.w.note("end")
	if l.endErr == nil {
		close(l.told)
	}
	return l.endErr
}

func (l *toldLoad) Wait(ctx context.Context) (econbench.Result, error) {
	select {
	case <-l.told:
		return l.fakeLoad.Wait(ctx)
	case <-ctx.Done():
		return econbench.Result{}, context.Cause(ctx)
	}
}

// TestEnough: a client is told to end when both hosts have counted, and if it can't be, that is the trial's end.
func TestEnough(t *testing.T) {
	for _, endErr := range []error{nil, errors.New("no agent")} {
		w := &world{}
		w.window = func(_ int, arm, side string) agentproto.WindowReply {
			w.note("counted")
			return soundWindow(arm, side)
		}
		e := w.engine()
		e.Parts.Workloads = append(e.Parts.Workloads, toldWorkload{fakeWorkload{w}, endErr})
		p := plan(1, "host")
		p.Workloads[0].Name = "told"
		if _, err := e.Run(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(slices.Clone(w.events), func(e string) bool { return e != "counted" && e != "end" })
		if want := []string{"counted", "counted", "end"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		trial := w.trials[0]
		if trial.Valid != (endErr == nil) || endErr != nil && !slices.Equal(trial.Invalid, []string{"no agent"}) {
			t.Errorf("valid %v: %q", trial.Valid, trial.Invalid)
		}
		phases := trial.Phases
		if phases.Window != 1 || phases.Warmup != p.Warmup || trial.Overhead != trial.Elapsed-phases.Window-phases.Warmup {
			t.Errorf("phases %+v of %v, overhead %v", phases, trial.Elapsed, trial.Overhead)
		}
	}
}

// TestEstimateOfToldClients: nobody waits for whole seconds of clients that can be told, and a fast path takes its time.
func TestEstimateOfToldClients(t *testing.T) {
	w := &world{}
	parts := w.parts()
	parts.Workloads = append(parts.Workloads, toldWorkload{fakeWorkload: fakeWorkload{w}})
	for _, test := range []struct {
		arm, workload, size string
		want                time.Duration
	}{
		{"host", "told", "10", 1700 * time.Millisecond},
		{"overlay+quicker", "told", "10", 1700*time.Millisecond + attachTime},
		{"host", "told", "0", 2 * time.Second},
		{"host", "ask", "10", 2 * time.Second},
	} {
		p := plan(1, test.arm)
		p.Duration, p.Warmup = 1.3, 0.4
		p.Workloads[0].Name, p.Workloads[0].Params = test.workload, econbench.Params{"size": test.size}
		if got := parts.Estimate(p); got != test.want+trialOverhead+buildTime {
			t.Errorf("%s %s size=%s: %v, want %v", test.arm, test.workload, test.size, got, test.want+trialOverhead+buildTime)
		}
	}
}
