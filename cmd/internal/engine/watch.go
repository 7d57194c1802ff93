// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/econbench/econbench"
)

// AtWork is a cell whose client runs and goes on running, for those who want to look at it.
type AtWork struct {
	econbench.Cell
	Testbed econbench.Testbed
	Flows   econbench.Flows
	// Count counts over a window, as a trial does: transactions per s (nil: they could not be counted), and what the fast path
	// carried (nothing where none carries packets).
	Count func(context.Context) (rate *float64, carried []econbench.Carried, err error)
	// Work does the same, and tells the throughput too.
	Work func(context.Context) (Work, error)
}

// Work is what was done in a window. What was not counted is nil.
type Work struct {
	Transactions *float64 // 1/s
	Throughput   *float64 // B/s of payload
	Carried      []econbench.Carried
	Apart        bool // each host's CPUs did that host's work and no other's
}

// Watch has each cell of the plan at work once, in the order of the plan, and calls look, for which the client has so long.
// Nothing is recorded. The first error ends it.
func (e *Engine) Watch(ctx context.Context, plan econbench.Plan, long time.Duration, look func(context.Context, AtWork) error) (err error) {
	e.plan, e.beds = plan, map[string]*bed{}
	defer func() { err = errors.Join(err, e.tearDown(context.WithoutCancel(ctx))) }()
	if err := e.build(ctx); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if err := e.pace(ctx); err != nil {
		return err
	}
	for _, cell := range plan.Cells() {
		if err := e.watch(ctx, cell, long, look); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx) // whatever it was that could not go on
			}
			return fmt.Errorf("arm %s: %w", cell.Arm, err)
		}
	}
	return nil
}

// errEnded is why nobody looks any longer.
var errEnded = errors.New("the client ended")

// watch has one cell at work. A client that ends too soon ends the looking.
func (e *Engine) watch(ctx context.Context, cell econbench.Cell, long time.Duration, look func(context.Context, AtWork) error) (err error) {
	e.Progress.Step("arm " + cell.Arm.String())
	w, err := e.putToWork(ctx, cell, long)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(context.WithoutCancel(ctx))) }()
	ctx, cancel := context.WithCancelCause(ctx)
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		if _, err := w.load.Wait(ctx); ctx.Err() == nil {
			cancel(errors.Join(errEnded, err))
		}
	}()
	defer func() { cancel(nil); <-waiting }()
	err = look(ctx, AtWork{Cell: cell, Testbed: w.bed.Testbed, Flows: w.load.Flows(),
		Count: func(ctx context.Context) (*float64, []econbench.Carried, error) {
			done, err := e.work(ctx, w, cell)
			return done.Transactions, done.Carried, err
		},
		Work: func(ctx context.Context) (Work, error) { return e.work(ctx, w, cell) }})
	if ended := context.Cause(ctx); err != nil && errors.Is(ended, errEnded) {
		return ended
	}
	return err
}

// work counts over a window.
func (e *Engine) work(ctx context.Context, w *atWork, cell econbench.Cell) (done Work, err error) {
	limit := appearWithin(w.load.Flows()) + e.plan.Warmup.Duration() + e.plan.Duration.Duration() + slack
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not counted in %v", limit))
	defer cancel()
	counted, _, err := e.countBoth(ctx, w.bed, w.load.Flows(), handles(w.attached)) // its doubts are about what is not used here
	if err != nil {
		return Work{}, err
	}
	for _, c := range workCollectors(e.collectors()) {
		samples, _ := c.Samples(counted)
		for metric, to := range map[string]**float64{"transactions": &done.Transactions, "throughput": &done.Throughput} {
			if v := sampleOf(samples, metric); v > 0 && *to == nil {
				*to = &v
			}
		}
	}
	done.Carried, done.Apart = e.carriedBy(w.attached, counted, cell), w.apart
	return done, nil
}
