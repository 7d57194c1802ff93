// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"sync"

	"gonum.org/v1/gonum/stat/distuv"
)

// The numbers of this file come from Hollander, Wolfe, Chicken: Nonparametric Statistical Methods (3rd ed. 2014): signed
// ranks in section 3.1, the median's interval in 3.6; David, Nagaraja: Order Statistics (3rd ed. 2003), section 7.1, for
// its coverage; and Holm: A Simple Sequentially Rejective Multiple Test Procedure (Scand. J. Statist. 6, 1979).
//
// Tried and rejected: benchmath.AssumeNothing's interval. For most n it is one order statistic longer on the left than
// on the right (n=7: 1st to 6th), so that turning a ratio upside down changes its interval; above n=30 it is approximate.

// median of at least one finite value, which need not be sorted. An even number gives the mean of the middle two.
func median(values []float64) float64 { return sortedMedian(sortedCopy(values)) }

// sortedCopy does what slices.Sorted(slices.Values(values)) does in one allocation instead of a growing one.
func sortedCopy(values []float64) []float64 {
	s := slices.Clone(values)
	slices.Sort(s)
	return s
}

func sortedMedian(s []float64) float64 {
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return s[n/2-1]/2 + s[n/2]/2 // halves first: their sum may overflow
}

// interval is a distribution-free confidence interval of a median.
type interval struct {
	low, high float64
	// coverage is the exact probability that the interval holds the population's median, whatever the distribution (for a
	// continuous one; else at least that). When ok is false it is that of the widest one, minimum to maximum.
	coverage float64
	ok       bool // coverage reaches what was asked for
}

// medianInterval is the shortest symmetric interval between order statistics, kth smallest to kth largest, whose exact
// coverage is at least the one asked for: 0.95 takes 6 values (minimum to maximum, 0.96875).
func medianInterval(values []float64, atLeast float64) interval {
	return sortedInterval(sortedCopy(values), atLeast)
}

func sortedInterval(s []float64, atLeast float64) interval {
	n := len(s)
	if n == 0 {
		return interval{}
	}
	o := medianOrder(n, atLeast)
	return interval{low: s[o.k-1], high: s[n-o.k], coverage: o.coverage, ok: o.coverage >= atLeast}
}

type medianKey struct {
	n       int
	atLeast float64
}

// medianOrders keeps what medianOrder found: resampling asks for the same ones millions of times.
var medianOrders sync.Map // medianKey → order

// medianOrder is the k of a median's interval with its coverage, which falls as k grows; k-1 is how many of the n/2 pairs of
// extremes are cut off.
func medianOrder(n int, atLeast float64) order {
	key := medianKey{n, atLeast}
	if found, ok := medianOrders.Load(key); ok {
		return found.(order)
	}
	k := 1 + sort.Search((n-1)/2, func(i int) bool { return orderCoverage(n, i+2) < atLeast })
	o := order{k, orderCoverage(n, k)}
	medianOrders.Store(key, o)
	return o
}

// orderCoverage is the probability that the median lies between the kth smallest and the kth largest of n values: the
// number of values below it is binomial with p = ½. For n = 1 the two are one value, which covers nothing.
func orderCoverage(n, k int) float64 {
	below := distuv.Binomial{N: float64(n), P: 0.5}.CDF(float64(k - 1))
	return max(0, 1-2*below)
}

// maxExact is the largest number of differences for which the signed-rank distribution is computed exactly.
const maxExact = 50

// signedRank is the Wilcoxon signed-rank test: the two-sided p of the hypothesis that the differences are symmetric
// about 0. Zeros are left out, as Wilcoxon did; n is what remains. Equal magnitudes share their mean rank. Up to maxExact
// differences p is exact, ties included (the permutation distribution given the ranks); beyond it is the normal
// approximation with corrections for ties and continuity.
func signedRank(differences []float64) (p float64, n int) {
	return sortedSignedRank(slices.Sorted(slices.Values(differences)))
}

func sortedSignedRank(differences []float64) (p float64, n int) {
	ranks, positive := midranks(differences)
	n = len(ranks)
	if n == 0 {
		return 1, 0
	}
	sum := 0 // of the positive differences' doubled ranks
	for i, r := range ranks {
		if positive[i] {
			sum += r
		}
	}
	if n <= maxExact {
		return exactSignedRank(ranks, sum), n
	}
	return normalSignedRank(ranks, sum), n
}

// midranks ranks the magnitudes of the sorted differences that are not 0. Ranks are doubled, so that means of two are whole.
// Magnitudes fall up to 0 and rise from there, so that the two halves are merged and nothing is sorted again.
func midranks(differences []float64) (doubled []int, positive []bool) {
	d := make([]float64, 0, len(differences)) // magnitudes
	positive = make([]bool, 0, len(differences))
	right, _ := slices.BinarySearch(differences, 0)
	for left := right - 1; left >= 0 || right < len(differences); {
		fromRight := left < 0 || right < len(differences) && differences[right] < -differences[left]
		var v float64
		if fromRight {
			v = differences[right]
			right++
		} else {
			v = -differences[left]
			left--
		}
		if !same(v, 0) {
			d, positive = append(d, v), append(positive, fromRight)
		}
	}
	return doubledRanks(len(d), func(i, j int) bool { return same(d[i], d[j]) }), positive
}

// doubledRanks ranks n sorted things, equal ones by twice the mean of their ranks.
func doubledRanks(n int, equal func(i, j int) bool) (doubled []int) {
	doubled = make([]int, 0, n)
	for i := 0; i < n; {
		j := i + 1
		for j < n && equal(i, j) {
			j++
		}
		for range j - i {
			doubled = append(doubled, i+1+j) // twice the mean of i+1 … j
		}
		i = j
	}
	return doubled
}

// same ignores what rounding does to logarithms: latencies in whole microseconds give equal ratios that differ by an ulp.
func same(a, b float64) bool { return math.Abs(a-b) <= 1e-12*max(1, math.Abs(a), math.Abs(b)) }

// exactSignedRank gives every sign to every rank with probability ½ and adds up the smaller tail: one step of the distribution for
// each rank, as far as that tail goes.
func exactSignedRank(doubled []int, sum int) float64 {
	total := 0
	for _, r := range doubled {
		total += r
	}
	end := min(sum, total-sum) // the distribution is symmetric about total/2
	prob := make([]float64, end+1)
	prob[0] = 1
	reached := 0
	for _, r := range doubled {
		for s := min(reached, end); s >= 0; s-- {
			half := prob[s] / 2
			prob[s] = half
			if s+r <= end {
				prob[s+r] += half
			}
		}
		reached += r
	}
	tail := 0.0
	for _, v := range prob {
		tail += v
	}
	return min(1, 2*tail)
}

func normalSignedRank(doubled []int, sum int) float64 {
	n := float64(len(doubled))
	variance := n * (n + 1) * (2*n + 1) / 24
	for i := 0; i < len(doubled); {
		j := i
		for j < len(doubled) && doubled[j] == doubled[i] {
			j++
		}
		t := float64(j - i)
		variance -= (t*t*t - t) / 48
		i = j
	}
	distance := math.Abs(float64(sum)/2-n*(n+1)/4) - 0.5
	if distance <= 0 {
		return 1
	}
	return 2 * distuv.UnitNormal.Survival(distance/math.Sqrt(variance))
}

// leastP is the smallest two-sided p that n differences can give.
func leastP(n int) float64 { return min(1, math.Ldexp(1, 1-n)) }

// holm adjusts the p of a family of hypotheses such that rejecting those at or below α keeps the chance of any false
// rejection at or below α, however they depend on each other.
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	adjusted := make([]float64, len(p))
	least := 0.0
	for step, i := range order {
		least = max(least, min(1, float64(len(p)-step)*p[i]))
		adjusted[i] = least
	}
	return adjusted
}
