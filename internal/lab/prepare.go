// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/docker"
	"github.com/econbench/econbench/internal/tune"
)

// Prepare makes both hosts measure the same way for the length of the run: no deep idle states, and frames on the wire as
// asked for. The agents put it back when they end. Then it asks the agents what the hosts are like, which is how they are measured.
func (l *Lab) Prepare(ctx context.Context, wire econbench.Wire) error {
	l.wire = wire
	return l.both(ctx, func(ctx context.Context, h *Host) error {
		// A host without /dev/cpu_dma_latency can still measure, with more noise.
		if _, err := h.tune(ctx, tune.DMALatency()); err != nil {
			l.mu.Lock()
			l.doubts = append(l.doubts, fmt.Sprintf("%s: idle states are not held off, latency and ratios suffer: %v", h.name, err))
			l.mu.Unlock()
		}
		if wire == econbench.WireMTUFrames {
			if _, err := h.tune(ctx, tune.MTUFrames(h.facts.WireDevice)); err != nil {
				return err
			}
		}
		h.fingerprint(ctx)
		return nil
	})
}

// fingerprint fills in the host's fingerprint. What is missing in it fails no run: whoever compares knows less.
func (h *Host) fingerprint(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, docker.StepTimeout, fmt.Errorf("not told in %v", docker.StepTimeout))
	defer cancel()
	var r agentproto.FactsReply
	if err := h.agent.Call(ctx, agentproto.OpFacts, agentproto.FactsArgs{Device: h.facts.WireDevice}, &r); err != nil {
		r.Doubts = append(r.Doubts, fmt.Sprintf("fingerprint: %v", err))
	}
	if len(r.Fingerprint) > 0 {
		maps.Copy(r.Fingerprint, h.engine.Fingerprint())
		r.Fingerprint["cpu.assigned"] = strings.Trim(fmt.Sprint(h.facts.CPUs), "[]")
	}
	h.facts.Fingerprint = r.Fingerprint
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	for _, doubt := range r.Doubts {
		h.lab.doubts = append(h.lab.doubts, h.name+": "+doubt)
	}
}

// Steer decides whose CPUs do the softirq work of the frames that cross the wire of an emulated lab, and says whether each
// host's CPUs then do that host's work alone. Two machines and a shared CPU leave nothing to decide.
//
// Left alone, a veth's receiver works on the CPU that sent. Receive packet steering hands the frame to a CPU of the
// receiving host, as a NIC does, by an interrupt from CPU to CPU unless the receiver polls idly or is still busy with the
// frame before. In a virtual machine each costs its sender an exit to the hypervisor. Measured (docs/measuring.md, two
// virtual CPUs, Linux 6.18):
//
//	tcp_rr, steered               200 interrupts/s, 81k transactions/s; 62k when left alone
//	tcp_stream, super-frames      55,000 interrupts/s on host and 38,000 on overlay: 35 and 37 Gbit/s, the slower path is
//	                              the faster one; left alone 63 and 34 Gbit/s, and twice the work per CPU time
//	tcp_stream, MTU-sized frames  the receiver is always busy: steered 10.3 and 10.0 Gbit/s ± 2 %; left alone ± 50 %
//
// So frames are steered, but for bulk in super-frames.
func (l *Lab) Steer(ctx context.Context, bulk bool) (apart bool, err error) {
	switch {
	case !l.shared:
		return true, nil
	case l.opt.Placement == econbench.Shared:
		return false, nil
	}
	want := !bulk || l.wire == econbench.WireMTUFrames
	return want, l.both(ctx, func(ctx context.Context, h *Host) error { return h.steer(ctx, want) })
}

// steer switches the steering of the host's end of the wire.
func (h *Host) steer(ctx context.Context, want bool) (err error) {
	switch {
	case want && h.steering == 0:
		h.steering, err = h.tune(ctx, tune.RPS(h.facts.WireDevice, h.facts.CPUs...))
	case !want && h.steering != 0:
		ctx, cancel := context.WithTimeoutCause(ctx, docker.StepTimeout, fmt.Errorf("not undone in %v", docker.StepTimeout))
		defer cancel()
		err = h.agent.Call(ctx, agentproto.OpUntune, agentproto.UntuneArgs{Handle: h.steering}, nil)
		h.steering = 0
	}
	return err
}

// tune changes the host and returns the handle to put it back before the agent's end.
func (h *Host) tune(ctx context.Context, want ...tune.Tuning) (handle int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, docker.StepTimeout, fmt.Errorf("not tuned in %v", docker.StepTimeout))
	defer cancel()
	var done agentproto.TuneReply
	if err := h.agent.Call(ctx, agentproto.OpTune, want, &done); err != nil {
		return 0, err
	}
	h.Note(done.Done)
	return done.Handle, nil
}

// Note records what was changed on the host, once however often it was.
func (h *Host) Note(tunings []string) {
	h.noting.Lock()
	defer h.noting.Unlock()
	for _, line := range tunings {
		if !slices.Contains(h.facts.Tunings, line) {
			h.facts.Tunings = append(h.facts.Tunings, line)
		}
	}
}
