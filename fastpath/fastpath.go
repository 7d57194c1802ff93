// SPDX-License-Identifier: Apache-2.0

// Package fastpath holds what can be attached to a topology to shorten its packets' way, one file each; All lists them.
// Their BPF programs stand in fastpath/bpf.
package fastpath

import (
	"context"

	"github.com/econbench/econbench"
)

// All lists the fast paths.
func All() []econbench.Fastpath { return []econbench.Fastpath{None{}} }

// None is the fast path that changes nothing: a topology as its builder leaves it.
type None struct{}

var _ econbench.Fastpath = None{}

// Name is econbench.NoFastpath.
func (None) Name() string { return econbench.NoFastpath }

// Help is one line for lists.
func (None) Help() string { return "the topology as it is" }

// Attach does nothing.
func (None) Attach(context.Context, econbench.Testbed) (econbench.Attachment, error) {
	return unattached{}, nil
}

type unattached struct{}

func (unattached) Close(context.Context) error { return nil }
