// SPDX-License-Identifier: Apache-2.0

package agentproto

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Handler does one operation of an agent.
type Handler func(ctx context.Context, args json.RawMessage) (reply any, err error)

// Handle makes a Handler of a function with typed arguments.
func Handle[A, R any](do func(context.Context, A) (R, error)) Handler {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var args A
		if len(raw) > 0 && !bytes.Equal(raw, []byte("null")) {
			if err := json.Unmarshal(raw, &args); err != nil {
				return nil, fmt.Errorf("arguments %.80q: %w", raw, err)
			}
		}
		return do(ctx, args)
	}
}

// ErrSilence says that the controller was not heard of for HeartbeatDeadline.
var ErrSilence = fmt.Errorf("nothing heard from the controller for %v", HeartbeatDeadline)

// Serve answers requests until the stream ends (nil), the controller falls silent (ErrSilence) or ctx ends. When it
// returns no handler runs any more, but for one that is stuck. OpPing is answered by itself; OpExit is answered after all handlers and before end.
func Serve(ctx context.Context, in io.Reader, out io.Writer, handlers map[string]Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &server{out: out, handlers: handlers, running: map[uint64]context.CancelFunc{}}
	defer s.settle()
	defer cancel()
	requests, readErr := readRequests(ctx, in)
	deadline := time.NewTimer(HeartbeatDeadline)
	defer deadline.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return ErrSilence
		case r, ok := <-requests:
			if !ok {
				return <-readErr
			}
			deadline.Reset(HeartbeatDeadline)
			if exit := s.take(ctx, r); exit {
				cancel()
				s.settle()
				return s.do(context.WithoutCancel(ctx), r)
			}
		}
	}
}

type server struct {
	handlers map[string]Handler
	all      sync.WaitGroup

	mu      sync.Mutex // guards out and running
	out     io.Writer
	running map[uint64]context.CancelFunc
}

// settleTimeout bounds the wait for handlers at the end. One may be stuck in writing an answer that nobody reads: a killed
// engine leaves a full pipe. What was changed must be undone all the same.
const settleTimeout = 2 * time.Second

// settle waits for the handlers.
func (s *server) settle() {
	done := make(chan struct{})
	go func() {
		s.all.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(settleTimeout):
	}
}

// take starts a request, or cancels one; exit says that it is the last.
func (s *server) take(ctx context.Context, r Request) (exit bool) {
	s.mu.Lock()
	stop := s.running[r.ID]
	s.mu.Unlock()
	if r.Cancel {
		if stop != nil {
			stop()
		}
		return false
	}
	if r.Op == OpExit {
		return true
	}
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	s.running[r.ID] = cancel
	s.mu.Unlock()
	s.all.Go(func() {
		defer cancel()
		_ = s.do(ctx, r) // an answer that can't be written means the controller died: reading ends by itself
		s.mu.Lock()
		delete(s.running, r.ID)
		s.mu.Unlock()
	})
	return false
}

// do runs a request's handler and answers.
func (s *server) do(ctx context.Context, r Request) error {
	answer := Response{Version: Version, ID: r.ID}
	reply, err := s.handle(ctx, r)
	if err == nil && reply != nil {
		answer.Reply, err = json.Marshal(reply)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	line, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.out.Write(append(line, '\n'))
	return err
}

// handle finds and runs the handler. A panic in a part is that request's error: what the agent changed must be undone.
func (s *server) handle(ctx context.Context, r Request) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if r.Version != Version {
		return nil, fmt.Errorf("message version %d, this agent speaks %d", r.Version, Version)
	}
	if r.Op == OpPing {
		return nil, nil
	}
	h := s.handlers[r.Op]
	if h == nil {
		return nil, fmt.Errorf("operation %q is not known", r.Op)
	}
	return h(ctx, r.Args)
}

func readRequests(ctx context.Context, in io.Reader) (<-chan Request, <-chan error) {
	requests, failed := make(chan Request), make(chan error, 1)
	go func() {
		defer close(requests)
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			var r Request
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				failed <- fmt.Errorf("request %.80q: %w", lines.Bytes(), err)
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				failed <- context.Cause(ctx)
				return
			}
		}
		err := lines.Err()
		if errors.Is(err, io.ErrClosedPipe) {
			err = nil
		}
		failed <- err
	}()
	return requests, failed
}
