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
}

// putToWork activates, attaches and starts the client, to run for at least that long. A failed one has been undone.
func (e *Engine) putToWork(ctx context.Context, cell econbench.Cell, atLeast time.Duration) (w *atWork, err error) {
	w = &atWork{bed: e.beds[cell.Arm.Topology]}
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
	return w, nil
}

// close takes it all back, newest first.
func (w *atWork) close(ctx context.Context) error {
	var errs []error
	for _, undo := range slices.Backward(w.undo) {
		errs = append(errs, undo(ctx))
	}
	w.undo = nil
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
