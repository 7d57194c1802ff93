// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// mostMemory is where the garbage collector begins to work: a run makes nearly no garbage, and its pauses would be latencies. B.
const mostMemory = 1 << 30

// Main is the hidden command: it runs what args say and writes the report to stdout.
func Main(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == H2loadLog {
		r, err := reportH2load(args[1:])
		if err != nil {
			return err
		}
		return json.NewEncoder(stdout).Encode(r)
	}
	o, err := Parse(args)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(o.Threads)
	ctx, ignore := signal.NotifyContext(ctx, unix.SIGALRM)
	defer ignore()
	r, err := Run(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(r)
}

// Run puts the load on and says what came of it. A context that ends before the load begins is an error; later it ends the load, as if
// its time were up.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Protocol != Memcached {
		return o.runHTTP(ctx)
	}
	return o.runMemcached(ctx)
}

// runMemcached stores all keys, puts the load on, and holds what it counted against the server's statistics.
func (o Options) runMemcached(ctx context.Context) (*Report, error) {
	space := newKeyspace(o)
	var before served
	var c *control
	if o.Control.IsValid() {
		var err error
		if c, err = openControl(o.Control.String()); err != nil {
			return nil, err
		}
		defer c.close()
		if err := c.fill(space); err != nil {
			return nil, err
		}
		if before, err = c.stats(); err != nil {
			return nil, err
		}
	}
	choosers := make([]*chooser, o.Threads)
	for i := range choosers {
		choosers[i] = newChooser(o, i)
	}
	r, sent, err := o.drive(ctx, func(thread, _ int, sent *[2]int) session { return newMemcached(space, choosers[thread], sent) })
	if err != nil {
		return nil, err
	}
	r.Sets, r.Gets = sent[0], sent[1]
	if c == nil {
		return r, nil
	}
	after, err := c.stats()
	if err != nil {
		return nil, err
	}
	r.Warnings, err = before.holdAgainst(after, r.Gets, r.Sets, r.Hits)
	return r, err
}

// drive has one worker a thread do its share.
func (o Options) drive(ctx context.Context, open func(thread, index int, sent *[2]int) session) (r *Report, sent [2]int, err error) {
	workers := make([]*worker, o.Threads)
	counts := make([][2]int, o.Threads)
	defer func() {
		for _, w := range workers {
			w.close()
		}
	}()
	for i := range workers {
		if workers[i], err = newWorker(o, i, func(index int) session { return open(i, index, &counts[i]) }); err != nil {
			return nil, sent, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, sent, err
	}
	var over atomic.Bool
	for _, w := range workers {
		w.over = &over
	}
	defer context.AfterFunc(ctx, func() { over.Store(true) })()
	runtime.GC()
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(mostMemory)
	origin, begin := processUsage(), time.Now()
	var g errgroup.Group
	for _, w := range workers {
		w.begin = begin
		g.Go(w.run)
	}
	err = g.Wait()
	spent := processUsage()
	debug.SetGCPercent(percent)
	debug.SetMemoryLimit(limit)
	if err != nil {
		return nil, sent, err
	}
	for _, c := range counts {
		sent[0] += c[0]
		sent[1] += c[1]
	}
	r, err = o.report(workers, begin, origin)
	if err == nil {
		r.CPUUser, r.CPUSystem = spent.user-origin.user, spent.system-origin.system
	}
	return r, sent, err
}

// newWorker makes the n-th thread's worker and opens its connections.
func newWorker(o Options, n int, open func(index int) session) (w *worker, err error) {
	var look func() usage
	if n == 0 {
		look = processUsage
	}
	w = &worker{opt: o, end: o.Duration, record: newRecorder(o.Duration, look), buf: make([]byte, 128<<10), epoll: -1}
	defer func() {
		if err != nil {
			w.close()
			w = nil
		}
	}()
	share := shareOf(o.Connections, o.Threads, n)
	if o.Rate > 0 {
		w.due = newArrivals(o.Rate*float64(share)/float64(o.Connections), random(o.Seed, ofArrivals, n))
	}
	if o.HighPort != 0 {
		each := (o.HighPort - o.LowPort + 1) / o.Threads
		w.ports = portRange{low: o.LowPort + n*each, high: o.LowPort + (n+1)*each - 1}
	}
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return w, fmt.Errorf("epoll: %w", err)
	}
	for i := range share {
		c := &conn{index: i, fd: -1, session: open(i)}
		w.conns = append(w.conns, c)
		if o.PerReq {
			continue
		}
		if c.fd, err = dialNow(o); err != nil {
			return w, err
		}
		if err := w.control(c, unix.EPOLL_CTL_ADD); err != nil {
			return w, err
		}
	}
	return w, nil
}

// shareOf is how many of all things the n-th of some has.
func shareOf(all, some, n int) int {
	share := all / some
	if n < all%some {
		share++
	}
	return share
}

// connectWithin bounds a connection that lasts.
const connectWithin = 5 * time.Second

// dialNow connects and waits for it.
func dialNow(o Options) (fd int, err error) {
	fd, err = dial(o.Server, 0)
	if err != nil {
		return -1, err
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for deadline := time.Now().Add(connectWithin); ; {
		n, err := unix.Poll(p, int(time.Until(deadline).Milliseconds())+1)
		if errors.Is(err, unix.EINTR) && time.Now().Before(deadline) {
			continue
		}
		if err == nil && n == 0 {
			err = fmt.Errorf("connect to %s: no answer in %v", o.Server, connectWithin)
		}
		if err == nil {
			err = connected(fd, o.Server)
		}
		if err != nil {
			return -1, errors.Join(err, unix.Close(fd))
		}
		return fd, nil
	}
}

// close gives back what a worker holds; a nil one holds nothing.
func (w *worker) close() {
	if w == nil {
		return
	}
	for _, c := range w.conns {
		if c.fd >= 0 {
			_ = unix.Close(c.fd)
		}
	}
	if w.epoll >= 0 {
		_ = unix.Close(w.epoll)
	}
}

// report joins what the workers recorded.
func (o Options) report(workers []*worker, begin time.Time, origin usage) (*Report, error) {
	elapsed := time.Duration(0)
	for _, w := range workers {
		elapsed = max(elapsed, w.end)
	}
	r := &Report{Version: Version, Open: o.Rate > 0, Threads: o.Threads, Start: begin.UnixNano(),
		SliceLength: sliceLength.Seconds(), Elapsed: elapsed.Seconds()}
	recorders := make([]*recorder, len(workers))
	slices := int(elapsed/sliceLength) + 1
	for i, w := range workers {
		recorders[i] = w.record
		slices = max(slices, len(w.record.done)+1)
	}
	for i, w := range workers {
		w.record.roll(time.Duration(slices) * sliceLength)
		t := w.record.total()
		r.Answered += t.answered
		r.Errors += t.errors
		r.Hits += t.hits
		if r.FirstError == "" {
			r.FirstError = workers[i].first
		}
	}
	var err error
	r.Slices, err = joinSlices(recorders, begin, origin)
	return r, err
}
