// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"math"
	"sync"
	"time"
)

// knots are numbers of turns whose time is measured; between them it is taken for a straight line, and beyond the last one too.
// It is not one as a whole: a CPU foresees the end of a short loop and not that of a long one (on the machine of docs/fastpath.md
// 18 ns and 1.46 ns a turn, from 64 turns on 14 ns more).
var knots = [...]uint32{0, 8, 16, 32, 64, 128, 1024, 4096}

const (
	// paceRounds are how often each knot is measured at an attachment, in turn, so that no knot has the quiet moments for itself.
	// The first time is longer: others' work on the machine comes and goes in 100 ms.
	paceRounds, firstRounds = 50, 1000
	// mostTurns is the largest number that bpf_loop takes (BPF_MAX_LOOPS).
	mostTurns = 1 << 23
)

// pace is what a loop's turns take on this host's CPUs, which are taken for equal, at their fastest in the agent's life. To
// measure anew for each attachment was tried: while a sibling thread is busy a turn takes half as long again (1.45 and 2.2 ns, for
// 100 ms at a time), so 1 µs was 600 ns in one trial and 5 µs was 11 in another. With one number of turns for the whole run the
// handicap gets slower when the rest of the path does, and stays the same share of it.
type pace struct {
	mu      sync.Mutex
	known   bool
	fastest [len(knots)]float64 // ns, by knot
}

// learn measures all knots and keeps what is faster than before. It takes some 6 ms, the first time 120.
func (p *pace) learn(measure func(turns uint32) (time.Duration, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	rounds := paceRounds
	if !p.known {
		rounds = firstRounds
	}
	for range rounds {
		for i, turns := range knots {
			took, err := measure(turns)
			if err != nil {
				return err
			}
			if ns := float64(took.Nanoseconds()); !p.known || ns < p.fastest[i] {
				p.fastest[i] = ns
			}
		}
		p.known = true
	}
	for i := len(knots) - 2; i >= 0; i-- { // more turns never take less
		p.fastest[i] = min(p.fastest[i], p.fastest[i+1])
	}
	return nil
}

// turns is the number whose time is nearest to the one wanted, and that time.
func (p *pace) turns(want time.Duration) (uint32, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ns := float64(want.Nanoseconds())
	i := 1
	for i < len(knots)-1 && p.fastest[i] < ns {
		i++
	}
	from := p.fastest[i-1]
	turn := max(p.fastest[i]-from, 0.01) / float64(knots[i]-knots[i-1])
	turns := float64(knots[i-1]) + math.Round((ns-from)/turn)
	turns = min(max(turns, 0), mostTurns)
	if want == 0 {
		turns = 0
	}
	each := from + (turns-float64(knots[i-1]))*turn
	return uint32(turns), time.Duration(math.Round(each))
}
