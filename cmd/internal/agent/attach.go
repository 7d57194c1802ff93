// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/collectors"
	"github.com/econbench/econbench/internal/agentproto"
)

// attachBy attaches a fast path by the driver of its name.
func attachBy(ctx context.Context, drivers []econbench.Driver, args agentproto.AttachArgs) (econbench.Attached, error) {
	i := slices.IndexFunc(drivers, func(d econbench.Driver) bool { return d.Name() == args.Fastpath })
	if i < 0 {
		return nil, fmt.Errorf("fast path %q is not known", args.Fastpath)
	}
	attached, err := drivers[i].Attach(ctx, args.Config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args.Fastpath, err)
	}
	return attached, nil
}

// attach attaches a fast path to this host.
func (a *agent) attach(ctx context.Context, args agentproto.AttachArgs) (r agentproto.AttachReply, err error) {
	attached, err := attachBy(ctx, a.drivers, args)
	if err != nil {
		return r, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() != nil { // nobody waits for its handle any more
		return r, errors.Join(context.Cause(ctx), attached.Close())
	}
	if a.closed { // everything has been undone while this was under way
		return r, errors.Join(fmt.Errorf("%s: the agent is ending", args.Fastpath), attached.Close())
	}
	a.next++
	a.attached[a.next] = attached
	return agentproto.AttachReply{Handle: a.next}, nil
}

// aside has what is attached stand aside, if it is what can.
func (a *agent) aside(_ context.Context, args agentproto.DetachArgs) (any, error) {
	attached, err := a.attachedAs(args.Handle)
	if err != nil {
		return nil, err
	}
	if c, ok := attached.(econbench.Commanded); ok {
		return nil, c.Obey(econbench.OrderOff)
	}
	return nil, nil
}

func (a *agent) detach(_ context.Context, args agentproto.DetachArgs) (any, error) {
	attached, err := claim(a, a.attached, args.Handle, "attached")
	if err != nil {
		return nil, err
	}
	if c, ok := attached.(econbench.Concerted); ok && args.Aside {
		return nil, c.CloseConcerted()
	}
	return nil, attached.Close()
}

func (a *agent) status(_ context.Context, args agentproto.DetachArgs) (any, error) {
	attached, err := a.attachedAs(args.Handle)
	if err != nil {
		return nil, err
	}
	return attached.Status()
}

func (a *agent) attachedAs(handle int) (econbench.Attached, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if attached := a.attached[handle]; attached != nil {
		return attached, nil
	}
	return nil, fmt.Errorf("handle %d: nothing is attached under it", handle)
}

// attachedReader reads the counters of the fast path that a trial's scope names. It is the agent's half of
// collectors.Fastpath; what it reads belongs to the agent.
type attachedReader struct{ agent *agent }

func (attachedReader) Name() string { return "fastpath" }

func (r attachedReader) Open(s econbench.Scope) (econbench.Reading, error) {
	if s.Handle == 0 {
		return collectors.Nothing{}, nil
	}
	attached, err := r.agent.attachedAs(s.Handle)
	if err != nil {
		return nil, err
	}
	return borrowed{attached}, nil
}

// borrowed stays attached when its reading ends.
type borrowed struct{ econbench.Reading }

func (borrowed) Close() error { return nil }

// Notes are what the attached fast path has to tell, if anything.
func (b borrowed) Notes() map[string]string {
	if n, ok := b.Reading.(econbench.Noter); ok {
		return n.Notes()
	}
	return nil
}
