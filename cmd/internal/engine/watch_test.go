// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// workCollector is one whose samples are work.
type workCollector struct{ fakeCollector }

func (workCollector) CountsWork() {}

func watcher(w *world) *Engine {
	e := w.engine()
	e.Parts.Collectors = append(e.Parts.Collectors, workCollector{})
	return e
}

// Each arm is at work while it is looked at, and can be counted; nothing is recorded, and all is taken down.
func TestWatch(t *testing.T) {
	w := &world{lasting: true}
	var looked []string
	err := watcher(w).Watch(t.Context(), plan(1, "host", "overlay+quicker"), time.Minute, func(ctx context.Context, a AtWork) error {
		looked = append(looked, a.Arm.String())
		w.note("look")
		rate, carried, err := a.Count(ctx)
		if err != nil || rate == nil || *rate != 1000 || carried != nil || a.Flows.RequestBytes != 10 || a.Testbed == nil {
			t.Errorf("%s: rate %v carried %v %v", a.Arm, rate, carried, err)
		}
		return nil
	})
	if err != nil || !slices.Equal(looked, []string{"host", "overlay+quicker"}) || len(w.trials) != 0 {
		t.Errorf("%v: looked at %q, %d trials", err, looked, len(w.trials))
	}
	want := []string{"build host", "build overlay", "attach none", "look", "detach none", "attach quicker", "look", "detach quicker"}
	if len(w.events) != len(want)+2 || !slices.Equal(w.events[:len(want)], want) {
		t.Errorf("events %q, want %q and two that close", w.events, want)
	}
	if w.ran != time.Minute {
		t.Errorf("the client was to run %v, want as long as it is looked at", w.ran)
	}
}

// What goes wrong is told once, by its cause, and ends it.
func TestWatchEnds(t *testing.T) {
	blind, bored := errors.New("blind"), errors.New("bored")
	for want, c := range map[string]struct {
		world *world
		look  func(context.Context) error
	}{
		"arm host: blind":                        {&world{lasting: true}, func(context.Context) error { return blind }},
		"arm host: attach none: no such hook":    {&world{lasting: true, attachErr: errors.New("no such hook")}, nil},
		"arm host: the client ended":             {&world{}, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		"arm host: the client ended\nno stamina": {&world{loadErr: func(int) error { return errors.New("no stamina") }}, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	} {
		err := watcher(c.world).Watch(t.Context(), plan(1, "host", "overlay"), time.Minute, func(ctx context.Context, _ AtWork) error { return c.look(ctx) })
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
		if closed := strings.Count(strings.Join(c.world.events, " "), "close"); closed != 2 {
			t.Errorf("%s: events %q, want both closed", want, c.world.events)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	w := &world{lasting: true}
	err := watcher(w).Watch(ctx, plan(1, "host"), time.Minute, func(ctx context.Context, _ AtWork) error {
		cancel(bored)
		<-ctx.Done()
		return errors.New("engine: request cancelled")
	})
	if !errors.Is(err, bored) || strings.Contains(err.Error(), "request") {
		t.Errorf("%v, want %v alone", err, bored)
	}
}
