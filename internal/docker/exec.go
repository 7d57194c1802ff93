// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
)

// Exec is a program that runs in a container beside its first process.
type Exec struct {
	e    *Engine
	id   string
	argv []string
	done chan struct{}
	end  func()

	mu             sync.Mutex
	stdout, stderr bytes.Buffer
	err            error
}

// MaxOutput bounds what is kept of one of a program's streams, in bytes; what comes later is dropped.
const MaxOutput = 16 << 20

// Exec starts a program in a running container and gathers what it prints.
func (e *Engine) Exec(ctx context.Context, container_ string, argv []string) (*Exec, error) {
	x := &Exec{e: e, argv: argv, done: make(chan struct{})}
	err := e.step(ctx, "start "+argv[0], func(ctx context.Context) error {
		made, err := e.api.ContainerExecCreate(ctx, container_, container.ExecOptions{Cmd: argv, AttachStdout: true, AttachStderr: true})
		if err != nil {
			return err
		}
		x.id = made.ID
		at, err := hijack(ctx, func(ctx context.Context) (types.HijackedResponse, error) {
			return e.api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
		})
		if err != nil {
			return err
		}
		x.end = at.Close
		go func() {
			defer close(x.done)
			_, err := stdcopy.StdCopy(&locked{x, &x.stdout}, &locked{x, &x.stderr}, at.Reader)
			x.mu.Lock()
			x.err = err
			x.mu.Unlock()
		}()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

// locked is a bounded writer into one of an Exec's buffers.
type locked struct {
	x   *Exec
	buf *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.x.mu.Lock()
	defer l.x.mu.Unlock()
	if room := MaxOutput - l.buf.Len(); room > 0 {
		l.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// Wait waits for the program's end. It returns what was printed in any case.
func (x *Exec) Wait(ctx context.Context) (stdout, stderr []byte, exitCode int, err error) {
	select {
	case <-x.done:
	case <-ctx.Done():
		stdout, stderr = x.Output()
		return stdout, stderr, -1, fmt.Errorf("%s: %w", x.argv[0], context.Cause(ctx))
	}
	stdout, stderr = x.Output()
	if x.err != nil {
		return stdout, stderr, -1, x.e.wrap("output of "+x.argv[0], x.err)
	}
	err = x.e.step(ctx, "exit code of "+x.argv[0], func(ctx context.Context) error {
		state, err := x.e.api.ContainerExecInspect(ctx, x.id)
		if err == nil && state.Running {
			err = fmt.Errorf("output ended but the program still runs: its container or engine died")
		}
		exitCode = state.ExitCode
		return err
	})
	return stdout, stderr, exitCode, err
}

// Output is what the program has printed so far.
func (x *Exec) Output() (stdout, stderr []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.stdout.Bytes()), slices.Clone(x.stderr.Bytes())
}

// Running says whether the program has not ended yet, and its PID as the engine sees it.
func (x *Exec) Running(ctx context.Context) (pid int, running bool, err error) {
	err = x.e.step(ctx, "state of "+x.argv[0], func(ctx context.Context) error {
		state, err := x.e.api.ContainerExecInspect(ctx, x.id)
		pid, running = state.Pid, state.Running
		return err
	})
	return pid, running, err
}

// Release ends the connection. The engine has no way to stop the program: see lab for that.
func (x *Exec) Release() { x.end() }

// List writes CPUs as cpuset takes them; "" for none.
func List(cpus []int) string {
	parts := make([]string, len(cpus))
	for i, c := range cpus {
		parts[i] = strconv.Itoa(c)
	}
	return strings.Join(parts, ",")
}
