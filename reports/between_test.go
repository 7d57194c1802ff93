// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/perf/benchmath"
)

// permeability of the human chorioamnion to water at term and at 12 to 26 weeks of pregnancy: Hollander and Wolfe, table 4.1;
// the example of R's wilcox.test.
var (
	atTerm  = []float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46}
	earlier = []float64{1.15, 0.88, 0.90, 0.74, 1.21}
)

// TestRankSumPublished: W = 35, one-sided p = 0.1272 by the book and by R; estimate 0.305 by the book's example 4.2 (R prints
// the same as "difference in location"); interval (-0.15, 0.76) with exact coverage 0.960 (k = 9) by R's
// wilcox.test(x, y, conf.int = TRUE).
func TestRankSumPublished(t *testing.T) {
	near(t, "p", rankSum(atTerm, earlier), 0.2544122544122544, 1e-12)
	s := shiftOf(earlier, atTerm, 0.95)
	near(t, "estimate", s.estimate, 0.305, 1e-9)
	near(t, "low", s.low, -0.15, 1e-9)
	near(t, "high", s.high, 0.76, 1e-9)
	near(t, "coverage", s.coverage, 1-2*0.01998, 5e-4)
	if !s.ok {
		t.Error("no interval")
	}
}

// TestMosesOrder checks against the critical values of U, two-sided at 5 %, as every table of Mann and Whitney's has them: the
// interval begins one above.
func TestMosesOrder(t *testing.T) {
	for _, c := range []struct{ n, m, critical int }{
		{4, 4, 0}, {4, 5, 1}, {5, 5, 2}, {6, 6, 5}, {7, 7, 8}, {5, 10, 8}, {8, 8, 13}, {9, 9, 17}, {10, 10, 23}, {15, 15, 64}, {20, 20, 127}, {10, 20, 55},
	} {
		if k, coverage := mosesOrder(c.n, c.m, 0.95); k != c.critical+1 || coverage < 0.95 {
			t.Errorf("%d and %d values: k = %d with coverage %v, want %d", c.n, c.m, k, coverage, c.critical+1)
		}
	}
	for _, c := range []struct {
		n, m     int
		coverage float64
	}{{1, 1, 0}, {1, 38, 1 - 2./39}, {2, 2, 1 - 2./6}, {3, 3, 0.9}, {2, 7, 1 - 2./36}} {
		k, coverage := mosesOrder(c.n, c.m, 0.95)
		near(t, "coverage", coverage, c.coverage, 1e-12)
		if k != 0 {
			t.Errorf("%d and %d values have an interval", c.n, c.m)
		}
	}
	if fewest(0.05) != 4 || fewest(0.01) != 5 {
		t.Errorf("fewest: %d, %d", fewest(0.05), fewest(0.01))
	}
}

// TestRankSumBenchmath compares with benchmath wherever it has no ties, or so many values that it approximates.
func TestRankSumBenchmath(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		n, m, ties := 1+random.IntN(60), 1+random.IntN(60), random.IntN(3) == 0
		if ties {
			n, m = n+maxExactRanks, m+maxExactRanks
		}
		draw := func(count int, shift float64) []float64 {
			v := make([]float64, count)
			for i := range v {
				if v[i] = random.NormFloat64() + shift; ties {
					v[i] = math.Round(4 * v[i])
				}
			}
			return v
		}
		x, y := draw(n, 0), draw(m, 0.3)
		theirs := benchmath.AssumeNothing.Compare(benchmath.NewSample(slices.Clone(x), &benchmath.DefaultThresholds),
			benchmath.NewSample(slices.Clone(y), &benchmath.DefaultThresholds))
		near(t, "p", rankSum(x, y), theirs.P, 1e-9)
	}
}

// TestRankSumExact draws every choice of ranks, ties and all.
func TestRankSumExact(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 100 {
		n, m := 1+random.IntN(5), 1+random.IntN(6)
		all := make([]float64, n+m)
		for i := range all {
			all[i] = float64(random.IntN(6))
		}
		got, want := rankSum(all[:n], all[n:]), bruteRankSum(all, n)
		near(t, "p", got, want, 1e-12)
		near(t, "p the other way round", rankSum(all[n:], all[:n]), got, 1e-12)
		up := make([]float64, n+m)
		for i := range all {
			up[i] = all[i]*0.1*3 + math.Copysign(1e-15, random.Float64()-0.5) // the same but for rounding
		}
		near(t, "p of values with rounding errors", rankSum(up[:n], up[n:]), got, 1e-12)
	}
}

// TestRankSumTiesEitherWay is the example of docs/formats.md: benchmath gives 0.071 one way and 0 the other. By hand: of the 56
// ways to choose three of the midranks 2.5 ×4, 5.5 ×2, 7.5 ×2 for the second sample two have the sum found, 20.5, and none more.
func TestRankSumTiesEitherWay(t *testing.T) {
	a, b := []float64{1, 1, 1, 1, 2}, []float64{2, 3, 3}
	near(t, "p", rankSum(a, b), 4./56, 1e-12)
	near(t, "p the other way round", rankSum(b, a), 4./56, 1e-12)
}

// bruteRankSum is twice the share of all choices of n values whose U is at most that of the first n, or at least that.
func bruteRankSum(all []float64, n int) float64 {
	statistic := func(chosen uint) float64 {
		u := 0.0
		for i, a := range all {
			for j, b := range all {
				switch {
				case chosen>>i&1 == 0 || chosen>>j&1 == 1:
				case a > b:
					u++
				case a == b:
					u += 0.5
				}
			}
		}
		return u
	}
	found, below, above, count := statistic(1<<n-1), 0, 0, 0
	for chosen := range uint(1) << len(all) {
		if bits.OnesCount(chosen) != n {
			continue
		}
		count++
		u := statistic(chosen)
		if u <= found {
			below++
		}
		if u >= found {
			above++
		}
	}
	return min(1, 2*float64(min(below, above))/float64(count))
}

// TestNthDifference compares with the list of all differences.
func TestNthDifference(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	for round := range 200 {
		most := 12
		if round%20 == 0 {
			most = 400 // more than are listed at once
		}
		x, y := make([]float64, 1+random.IntN(most)), make([]float64, 1+random.IntN(most))
		for _, v := range [][]float64{x, y} {
			for i := range v {
				if v[i] = random.NormFloat64() * math.Pow(10, float64(random.IntN(20)-10)); random.IntN(3) == 0 {
					v[i] = float64(random.IntN(3))
				}
			}
			slices.Sort(v)
		}
		var all []float64
		for _, a := range x {
			for _, b := range y {
				all = append(all, b-a)
			}
		}
		slices.Sort(all)
		for k, want := range all {
			if k%(1+len(all)/200) != 0 {
				continue
			}
			if got := nthDifference(x, y, k+1); got != want {
				t.Fatalf("%d of %d: %v, want %v", k+1, len(all), got, want)
			}
		}
	}
}

// TestShiftCovers: the interval holds the true shift about as often as it says, and no less by more than chance.
func TestShiftCovers(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for _, size := range [][2]int{{4, 4}, {7, 7}, {6, 12}, {60, 60}} {
		const rounds = 2000
		hits, coverage := 0, 0.0
		for range rounds {
			x, y := make([]float64, size[0]), make([]float64, size[1])
			for i := range x {
				x[i] = random.ExpFloat64()
			}
			for i := range y {
				y[i] = random.ExpFloat64() + 3
			}
			s := shiftOf(x, y, 0.95)
			if coverage = s.coverage; s.low <= 3 && 3 <= s.high {
				hits++
			}
		}
		share := float64(hits) / rounds
		if error := 4 * math.Sqrt(coverage*(1-coverage)/rounds); math.Abs(share-coverage) > error {
			t.Errorf("%v: covers %v, says %v", size, share, coverage)
		}
	}
}

func BenchmarkShiftOfHalfAMillionEach(b *testing.B) {
	random := rand.New(rand.NewPCG(13, 14))
	x, y := make([]float64, 500_000), make([]float64, 500_000)
	for i := range x {
		x[i], y[i] = random.NormFloat64(), random.NormFloat64()+0.1
	}
	for b.Loop() {
		shiftOf(x, y, 0.95)
		rankSum(x, y)
	}
}
