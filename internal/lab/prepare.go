// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/tune"
)

// Prepare makes both hosts measure the same way for the length of the run: no deep idle states; on a shared kernel the
// softirq work of each host's end of the wire on that host's CPUs; frames on the wire as asked for. The agents put it
// back when they end.
func (l *Lab) Prepare(ctx context.Context, wire econbench.Wire) error {
	return l.both(ctx, func(ctx context.Context, h *Host) error {
		// A host without /dev/cpu_dma_latency can still measure, with more noise.
		if err := h.tune(ctx, tune.DMALatency()); err != nil {
			l.opt.Progress("%s: idle states are not held off: %v", h.engine.Host(), err)
			h.facts.Tunings = append(h.facts.Tunings, fmt.Sprintf("dma-latency: not held: %v", err))
		}
		var want []tune.Tuning
		if l.shared {
			want = append(want, tune.RPS(h.facts.WireDevice, h.facts.CPUs...))
		}
		if wire == econbench.WireMTUFrames {
			want = append(want, tune.MTUFrames(h.facts.WireDevice))
		}
		return h.tune(ctx, want...)
	})
}

func (h *Host) tune(ctx context.Context, want ...tune.Tuning) error {
	if len(want) == 0 {
		return nil
	}
	var done agentproto.TuneReply
	err := h.agent.Call(ctx, agentproto.OpTune, want, &done)
	h.facts.Tunings = append(h.facts.Tunings, done.Done...)
	return err
}
