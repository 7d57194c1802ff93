// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/econbench/econbench"
)

// CalibrationSchema is the version of a calibration's JSON.
const CalibrationSchema = 1

// Calibration says how far a machine's verdicts can be trusted: how often it sees a difference where there is none, how often
// it finds a planted one, and the smallest that it finds nearly always. It is drawn from a pool: a run of one arm under two
// names (A/A) and of the same arm with handicaps. Shorter and longer runs are resampled from the pool.
//
// A resampled run is made of stretches of the pool's consecutive blocks, as long as one build of the topologies lasts (moving
// blocks, Künsch, Ann. Statist. 17, 1989), so that what neighbouring blocks have in common stays. Its verdict is that of a
// report with one workload. In an A/A run each block's names are drawn anew: the order of the two trials was drawn when they
// were measured, so either may have had either name. What that takes for granted, that a name changes nothing, is tested on
// the pool itself: AA.
type Calibration struct {
	Schema     int                  `json:"schema"`
	Run        string               `json:"run"`     // the pool
	Machine    string               `json:"machine"` // key of what was measured on; "" without fingerprints
	Version    string               `json:"version"` // of the econbench that measured
	Started    time.Time            `json:"started"`
	Placement  econbench.Placement  `json:"placement"`
	Wire       econbench.Wire       `json:"wire"`
	Duration   econbench.Seconds    `json:"duration"` // of a trial's window; 0: made before it was recorded
	Warmup     econbench.Seconds    `json:"warmup"`
	Arm        econbench.Arm        `json:"arm"`     // that was held against itself
	Runs       int                  `json:"runs"`    // resampled for each rate
	Segment    int                  `json:"segment"` // blocks that stay together
	Workloads  []CalibratedWorkload `json:"workloads"`
	Confidence float64              `json:"confidence"` // of the rates' bounds
	Power      float64              `json:"power"`      // share of runs that find an effect that the machine "sees"
}

// CalibratedWorkload is what a pool tells of one workload.
type CalibratedWorkload struct {
	Workload string             `json:"workload"`
	Params   econbench.Params   `json:"params"`
	Primary  string             `json:"primary"`
	Blocks   int                `json:"blocks"` // pairs of the A/A arms in the pool
	Trial    econbench.Seconds  `json:"trial"`  // that one trial takes, whole, median
	Spread   float64            `json:"spread"` // standard deviation of the A/A ratios' logarithms
	AA       *Ratio             `json:"aa"`     // over the whole pool: a name must change nothing
	Lengths  []CalibratedLength `json:"lengths"`
	Plants   []Plant            `json:"plants"`
}

// CalibratedLength is what runs of a length can tell that spend it on this workload's two arms alone.
type CalibratedLength struct {
	Minutes     float64  `json:"minutes"`
	Blocks      int      `json:"blocks"` // that fit in
	FalseAlarms Rate     `json:"false_alarms"`
	Sees        *float64 `json:"sees"` // smallest effect that is found in Power of the runs; null: none up to twofold
}

// Plant is an effect that was put there. Handicaps that burn time are held against one that burns none, where the pool has it, and
// that one against the bare arm: what being attached costs. It costs 2 to 3 %, which made 3.2 % of a plant that was meant to be 1 %.
type Plant struct {
	Arm     econbench.Arm `json:"arm"`
	Against econbench.Arm `json:"against"`
	Ratio   *Ratio        `json:"ratio"` // its true size, as far as the whole pool knows it
	Found   []Rate        `json:"found"` // by length: runs that say "worse"; "better" would be a wrong word
	Wrong   []Rate        `json:"wrong"` // by length: runs that say "better"
}

// Rate is how many of the resampled runs had an outcome, with the exact interval of Clopper and Pearson (Biometrika 26, 1934).
// The interval is about the resampling alone: that the pool is one of many possible ones is not in it.
type Rate struct {
	Hits  int     `json:"hits"`
	Runs  int     `json:"runs"`
	Share float64 `json:"share"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// CalibrationOptions say how a pool is resampled. The zero value of a field stands for its default.
type CalibrationOptions struct {
	Options
	Minutes []float64 // lengths of runs; 1, 5, 10, 30
	Runs    int       // for each rate; 1000
	Power   float64   // 0.95
	Seed    uint64
}

// LeastPool is how many pairs a pool must have to be resampled at all.
const LeastPool = 12

const (
	seesRuns    = 400 // resampled for each size tried when looking for the smallest effect
	seesAtMost  = 1.0 // twofold
	seesAtLeast = 0.001
)

// Calibrate resamples a pool.
func Calibrate(pool *econbench.Run, o CalibrationOptions) (*Calibration, error) {
	o.Options = o.withDefaults()
	if len(o.Minutes) == 0 {
		o.Minutes = []float64{1, 5, 10, 30}
	}
	if o.Runs <= 0 {
		o.Runs = 1000
	}
	if !(o.Power > 0 && o.Power < 1) {
		o.Power = 0.95
	}
	base := pool.Plan.Baseline
	again := base
	again.Copy = 2
	if !slices.Contains(pool.Plan.Arms, again) {
		return nil, fmt.Errorf("calibrate run %s: its arms lack %s, the baseline a second time", pool.ID, again)
	}
	c := &Calibration{
		Schema: CalibrationSchema, Run: pool.ID, Machine: pool.MachineKey(), Version: pool.Version, Started: pool.Started,
		Placement: pool.Plan.Placement, Wire: pool.Plan.Wire, Duration: pool.Plan.Duration, Warmup: pool.Plan.Warmup, Arm: base, Runs: o.Runs, Segment: max(1, pool.Plan.RebuildEvery),
		Confidence: o.Confidence, Power: o.Power, Workloads: []CalibratedWorkload{},
	}
	data := sortIntoCells(pool)
	for i, w := range pool.Plan.Workloads {
		at := func(arm econbench.Arm) map[int]float64 {
			for _, d := range data {
				if d.cell.Arm == arm && d.cell.Workload == w.Name && d.cell.Params.String() == w.Params.String() {
					return d.perBlock(w.Primary)
				}
			}
			return nil
		}
		p := resampler{o: o, c: c, random: rand.New(rand.NewPCG(o.Seed, uint64(i))), trial: trialTime(pool, w)}
		p.known, _ = econbench.MetricNamed(w.Primary)
		one, err := p.workload(w, pool.Plan.Arms, base, again, at)
		if err != nil {
			return nil, fmt.Errorf("calibrate run %s: %s: %w", pool.ID, w.Name, err)
		}
		c.Workloads = append(c.Workloads, one)
	}
	return c, nil
}

// trialTime is how long the workload's trials took, whole, the median.
func trialTime(run *econbench.Run, w econbench.PlannedWorkload) econbench.Seconds {
	var took []float64
	for _, t := range run.Trials {
		if t.Workload == w.Name && t.Params.String() == w.Params.String() && t.Elapsed > 0 {
			took = append(took, float64(t.Elapsed))
		}
	}
	if len(took) == 0 {
		return 0
	}
	return econbench.Seconds(median(took))
}

// resampler draws runs of one workload from its pool.
type resampler struct {
	o      CalibrationOptions
	c      *Calibration
	random *rand.Rand
	known  econbench.Metric
	trial  econbench.Seconds
}

func (p *resampler) workload(w econbench.PlannedWorkload, arms []econbench.Arm, base, again econbench.Arm, at func(econbench.Arm) map[int]float64) (one CalibratedWorkload, err error) {
	aa := logRatios(at(again), at(base))
	if len(aa) < LeastPool || p.trial <= 0 {
		return one, fmt.Errorf("%s of the two equal arms: want %d or more", counted(len(aa), "block"), LeastPool)
	}
	one = CalibratedWorkload{Workload: w.Name, Params: w.Params, Primary: w.Primary, Blocks: len(aa), Trial: p.trial, Spread: stat.StdDev(aa, nil)}
	one.AA = compare(at(again), at(base), p.o.Options)
	one.AA.judge(p.known.Better, 1, p.o.Options)
	for _, minutes := range p.o.Minutes {
		n := int(minutes * 60 / (2 * float64(p.trial)))
		l := CalibratedLength{Minutes: minutes, Blocks: n}
		said := p.verdicts(n, aa, true)
		l.FalseAlarms = p.rate(said[VerdictBetter] + said[VerdictWorse])
		l.Sees = p.sees(n, aa)
		one.Lengths = append(one.Lengths, l)
	}
	for _, arm := range arms {
		if arm == base || arm == again {
			continue
		}
		plant := Plant{Arm: arm, Against: heldAgainst(arm, base, arms)}
		against := at(plant.Against)
		plant.Ratio = compare(at(arm), against, p.o.Options)
		plant.Ratio.judge(p.known.Better, 1, p.o.Options)
		logs := logRatios(at(arm), against)
		for _, l := range one.Lengths {
			said := p.verdicts(l.Blocks, logs, false)
			plant.Found = append(plant.Found, p.rate(said[VerdictWorse]))
			plant.Wrong = append(plant.Wrong, p.rate(said[VerdictBetter]))
		}
		one.Plants = append(one.Plants, plant)
	}
	return one, nil
}

// heldAgainst is what a plant is held against: a pool's handicap that burns nothing, if it has one, and that one the baseline.
func heldAgainst(plant, base econbench.Arm, arms []econbench.Arm) econbench.Arm {
	burnsNothing := func(a econbench.Arm) bool {
		d, err := time.ParseDuration(a.Setting)
		return a.Fastpath == plant.Fastpath && a.Topology == base.Topology && a.Copy == 0 && err == nil && d == 0
	}
	if i := slices.IndexFunc(arms, burnsNothing); i >= 0 && !burnsNothing(plant) {
		return arms[i]
	}
	return base
}

// logRatios are the logarithms of arm / baseline in the order of blocks.
func logRatios(arm, baseline map[int]float64) []float64 {
	ratios, _ := pairedRatios(arm, baseline)
	logs := seriesOf(ratios).values
	for i, ratio := range logs {
		logs[i] = math.Log(ratio)
	}
	return logs
}

// draw is a run of n blocks from the pool; swap draws each block's names anew.
func (p *resampler) draw(n int, pool []float64, swap bool) []float64 {
	out := make([]float64, 0, n)
	for len(out) < n && len(pool) > 0 {
		start := p.random.IntN(len(pool))
		for i := range min(p.c.Segment, n-len(out)) {
			v := pool[(start+i)%len(pool)]
			if swap && p.random.IntN(2) == 0 {
				v = -v
			}
			out = append(out, v)
		}
	}
	return out
}

// verdict is what a report would say of such a run.
func (p *resampler) verdict(logs []float64, shift float64) Verdict {
	arm, baseline := make(map[int]float64, len(logs)), make(map[int]float64, len(logs))
	for i, v := range logs {
		arm[i], baseline[i] = math.Exp(v+shift), 1
	}
	r := compare(arm, baseline, p.o.Options)
	r.judge(p.known.Better, 1, p.o.Options)
	return r.Verdict
}

// verdicts counts what runs of n blocks say.
func (p *resampler) verdicts(n int, pool []float64, swap bool) map[Verdict]int {
	said := make(map[Verdict]int)
	for range p.o.Runs {
		said[p.verdict(p.draw(n, pool, swap), 0)]++
	}
	return said
}

func (p *resampler) rate(hits int) Rate { return clopperPearson(hits, p.o.Runs, p.o.Confidence) }

// sees is the smallest effect that Power of the runs find, taking it that an effect moves every block by the same factor and
// leaves the noise as it is. The plants, which are really there, show how far that holds.
func (p *resampler) sees(n int, pool []float64) *float64 {
	runs := make([][]float64, seesRuns)
	for i := range runs {
		runs[i] = p.draw(n, pool, true)
	}
	found := func(effect float64) bool {
		hits := 0
		for _, logs := range runs {
			if p.verdict(logs, math.Log1p(effect)).directed() {
				hits++
			}
		}
		return float64(hits) >= p.o.Power*seesRuns
	}
	low, high := seesAtLeast, seesAtMost
	if !found(high) {
		return nil
	}
	for high/low > 1.02 {
		if middle := math.Sqrt(low * high); found(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return number(high)
}

// clopperPearson is the exact interval of a binomial proportion.
func clopperPearson(hits, runs int, confidence float64) Rate {
	r := Rate{Hits: hits, Runs: runs, High: 1}
	if runs == 0 {
		return r
	}
	r.Share = float64(hits) / float64(runs)
	tail := (1 - confidence) / 2
	if hits > 0 {
		r.Low = distuv.Beta{Alpha: float64(hits), Beta: float64(runs - hits + 1)}.Quantile(tail)
	}
	if hits < runs {
		r.High = distuv.Beta{Alpha: float64(hits + 1), Beta: float64(runs - hits)}.Quantile(1 - tail)
	}
	return r
}
