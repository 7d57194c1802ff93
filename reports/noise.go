// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Noise warns. Nothing is left out for it: whoever drops what looks odd finds what he looks for.
const (
	// standsOut is the modified z-score above which a block's value is worth a word: Iglewicz and Hoaglin, How to Detect
	// and Handle Outliers (1993), give 3.5.
	standsOut = 3.5
	// leastOddity is how far from the median, relative, a value must be as well: of values that hardly vary any is an outlier.
	leastOddity = 0.10
	// leastBlocks for any of these doubts.
	leastBlocks = 6
	// leastDrift is the change over a run, relative, that is worth a word, if it is significant at driftAlpha.
	leastDrift = 0.05
	driftAlpha = 0.01
	// unfinished is how much less work, relative, the first half of the windows may have done than the second.
	unfinished = 0.02
)

// doubtNoise notes what is odd about the values of the cell's primary metric.
func (d *cellData) doubtNoise() {
	if byBlock := d.perBlock(d.primary); len(byBlock) >= leastBlocks {
		s := seriesOf(byBlock)
		for _, text := range append(s.outliers(d.primary), s.drift(d.primary)...) {
			d.notes.add(Note{Text: text})
		}
	}
	if halves := d.perBlock("halves"); len(halves) >= leastBlocks {
		values := slices.Collect(maps.Values(halves))
		iv, ratio := medianInterval(values, 0.95), median(values)
		if iv.ok && iv.high < 1 && ratio < 1-unfinished {
			d.notes.add(Note{Text: fmt.Sprintf("warm-up was not over: the windows' first half did %.1f%% less work than the second; --warmup makes it longer", 100*(1-ratio))})
		}
	}
}

// outliers are the values whose distance from the median is large in units of the median absolute deviation.
func (s series) outliers(metric string) (texts []string) {
	middle := median(s.values)
	var off []float64
	for _, v := range s.values {
		off = append(off, math.Abs(v-middle))
	}
	sigma := median(off) / distuv.UnitNormal.Quantile(0.75) // the MAD of a normal distribution is 0.6745 σ
	if !(sigma > 0) || middle == 0 {
		return nil
	}
	for i, v := range s.values {
		z, share := (v-middle)/sigma, (v-middle)/math.Abs(middle)
		if math.Abs(z) > standsOut && math.Abs(share) > leastOddity {
			texts = append(texts, fmt.Sprintf("noisy: %s of block %d is %+.0f%% off the median (%+.1f σ by the MAD)", metric, s.blocks[i], 100*share, z))
		}
	}
	return texts
}

// drift finds a trend over the blocks: Spearman's rank correlation with the block's number, its p by the t approximation
// (Hollander, Wolfe and Chicken, section 8.5).
func (s series) drift(metric string) []string {
	n := float64(len(s.values))
	if n < 3 {
		return nil
	}
	rho := stat.Correlation(ranksOf(s.values), counting(len(s.values)), nil)
	if math.IsNaN(rho) { // all values are equal
		return nil
	}
	p := 0.0
	if rho*rho < 1 {
		t := math.Abs(rho) * math.Sqrt((n-2)/(1-rho*rho))
		p = 2 * distuv.StudentsT{Sigma: 1, Nu: n - 2}.Survival(t)
	}
	third := len(s.values) / 3
	first, last := median(s.values[:third]), median(s.values[len(s.values)-third:])
	if change := last/first - 1; p < driftAlpha && isFinite(change) && math.Abs(change) > leastDrift {
		return []string{fmt.Sprintf("drift: %s changed by %+.0f%% from the first third of the blocks to the last (ρ %+.2f)", metric, 100*change, rho)}
	}
	return nil
}

// ranksOf gives each value its rank, equal ones their mean rank.
func ranksOf(values []float64) []float64 {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(values[a], values[b]) })
	ranks := make([]float64, len(values))
	for i, doubled := range doubledRanks(len(order), func(i, j int) bool { return values[order[i]] == values[order[j]] }) {
		ranks[order[i]] = float64(doubled) / 2
	}
	return ranks
}

// counting is 1 … n.
func counting(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(i + 1)
	}
	return out
}
