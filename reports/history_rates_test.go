// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"flag"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/econbench/econbench"
)

// allRates makes tests compute every figure of docs/history.md, which takes minutes. Without it they hold some of them, which take seconds.
var allRates = flag.Bool("rates", false, "compute every rate of docs/history.md: go test ./reports -run HistoryRates -rates -v")

// spiked is Gaussian noise in which so many nights are 10 σ too low.
func spiked(share float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 {
		if v := r.NormFloat64(); r.Float64() >= share {
			return v
		}
		return -10
	}
}

// TestHistoryRatesGate looks at histories without changes again each night, as a nightly job does: how often does --gate fail?
func TestHistoryRatesGate(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	gauss := func() func(*rand.Rand) float64 { return (*rand.Rand).NormFloat64 }
	t3 := func() func(*rand.Rand) float64 { return studentT3 }
	alike := func(rho float64) func() func(*rand.Rand) float64 {
		return func() func(*rand.Rand) float64 { return correlatedNoise(rho) }
	}
	spikes := func(share float64) func() func(*rand.Rand) float64 {
		return func() func(*rand.Rand) float64 { return spiked(share) }
	}
	for _, c := range []struct {
		name         string
		noise        func() func(*rand.Rand) float64
		sigma        float64
		least        int
		nights, ever float64 // shares that it fails, in % as in docs/history.md
		always       bool    // also without -rates
	}{
		{"Gaussian", gauss, 0.005, 3, 0, 0, false}, {"Gaussian", gauss, 0.01, 3, 0.29, 5, true}, {"Gaussian", gauss, 0.02, 3, 0.59, 7, false},
		{"Student's t", t3, 0.005, 3, 0.55, 4, false}, {"Student's t", t3, 0.01, 3, 0.92, 13, true}, {"Student's t", t3, 0.02, 3, 1.18, 16, false},
		{"autocorrelation 0.2", alike(0.2), 0.005, 3, 0, 0, false}, {"autocorrelation 0.2", alike(0.2), 0.01, 3, 0.86, 12, false}, {"autocorrelation 0.2", alike(0.2), 0.02, 3, 2.24, 29, false},
		{"autocorrelation 0.3", alike(0.3), 0.005, 3, 0, 0, false}, {"autocorrelation 0.3", alike(0.3), 0.01, 3, 1.2, 19, false}, {"autocorrelation 0.3", alike(0.3), 0.02, 3, 4.33, 46, false},
		{"autocorrelation 0.5", alike(0.5), 0.005, 3, 0, 0, false}, {"autocorrelation 0.5", alike(0.5), 0.01, 3, 2.88, 39, false}, {"autocorrelation 0.5", alike(0.5), 0.02, 3, 9.63, 74, false},
		{"a spike in thirty", spikes(1. / 30), 0.01, 3, 1.24, 40, false}, {"a spike in thirty", spikes(1. / 30), 0.01, 5, 0.31, 13, false},
		{"a spike in a hundred", spikes(0.01), 0.01, 3, 0.29, 12, false}, {"a spike in a hundred", spikes(0.01), 0.01, 5, 0.1, 4, false},
	} {
		if !c.always && !*allRates {
			continue
		}
		histories := 40
		if *allRates {
			histories = 100
		}
		nights, ever := gateRates(c.noise, c.sigma, c.least, histories)
		nights, ever = 100*nights, 100*ever
		t.Logf("%s, σ %.1f%%, segments of %d: the gate fails on %.2f%% of nights, in %.0f%% of histories", c.name, 100*c.sigma, c.least, nights, ever)
		// Of fewer histories: within three standard errors; nights that follow each other fail together.
		offNights, offEver := 3*c.nights, 3*math.Sqrt(c.ever*(100-c.ever)/float64(histories))
		if *allRates {
			offNights, offEver = 0.0051, 0.51
		}
		if math.Abs(nights-c.nights) > offNights || math.Abs(ever-c.ever) > offEver {
			t.Errorf("%s, σ %.1f%%, segments of %d: %.2f%% of nights, %.1f%% of histories; docs/history.md says %.2f%%, %.0f%%", c.name, 100*c.sigma, c.least, nights, ever, c.nights, c.ever)
		}
	}
}

// gateRates is the share of nights on which the gate fails, each from the 10th to the 60th, over 20 series without changes, and the share of
// such histories in which it ever does.
func gateRates(noise func() func(*rand.Rand) float64, sigma float64, least, histories int) (nights, ever float64) {
	const series, first, last = 20, 10, 60
	failed := make([]int, histories)
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for seed := range histories {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(seed), 40))
			var all [series][]float64
			for s := range all {
				draw := noise()
				for range last {
					all[s] = append(all[s], sigma*draw(random))
				}
			}
			for n := first; n <= last; n++ {
				for s := range all {
					if stands(all[s][:n], least, series) {
						failed[seed]++
						break
					}
				}
			}
			return nil
		})
	}
	_ = g.Wait() // none has an error
	for _, n := range failed {
		nights += float64(n) / float64(histories*(last-first+1))
		if n > 0 {
			ever += 1 / float64(histories)
		}
	}
	return nights, ever
}

// stands says whether a series of logarithms, one of so many, has a regression that stands on its last night.
func stands(logs []float64, least, series int) bool {
	cuts := changePoints(logs, least, DefaultHistoryAlpha/float64(series*max(1, places(len(logs), least))))
	values := make([]float64, len(logs))
	for i, v := range logs {
		values[i] = math.Exp(v)
	}
	o := HistoryOptions{}.withDefaults()
	var changes []HistoryChange
	for i, c := range cuts {
		from, to := 0, len(values)
		if i > 0 {
			from = cuts[i-1].at
		}
		if i+1 < len(cuts) {
			to = cuts[i+1].at
		}
		changes = append(changes, HistoryChange{Factor: *changeOf(values[from:c.at], values[c.at:to], 0, o.Options).Factor})
	}
	_, _, regressed := standing(econbench.Higher, changes, o.MinEffect)
	return regressed
}

// TestHistoryRatesLatency: how many nights it takes until a change is seen, 30 nights behind the first, among 20 and among 4 series.
func TestHistoryRatesLatency(t *testing.T) {
	const before = 30
	seeds := 200
	columns := []int{3, 4, 5, 7, 10, 14, 30}
	if *allRates {
		seeds = 400
	}
	for _, c := range []struct {
		size   float64 // σ of nights
		series int
		want   []float64 // %, of docs/history.md
	}{
		{2, 20, []float64{7, 13, 20, 36, 58, 77, 92}}, {3, 20, []float64{38, 61, 72, 92, 97, 98, 100}}, {4, 20, []float64{81, 92, 96, 100, 100, 100, 100}}, {5, 20, []float64{96, 98, 100, 100, 100, 100, 100}},
		{2, 4, []float64{12, 24, 36, 52, 73, 84, 92}}, {3, 4, []float64{55, 78, 85, 97, 99, 100, 99}}, {4, 4, []float64{90, 98, 98, 100, 100, 100, 100}}, {5, 4, []float64{98, 100, 100, 100, 100, 100, 100}},
	} {
		for i, nights := range columns {
			if !*allRates && i%2 == 1 { // a test of every figure takes seconds more
				continue
			}
			found := 0
			for seed := range uint64(seeds) {
				random := rand.New(rand.NewPCG(seed, 7))
				x := make([]float64, before+nights)
				for i := range x {
					if x[i] = random.NormFloat64(); i >= before {
						x[i] -= c.size
					}
				}
				cuts := changePoints(x, DefaultMinSegment, DefaultHistoryAlpha/float64(c.series*places(len(x), DefaultMinSegment)))
				if n := len(cuts); n > 0 && nightsApart(cuts[n-1].at, before) <= 2 {
					found++
				}
			}
			share := 100 * float64(found) / float64(seeds)
			t.Logf("%d series: a change of %gσ is seen after %d nights in %.0f%%", c.series, c.size, nights, share)
			off := 0.51
			if !*allRates { // half of the table's seeds: within three standard errors
				off += 3 * math.Sqrt(max(c.want[i]*(100-c.want[i]), 100)/float64(seeds))
			}
			if math.Abs(share-c.want[i]) > off {
				t.Errorf("%d series: a change of %gσ is seen after %d nights in %.1f%%, docs/history.md says %.0f%%", c.series, c.size, nights, share, c.want[i])
			}
		}
	}
}

// TestHistoryRatesPlanted: both changes of TestHistoryPlanted in one of 20 series, a thousand times.
func TestHistoryRatesPlanted(t *testing.T) {
	const seeds, nights = 1000, 60
	both, exact := 0, 0
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 60))
		shape := steps(map[int]float64{21: 0.95, 43: 1.04})
		x := make([]float64, nights)
		for i := range x {
			x[i] = math.Log(shape(i)) + 0.01*random.NormFloat64()
		}
		cuts := changePoints(x, DefaultMinSegment, DefaultHistoryAlpha/float64(20*places(nights, DefaultMinSegment)))
		if len(cuts) == 2 && nightsApart(cuts[0].at, 21) <= 1 && nightsApart(cuts[1].at, 43) <= 1 {
			both++
			if cuts[0].at == 21 && cuts[1].at == 43 {
				exact++
			}
		}
	}
	if both != 994 || exact != 930 { // of these seeds, as docs/history.md has it
		t.Errorf("both changes and no other in %d of %d, at the very nights in %d", both, seeds, exact)
	}
}
