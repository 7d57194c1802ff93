// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*math.Abs(want) {
		t.Errorf("%s: %.5g, want %.5g", what, got, want)
	}
}

// TestETC holds drawn sizes against the paper's distributions. The seed is fixed, so that it passes always or never.
func TestETC(t *testing.T) {
	const n = 400000
	r := random(1, ofKeys, 0)
	etc := Sizes{ETC: true}
	keys, values := make([]float64, n), make([]float64, n)
	sum, square := 0.0, 0.0
	small := 0
	for i := range n {
		keys[i], values[i] = float64(etc.keySize(r)), float64(etc.valueSize(r))
		sum += keys[i]
		square += keys[i] * keys[i]
		if values[i] <= 14 {
			small++
		}
	}
	slices.Sort(keys)
	slices.Sort(values)
	// Mean and variance of a generalised extreme value: with g_k = Γ(1 − k·shape), location + scale·(g_1 − 1)/shape and scale²·(g_2 − g_1²)/shape².
	g1, g2 := math.Gamma(1-gevShape), math.Gamma(1-2*gevShape)
	mean := sum / n
	near(t, "mean of keys", mean, gevLocation+gevScale*(g1-1)/gevShape, 0.01)
	near(t, "variance of keys", square/n-mean*mean, gevScale*gevScale*(g2-g1*g1)/(gevShape*gevShape), 0.03)
	near(t, "median of keys", keys[n/2], gevLocation+gevScale*(math.Pow(math.Ln2, -gevShape)-1)/gevShape, 0.03)
	near(t, "share of values up to 14 B", float64(small)/n, 0.44155, 0.01)
	for _, share := range []float64{0.5, 0.9, 0.99} {
		// Of the tail that share lies below location + scale·((1 − share)^−shape − 1)/shape.
		at := small + int(share*float64(n-small))
		near(t, "percentile of large values", values[at], 15+214.476*(math.Pow(1-share, -0.348238)-1)/0.348238, 0.03)
	}
	near(t, "share of 2 B", float64(count(values, 2))/n, 0.17820, 0.02)
	near(t, "share of 11 B", float64(count(values, 11))/n, 0.08989, 0.02)
}

func count(list []float64, x float64) (n int) {
	for _, v := range list {
		if v == x {
			n++
		}
	}
	return n
}

func TestUniformSizes(t *testing.T) {
	r, seen := random(1, ofKeys, 0), map[int]int{}
	for range 1000 {
		seen[Sizes{Low: 3, High: 5}.valueSize(r)]++
	}
	if len(seen) != 3 || seen[3] < 200 || seen[4] < 200 || seen[5] < 200 {
		t.Errorf("found %v", seen)
	}
}

// TestZipf: the k-th is drawn in proportion to 1/k^theta.
func TestZipf(t *testing.T) {
	const n, theta, draws = 1000, 0.99, 400000
	z, r, seen := newZipf(n, theta), random(1, ofRequests, 0), make([]int, n)
	for range draws {
		seen[z.draw(r)]++
	}
	near(t, "first", float64(seen[0])/draws, 1/z.zeta, 0.02)
	near(t, "second", float64(seen[1])/draws, math.Pow(2, -theta)/z.zeta, 0.02)
	first100, want := 0, 0.0
	for k := range 100 {
		first100 += seen[k]
		want += math.Pow(float64(k+1), -theta) / z.zeta
	}
	near(t, "first hundred", float64(first100)/draws, want, 0.03)
	for _, few := range []int{1, 2, 3} {
		z := newZipf(few, theta)
		for range 1000 {
			if k := z.draw(r); k < 0 || k >= few {
				t.Fatalf("of %d: %d", few, k)
			}
		}
	}
}

// TestPoisson: gaps are exponential: their mean and deviation are the rate's inverse, and no gap says anything of the next.
func TestPoisson(t *testing.T) {
	const rate, n = 5000.0, 200000
	a, again := newArrivals(rate, random(7, ofArrivals, 0)), newArrivals(rate, random(7, ofArrivals, 0))
	sum, square, product, last, before := 0.0, 0.0, 0.0, time.Duration(0), 0.0
	for range n {
		if a.next != again.next {
			t.Fatal("the same seed gives other moments")
		}
		gap := (a.next - last).Seconds()
		last = a.next
		sum += gap
		square += gap * gap
		product += gap * before
		before = gap
		a.advance()
		again.advance()
	}
	mean := sum / n
	near(t, "mean gap", mean, 1/rate, 0.01)
	near(t, "deviation of gaps", math.Sqrt(square/n-mean*mean), 1/rate, 0.02)
	if correlation := (product/n - mean*mean) / (mean * mean); math.Abs(correlation) > 0.02 {
		t.Errorf("correlation of gaps: %.3f", correlation)
	}
	if other := newArrivals(rate, random(8, ofArrivals, 0)); other.next == newArrivals(rate, random(7, ofArrivals, 0)).next {
		t.Error("another seed gives the same moments")
	}
}

// TestRequestsFollowTheSeed: equal seeds ask the same in the same order; keys differ from each other.
func TestRequestsFollowTheSeed(t *testing.T) {
	o := Options{Keys: 500, GetShare: 0.5, KeySize: Sizes{Low: 1, High: 30}, Value: Sizes{Low: 1, High: 50}, Zipf: 0.9, Seed: 3}
	stream := func(o Options) (b []byte) {
		var sent [2]int
		m := newMemcached(newKeyspace(o), newChooser(o, 0), &sent)
		for range 1000 {
			b = m.next(b)
		}
		near(t, "share of gets", float64(sent[1])/1000, 0.5, 0.1)
		return b
	}
	other := o
	other.Seed++
	if a := stream(o); !bytes.Equal(a, stream(o)) || bytes.Equal(a, stream(other)) {
		t.Error("the seed does not decide what is asked")
	}
	seen := map[string]bool{}
	for _, k := range newKeyspace(o).keys {
		if seen[string(k)] || len(k) > 30 {
			t.Errorf("key %q", k)
		}
		seen[string(k)] = true
	}
}
