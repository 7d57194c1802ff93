// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/econbench/econbench"
)

const (
	// attachTimeout bounds what a fast path takes to attach.
	attachTimeout = 30 * time.Second
	// startTimeout bounds the start of a client program, with what its server has to prepare for it: a database's tables, say.
	startTimeout = time.Minute
)

// atWork is a cell whose client runs: its topology activated, its fast path attached.
type atWork struct {
	bed                 *bed
	activated, attached econbench.Attachment
	server              econbench.Process
	load                econbench.Load
	apart               bool // each host's CPUs do that host's work and no other's
	undo                []func(context.Context) error

	phases econbench.Phases
	last   time.Time // when the last phase ended
}

// lap is how long the phase took that ends now.
func (w *atWork) lap() econbench.Seconds {
	now := time.Now()
	took := now.Sub(w.last)
	w.last = now
	return econbench.SecondsOf(took)
}

// counted notes the phases up to the end of a window, which was asked for a moment ago. The hosts counted at the same time, or failed to.
func (w *atWork) counted(c econbench.Window, warmup econbench.Seconds) {
	w.phases.Appear = w.lap()
	if c.Client.Seconds > 0 && c.Server.Seconds > 0 {
		w.phases.Warmup, w.phases.Window = warmup, max(c.Client.Seconds, c.Server.Seconds)
		w.phases.Appear -= w.phases.Warmup + w.phases.Window
	}
}

// putToWork activates, attaches and starts the client, to run for at least that long. A failed one has been undone.
func (e *Engine) putToWork(ctx context.Context, cell econbench.Cell, atLeast time.Duration) (w *atWork, err error) {
	w = &atWork{bed: e.beds[cell.Arm.Topology], last: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(context.WithoutCancel(ctx)))
		}
	}()
	if w.server, err = e.server(ctx, w.bed, cell.Workload); err != nil {
		return w, err
	}
	if w.activated, err = activate(ctx, w.bed); err != nil {
		return w, err
	}
	w.undo = append(w.undo, func(ctx context.Context) error {
		e.stuck = w.activated.Close(ctx)
		return e.stuck
	})
	attachCtx, cancel := context.WithTimeoutCause(ctx, attachTimeout, fmt.Errorf("not attached in %v", attachTimeout))
	w.attached, err = named(e.Parts.Fastpaths, cell.Arm.Fastpath).Attach(attachCtx, w.bed, attachOptions(e.plan, cell.Arm))
	cancel()
	if err != nil {
		return w, fmt.Errorf("attach %s: %w", cell.Arm.Fastpath, err)
	}
	w.undo = append(w.undo, w.attached.Close)

	workload := named(e.Parts.Workloads, cell.Workload)
	if w.apart, err = e.Lab.Steer(ctx, isBulk(workload)); err != nil {
		return w, err
	}
	w.phases.Attach = w.lap()
	params, err := e.paced(cell)
	if err != nil {
		return w, err
	}
	startCtx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not started in %v", startTimeout))
	w.load, err = workload.Start(startCtx, w.bed, params, atLeast)
	cancel()
	if err != nil {
		return w, err
	}
	w.undo = append(w.undo, w.load.Close)
	w.phases.Start = w.lap()
	return w, nil
}

// close takes it all back, newest first.
func (w *atWork) close(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(w.undo) {
		errs = append(errs, undo(ctx))
	}
	w.undo = nil
	w.phases.Detach = w.lap()
	return errors.Join(errs...)
}

// activate makes a testbed what it is in its own trials alone.
func activate(ctx context.Context, b *bed) (econbench.Attachment, error) {
	a, ok := b.Testbed.(econbench.Activated)
	if !ok {
		return inactive{}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, attachTimeout, fmt.Errorf("not activated in %v", attachTimeout))
	defer cancel()
	activated, err := a.Activate(ctx)
	if err != nil {
		return nil, fmt.Errorf("activate topology: %w", err)
	}
	return activated, nil
}

// inactive is of testbeds that are always what they are.
type inactive struct{}

func (inactive) Close(context.Context) error { return nil }
