// SPDX-License-Identifier: Apache-2.0

package fastpath

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-address-of-packed-member -I bpf/lib" -type answer xmasq bpf/xmasq.bpf.c

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/econbench/econbench"
)

// Xmasq is a fast path without encapsulation after XMasq (see bpf/xmasq.bpf.c for the packets' journey and for what the hosts tell each
// other): on the wire packets have their hosts' addresses, and the other side puts the containers' back. What has not been agreed on
// yet, or can't be, is encapsulated as Oncache does it. What is eligible is what it is to Oncache.
type Xmasq struct{}

var (
	_ econbench.Fastpath = Xmasq{}
	_ econbench.Bound    = Xmasq{}
	_ econbench.Settable = Xmasq{}
)

// Name is what the user types.
func (Xmasq) Name() string { return "xmasq" }

// Help is one line for lists.
func (Xmasq) Help() string {
	return "masquerading (after XMasq): packets under their hosts' addresses, without encapsulation, where both sides agreed on it in band; xmasq:untracked without connection tracking in containers, xmasq:direct without a lane on the way out"
}

// Topologies are those that it can be attached to.
func (Xmasq) Topologies() []string { return overlayTopologies() }

// Lanes are the kinds that it can take.
func (Xmasq) Lanes() []string { return laneKinds() }

// CheckSetting wants none, "untracked", "direct", or both with a colon.
func (x Xmasq) CheckSetting(s string) error { return checkOverlaySetting(x.Name(), s) }

// Attach attaches it on both hosts.
func (x Xmasq) Attach(ctx context.Context, tb econbench.Testbed, opt econbench.AttachOptions) (econbench.Attachment, error) {
	a, err := attachOverlay(ctx, x.Name(), tb, opt)
	if err != nil {
		return nil, err
	}
	return &xmasqAttachment{a}, nil
}

// xmasqAttachment has to show that it masqueraded: what it encapsulates is another fast path's figures.
type xmasqAttachment struct{ *overlayAttachment }

var (
	_ econbench.Carrier = (*xmasqAttachment)(nil)
	_ econbench.Prover  = (*xmasqAttachment)(nil)
)

// leastMasked is the least share of carried segments that lasting flows have masqueraded. The rest is what they say to each other, some
// fifty packets a second and flow, and more where a machine is so busy that READY is not heard for 100 ms; that is a warning.
const leastMasked = 0.1

// fastStream is twice the datagrams a second of a flow from which hosts answer for their containers (note_pace() of bpf/lib/answer.h).
const fastStream = 2000

// Prove wants that of flows that last, and of streams of datagrams that are fast enough to be answered by hosts; connections of a transaction each are
// over before anything is agreed.
func (a *xmasqAttachment) Prove(w econbench.Window) (failures []string) {
	failures = a.overlayAttachment.Prove(w)
	if w.Flows.Kind == econbench.ConnectFlows {
		return failures
	}
	oneWay := w.Flows.Kind == econbench.DatagramFlows && w.Flows.ResponseBytes == 0
	for _, side := range sidesOf(w) {
		c := side.Counters["fastpath"]
		hits, masked := c[econbench.Egress+"."+econbench.CounterHits], c[countsXmasq[0]]
		if oneWay && hits < fastStream*float64(side.Seconds)*float64(max(1, w.Flows.Count)) {
			continue
		}
		if masked < leastMasked*hits {
			failures = append(failures, fmt.Sprintf("%s: xmasq: masqueraded %.0f of %.0f segments that it sent, want %.0f %%: what else it carried was encapsulated",
				side.host, masked, hits, 100*leastMasked))
		}
	}
	return failures
}

var xmasqKind = cacheKind{spec: loadXmasq, needs: overlayNeeds, counts: countsXmasq, serve: serveAnswers, shared: "masks", passes: true, settle: xmasqSettle, tidy: xmasqTidy}

// xmasqIdle is IDLE of bpf/lib/agree.h: a key that was not used for so long may be another flow's.
const xmasqIdle = 5 * time.Second

// xmasqTidy takes keys away that are idle at a time (CLOCK_MONOTONIC, ns). Whose key it was begins with an encapsulated packet after so long, and is
// given it anew.
func xmasqTidy(maps map[string]*ebpf.Map, now uint64) error {
	keys, values := make([]xmasqMaskKey, batch), make([]xmasqMask, batch)
	var idle []xmasqMaskKey
	err := readAll(maps["masks"], keys, values, false, func(i int) {
		if values[i].UsedAt+uint64(xmasqIdle) < now {
			idle = append(idle, keys[i])
		}
	})
	if err == nil {
		err = removeAll(maps["masks"], idle)
	}
	if err != nil {
		return fmt.Errorf("masks: %w", err)
	}
	return nil
}

// xmasqSettle waits until no peer believes any more that its packets are put back, and what it masqueraded has arrived: what comes later would be lost.
// When it was last told is what its flows remember, or the keys whose flows have given way to others.
func xmasqSettle(coll *ebpf.Collection, concerted bool) {
	now, err := monotonic()
	if err != nil {
		return
	}
	told := uint64(0)
	keys, values := make([]flowKey, batch), make([]xmasqFlow, batch)
	err = readAll(coll.Maps["flows"], keys, values, false, func(i int) { told = max(told, values[i].ToldAt) })
	onWire, masks := make([]xmasqMaskKey, batch), make([]xmasqMask, batch)
	err = errors.Join(err, readAll(coll.Maps["masks"], onWire, masks, false, func(i int) { told = max(told, masks[i].UsedAt) }))
	if err != nil || told > now {
		told = now
	}
	time.Sleep(xmasqBelieved(time.Duration(now-told), concerted))
}

// xmasqBelieved is how long peers may yet masquerade, and packets take, after they were last told: FRESH of bpf/lib/agree.h, with a shortcut's term on either
// side and what packets take. Peers that stand aside do not, so what packets take is all.
func xmasqBelieved(since time.Duration, concerted bool) time.Duration {
	const fresh, underWay = 120 * time.Millisecond, 30 * time.Millisecond
	left := max(0, fresh+underWay-since)
	if concerted {
		left = min(left, underWay)
	}
	return left
}
