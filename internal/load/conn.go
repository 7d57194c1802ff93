// SPDX-License-Identifier: Apache-2.0

package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// session speaks a protocol over one connection.
type session interface {
	// next appends the next request.
	next(b []byte) []byte
	// read takes what it can of the answer that is under way from the beginning of b: n bytes. What it leaves it gets again, with more
	// behind it. An error is the run's end: what follows can't be read.
	read(b []byte) (n int, a answer, err error)
	// reset forgets what was under way: the connection is another one.
	reset()
}

// answer is what became of a request.
type answer struct {
	done bool
	hit  bool   // the server had what was asked for
	bad  string // what was wrong with an answer that is not what it should be
}

// conn is a connection at work.
type conn struct {
	index   int // among its thread's
	fd      int // -1: closed
	session session
	queue   fifo   // moments of requests that are due and not sent, in an open loop
	sent    fifo   // moments that requests under way count from
	rest    []byte // read and not understood yet: part of an answer
	out     []byte // not written yet
	opening bool   // connect is under way
	closing bool   // all was answered, and the server is to close it
	writing bool   // epoll is asked to say when there is room
}

// fifo is a queue of moments. It only grows when it has to.
type fifo struct {
	list []time.Duration
	head int
}

func (f *fifo) len() int             { return len(f.list) - f.head }
func (f *fifo) push(d time.Duration) { f.list = append(f.list, d) }
func (f *fifo) pop() time.Duration {
	d := f.list[f.head]
	if f.head++; f.head == len(f.list) {
		f.list, f.head = f.list[:0], 0
	} else if f.head >= 4096 && f.head*2 > len(f.list) { // a queue that is never empty
		f.list = f.list[:copy(f.list, f.list[f.head:])]
		f.head = 0
	}
	return d
}
func (f *fifo) clear() { f.list, f.head = f.list[:0], 0 }

// dial begins to connect, from the given port of any address if it is not 0.
func dial(to netip.AddrPort, from int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return -1, fmt.Errorf("socket: no delay: %w", err)
	}
	if from != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return -1, fmt.Errorf("socket: reuse address: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: from}); err != nil {
			return -1, fmt.Errorf("bind to port %d: %w", from, err)
		}
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return -1, fmt.Errorf("connect to %s: %w", to, err)
	}
	return fd, nil
}

// connected says what became of a connect that was under way.
func connected(fd int, to netip.AddrPort) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	return nil
}

// usage is CPU time, s.
type usage struct{ user, system float64 }

// processUsage is the process's.
func processUsage() usage {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return usage{} // with these arguments it can't fail
	}
	return usage{user: seconds(r.Utime), system: seconds(r.Stime)}
}

func seconds(t unix.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)*1e-6 }
