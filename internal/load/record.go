// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math/bits"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// sliceLength is how finely a window can be cut out of a run.
	sliceLength = 25 * time.Millisecond
	// longest is the largest latency that a histogram holds; longer ones are counted by themselves.
	longest = time.Minute
	// digits are a histogram's significant ones: a value is kept to 0.1 %.
	digits = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(longest), digits)
}

// cells is the number of a histogram's cells; cellOf and valueOf are its own layout for a unit of 1 ns and 3 digits: 2048 cells of 1 ns,
// then 1024 for each doubling.
const cells = 2048 + 1024*26

func cellOf(v uint64) int {
	shift := max(bits.Len64(v), 11) - 11
	return shift<<10 + int(v>>shift)
}

func valueOf(cell int) int64 {
	shift := max(cell>>10-1, 0)
	return int64(cell-shift<<10) << shift
}

// tally counts values of one slice at a time, and is cheap in the middle of a measurement: a value costs an addition, and a
// slice's end as many cells as lie between its lowest and its highest value. A hdrhistogram of its own for each slice would take
// 230 kB, and to encode one takes 200 µs; both are left to the end.
type tally struct {
	counts    [cells]uint32
	low, high int // cells in use; high < low: none
	beyond    int // values above longest
}

func newTally() *tally { return &tally{low: cells, high: -1} }

func (t *tally) add(d time.Duration) {
	d = max(d, 0) // clocks of one machine don't run backwards, but a nanosecond may round
	if d > longest {
		t.beyond++
		return
	}
	cell := cellOf(uint64(d))
	t.counts[cell]++
	t.low, t.high = min(t.low, cell), max(t.high, cell)
}

// sparse are the cells of a tally that are not empty.
type sparse []struct{ cell, count uint32 }

// take empties the tally.
func (t *tally) take() (s sparse, beyond int) {
	for cell := t.low; cell <= t.high; cell++ {
		if n := t.counts[cell]; n > 0 {
			s = append(s, struct{ cell, count uint32 }{uint32(cell), n})
			t.counts[cell] = 0
		}
	}
	t.low, t.high = cells, -1
	beyond, t.beyond = t.beyond, 0
	return s, beyond
}

// slice is what one thread did in one slice of time.
type slice struct {
	answered, errors, due, hits int
	beyond, lateBeyond          int // answers whose latency, and requests whose lag, no histogram holds
	latency, lag                sparse
	cpu                         usage // of the process, when the slice ended; of the first thread's slices alone
}

// recorder is a thread's. Slices are the same for all threads: the n-th begins n times their length after the run.
type recorder struct {
	latency, lag *tally
	now          slice
	done         []slice
	usage        func() usage // nil: another thread looks
}

func newRecorder(length time.Duration, usage func() usage) *recorder {
	return &recorder{latency: newTally(), lag: newTally(), done: make([]slice, 0, int(length/sliceLength)+64), usage: usage}
}

// roll ends the slices that lie wholly before now.
func (r *recorder) roll(now time.Duration) {
	for now >= time.Duration(len(r.done)+1)*sliceLength {
		r.now.latency, r.now.beyond = r.latency.take()
		r.now.lag, r.now.lateBeyond = r.lag.take()
		if r.usage != nil {
			r.now.cpu = r.usage()
		}
		r.done = append(r.done, r.now)
		r.now = slice{}
	}
}

// total sums counts up over all slices that have ended.
func (r *recorder) total() (t slice) {
	for _, s := range r.done {
		t.answered += s.answered
		t.errors += s.errors
		t.due += s.due
		t.hits += s.hits
	}
	return t
}
