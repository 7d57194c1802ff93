// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tunnel"
)

// tunnel builds this host's end of a plain VXLAN network, towards a container. It is undone by untune.
func (a *agent) tunnel(ctx context.Context, s tunnel.Spec) (r agentproto.TuneReply, err error) {
	container, id, err := netspace.OfProcess(s.PID)
	if err != nil {
		return r, fmt.Errorf("network %s: container's process %d: %w", s.Name, s.PID, err)
	}
	defer container.Close()
	own, ownID, err := netspace.Own()
	if err != nil {
		return r, err
	}
	defer own.Close()
	if id == ownID {
		return r, fmt.Errorf("network %s: process %d is in the host's network namespace: want one of a container with its own", s.Name, s.PID)
	}
	end, err := tunnel.Build(a.journal, container, s)
	if err != nil {
		return r, err
	}
	if ctx.Err() != nil { // nobody waits for it any more
		return r, errors.Join(context.Cause(ctx), end.Undo())
	}
	return a.stand(end, end.Done), nil
}
