// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	"github.com/econbench/econbench/internal/profile"
	"github.com/econbench/econbench/internal/profiler"
)

// profile samples the stacks of what the given CPUs do. Nothing of it stands when it answers, so that there is nothing to undo.
func (a *agent) profile(ctx context.Context, order profile.Order) (profile.Recording, error) {
	return profiler.Sample(ctx, order)
}
