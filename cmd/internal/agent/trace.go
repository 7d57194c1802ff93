// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/trace"
	"github.com/econbench/econbench/internal/tracer"
)

// trace attaches hooks to a flow's way through this host. It takes a while, so that two hosts that are to record at the same time
// are asked for it first.
func (a *agent) trace(_ context.Context, order trace.Order) (r trace.Started, err error) {
	t, err := tracer.Start(order)
	if err != nil {
		return r, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed { // everything has been undone while this was under way
		return r, errors.Join(errors.New("trace: the agent is ending"), t.Close())
	}
	a.next++
	a.tracers[a.next] = t
	return trace.Started{Handle: a.next, Skipped: t.Skipped()}, nil
}

// record records and takes the hooks off.
func (a *agent) record(ctx context.Context, args trace.RecordArgs) (r trace.Record, err error) {
	t, err := claim(a, a.tracers, args.Handle, "traced")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return t.Record(ctx, econbench.Seconds(args.Duration).Duration())
}
