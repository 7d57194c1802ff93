// SPDX-License-Identifier: Apache-2.0

package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCells: a tally's cells are the histogram's, so that nothing moves when one becomes the other.
func TestCells(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	values := []int64{0, 1, 2047, 2048, 2049, 4095, 4096, int64(longest) - 1, int64(longest)}
	for range 20000 {
		values = append(values, int64(math.Exp(r.Float64()*math.Log(float64(longest)))))
	}
	h := newHistogram()
	for _, v := range values {
		cell := cellOf(uint64(v))
		if cell >= cells || valueOf(cell) > v || !h.ValuesAreEquivalent(valueOf(cell), v) || cell > 0 && h.ValuesAreEquivalent(valueOf(cell-1), v) {
			t.Fatalf("%d: cell %d, of %d", v, cell, valueOf(cell))
		}
	}
}

// TestRecorder: values land in the slice in which they come, slices without any are there too, and what no histogram holds is counted.
func TestRecorder(t *testing.T) {
	looked := 0
	r := newRecorder(time.Second, func() usage { looked++; return usage{user: float64(looked)} })
	at := func(now, took time.Duration) {
		r.roll(now)
		r.now.answered++
		r.latency.add(took)
	}
	at(0, time.Millisecond)
	at(sliceLength-1, 2*time.Millisecond)
	at(sliceLength, 3*time.Millisecond)
	at(3*sliceLength+1, 2*longest)
	at(3*sliceLength+2, -1)
	r.roll(4 * sliceLength)
	list, err := joinSlices([]*recorder{r, r}, time.Unix(1, 0), usage{})
	if err != nil {
		t.Fatal(err)
	}
	var answered, beyond []int
	for i, s := range list {
		answered, beyond = append(answered, s.Answered), append(beyond, s.Beyond)
		if s.Start != int64(time.Second)+int64(i)*int64(sliceLength) || s.CPUUser != 1 {
			t.Errorf("slice %d: %+v", i, s)
		}
	}
	if !slices.Equal(answered, []int{4, 2, 0, 4}) || !slices.Equal(beyond, []int{0, 0, 0, 2}) || looked != 4 {
		t.Errorf("answers %v, beyond %v, looked %d times", answered, beyond, looked)
	}
}

// twoSecondReport has an answer of n ms in its n-th slice, of 80.
func twoSecondReport(t *testing.T) *Report {
	t.Helper()
	r := newRecorder(2*time.Second, func() usage { return usage{} })
	for i := range 80 {
		r.roll(time.Duration(i) * sliceLength)
		r.now.answered++
		r.now.due++
		r.latency.add(time.Duration(i) * time.Millisecond)
		r.lag.add(time.Duration(i))
	}
	r.roll(2 * time.Second)
	list, err := joinSlices([]*recorder{r}, time.Unix(100, 0), usage{})
	if err != nil {
		t.Fatal(err)
	}
	return &Report{Version: Version, Open: true, Threads: 1, Start: int64(100 * time.Second), SliceLength: sliceLength.Seconds(), Elapsed: 2, Answered: 80, Slices: list}
}

// TestWithin: a window has the slices that lie wholly in it, and what it is held against is their own time.
func TestWithin(t *testing.T) {
	r := twoSecondReport(t)
	for _, test := range []struct {
		from, length time.Duration // after the beginning
		first, count int
	}{
		{0, 2 * time.Second, 0, 80},
		{0, sliceLength, 0, 1},
		{1, 3 * sliceLength, 1, 2},
		{sliceLength, sliceLength*2 - 1, 1, 1},
		{500 * time.Millisecond, time.Second, 20, 40},
	} {
		c, err := r.Within(time.Unix(100, int64(test.from)), test.length)
		if err != nil {
			t.Errorf("%v+%v: %v", test.from, test.length, err)
			continue
		}
		lowest, highest := time.Duration(test.first)*time.Millisecond, time.Duration(test.first+test.count-1)*time.Millisecond
		if c.Answered != test.count || c.Due != test.count || math.Abs(c.Seconds-float64(test.count)*sliceLength.Seconds()) > 1e-9 ||
			int(c.Latency.TotalCount()) != test.count || int(c.Lag.TotalCount()) != test.count ||
			!c.Latency.ValuesAreEquivalent(c.Latency.Min(), int64(lowest)) || !c.Latency.ValuesAreEquivalent(c.Latency.Max(), int64(highest)) {
			t.Errorf("%v+%v: %d answers in %g s, %v to %v", test.from, test.length, c.Answered, c.Seconds, time.Duration(c.Latency.Min()), time.Duration(c.Latency.Max()))
		}
	}
	for _, test := range []struct {
		from, length time.Duration
		want         string
	}{
		{1, sliceLength, "none of 80 slices"},
		{-1, sliceLength, "begins -1ns after the load"},
		{time.Second, time.Second + 1, "ends -1ns before the load's end"},
	} {
		if _, err := r.Within(time.Unix(100, int64(test.from)), test.length); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v+%v: got %v, want %s", test.from, test.length, err, test.want)
		}
	}
	r.Slices[3].Answered = 2
	if _, err := r.Within(time.Unix(100, 0), time.Second); err == nil || !strings.Contains(err.Error(), "histograms hold 40 latencies of 41 answers") {
		t.Errorf("got %v", err)
	}
}
