// SPDX-License-Identifier: Apache-2.0

// Package fastpath holds what can be attached to a topology to change its packets' way, one file each; All lists the
// controller's halves, Drivers those of the agents. Their BPF programs stand in fastpath/bpf; beside them the objects made
// of them are committed, so that nobody who runs econbench needs a compiler.
//
// Shared by fast paths over an overlay: sandbox.go reads what Docker has built, follow.go says when to read it again, lane.go
// leads around it, hook.go attaches programs, overlay.go keeps all of it in step,
// control.go switches it while packets pass, status.go and flows.go tell of it.
package fastpath

import (
	"context"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/tune"
)

// All lists the fast paths.
func All() []econbench.Fastpath {
	return []econbench.Fastpath{None{}, Oncache{}, Econ{}, Xmasq{}, Handicap{}}
}

// Drivers lists the agent's halves. What they make in the host's namespace stands in the journal.
func Drivers(j *tune.Journal) []econbench.Driver {
	return []econbench.Driver{
		overlayDriver{Oncache{}, j, always(oncacheKind)}, overlayDriver{Econ{}, j, econOf}, overlayDriver{Xmasq{}, j, always(xmasqKind)}, handicapDriver{&pace{}},
	}
}

// None is the fast path that changes nothing: a topology as its builder leaves it.
type None struct{}

var _ econbench.Fastpath = None{}

// Name is econbench.NoFastpath.
func (None) Name() string { return econbench.NoFastpath }

// Help is one line for lists.
func (None) Help() string { return "the topology as it is" }

// Attach does nothing.
func (None) Attach(context.Context, econbench.Testbed, econbench.AttachOptions) (econbench.Attachment, error) {
	return unattached{}, nil
}

type unattached struct{}

func (unattached) Close(context.Context) error { return nil }
