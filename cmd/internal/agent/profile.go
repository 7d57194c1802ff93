// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/econbench/econbench/collectors"
	"github.com/econbench/econbench/internal/profile"
	"github.com/econbench/econbench/internal/profiler"
)

// profile samples the stacks of what the scope's CPUs do. Nothing of it stands when it answers, so that there is nothing to undo.
func (a *agent) profile(ctx context.Context, order profile.Order) (r profile.Recording, err error) {
	appear, cancel := context.WithTimeoutCause(ctx, order.Appear.Duration(), fmt.Errorf("not in %v", order.Appear.Duration()))
	err = collectors.WaitForFlows(appear, order.Scope)
	cancel()
	if err != nil {
		return r, err
	}
	return profiler.Sample(ctx, order)
}
