// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/econbench/econbench"
)

const (
	// readyWithin is how long a server may take from its start until it listens.
	readyWithin = 10 * time.Second
	// readyPoll is the pause between two looks. Each look is an exec through the engine, 50 to 100 ms by itself.
	readyPoll = 20 * time.Millisecond
)

// wholeSeconds is a run time as iperf3 -t and netperf -l take it: rounded up, since both cut fractions off, and never 0,
// which iperf3 reads as endless.
func wholeSeconds(atLeast time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(atLeast.Seconds()))))
}

// server is a server program whose end is noticed while nobody waits for it.
type server struct {
	proc   econbench.Process
	cancel context.CancelFunc
	ended  chan struct{} // closed once out and err are set
	out    econbench.Output
	err    error
	once   sync.Once
	closed error
}

// serve starts a server program and returns when it listens on the TCP port. Readiness is read from the kernel (ss), not
// tried by connecting: iperf3 takes any connection for a test.
func serve(ctx context.Context, at econbench.Endpoint, port int, argv ...string) (econbench.Process, error) {
	return serveUntil(ctx, at, tcpListener(at.Container, port), argv...)
}

// ready says how to see that a server can be used.
type ready struct {
	look    func(context.Context, econbench.Process) (bool, error)
	missing string        // what there is not yet: "port 80: not listening"
	within  time.Duration // how long it may take; 0: readyWithin
	server  string        // its name, where it is not the program's that starts it
}

// tcpListener is the sign of servers of connections.
func tcpListener(in econbench.Container, port int) ready {
	return ready{
		look:    func(ctx context.Context, _ econbench.Process) (bool, error) { return listening(ctx, in, port) },
		missing: fmt.Sprintf("port %d: not listening", port),
	}
}

// serveUntil starts a server program and returns when it is ready.
func serveUntil(ctx context.Context, at econbench.Endpoint, sign ready, argv ...string) (_ econbench.Process, err error) {
	name := argv[0]
	if sign.server != "" {
		name = sign.server
	}
	proc, err := at.Container.Start(ctx, argv...)
	if err != nil {
		return nil, fmt.Errorf("%s server: start: %w", name, err)
	}
	s := watchOver(ctx, proc)
	if err := s.until(ctx, sign); err != nil {
		_ = s.Close(context.WithoutCancel(ctx)) // what went wrong first is what is told
		return nil, &econbench.ProgramError{Err: fmt.Errorf("%s server: %w", name, err), Log: s.log()}
	}
	return s, nil
}

// watchOver begins to wait for a program's end. That must outlive the context that the program was started under: it is the start's,
// not the program's.
func watchOver(ctx context.Context, proc econbench.Process) *server {
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &server{proc: proc, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.out, s.err = proc.Wait(waiting)
	}()
	return s
}

func (s *server) until(ctx context.Context, sign ready) error {
	within := readyWithin
	if sign.within > 0 {
		within = sign.within
	}
	deadline, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		up, err := sign.look(deadline, s.proc)
		select {
		case <-s.ended:
			return s.diagnosis()
		default:
		}
		if deadline.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("%s after %s", sign.missing, within)
		}
		if err != nil || up {
			return err
		}
		select {
		case <-s.ended:
			return s.diagnosis()
		case <-deadline.Done():
		case <-time.After(readyPoll):
		}
	}
}

// diagnosis says why a server that should be running is not.
func (s *server) diagnosis() error {
	if s.err != nil {
		return fmt.Errorf("ended: %w", s.err)
	}
	return fmt.Errorf("exit code %d: %s", s.out.ExitCode, lastLine(s.out))
}

// listening asks the kernel whether the port has a TCP listener in the container's network namespace.
func listening(ctx context.Context, in econbench.Container, port int) (bool, error) {
	found, err := sockets(ctx, in, "-Hltn", port)
	return bytes.Contains(found, []byte("LISTEN")), err
}

// sockets lists what ss finds with those options on a port of the container's network namespace.
func sockets(ctx context.Context, in econbench.Container, options string, port int) ([]byte, error) {
	look, err := in.Start(ctx, "ss", options, "sport", "=", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("look for listener: %w", err)
	}
	out, err := look.Wait(ctx)
	if err = errors.Join(err, look.Close(context.WithoutCancel(ctx))); err != nil {
		return nil, fmt.Errorf("look for listener: %w", err)
	}
	if out.ExitCode != 0 {
		return nil, fmt.Errorf("look for listener: ss: exit code %d: %s", out.ExitCode, lastLine(out))
	}
	return out.Stdout, nil
}

// log is all that an ended server printed.
func (s *server) log() []byte { return append(bytes.Clone(s.out.Stdout), s.out.Stderr...) }

// Wait waits for the server's end, which is its failure: servers end when they are closed.
func (s *server) Wait(ctx context.Context) (econbench.Output, error) {
	select {
	case <-s.ended:
		return s.out, &econbench.ProgramError{Err: s.diagnosis(), Log: s.log()}
	case <-ctx.Done():
		return econbench.Output{}, ctx.Err()
	}
}

// Close kills the server; it may be called again. The watch over it ends first: a Process need not be safe for two.
func (s *server) Close(ctx context.Context) error {
	s.once.Do(func() {
		s.cancel()
		<-s.ended
		s.closed = s.proc.Close(ctx)
	})
	return s.closed
}

// finish runs a program to its end, which must be a good one.
func finish(ctx context.Context, in econbench.Container, argv ...string) error {
	proc, err := in.Start(ctx, argv...)
	if err != nil {
		return err
	}
	out, err := proc.Wait(ctx)
	if err = errors.Join(err, proc.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if out.ExitCode != 0 {
		return &econbench.ProgramError{Err: fmt.Errorf("exit code %d: %s", out.ExitCode, lastLine(out)), Log: append(bytes.Clone(out.Stdout), out.Stderr...)}
	}
	return nil
}

// load is a client program at work.
type load struct {
	name  string
	proc  econbench.Process
	flows econbench.Flows
	parse func(econbench.Output) (samples []econbench.Sample, warnings []string, err error)
	// digest takes parse's place where there is more to be read than samples and warnings, or another log to be kept.
	digest func(econbench.Output) (econbench.Result, error)
	enough enough
}

func (l *load) Flows() econbench.Flows          { return l.flows }
func (l *load) Close(ctx context.Context) error { return l.proc.Close(ctx) }

// Wait returns the log even when the client failed.
func (l *load) Wait(ctx context.Context) (econbench.Result, error) {
	out, err := l.proc.Wait(ctx)
	result := econbench.Result{Log: append(bytes.Clone(out.Stdout), out.Stderr...)}
	switch {
	case err != nil:
	case l.digest != nil:
		result, err = l.digest(out)
	default:
		result.Samples, result.Warnings, err = l.parse(out)
	}
	if err != nil {
		return result, fmt.Errorf("%s client: %w", l.name, err)
	}
	return result, nil
}

// lastLine quotes the last telling line that a program left behind, error output first. "iperf3: exiting" tells nothing.
func lastLine(out econbench.Output) string {
	for _, b := range [][]byte{out.Stderr, out.Stdout} {
		for _, line := range slices.Backward(strings.Split(string(b), "\n")) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, ": exiting") {
				return strconv.Quote(shorten(line))
			}
		}
	}
	return "no output"
}

// shorten keeps a quotation to one readable line.
func shorten(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// finite says whether a rate or a time that a tool printed can be one.
func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) && x > 0 }
