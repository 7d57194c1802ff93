// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/econbench/econbench"
)

// Verdict is what a comparison comes to.
type Verdict string

const (
	VerdictBetter       Verdict = "better"
	VerdictWorse        Verdict = "worse"
	VerdictSame         Verdict = "~"            // no significant difference, and one above the threshold would have shown
	VerdictInconclusive Verdict = "inconclusive" // the data cannot tell; Ratio.Reason says why
	VerdictNone         Verdict = "none"         // of a change of levels between runs: described, and no more blocks would bring a verdict
)

// Options of a summary. The zero value of a field stands for its default.
type Options struct {
	Alpha      float64 // largest p that is significant; 0.05
	Confidence float64 // least coverage of intervals; 0.95
	Threshold  float64 // half width, relative to the median, above which an interval is too wide to say "~"; 0.05
	MinEffect  float64 // least difference, relative, that counts: a smaller one is "~" even when significant; 0.005
}

func (o Options) withDefaults() Options {
	set := func(v *float64, standard float64) {
		if !(*v > 0 && *v < 1) {
			*v = standard
		}
	}
	set(&o.Alpha, 0.05)
	set(&o.Confidence, 0.95)
	set(&o.Threshold, 0.05)
	set(&o.MinEffect, 0.005)
	return o
}

// Ratio compares a metric of an arm with that of the baseline, paired by block. Numbers are null where there is none.
type Ratio struct {
	Median   *float64 `json:"median"` // of the blocks' ratios, arm / baseline
	Low      *float64 `json:"low"`    // interval of that median; null with too few pairs
	High     *float64 `json:"high"`
	Coverage float64  `json:"coverage"` // exact coverage of the interval; without one, what minimum to maximum would cover
	N        int      `json:"n"`        // pairs of blocks with a ratio
	Excluded int      `json:"excluded"` // pairs without one: a value was zero or negative
	P        *float64 `json:"p"`        // Wilcoxon signed-rank on log ratios, two-sided
	PHolm    *float64 `json:"p_holm"`   // adjusted over the workloads' primary metrics of this arm; null for other metrics
	Verdict  Verdict  `json:"verdict"`
	Reason   string   `json:"reason,omitempty"` // why it is inconclusive, or why a significant difference is "~"
	More     *int     `json:"more_blocks"`      // about so many more would bring a verdict; null when there is one, or no telling

	informative int // pairs whose ratio is not 1
}

// compare pairs the blocks that both have. It leaves the verdict to judge: Holm's correction must know all p first.
func compare(arm, baseline series, o Options) *Ratio {
	ratios, excluded := pairedSeries(arm, baseline)
	slices.Sort(ratios)
	logs := make([]float64, len(ratios))
	for i, ratio := range ratios {
		logs[i] = math.Log(ratio)
	}
	r := ratioOf(ratios, logs, o)
	r.Excluded = excluded
	return r
}

// ratioOf compares by the blocks' ratios and their logarithms, both sorted. It is the one place where that is done, for reports and
// for the millions of runs that a calibration resamples.
func ratioOf(ratios, logs []float64, o Options) *Ratio {
	r := &Ratio{N: len(ratios)}
	if r.N == 0 {
		return r
	}
	r.Median = number(sortedMedian(ratios))
	iv := sortedInterval(ratios, o.Confidence)
	r.Coverage = iv.coverage
	if iv.ok {
		r.Low, r.High = number(iv.low), number(iv.high)
	}
	p, n := sortedSignedRank(logs)
	r.P, r.informative = number(p), n
	return r
}

// pairedRatios are arm / baseline by block, of the blocks that have both; excluded have both and yet no ratio, as a value is
// zero or negative.
func pairedRatios(arm, baseline map[int]float64) (ratios map[int]float64, excluded int) {
	ratios = make(map[int]float64, len(arm))
	for block, a := range arm {
		b, paired := baseline[block]
		if !paired {
			continue
		}
		if ratio, ok := ratioOfValues(a, b); ok {
			ratios[block] = ratio
		} else {
			excluded++
		}
	}
	return ratios, excluded
}

// judge sets the verdict. family is the number of hypotheses that PHolm accounts for; 1 when there is none.
func (r *Ratio) judge(better econbench.Better, family int, o Options) {
	r.Verdict = VerdictInconclusive
	needed := pairsNeeded(o.Alpha, family)
	p := r.P
	if r.PHolm != nil {
		p = r.PHolm
	}
	switch {
	case r.N == 0 && r.Excluded == 0:
		r.Reason = "no block has it in both arms"
	case r.Excluded > 0:
		r.Reason = fmt.Sprintf("%d of %d pairs of blocks have no ratio, a value is zero or negative", r.Excluded, r.N+r.Excluded)
	case r.Low == nil || r.High == nil:
		r.Reason = fmt.Sprintf("%s of blocks; an interval takes %d", counted(r.N, "pair"), pairsNeeded(1-o.Confidence, 1))
	case *p <= o.Alpha && *r.Median != 1:
		r.Verdict, r.Reason = direction(better, *r.Median)
		if r.Verdict.directed() && effect(*r.Median) < o.MinEffect {
			r.Verdict = VerdictSame
			r.Reason = fmt.Sprintf("significant, but %.2g%% is less than the least difference that counts, %.3g%%",
				100*effect(*r.Median), 100*o.MinEffect)
		}
	case r.informative > 0 && leastP(r.informative)*float64(family) > o.Alpha:
		r.Reason = fmt.Sprintf("%s of blocks that differ; significance takes %d (%s)",
			counted(r.informative, "pair"), needed, counted(family, "workload"))
	case halfWidth(r.Low, r.High, r.Median) > o.Threshold:
		r.Reason = fmt.Sprintf("interval is ±%.1f%%, wider than ±%.3g%%", 100*halfWidth(r.Low, r.High, r.Median), 100*o.Threshold)
	default:
		r.Verdict = VerdictSame
	}
	if r.Verdict == VerdictInconclusive && r.Excluded == 0 && r.N > 0 && r.Reason != undirected {
		r.askForMore(family, o)
	}
}

func (v Verdict) directed() bool { return v == VerdictBetter || v == VerdictWorse }

// effect is how far a ratio is from 1, the same for a ratio and its reciprocal.
func effect(ratio float64) float64 { return math.Expm1(math.Abs(math.Log(ratio))) }

// askForMore estimates how many more blocks would bring a verdict if they are like those at hand: enough for any verdict,
// and then either for an interval narrow enough to say "~" or for the difference seen to be significant, whichever comes
// first. Both an interval's width and a test's distance from 0 go with the square root of the number of pairs.
func (r *Ratio) askForMore(family int, o Options) {
	n := float64(r.N)
	least := float64(max(pairsNeeded(o.Alpha, family), pairsNeeded(1-o.Confidence, 1)))
	if r.informative > 0 { // pairs that are equal tell nothing, and so will their share of those to come
		least *= n / float64(r.informative)
	}
	needed := least
	if width := halfWidth(r.Low, r.High, r.Median); n >= least && !math.IsInf(width, 1) {
		needed = n * square(width/o.Threshold)
		seen := distuv.UnitNormal.Quantile(1 - *r.P/2)
		if want := distuv.UnitNormal.Quantile(1 - o.Alpha/float64(2*max(family, 1))); seen > 0 && effect(*r.Median) > o.MinEffect {
			needed = min(needed, n*square(want/seen))
		}
	}
	more := max(1, math.Ceil(needed-n))
	if more > 1e6 { // no telling
		return
	}
	blocks := int(more)
	r.More = &blocks
	r.Reason += fmt.Sprintf("; about %s would do", counted(blocks, "more block"))
}

func square(v float64) float64 { return v * v }

// undirected is the reason where a difference is significant and yet no verdict: of a metric that only describes, or that
// this version does not know.
const undirected = "it differs; neither way is better by itself"

func direction(better econbench.Better, ratio float64) (Verdict, string) {
	switch {
	case better != econbench.Higher && better != econbench.Lower:
		return VerdictInconclusive, undirected
	case (better == econbench.Higher) == (ratio > 1):
		return VerdictBetter, ""
	}
	return VerdictWorse, ""
}

// pairsNeeded is the smallest number of pairs whose least p, times the family's size, does not exceed alpha.
func pairsNeeded(alpha float64, family int) int {
	n := 1
	for leastP(n)*float64(max(family, 1)) > alpha*(1+1e-9) { // 1-0.95 is a little less than 0.05
		n++
	}
	return n
}

// halfWidth of an interval, relative to its median; +Inf when there is none.
func halfWidth(low, high, median *float64) float64 {
	if low == nil || high == nil || median == nil || *median == 0 {
		return math.Inf(1)
	}
	return math.Abs((*high/2 - *low/2) / *median)
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// number makes what JSON cannot carry null.
func number(v float64) *float64 {
	if !isFinite(v) {
		return nil
	}
	return &v
}
