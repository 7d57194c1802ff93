// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math/rand/v2"
	"time"
)

// arrivals are the moments at which an open loop's requests are due: a Poisson process, whose gaps are exponential. The same
// seed gives the same moments.
type arrivals struct {
	random *rand.Rand
	mean   float64       // of a gap, ns
	at     float64       // ns; the sum is kept in floating point, so that gaps below a nanosecond add up
	next   time.Duration // since the run's beginning
}

func newArrivals(rate float64, random *rand.Rand) *arrivals {
	a := &arrivals{random: random, mean: float64(time.Second) / rate}
	a.advance()
	return a
}

// advance goes on to the next arrival.
func (a *arrivals) advance() {
	a.at += a.random.ExpFloat64() * a.mean
	a.next = time.Duration(a.at)
}

// random is the source of one use in one thread: equal seeds give equal runs, and no use disturbs another.
func random(seed uint64, use, thread int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(use)<<32|uint64(thread)))
}

// Uses of randomness.
const (
	ofArrivals = iota
	ofKeys
	ofRequests
)
