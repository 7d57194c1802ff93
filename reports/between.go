// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/aclements/go-moremath/stats"
	"golang.org/x/perf/benchmath"
	"gonum.org/v1/gonum/stat/distuv"
)

// The numbers of this file are about two independent samples, the blocks of two runs. They come from Hollander, Wolfe,
// Chicken: Nonparametric Statistical Methods (3rd ed. 2014): the rank sum test of Wilcoxon, Mann and Whitney in section
// 4.1, the shift of Hodges and Lehmann in 4.2, its interval after Moses in 4.3.
//
// Tried and rejected: benchmath.AssumeNothing.Compare where values are tied. For samples of unequal size its p depends on
// which of the two comes first: {1 1 1 1 2} against {2 3 3} gives 0.071, the other way round 0.

// maxExactRanks is the size of the larger sample up to which distributions are computed exactly, as benchmath does;
// maxExactTies that with tied values, where it takes longer.
const (
	maxExactRanks = 50
	maxExactTies  = 25
)

// rankSum is the Mann-Whitney U test: the two-sided p of the hypothesis that two samples come from one distribution. Small
// samples get the exact p: that of the permutation distribution given the midranks where values are tied. Others get the
// normal approximation with corrections for ties and continuity. Values that are the same but for rounding are tied.
func rankSum(x, y []float64) float64 {
	if len(x) == 0 || len(y) == 0 {
		return 1
	}
	x, y, ties := tied(x, y)
	most := max(len(x), len(y))
	switch {
	case len(ties) == 1:
		return 1
	case len(ties) == len(x)+len(y) && most <= maxExactRanks:
		sample := func(v []float64) *benchmath.Sample { return benchmath.NewSample(v, &benchmath.DefaultThresholds) }
		return min(1, benchmath.AssumeNothing.Compare(sample(x), sample(y)).P)
	case most <= maxExactTies:
		return exactRankSum(midranksOf(x, y, ties))
	}
	return normalRankSum(x, y, ties)
}

// tied sorts both samples, makes values equal that are the same but for rounding, and counts how many there are of each.
func tied(x, y []float64) (xs, ys []float64, ties []int) {
	xs, ys = slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	last := math.NaN()
	for i, j := 0, 0; i < len(xs) || j < len(ys); {
		var next *float64
		if j == len(ys) || i < len(xs) && xs[i] <= ys[j] {
			next = &xs[i]
			i++
		} else {
			next = &ys[j]
			j++
		}
		if len(ties) > 0 && same(*next, last) {
			*next = last
			ties[len(ties)-1]++
			continue
		}
		last, ties = *next, append(ties, 1)
	}
	return xs, ys, ties
}

// midranksOf gives the midranks of both samples together, doubled, so that means of two are whole; and how many of them are x's,
// and the sum of those.
func midranksOf(x, y []float64, ties []int) (doubled []int, n, sum int) {
	all := slices.Sorted(slices.Values(slices.Concat(x, y)))
	rank := make(map[float64]int, len(ties))
	for _, t := range ties {
		first := len(doubled) + 1
		rank[all[first-1]] = first + first + t - 1
		for range t {
			doubled = append(doubled, first+first+t-1)
		}
	}
	for _, v := range x {
		sum += rank[v]
	}
	return doubled, len(x), sum
}

// exactRankSum counts the ways to choose n of the ranks whose sum is at most the one found, or at least that: twice the smaller
// share.
func exactRankSum(doubled []int, n, sum int) float64 {
	total := 0
	for _, r := range doubled {
		total += r
	}
	ways := make([][]float64, n+1) // by how many are chosen and their sum
	for k := range ways {
		ways[k] = make([]float64, total+1)
	}
	ways[0][0] = 1
	reached := 0
	for i, r := range doubled {
		for k := min(i, n-1); k >= 0; k-- {
			for s := reached; s >= 0; s-- {
				ways[k+1][s+r] += ways[k][s]
			}
		}
		reached += r
	}
	below, above, all := 0.0, 0.0, 0.0
	for s, w := range ways[n] {
		all += w
		if s <= sum {
			below += w
		}
		if s >= sum {
			above += w
		}
	}
	return min(1, 2*min(below, above)/all)
}

func normalRankSum(x, y []float64, ties []int) float64 {
	n, m := float64(len(x)), float64(len(y))
	u := 0.0 // pairs in which x's value is the larger; half of those in which they are equal
	below, equal := 0, 0
	for _, v := range x {
		for below < len(y) && y[below] < v {
			below++
		}
		equal = max(equal, below)
		for equal < len(y) && y[equal] <= v {
			equal++
		}
		u += float64(below) + float64(equal-below)/2
	}
	all := n + m
	correction := 0.0
	for _, t := range ties {
		t := float64(t)
		correction += t * (t*t - 1)
	}
	variance := n * m / 12 * (all + 1 - correction/(all*(all-1)))
	distance := math.Abs(u-n*m/2) - 0.5
	if distance <= 0 || variance <= 0 {
		return 1
	}
	return 2 * distuv.UnitNormal.Survival(distance/math.Sqrt(variance))
}

// leastRankP is the smallest two-sided p that samples of n and m values can give.
func leastRankP(n, m int) float64 {
	p := 2.0 // 2 / C(n+m, n)
	for i := 1; i <= min(n, m) && p > 0; i++ {
		p *= float64(i) / float64(max(n, m)+i)
	}
	return min(1, p)
}

// fewest is the smallest n such that two samples of n values each can give a p of at most alpha.
func fewest(alpha float64) int {
	n := 1
	for leastRankP(n, n) > alpha*(1+1e-9) { // 1-0.95 is a little less than 0.05
		n++
	}
	return n
}

// shift is by how much one sample lies above another: the median of all differences between a value of the one and a value of
// the other, with its distribution-free interval.
type shift struct {
	estimate float64
	interval
}

// shiftOf estimates y - x; both have values. The interval lies between the kth smallest and the kth largest of all
// differences, with the largest k whose coverage is at least the one asked for. That of small samples is exact for a
// continuous distribution; ties make it more. Differences are selected, not listed: time is O((n+m) log(range)), memory
// O(n+m), whatever the number of pairs.
func shiftOf(x, y []float64, atLeast float64) shift {
	x, y = slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	pairs := len(x) * len(y)
	s := shift{estimate: nthDifference(x, y, (pairs+1)/2)}
	if pairs%2 == 0 {
		s.estimate = s.estimate/2 + nthDifference(x, y, pairs/2+1)/2
	}
	k, coverage := mosesOrder(len(x), len(y), atLeast)
	s.coverage = coverage
	if k > 0 {
		s.low, s.high, s.ok = nthDifference(x, y, k), nthDifference(x, y, pairs+1-k), true
	}
	return s
}

// nthDifference is the kth smallest, from 1, of all y[j] - x[i]; both are sorted. It halves the range of numbers that it
// may be until few enough differences are in it to list them: they fall along x and rise along y, rounded or not, so that
// one pass counts those up to a bound.
func nthDifference(x, y []float64, k int) float64 {
	low, high := ordinal(y[0]-x[len(x)-1]), ordinal(y[len(y)-1]-x[0])
	below, upTo := 0, len(x)*len(y) // differences below low, and those up to high
	few := max(len(x)+len(y), 4096)
	for round := 0; upTo-below > few && low < high; round++ {
		middle := low + (high-low)/2
		// Halving the values is the faster way where they are spread out, halving their numbers where they gather.
		if by := ordinal(fromOrdinal(low)/2 + fromOrdinal(high)/2); round < 40 && low <= by && by < high {
			middle = by
		}
		if count := differencesUpTo(x, y, fromOrdinal(middle)); count >= k {
			high, upTo = middle, count
		} else {
			low, below = middle+1, count
		}
	}
	if low == high {
		return fromOrdinal(low)
	}
	list := make([]float64, 0, upTo-below)
	first := 0 // of the y whose difference is not below low
	for _, v := range x {
		for first < len(y) && ordinal(y[first]-v) < low {
			first++
		}
		for j := first; j < len(y) && ordinal(y[j]-v) <= high; j++ {
			list = append(list, y[j]-v)
		}
	}
	slices.Sort(list)
	return list[k-below-1]
}

func differencesUpTo(x, y []float64, bound float64) (count int) {
	j := 0
	for _, v := range x {
		for j < len(y) && y[j]-v <= bound {
			j++
		}
		count += j
	}
	return count
}

// ordinal numbers the floats in their order: the next float has the next number.
func ordinal(v float64) uint64 {
	b := math.Float64bits(v)
	if b>>63 == 1 {
		return ^b
	}
	return b | 1<<63
}

func fromOrdinal(n uint64) float64 {
	if n>>63 == 1 {
		return math.Float64frombits(n &^ (1 << 63))
	}
	return math.Float64frombits(^n)
}

type orderKey struct {
	n, m    int
	atLeast float64
}

type order struct {
	k        int
	coverage float64
}

// orders keeps what mosesOrder found: all metrics of a cell ask for the same one.
var orders sync.Map // orderKey → order

// mosesOrder is the k of shiftOf's interval with its coverage. k is 0 where even the smallest and the largest difference
// cover less, which is then the coverage.
func mosesOrder(n, m int, atLeast float64) (k int, coverage float64) {
	key := orderKey{min(n, m), max(n, m), atLeast}
	if found, ok := orders.Load(key); ok {
		o := found.(order)
		return o.k, o.coverage
	}
	// Coverage falls as k grows.
	cut := sort.Search(n*m/2, func(i int) bool { return mosesCoverage(n, m, i+1) < atLeast })
	o := order{cut, mosesCoverage(n, m, max(1, cut))}
	orders.Store(key, o)
	return o.k, o.coverage
}

// mosesCoverage is 1 - 2 P(U < k): the number of differences below the true shift is distributed as U is without one.
func mosesCoverage(n, m, k int) float64 {
	switch {
	case k == 1:
		return max(0, 1-leastRankP(n, m))
	case max(n, m) <= maxExactRanks:
		return max(0, 1-2*stats.UDist{N1: n, N2: m}.CDF(float64(k-1)))
	}
	a, b := float64(n), float64(m)
	z := (a*b/2 - (float64(k) - 0.5)) / math.Sqrt(a*b*(a+b+1)/12)
	return max(0, 1-2*distuv.UnitNormal.Survival(z))
}
