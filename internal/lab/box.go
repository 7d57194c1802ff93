// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/docker"
)

// box is an endpoint's container.
type box struct {
	host *Host
	id   string
	docker.Details
}

func (c *box) ID() string        { return c.id }
func (c *box) PID() int          { return c.Details.PID }
func (c *box) Addr() netip.Addr  { return c.Details.Addr }
func (c *box) Sandboxes() string { return c.Details.Sandboxes }

func (c *box) start(ctx context.Context, onNetwork string) error {
	if err := c.host.engine.Start(ctx, c.id); err != nil {
		return err
	}
	d, found, err := c.host.engine.Inspect(ctx, c.id, onNetwork)
	if err != nil {
		return err
	}
	if !found || !d.Running {
		return fmt.Errorf("engine %s: container %.12s ended at once", c.host.engine.Host(), c.id)
	}
	c.Details = d
	return c.host.agent.Call(ctx, agentproto.OpAdopt, agentproto.Adoptee{PID: d.PID, Container: c.id}, nil)
}

// Close removes the container with all that runs in it.
func (c *box) Close(ctx context.Context) error { return c.host.engine.Remove(ctx, c.id) }

// Start starts a program in the container.
func (c *box) Start(ctx context.Context, argv ...string) (econbench.Process, error) {
	x, err := c.host.engine.Exec(ctx, c.id, argv)
	if err != nil {
		return nil, err
	}
	return &process{box: c, exec: x}, nil
}

var _ econbench.Signaller = (*box)(nil)

// Signal has the host's agent signal programs in the container: an engine can't.
func (c *box) Signal(ctx context.Context, s econbench.Signal) error {
	args := agentproto.SignalArgs{Adoptee: agentproto.Adoptee{PID: c.PID(), Container: c.id}, Signal: s}
	return c.host.agent.Call(ctx, agentproto.OpSignal, args, nil)
}

// Idle has the host's agent look.
func (c *box) Idle(ctx context.Context, port uint16, ports int) error {
	return c.host.agent.Call(ctx, agentproto.OpIdle, agentproto.IdleArgs{PID: c.PID(), Port: port, Ports: ports}, nil)
}

type process struct {
	box  *box
	exec *docker.Exec
	over bool
}

// Wait waits for the program's own end.
func (p *process) Wait(ctx context.Context) (econbench.Output, error) {
	stdout, stderr, code, err := p.exec.Wait(ctx)
	p.over = p.over || err == nil
	return econbench.Output{Stdout: stdout, Stderr: stderr, ExitCode: code}, err
}

var _ econbench.Printing = (*process)(nil)

// Printed is what the program has printed so far.
func (p *process) Printed() (out econbench.Output) {
	out.Stdout, out.Stderr = p.exec.Output()
	return out
}

// Close kills the program when it still runs: by its host's agent, as an engine can't.
func (p *process) Close(ctx context.Context) error {
	defer p.exec.Release()
	if p.over || p.box.host.agent.Err() != nil { // with the agent gone nobody can kill it: it dies with its container
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, docker.StepTimeout, fmt.Errorf("program not killed in %v", docker.StepTimeout))
	defer cancel()
	var pid int
	var running bool
	err := poll(ctx, "start or end of a program", docker.StepTimeout, func(ctx context.Context) (_ bool, err error) {
		pid, running, err = p.exec.Running(ctx)
		return !running || pid > 0, err // an engine says that a program runs before it has a PID
	})
	if err != nil || !running {
		return err
	}
	err = p.box.host.agent.Call(ctx, agentproto.OpKill, agentproto.Adoptee{PID: pid, Container: p.box.id}, nil)
	if err != nil && !errors.Is(err, agentproto.ErrGone) {
		return err
	}
	return poll(ctx, "end of a killed program", 5*time.Second, func(ctx context.Context) (bool, error) {
		_, running, err := p.exec.Running(ctx)
		return !running, err
	})
}
