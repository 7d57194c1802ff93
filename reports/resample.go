// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/econbench/econbench"
)

// A calibration asks the same of its pool and of pools drawn from that pool: of how many runs of a length say what. This file draws
// and counts; what it comes to is calibration.go's.

// pooled is what runs are resampled from: the logarithms of two arms' ratios, in the order of blocks.
type pooled struct {
	logs  []float64
	equal bool // arms: names are drawn anew, and the smallest effect that shows is looked for
}

// answer is what runs of one length say.
type answer struct {
	better, worse, runs int
	sees                float64 // the smallest effect found nearly always; +Inf: none up to seesAtMost
}

func (a answer) share(hits int) float64 { return float64(hits) / float64(max(a.runs, 1)) }

// asked is what is asked of what is pooled.
type asked struct {
	o       CalibrationOptions
	better  econbench.Better
	segment int   // blocks that stay together
	lengths []int // of runs, in blocks
}

// ask resamples runs from each of the list itself (the first of its answers) and from Pools pools drawn from it. Each task has a seed
// of its own, so that what comes out does not depend on which core did it when.
func (q asked) ask(list []pooled, seed uint64) (answers [][][]answer) {
	answers = make([][][]answer, len(list)) // by place in the list, by pool, by length
	for i := range answers {
		answers[i] = make([][]answer, 1+q.o.Pools)
	}
	inParallel(len(list)*(1+q.o.Pools), func(task int) {
		// The pool itself, which takes longest, comes first.
		which, pool := task%len(list), task/len(list)
		p := resampler{asked: q, random: rand.New(rand.NewPCG(q.o.Seed, seed<<32|uint64(task)))}
		from, runs, seesRuns := list[which], q.o.Runs, max(q.o.Runs/2, q.o.PoolRuns)
		if pool > 0 {
			from.logs, runs, seesRuns = p.drawPool(from.logs), q.o.PoolRuns, q.o.PoolRuns
		}
		for _, n := range q.lengths {
			a := p.count(n, runs, from)
			if from.equal {
				a.sees = p.sees(n, seesRuns, from)
			}
			answers[which][pool] = append(answers[which][pool], a)
		}
	})
	return answers
}

// inParallel does n tasks on all CPUs.
func inParallel(n int, task func(int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				task(int(i))
			}
		})
	}
	all.Wait()
}

// resampler draws runs and has them judged.
type resampler struct {
	asked
	random       *rand.Rand
	logs, ratios []float64 // of the run that is judged
}

// draw appends n blocks of a pool, in stretches of consecutive ones, the first following the last.
func (p *resampler) draw(out []float64, n, stretch int, pool []float64) []float64 {
	for n > 0 && len(pool) > 0 {
		start := p.random.IntN(len(pool))
		for i := range min(stretch, n) {
			out = append(out, pool[(start+i)%len(pool)])
		}
		n -= stretch
	}
	return out
}

// drawPool draws a pool that might have been measured in a pool's stead. N blocks in stretches of L vary less than N blocks that are
// measured anew, since stretches overlap: the variance of their mean falls short by (L-1)/(N-1), as a sample drawn without putting back
// does (Cochran, Sampling Techniques, section 2.5). So fewer are drawn, N (N-L)/(N-1), and stretches are a third of the pool at most.
func (p *resampler) drawPool(pool []float64) []float64 {
	n := len(pool)
	if n < 2 {
		return pool
	}
	stretch := max(1, min(p.segment, n/3))
	return p.draw(nil, int(math.Round(float64(n*(n-stretch))/float64(n-1))), stretch, pool)
}

// drawRun is a run of n blocks, sorted.
func (p *resampler) drawRun(out []float64, n int, from pooled) []float64 {
	out = p.draw(out[:0], n, p.segment, from.logs)
	if from.equal {
		for i := range out {
			if p.random.Uint64()&1 == 0 {
				out[i] = -out[i]
			}
		}
	}
	slices.Sort(out)
	return out
}

// verdict is what a report would say of a run, given sorted, in which every ratio is larger by a factor whose logarithm is shift.
func (p *resampler) verdict(run []float64, shift float64) Verdict {
	p.logs, p.ratios = p.logs[:0], p.ratios[:0]
	for _, v := range run {
		p.logs, p.ratios = append(p.logs, v+shift), append(p.ratios, math.Exp(v+shift))
	}
	r := ratioOf(p.ratios, p.logs, p.o.Options)
	r.judge(p.better, 1, p.o.Options)
	return r.Verdict
}

// count counts what runs of n blocks say.
func (p *resampler) count(n, runs int, from pooled) answer {
	a := answer{runs: runs}
	var run []float64
	for range runs {
		run = p.drawRun(run, n, from)
		switch p.verdict(run, 0) {
		case VerdictBetter:
			a.better++
		case VerdictWorse:
			a.worse++
		}
	}
	return a
}

const (
	seesAtMost  = 1.0 // twofold
	seesAtLeast = 0.001
)

// sees is the smallest effect that Power of the runs find, taking it that an effect moves every block by the same factor and
// leaves the noise as it is. The plants, which are really there, show how far that holds.
func (p *resampler) sees(n, count int, from pooled) float64 {
	runs := make([][]float64, count)
	for i := range runs {
		runs[i] = p.drawRun(nil, n, from)
	}
	maySpare := int((1 - p.o.Power) * float64(count) * (1 + 1e-9)) // 1-0.95 is a little more than 0.05
	found := func(effect float64) bool {
		missed := 0
		for _, run := range runs {
			if !p.verdict(run, math.Log1p(effect)).directed() {
				if missed++; missed > maySpare {
					return false
				}
			}
		}
		return true
	}
	low, high := seesAtLeast, seesAtMost
	if !found(high) {
		return math.Inf(1)
	}
	for high/low > 1.02 {
		if middle := math.Sqrt(low * high); found(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

// percentiles bound the middle share of what pools gave: with 199 of them and 0.95 the 5th smallest and the 5th largest.
func percentiles(values []float64, share float64) (low, high float64) {
	s := slices.Sorted(slices.Values(values))
	k := max(1, int(float64(len(s)+1)*(1-share)/2*(1+1e-9)))
	return s[k-1], s[len(s)-k]
}
