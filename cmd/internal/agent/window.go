// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/collectors"
	"github.com/econbench/econbench/internal/agentproto"
)

// heldUp is the share of the window that a round of reading may take without a doubt being told.
const heldUp = 0.03

// mostMemory is the size, B, from which on the runtime collects garbage within a window too. A window of 1.5 s leaves less than 10 MB.
const mostMemory = 256 << 20

// calm keeps the runtime from collecting garbage, but for that of a very long window, until it is undone.
func calm() (undo func()) {
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(mostMemory)
	return func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}
}

// window waits for the flows, lets the warm-up pass and counts over the window. The clock stands between two rounds of
// reading that run in opposite order, so that the readers named first see nearly nothing of the reading itself.
func (a *agent) window(ctx context.Context, args agentproto.WindowArgs) (r agentproto.WindowReply, err error) {
	open, err := a.openReaders(args.Scope, args.Readers)
	if err != nil {
		return r, err
	}
	defer func() {
		for _, o := range open {
			err = errors.Join(err, o.Close())
		}
	}()
	appear, cancel := context.WithTimeoutCause(ctx, args.Appear.Duration(), fmt.Errorf("not in %v", args.Appear.Duration()))
	err = collectors.WaitForFlows(appear, args.Scope)
	cancel()
	if err != nil {
		return r, err
	}
	defer calm()()
	if err := warmUp(ctx, open, args.Warmup.Duration()); err != nil {
		return r, err
	}
	names := slices.Clone(args.Readers)
	slices.Reverse(names)
	opening := time.Now()
	before, err := readAll(open, names)
	if err != nil {
		return r, err
	}
	start := time.Now()
	early, err := halfway(ctx, open, args, before, start)
	if err != nil {
		return r, err
	}
	if err := sleep(ctx, time.Until(start.Add(args.Duration.Duration()))); err != nil {
		return r, err
	}
	end := time.Now()
	after, err := readAll(open, args.Readers)
	if err != nil {
		return r, err
	}
	r.Window = econbench.HostWindow{
		Start: start, Seconds: econbench.SecondsOf(end.Sub(start)),
		Reading:  econbench.SecondsOf(max(start.Sub(opening), time.Since(end))),
		Counters: map[string]econbench.Counters{}, Notes: notes(open), Early: early,
	}
	if share := float64(r.Window.Reading / r.Window.Seconds); share > heldUp {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the agent was held up while reading: counters lie up to %.1f %% of the window apart", 100*share))
	}
	for _, name := range args.Readers {
		diff, gone := difference(before[name], after[name])
		r.Window.Counters[name] = diff
		for _, counter := range gone {
			r.Warnings = append(r.Warnings, fmt.Sprintf("counter %s.%s went backwards or vanished in the window: not counted", name, counter))
		}
	}
	return r, nil
}

// preparation is how long before the warm-up's end readings begin to prepare: the window is not to begin later for it, as the clients
// run no longer than they were told.
const preparation = 50 * time.Millisecond

// warmUp lets the warm-up pass, and has readings prepare at its end.
func warmUp(ctx context.Context, open map[string]econbench.Reading, warmup time.Duration) error {
	over := time.Now().Add(warmup)
	if err := sleep(ctx, warmup-min(preparation, warmup)); err != nil {
		return err
	}
	if err := prepare(open); err != nil {
		return err
	}
	return sleep(ctx, time.Until(over))
}

// prepare has what would be dear within the window done before it. Loading programs leaves garbage, and pages that the runtime gives back
// little by little: agents that had loaded some took up to 42 ms of CPU in a window without this, up to 20 with it. What is read for
// the first time comes cold and takes three times as long, so each reading is read once for nothing, but for those that have a
// better way to prepare.
func prepare(open map[string]econbench.Reading) error {
	debug.FreeOSMemory()
	for name, o := range open {
		var err error
		if p, ok := o.(econbench.Preparer); ok {
			err = p.Prepare()
		} else {
			_, err = o.Read()
		}
		if err != nil {
			return fmt.Errorf("collector %s: %w", name, err)
		}
	}
	return nil
}

// halfway reads in the middle of the window what is asked for then; nil where nothing is.
func halfway(ctx context.Context, open map[string]econbench.Reading, args agentproto.WindowArgs, before map[string]econbench.Counters, start time.Time) (*econbench.EarlyWindow, error) {
	if len(args.Midway) == 0 {
		return nil, nil
	}
	if err := sleep(ctx, args.Duration.Duration()/2); err != nil {
		return nil, err
	}
	early := &econbench.EarlyWindow{Seconds: econbench.SecondsOf(time.Since(start)), Counters: map[string]econbench.Counters{}}
	now, err := readAll(open, args.Midway)
	if err != nil {
		return nil, err
	}
	for _, name := range args.Midway {
		early.Counters[name], _ = difference(before[name], now[name]) // what is odd shows at the window's end as well
	}
	return early, nil
}

// probe finds out whether readers can read.
func (a *agent) probe(_ context.Context, args agentproto.ProbeArgs) (_ any, err error) {
	open, err := a.openReaders(args.Scope, args.Readers)
	if err != nil {
		return nil, err
	}
	_, err = readAll(open, args.Readers)
	for _, o := range open {
		err = errors.Join(err, o.Close())
	}
	return nil, err
}

func (a *agent) openReaders(scope econbench.Scope, names []string) (open map[string]econbench.Reading, err error) {
	open = map[string]econbench.Reading{}
	defer func() {
		if err != nil {
			for _, o := range open {
				err = errors.Join(err, o.Close())
			}
		}
	}()
	for _, name := range names {
		i := slices.IndexFunc(a.opt.Readers, func(r econbench.Reader) bool { return r.Name() == name })
		if i < 0 {
			return open, fmt.Errorf("reader %q is not known", name)
		}
		reading, err := a.opt.Readers[i].Open(scope)
		if err != nil {
			return open, fmt.Errorf("collector %s: %w", name, err)
		}
		open[name] = reading
	}
	return open, nil
}

func readAll(open map[string]econbench.Reading, order []string) (map[string]econbench.Counters, error) {
	all := make(map[string]econbench.Counters, len(order))
	for _, name := range order {
		reading := open[name]
		if reading == nil {
			return nil, fmt.Errorf("reader %q is not open", name)
		}
		c, err := reading.Read()
		if err != nil {
			return nil, fmt.Errorf("collector %s: %w", name, err)
		}
		all[name] = c
	}
	return all, nil
}

// notes gathers what the readings found that is no number.
func notes(open map[string]econbench.Reading) map[string]string {
	all := map[string]string{}
	for _, o := range open {
		if n, ok := o.(econbench.Noter); ok {
			maps.Copy(all, n.Notes())
		}
	}
	return all
}

// difference subtracts counter by counter. Counters that appear in the window count from zero; those that shrink or
// vanish have no difference.
func difference(before, after econbench.Counters) (diff econbench.Counters, gone []string) {
	diff = econbench.Counters{}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if d := after[name] - before[name]; d >= 0 {
			diff[name] = d
		} else {
			gone = append(gone, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			gone = append(gone, name)
		}
	}
	return diff, gone
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
