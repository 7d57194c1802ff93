// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// attach attaches a fast path to this host.
func (a *agent) attach(ctx context.Context, args agentproto.AttachArgs) (r agentproto.AttachReply, err error) {
	i := slices.IndexFunc(a.drivers, func(d econbench.Driver) bool { return d.Name() == args.Fastpath })
	if i < 0 {
		return r, fmt.Errorf("fast path %q is not known", args.Fastpath)
	}
	attached, err := a.drivers[i].Attach(ctx, args.Config)
	if err != nil {
		return r, fmt.Errorf("%s: %w", args.Fastpath, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed { // everything has been undone while this was under way
		return r, errors.Join(fmt.Errorf("%s: the agent is ending", args.Fastpath), attached.Close())
	}
	a.next++
	a.attached[a.next] = attached
	return agentproto.AttachReply{Handle: a.next}, nil
}

func (a *agent) detach(_ context.Context, args agentproto.DetachArgs) (any, error) {
	a.mu.Lock()
	attached := a.attached[args.Handle]
	delete(a.attached, args.Handle)
	a.mu.Unlock()
	if attached == nil {
		return nil, fmt.Errorf("handle %d: nothing is attached under it", args.Handle)
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
		return nothing{}, nil
	}
	attached, err := r.agent.attachedAs(s.Handle)
	if err != nil {
		return nil, err
	}
	return borrowed{attached}, nil
}

// nothing is what there is to read where no fast path is attached.
type nothing struct{}

func (nothing) Read() (econbench.Counters, error) { return econbench.Counters{}, nil }
func (nothing) Close() error                      { return nil }

// borrowed stays attached when its reading ends.
type borrowed struct{ econbench.Reading }

func (borrowed) Close() error { return nil }
