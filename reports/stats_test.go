// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/perf/benchmath"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance || math.IsNaN(got) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}, {[]float64{math.MaxFloat64, math.MaxFloat64}, math.MaxFloat64}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.in, got, c.want)
		}
	}
}

// TestMedianInterval checks orders and coverages against the table of confidence intervals for the median by Nair (1940),
// as it is printed in David and Nagaraja and in many textbooks: n, k and the exact level of [x(k), x(n+1-k)].
func TestMedianInterval(t *testing.T) {
	for _, c := range []struct {
		n, k     int
		coverage float64
	}{
		{6, 1, 0.96875}, {7, 1, 0.984375}, {8, 1, 0.9921875}, {9, 2, 0.9609375}, {10, 2, 0.978515625},
		{12, 3, 0.96142578125}, {15, 4, 0.964843750}, {20, 6, 0.9586105}, {25, 8, 0.9567147}, {30, 10, 0.9572261},
		{50, 18, 0.9671609}, {100, 40, 0.9647998},
	} {
		values := make([]float64, c.n)
		for i := range values {
			values[i] = float64((i*7)%c.n + 1) // 1 … n in some order, unless 7 divides n
		}
		if c.n%7 == 0 {
			for i := range values {
				values[i] = float64(i + 1)
			}
		}
		iv := medianInterval(values, 0.95)
		if !iv.ok || iv.low != float64(c.k) || iv.high != float64(c.n+1-c.k) {
			t.Errorf("n=%d: %+v, want orders %d and %d", c.n, iv, c.k, c.n+1-c.k)
		}
		near(t, "coverage", iv.coverage, c.coverage, 1e-7)
	}
	for n, coverage := range map[int]float64{0: 0, 1: 0, 2: 0.5, 3: 0.75, 4: 0.875, 5: 0.9375} {
		iv := medianInterval(make([]float64, n), 0.95)
		if iv.ok {
			t.Errorf("n=%d has an interval", n)
		}
		near(t, "coverage", iv.coverage, coverage, 1e-12)
	}
}

// TestMedianIntervalBenchmath compares with benchstat's intervals where those are symmetric, hence the same.
func TestMedianIntervalBenchmath(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	compared := 0
	for n := 6; n <= 30; n++ {
		values := make([]float64, n)
		for i := range values {
			values[i] = random.NormFloat64()
		}
		iv := medianInterval(values, 0.95)
		theirs := benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95)
		near(t, "median", median(values), theirs.Center, 1e-12)
		if math.Abs(theirs.Confidence-iv.coverage) > 1e-9 {
			// Theirs is one shorter on one side and must lie inside.
			if theirs.Lo < iv.low || theirs.Hi > iv.high || theirs.Confidence > iv.coverage {
				t.Errorf("n=%d: %+v outside of %+v", n, theirs, iv)
			}
			continue
		}
		compared++
		near(t, "low", iv.low, theirs.Lo, 0)
		near(t, "high", iv.high, theirs.Hi, 0)
	}
	if compared < 5 {
		t.Errorf("only %d intervals were symmetric", compared)
	}
}

func TestSignedRankPublished(t *testing.T) {
	minus := func(x, y []float64) []float64 {
		d := make([]float64, len(x))
		for i := range x {
			d[i] = x[i] - y[i]
		}
		return d
	}
	for name, c := range map[string]struct {
		d []float64
		p float64
		n int
	}{
		// Hollander and Wolfe, example 3.1: depression scores of nine patients before and after a tranquilliser. T+ = 40,
		// one-sided p 0.0195 (R's wilcox.test gives V = 40, p = 0.01953 for the same data).
		"depression": {minus([]float64{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30},
			[]float64{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29}), 0.0390625, 9},
		// Darwin's maize, cross- less self-fertilised, eighths of an inch (Fisher, Design of Experiments, III): the ranks
		// 1 to 15 with ties; the negative ones are those of 48 and 67, T- = 11 + 13 = 24: two-sided 0.0413 by permutation.
		"maize":    {[]float64{49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48}, 0.04126, 15},
		"n=5":      {[]float64{1, 2, 3, 4, 5}, 0.0625, 5},
		"n=6":      {[]float64{1, 2, 3, 4, 5, 6}, 0.03125, 6},
		"n=6 down": {[]float64{-1, -2, -3, -4, -5, -6}, 0.03125, 6},
		// Critical values of the tables, two-sided: T = 3 at n = 8 → 0.0391, T = 8 at n = 10 → 0.0488, T = 52 at n = 20 → 0.0484.
		"n=8 T=3":   {[]float64{-1, -2, 3, 4, 5, 6, 7, 8}, 0.0390625, 8},
		"n=10 T=8":  {[]float64{-1, 2, 3, 4, 5, 6, -7, 8, 9, 10}, 0.048828125, 10},
		"n=20 T=52": {[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, -13, 14, 15, 16, 17, 18, -19, -20}, 0.0484, 20},
		"ties":      {[]float64{1, 1, 1, -1}, 0.625, 4}, // all midranks equal: the sign test
		"zeros":     {[]float64{0, 0, 1, 2, 3, 4, 5, 6}, 0.03125, 6},
		"all zero":  {[]float64{0, 0, 0}, 1, 0},
		"none":      {nil, 1, 0},
	} {
		p, n := signedRank(c.d)
		near(t, name, p, c.p, 5e-5)
		if n != c.n {
			t.Errorf("%s: n = %d, want %d", name, n, c.n)
		}
	}
}

// TestSignedRankBrute compares with all 2^n signs, ties and all.
func TestSignedRankBrute(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		d := make([]float64, 1+random.IntN(11))
		for i := range d {
			d[i] = float64(random.IntN(9) - 4)
		}
		got, n := signedRank(d)
		near(t, "p", got, bruteSignedRank(d), 1e-12)
		if n > 0 && got < leastP(n)-1e-15 {
			t.Errorf("p %v of %v is below the least possible %v", got, d, leastP(n))
		}
	}
}

func bruteSignedRank(d []float64) float64 {
	ranks, positive := midranks(slices.Sorted(slices.Values(d)))
	if len(ranks) == 0 {
		return 1
	}
	total, sum := 0, 0
	for i, r := range ranks {
		total += r
		if positive[i] {
			sum += r
		}
	}
	tail := 0
	for signs := range 1 << len(ranks) {
		s := 0
		for i, r := range ranks {
			if signs>>i&1 == 1 {
				s += r
			}
		}
		if s <= min(sum, total-sum) {
			tail++
		}
	}
	return min(1, 2*float64(tail)/float64(int(1)<<len(ranks)))
}

// TestSignedRankNormal has the approximation meet the exact distribution where both can be had.
func TestSignedRankNormal(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, ties := range []bool{false, true} {
		for range 50 {
			d := make([]float64, maxExact)
			for i := range d {
				d[i] = random.NormFloat64() + 0.3
				if ties {
					d[i] = math.Round(3 * d[i])
				}
			}
			ranks, positive := midranks(slices.Sorted(slices.Values(d)))
			sum := 0
			for i, r := range ranks {
				if positive[i] {
					sum += r
				}
			}
			near(t, "p", normalSignedRank(ranks, sum), exactSignedRank(ranks, sum), 0.006)
		}
	}
	large := make([]float64, 100_000)
	for i := range large {
		large[i] = random.NormFloat64() + 0.05
	}
	if p, n := signedRank(large); p > 1e-6 || n != len(large) {
		t.Errorf("large: p %v, n %d", p, n)
	}
}

func TestSameForgivesRounding(t *testing.T) {
	a, b := math.Log(22)-math.Log(21), math.Log(44)-math.Log(42)
	ranks, _ := midranks(slices.Sorted(slices.Values([]float64{a, -b, 1})))
	if diff := cmp.Diff([]int{3, 3, 6}, ranks); diff != "" {
		t.Error(diff)
	}
}

// TestHolm is the worked example of R's p.adjust and of Holm's paper: sorted p times m, m-1, …, never falling.
func TestHolm(t *testing.T) {
	got := holm([]float64{0.01, 0.04, 0.03, 0.005})
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		near(t, "holm", got[i], want, 1e-15)
	}
	if got := holm([]float64{0.7, 0.9}); got[0] != 1 || got[1] != 1 {
		t.Errorf("capped: %v", got)
	}
	if got := holm(nil); len(got) != 0 {
		t.Errorf("none: %v", got)
	}
}

func TestPairsNeeded(t *testing.T) {
	for family, want := range map[int]int{1: 6, 2: 7, 3: 7, 4: 8, 6: 8, 7: 9, 10: 9} {
		if got := pairsNeeded(0.05, family); got != want {
			t.Errorf("family of %d: %d pairs, want %d", family, got, want)
		}
	}
	if got := pairsNeeded(1-0.95, 1); got != 6 {
		t.Errorf("interval: %d", got)
	}
}
