// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Change points of a series of nights. Where a series is cut is E-divisive's choice, by the energy distance of what is to both
// sides [Matteson, James: A nonparametric approach for multiple change point analysis of multivariate data, arXiv:1306.4933];
// whether there is a change is decided as by Hunter [Fleming et al., arXiv:2301.03034], now Apache Otava: by a t-test of
// the two segments instead of permutations, so that equal data have equal changes; first with a weak threshold, for a
// change that is not found yet widens the noise of its neighbours; then the weak ones are taken back, the weakest first.
//
// What differs from Hunter, and why:
//   - Windows of every length, halving from the whole series, instead of one of 50: what came and went within a few nights
//     hardly moves the means of a window of 50.
//   - A night far off its segment's median counts as one at a bound (Huber's), and a rank test has to agree: one spike among the
//     three newest nights is no change, whatever its size (otava#150), nor does a spike hide a change by its variance.
//   - Nights that resemble the night before count for less.
//   - The threshold is Bonferroni's over the nights and the series that could have had a change, not a constant.
//
// Tried and rejected: Welch's test, which takes three nights by their own spread alone: of changes of 10 σ it found 24 % in three
// nights, among 20 series. Ranks alone: their least p for 3 nights against 20 is 0.001, above any threshold that keeps 20 series quiet.
// No allowance for correlated nights: of noise of 2 % with an autocorrelation of 0.3 the gate failed in 16 % of nights
// (now 4 %), and without bias correction in 6 %.
type detector struct {
	x         []float64 // logarithms, in the order of nights
	least     int       // nights of a segment
	threshold float64   // largest p of a change
	widen     float64   // by how much the t-test's standard error is larger than with independent nights
	found     map[[2]int]cut
}

// cut is where a stretch of nights is best cut in two, and the p of that being a change.
type cut struct {
	at     int     // first night of the second part; 0: none
	p      float64 // of the t-test
	ranked bool    // the rank test does not object
}

const (
	// leastSegment is 2 at least: of one night there is no spread.
	leastSegment = 2
	// weak is by how much p may be above the threshold while changes are looked for, as in Hunter.
	weak = 10
	// atMost is how many standard deviations a night counts at most away from its segment's median. 3 leaves Gaussian noise as it
	// is (0.3 % of nights are beyond).
	atMost = 3
	// rankAlpha is the largest p of the rank test behind any change: of three nights two that are far off, and one that is not,
	// are no change.
	rankAlpha = 0.01
	// leastCorrelated is how many nights an autocorrelation is estimated from at least; mostCorrelated the largest that is believed.
	leastCorrelated = 10
	mostCorrelated  = 0.8
	// shortestWindow in segments: a window has room for what is before a change and behind it.
	shortestWindow = 4
)

// changePoints are the first nights of new levels, each with the p of its change.
func changePoints(x []float64, least int, threshold float64) []cut {
	d := &detector{x: x, least: max(least, leastSegment), threshold: min(threshold, rankAlpha), widen: 1, found: make(map[[2]int]cut)}
	return d.independent(d.move(d.strong(d.divide(0, len(x)))))
}

// independent takes back what is no change if each night resembles the night before: then n nights say less about a level than n that are
// independent, and the t-test's standard error is too small by √((1+r)/(1−r)) for an autocorrelation r [AR(1): Box, Jenkins, Reinsel:
// Time Series Analysis]. Where correlated noise was taken for changes the residuals look calmer than they are, so that r is estimated
// again after each change that is taken back.
func (d *detector) independent(at []int) []cut {
	for {
		cuts := d.strong(at)
		widen := widening(d.residuals(cuts), len(cuts)+1)
		if widen <= d.widen {
			return cuts
		}
		d.widen = widen
		at = at[:0]
		for _, c := range cuts {
			at = append(at, c.at)
		}
	}
}

// residuals are the nights' distances from their level.
func (d *detector) residuals(cuts []cut) (out []float64) {
	from := 0
	for i := range len(cuts) + 1 {
		to := len(d.x)
		if i < len(cuts) {
			to = cuts[i].at
		}
		mid := 0.0
		if from < to {
			mid = median(d.x[from:to])
		}
		for _, v := range d.x[from:to] {
			out = append(out, v-mid)
		}
		from = to
	}
	return out
}

// widening is the factor by which autocorrelation widens a mean's standard error; nights far off count as at a bound. The estimate
// is low by (1+3r)/n for each level that was estimated from the same nights [Kendall, Biometrika 41, 1954; Marriott, Pope, ibid.].
func widening(residuals []float64, levels int) float64 {
	if len(residuals) < leastCorrelated {
		return 1
	}
	spread := 1.4826 * median(absolutes(residuals))
	r := 0.0
	if spread > 0 {
		r = autocorrelation(clipped(residuals, atMost*spread))
	}
	r += (1 + 3*r) * float64(levels) / float64(len(residuals))
	r = min(max(r, 0), mostCorrelated)
	return math.Sqrt((1 + r) / (1 - r))
}

// autocorrelation at lag 1 of values around 0.
func autocorrelation(x []float64) float64 {
	var products, squares float64
	for i, v := range x {
		squares += v * v
		if i > 0 {
			products += v * x[i-1]
		}
	}
	if squares == 0 {
		return 0
	}
	return products / squares
}

func absolutes(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = math.Abs(v)
	}
	return out
}

func clipped(x []float64, bound float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = min(max(v, -bound), bound)
	}
	return out
}

// places is how many nights a change could begin with among n: with so many to both sides that the rank test can be significant.
func places(n, least int) int {
	first := max(least, leastSegment)
	for 2*first <= n && leastRankP(first, n-first) > rankAlpha {
		first++
	}
	return max(0, n-2*first+1)
}

// fewestNights is the least number of nights in which a change can be found.
func fewestNights(least int) int {
	n := 2 * max(least, leastSegment)
	for places(n, least) == 0 {
		n++
	}
	return n
}

// divide cuts a stretch where a window within it has the least p, if that is weakly significant, and both parts again.
func (d *detector) divide(from, to int) []int {
	best := cut{p: 1}
	try := func(from, to int) {
		if c := d.cut(from, to); c.ranked && c.p < best.p {
			best = c
		}
	}
	try(from, to)
	for length := len(d.x) / 2; length >= shortestWindow*d.least; length /= 2 {
		step := max(1, length/2)
		first := (from + step - 1) / step * step
		for start := first; start+length <= to; start += step {
			try(start, start+length)
		}
		if to-length >= from { // the newest nights of a stretch are in no window of the grid but by chance
			try(to-length, to)
		}
	}
	if best.at == 0 {
		return nil
	}
	return slices.Concat(d.divide(from, best.at), []int{best.at}, d.divide(best.at, to))
}

// strong takes back what is no change between its neighbours, the weakest first.
func (d *detector) strong(at []int) []cut {
	cuts := make([]cut, len(at))
	for i := range at {
		cuts[i].at = at[i]
	}
	test := func(i int) {
		if i >= 0 && i < len(cuts) {
			from, to := d.around(cuts, i)
			cuts[i] = d.test(from, cuts[i].at, to)
		}
	}
	for i := range cuts {
		test(i)
	}
	for {
		weakest := -1
		for i, c := range cuts {
			if (c.p > d.threshold || !c.ranked) && (weakest < 0 || c.p > cuts[weakest].p) {
				weakest = i
			}
		}
		if weakest < 0 {
			return cuts
		}
		cuts = slices.Delete(cuts, weakest, weakest+1)
		test(weakest - 1)
		test(weakest)
	}
}

// around are the bounds of the two segments that meet at a cut.
func (d *detector) around(cuts []cut, i int) (from, to int) {
	to = len(d.x)
	if i > 0 {
		from = cuts[i-1].at
	}
	if i+1 < len(cuts) {
		to = cuts[i+1].at
	}
	return from, to
}

// move puts each change where it fits best between its neighbours, now that these are known: a cut that was found in a
// narrow window, or before its neighbours were, may lie a night off.
func (d *detector) move(cuts []cut) (at []int) {
	for round, moved := 0, true; moved && round < 10; round++ {
		moved = false
		for i, c := range cuts {
			from, to := d.around(cuts, i)
			if better := d.cut(from, to); better.at != 0 && better.at != c.at {
				cuts[i].at, moved = better.at, true
			}
		}
	}
	for _, c := range cuts {
		at = append(at, c.at)
	}
	return at
}

// test holds the stretches on both sides of a cut against each other.
func (d *detector) test(from, at, to int) cut {
	x, y := d.x[from:at], d.x[at:to]
	c := cut{at: at, p: shiftP(x, y, d.widen)}
	c.ranked = c.p <= weak*d.threshold && rankSum(x, y) <= rankAlpha // else nobody will ask
	return c
}

// cut finds where the energy distance of the two parts of a stretch is largest. In windows that overlap the same stretch comes
// up again.
func (d *detector) cut(from, to int) cut {
	key := [2]int{from, to}
	c, known := d.found[key]
	if !known {
		c.p = 1
		if at := bestSplit(d.x[from:to], d.least); at > 0 {
			c = d.test(from, from+at, to)
		}
		d.found[key] = c
	}
	return c
}

// bestSplit is the length of the first part for which n·m/(n+m) times the energy distance of both parts is largest, each
// having so many values at least; 0 for too few values. Of equals it is the first. Sums of distances are carried on from
// one split to the next, so that all of them take O(n²).
func bestSplit(x []float64, least int) (at int) {
	n := len(x)
	if n < 2*least {
		return 0
	}
	before, behind := make([]float64, n), make([]float64, n) // of each value, the sum of its distances to those before, behind it
	for i := range x {
		for j := range i {
			d := math.Abs(x[i] - x[j])
			before[i] += d
			behind[j] += d
		}
	}
	var left, right, all float64 // sums of distances within the parts, and of all
	for i := range x {
		all += before[i]
		right += behind[i]
	}
	best := math.Inf(-1)
	for i := range n - least {
		left += before[i]
		right -= behind[i]
		a, b := float64(i+1), float64(n-i-1)
		if i+1 < least {
			continue
		}
		distance := 2*(all-left-right)/(a*b) - 2*left/(a*(a-1)) - 2*right/(b*(b-1))
		if q := a * b / (a + b) * distance; q > best {
			best, at = q, i+1
		}
	}
	return at
}

// shiftP is the two-sided p of Student's t-test that two stretches have one level, nights far off counting as at a bound.
// Fewer than two values on a side have none: 1.
func shiftP(x, y []float64, widen float64) float64 {
	if len(x) < leastSegment || len(y) < leastSegment {
		return 1
	}
	bound := atMost * spreadAround(x, y)
	if bound == 0 { // most values are equal: no telling what is far off, and the rank test is what keeps spikes out
		bound = math.Inf(1)
	}
	mx, vx := stat.MeanVariance(bounded(x, bound), nil)
	my, vy := stat.MeanVariance(bounded(y, bound), nil)
	n, m := float64(len(x)), float64(len(y))
	pooled := ((n-1)*vx + (m-1)*vy) / (n + m - 2)
	switch {
	case same(mx, my):
		return 1
	case pooled == 0:
		return 0
	}
	t := math.Abs(mx-my) / (widen * math.Sqrt(pooled*(1/n+1/m)))
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n + m - 2}.Survival(t)
}

// spreadAround is the standard deviation of both stretches around their own medians, by the median absolute deviation. The value
// that is a stretch's median is left out: it would make short ones look calm.
func spreadAround(x, y []float64) float64 {
	var off []float64
	for _, part := range [][]float64{x, y} {
		mid := median(part)
		distances := make([]float64, 0, len(part))
		for _, v := range part {
			distances = append(distances, math.Abs(v-mid))
		}
		if slices.Sort(distances); len(distances)%2 == 1 {
			distances = distances[1:]
		}
		off = append(off, distances...)
	}
	return 1.4826 * median(off)
}

// bounded brings values that are far from their median to the bound.
func bounded(x []float64, bound float64) []float64 {
	mid := median(x)
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = mid + min(max(v-mid, -bound), bound)
	}
	return out
}
