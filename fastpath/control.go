// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"slices"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// mode is enum mode of bpf/lib/control.h.
type mode uint32

const (
	modeOn mode = iota
	modeOff
	modeDry
)

// modes are the orders that last.
var modes = [...]econbench.Order{modeOn: econbench.OrderOn, modeOff: econbench.OrderOff, modeDry: econbench.OrderDry}

func (m mode) String() string { return string(modes[m]) }

// control is what programs are told: struct control of bpf/lib/control.h.
type control struct {
	until   uint64 // CLOCK_MONOTONIC, ns
	mode    mode
	unruled bool // no rule on the kernel's path asks about packets
}

var _ econbench.Commanded = (*overlay)(nil)

// Obey changes what happens to packets from the next one on. No order loses any: those that are in a lane by then arrive.
//
// Programs that stand aside see no SYN and no close, so what they knew may be another flow's when they are told to go on: all
// flows are forgotten then, and known again after their next packets.
func (o *overlay) Obey(order econbench.Order) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if order == econbench.OrderClear {
		return o.progs.forgetFlows()
	}
	m := slices.Index(modes[:], order)
	if m < 0 {
		return names.Unknown("order", string(order), econbench.Orders())
	}
	if o.control.mode == modeOff {
		if err := o.progs.forgetFlows(); err != nil {
			return err
		}
	}
	return o.tell(control{o.control.until, mode(m), o.control.unruled}) // the lease is for sync alone to renew
}
