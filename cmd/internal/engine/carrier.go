// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"github.com/econbench/econbench"
)

// handles tells what the hosts' agents know an attachment by; 0 where it carries no packets.
func handles(a econbench.Attachment) func(host string) int {
	c, ok := a.(econbench.Carrier)
	if !ok {
		return func(string) int { return 0 }
	}
	return c.Handle
}

// pathOf is the way of the packets of a trial.
func pathOf(b *bed, a econbench.Attachment) econbench.Path {
	if c, ok := a.(econbench.Carrier); ok {
		return c.Path(b.Path())
	}
	return b.Path()
}
