// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// worker drives its share of the connections from one system thread: an event loop over epoll and bare sockets. A goroutine for
// each connection, which Go's netpoller wakes, was measured beside it (BenchmarkLoops); see docs/applications.md.
//
// All connections are looked at one after the other. An answer that arrives while another one is read waits for its turn, and that counts.
type worker struct {
	opt     Options
	begin   time.Time     // of the run, for all threads
	end     time.Duration // no request is due or sent from then on
	over    *atomic.Bool  // the end has come before its time
	conns   []*conn
	record  *recorder
	due     *arrivals // nil: a closed loop
	turn    int       // connection of the next arrival
	ports   portRange
	epoll   int
	buf     []byte
	pending int // requests sent and not answered, and those that wait for a connection
	refused int // connections in a row that came to nothing
	closing int // connections that the server is to close yet
	first   string
}

// grace is how long answers are waited for when nothing is sent any more.
const grace = 3 * time.Second

// mostRefused is how many connections in a row may come to nothing before the server is taken for gone.
const mostRefused = 100

func (w *worker) clock() time.Duration { return time.Since(w.begin) }

// run works until all that was sent is answered.
func (w *worker) run() error {
	runtime.LockOSThread() // and never unlocks: the timer slack ends with the thread
	if err := precise(); err != nil {
		return err
	}
	for _, c := range w.conns {
		if err := w.start(c, w.clock()); err != nil {
			return err
		}
	}
	events := make([]unix.EpollEvent, 64)
	for {
		now := w.clock()
		w.record.roll(now)
		if w.over.Load() {
			w.end = min(w.end, now)
		}
		if err := w.issue(now); err != nil {
			return err
		}
		if now >= w.end && w.pending == 0 && w.closing == 0 {
			return nil
		}
		if now > w.end+grace {
			return fmt.Errorf("%d requests were not answered within %v of the end", w.pending, grace)
		}
		n, err := w.wait(events)
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			if err := w.handle(w.conns[e.Fd], e.Events); err != nil {
				return err
			}
		}
	}
}

// precise lets the thread's timers be exact: the kernel may put them off by 50 µs otherwise (PR_SET_TIMERSLACK).
func precise() error {
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	return nil
}

// wait waits for events until the next request is due, or for a slice's length at most.
func (w *worker) wait(events []unix.EpollEvent) (int, error) {
	now := w.clock()
	timeout := sliceLength
	if w.due != nil && w.due.next < w.end {
		timeout = min(timeout, max(0, w.due.next-now))
	}
	t := unix.NsecToTimespec(int64(timeout))
	// epoll_pwait2 is of Linux 5.11 and has no wrapper. No signal's mask is changed.
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(w.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)),
		uintptr(unsafe.Pointer(&t)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("epoll: %w", errno)
}

// start begins a closed loop's requests on a connection, as many as may be under way; in an open loop one that waits, if any.
func (w *worker) start(c *conn, now time.Duration) error {
	if w.due == nil {
		if now >= w.end {
			return nil
		}
		for range w.opt.Pipeline {
			c.sent.push(now)
		}
		w.pending += w.opt.Pipeline
		return w.send(c, w.opt.Pipeline)
	}
	n := 0
	for ; c.queue.len() > 0 && w.free(c); n++ {
		c.sent.push(c.queue.pop())
	}
	return w.send(c, n)
}

// free says whether a request can go out at once.
func (w *worker) free(c *conn) bool { return !c.closing && c.sent.len() < w.opt.Pipeline }

// issue sends what is due, or has it wait for its connection. Connections take turns, so that each has its share at any rate.
func (w *worker) issue(now time.Duration) error {
	for w.due != nil && w.due.next <= now && w.due.next < w.end {
		c, due := w.conns[w.turn], w.due.next
		w.turn = (w.turn + 1) % len(w.conns)
		w.due.advance()
		w.pending++
		w.record.now.due++
		if !w.free(c) {
			c.queue.push(due)
			continue
		}
		w.record.lag.add(now - due)
		c.sent.push(due)
		if err := w.send(c, 1); err != nil {
			return err
		}
		now = w.clock() // sending took its time, and the next one's lag has it
	}
	return nil
}

// send sends n requests that stand in c.sent already, opening the connection first where that is part of the request.
func (w *worker) send(c *conn, n int) error {
	if n == 0 {
		return nil
	}
	for range n {
		c.out = c.session.next(c.out)
	}
	if c.fd < 0 {
		return w.connect(c)
	}
	return w.flush(c)
}

// flush writes what can be written, and asks to be told when there is room for the rest.
func (w *worker) flush(c *conn) error {
	for len(c.out) > 0 {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&c.out[0])), uintptr(len(c.out)))
		switch errno {
		case 0:
			c.out = c.out[:copy(c.out, c.out[n:])]
			continue
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return w.watch(c, true)
		}
		return w.lost(c, fmt.Errorf("write: %w", errno))
	}
	return w.watch(c, false)
}

// watch asks for events of a connection; for room to write only while something waits for it.
func (w *worker) watch(c *conn, room bool) error {
	if c.writing == room {
		return nil
	}
	c.writing = room
	return w.control(c, unix.EPOLL_CTL_MOD)
}

func (w *worker) control(c *conn, op int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.index)}
	if c.writing {
		e.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(w.epoll, op, c.fd, &e); err != nil {
		return fmt.Errorf("epoll: connection: %w", err)
	}
	return nil
}

// handle deals with what epoll says of a connection.
func (w *worker) handle(c *conn, events uint32) error {
	if c.fd < 0 {
		return nil
	}
	if c.opening {
		if err := connected(c.fd, w.opt.Server); err != nil {
			return w.lost(c, err)
		}
		c.opening = false
		return w.flush(c)
	}
	if events&unix.EPOLLOUT != 0 {
		if err := w.flush(c); err != nil || c.fd < 0 {
			return err
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		return w.receive(c)
	}
	return nil
}

// receive reads what is there, once: what is left epoll tells again.
func (w *worker) receive(c *conn) error {
	kept := copy(w.buf, c.rest)
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&w.buf[kept])), uintptr(len(w.buf)-kept))
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return nil
	case errno != 0:
		return w.lost(c, fmt.Errorf("read: %w", errno))
	case n == 0:
		return w.lost(c, errClosed)
	}
	now := w.clock()
	w.record.roll(now)
	b, empty := w.buf[:kept+int(n)], true
	for len(b) > 0 {
		if c.sent.len() == 0 {
			return fmt.Errorf("answer to no request: %s", quote(b))
		}
		used, a, err := c.session.read(b)
		if err != nil {
			return err
		}
		b = b[used:]
		if a.done {
			w.answered(c, a, now)
		}
		if used == 0 && !a.done {
			empty = false
			break
		}
	}
	c.rest = c.rest[:0]
	if !empty {
		c.rest = append(c.rest, b...)
		if len(b) == len(w.buf) {
			return fmt.Errorf("an answer's line is longer than %d bytes: %s", len(b), quote(b))
		}
	}
	return w.goOn(c, now)
}

// answered counts an answer.
func (w *worker) answered(c *conn, a answer, now time.Duration) {
	began := c.sent.pop()
	w.pending--
	if a.bad != "" {
		w.wrong(a.bad)
		return
	}
	w.refused = 0
	w.record.now.answered++
	if a.hit {
		w.record.now.hits++
	}
	w.record.latency.add(now - began)
}

// wrong counts a request that was not answered as it should have been; it is in no latency.
func (w *worker) wrong(text string) {
	w.record.now.errors++
	if w.first == "" {
		w.first = text
	}
}

// goOn sends what comes after answers.
func (w *worker) goOn(c *conn, now time.Duration) error {
	if w.opt.PerReq && c.sent.len() == 0 {
		if !c.closing {
			c.closing = true
			w.closing++
		}
		return nil // the server closes first, so that the port isn't kept by TIME_WAIT on this side
	}
	if w.due == nil && c.sent.len() > 0 {
		return nil // the batch is not over
	}
	return w.start(c, now)
}

var errClosed = errors.New("connection closed by the server")

// lost deals with a connection that has ended. Where each request has its own that is the rule, and otherwise the run's end.
func (w *worker) lost(c *conn, why error) error {
	if !w.opt.PerReq {
		return fmt.Errorf("%w, with %d requests under way", why, c.sent.len())
	}
	_ = unix.Close(c.fd) // epoll forgets it with that
	c.fd = -1
	c.rest, c.out, c.opening, c.writing = c.rest[:0], c.out[:0], false, false
	c.session.reset()
	now := w.clock()
	w.record.roll(now)
	if c.closing {
		c.closing = false
		w.closing--
	} else {
		w.pending -= c.sent.len()
		c.sent.clear()
		w.wrong(why.Error())
		if w.refused++; w.refused >= mostRefused {
			return fmt.Errorf("%d connections in a row came to nothing, the last one: %w", w.refused, why)
		}
	}
	return w.start(c, now)
}

// connect opens the connection that a request has for itself.
func (w *worker) connect(c *conn) error {
	for range max(1, w.ports.count()) {
		fd, err := dial(w.opt.Server, w.ports.next())
		if errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) {
			continue // somebody else has the port, or its last connection is not over
		}
		if err != nil {
			return err
		}
		c.fd, c.opening, c.writing = fd, true, true
		return w.control(c, unix.EPOLL_CTL_ADD)
	}
	return fmt.Errorf("connect to %s: all ports %d to %d are taken", w.opt.Server, w.ports.low, w.ports.high)
}

// portRange hands out a client's ports one after the other; the zero value leaves the choice to the kernel.
type portRange struct{ low, high, at int }

func (p *portRange) count() int {
	if p.high == 0 {
		return 0
	}
	return p.high - p.low + 1
}

func (p *portRange) next() int {
	if p.high == 0 {
		return 0
	}
	if p.at < p.low || p.at >= p.high {
		p.at = p.low - 1
	}
	p.at++
	return p.at
}
