// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
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
// the pool itself: AA. It also makes ratios symmetrical about 1, which is what the signed-rank test asks for; so false alarms are
// at most alpha nearly by construction. They test that the code keeps to that, with ties, approximations and the least effect that
// counts, and that blocks whose noise comes in bursts don't matter; they can't find a machine on which alpha does not hold.
//
// Tried and rejected: false alarms of runs that keep the pool's names, with the pool's own deviation taken out. What
// neighbouring blocks' ratios have in common would show there; but order is drawn block by block, so that a drift from one trial to
// the next has no name to follow, and a pool of three stretches has nothing to tell such a rate by.
//
// The pool itself is one of many that might have been measured. Pools drawn from it, in stretches as runs are, and each
// resampled in its turn, say how far that matters (percentile bootstrap: Efron, Tibshirani, An Introduction to the Bootstrap,
// 1993, chapter 13). TestCalibratePools has how often its intervals hold what is true.
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
	Arm        econbench.Arm        `json:"arm"`       // that was held against itself
	Runs       int                  `json:"runs"`      // resampled for each rate
	Pools      int                  `json:"pools"`     // drawn from the pool, for the bounds that its being one of many has
	PoolRuns   int                  `json:"pool_runs"` // resampled from each of them for each rate
	Segment    int                  `json:"segment"`   // blocks that stay together
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
	SeesLow     *float64 `json:"sees_low"`
	SeesHigh    *float64 `json:"sees_high"` // bounds of Sees by the pools; null as above
}

// Plant is an effect that was put there. Handicaps that burn time are held against one that burns none, where the pool has it, and
// that one against the bare arm: what being attached costs. It costs 0.6 to 3 %, which made 3.2 % of a plant that was meant to be 1 %.
type Plant struct {
	Arm     econbench.Arm `json:"arm"`
	Against econbench.Arm `json:"against"`
	Ratio   *Ratio        `json:"ratio"` // its true size, as far as the whole pool knows it
	Found   []Rate        `json:"found"` // by length: runs that say "worse"; "better" would be a wrong word
	Wrong   []Rate        `json:"wrong"` // by length: runs that say "better"
}

// Rate is how many of the resampled runs had an outcome, with the exact interval of Clopper and Pearson (Biometrika 26, 1934),
// which is about the resampling alone, and the interval of the rates that pools drawn from the pool have.
type Rate struct {
	Hits     int     `json:"hits"`
	Runs     int     `json:"runs"`
	Share    float64 `json:"share"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	PoolLow  float64 `json:"pool_low"`
	PoolHigh float64 `json:"pool_high"`
}

// CalibrationOptions say how a pool is resampled. The zero value of a field stands for its default.
type CalibrationOptions struct {
	Options
	Minutes  []float64 // lengths of runs; 1, 2, 5, 10, 30
	Runs     int       // for each rate; 1000
	Pools    int       // drawn from the pool; 199
	PoolRuns int       // for each rate, from each of those pools; 200, and no more than Runs
	Power    float64   // 0.95
	Seed     uint64
}

func (o CalibrationOptions) withDefaults() CalibrationOptions {
	o.Options = o.Options.withDefaults()
	if len(o.Minutes) == 0 {
		o.Minutes = []float64{1, 2, 5, 10, 30}
	}
	if o.Runs <= 0 {
		o.Runs = 1000
	}
	if o.Pools <= 0 {
		o.Pools = 199
	}
	if o.PoolRuns <= 0 {
		o.PoolRuns = min(200, o.Runs)
	}
	if !(o.Power > 0 && o.Power < 1) {
		o.Power = 0.95
	}
	return o
}

// LeastPool is how many pairs a pool must have to be resampled at all.
const LeastPool = 12

// Calibrate resamples a pool.
func Calibrate(pool *econbench.Run, o CalibrationOptions) (*Calibration, error) {
	o = o.withDefaults()
	base := pool.Plan.Baseline
	again := base
	again.Copy = 2
	if !slices.Contains(pool.Plan.Arms, again) {
		return nil, fmt.Errorf("calibrate run %s: its arms lack %s, the baseline a second time", pool.ID, again)
	}
	c := &Calibration{
		Schema: CalibrationSchema, Run: pool.ID, Machine: pool.MachineKey(), Version: pool.Version, Started: pool.Started,
		Placement: pool.Plan.Placement, Wire: pool.Plan.Wire, Duration: pool.Plan.Duration, Warmup: pool.Plan.Warmup, Arm: base,
		Runs: o.Runs, Pools: o.Pools, PoolRuns: o.PoolRuns, Segment: max(1, pool.Plan.RebuildEvery),
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
		known, _ := pool.Plan.Metric(w.Primary)
		one, err := c.workload(o, w, known, uint64(i), pool.Plan.Arms, trialTime(pool, w), at)
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

// workload resamples one workload's part of the pool: its equal arms first, and then the plants.
func (c *Calibration) workload(o CalibrationOptions, w econbench.PlannedWorkload, known econbench.Metric, seed uint64, arms []econbench.Arm, trial econbench.Seconds,
	at func(econbench.Arm) map[int]float64) (one CalibratedWorkload, err error) {
	base, again := c.Arm, c.Arm
	again.Copy = 2
	judged := func(arm, against econbench.Arm) *Ratio {
		r := compare(seriesOf(at(arm)), seriesOf(at(against)), o.Options)
		r.judge(known.Better, 1, o.Options)
		return r
	}
	aa := logRatios(at(again), at(base))
	if len(aa) < LeastPool || trial <= 0 {
		return one, fmt.Errorf("%s of the two equal arms: want %d or more", counted(len(aa), "block"), LeastPool)
	}
	one = CalibratedWorkload{Workload: w.Name, Params: w.Params, Primary: w.Primary, Blocks: len(aa), Trial: trial, Spread: stat.StdDev(aa, nil), AA: judged(again, base)}
	list := []pooled{{logs: aa, equal: true}}
	for _, arm := range arms {
		if arm == base || arm == again {
			continue
		}
		against := heldAgainst(arm, base, arms)
		one.Plants = append(one.Plants, Plant{Arm: arm, Against: against, Ratio: judged(arm, against)})
		list = append(list, pooled{logs: logRatios(at(arm), at(against))})
	}
	q := asked{o: o, better: known.Better, segment: c.Segment}
	for _, minutes := range o.Minutes {
		q.lengths = append(q.lengths, int(minutes*60/(2*float64(trial))))
	}
	answers := q.ask(list, seed)
	for k, n := range q.lengths {
		l := CalibratedLength{Minutes: o.Minutes[k], Blocks: n}
		l.FalseAlarms = rateOf(answers[0], k, func(a answer) int { return a.better + a.worse }, o.Confidence)
		l.Sees, l.SeesLow, l.SeesHigh = seesOf(answers[0], k, o.Confidence)
		one.Lengths = append(one.Lengths, l)
		for i := range one.Plants {
			p := &one.Plants[i]
			p.Found = append(p.Found, rateOf(answers[1+i], k, func(a answer) int { return a.worse }, o.Confidence))
			p.Wrong = append(p.Wrong, rateOf(answers[1+i], k, func(a answer) int { return a.better }, o.Confidence))
		}
	}
	return one, nil
}

// rateOf is the rate of an outcome at the kth length, from the answers of the pool and of those drawn from it.
func rateOf(answers [][]answer, k int, hits func(answer) int, confidence float64) Rate {
	r := clopperPearson(hits(answers[0][k]), answers[0][k].runs, confidence)
	var shares []float64
	for _, a := range answers[1:] {
		shares = append(shares, a[k].share(hits(a[k])))
	}
	r.PoolLow, r.PoolHigh = percentiles(shares, confidence)
	return r
}

func seesOf(answers [][]answer, k int, confidence float64) (sees, low, high *float64) {
	var all []float64
	for _, a := range answers[1:] {
		all = append(all, a[k].sees)
	}
	l, h := percentiles(all, confidence)
	return number(answers[0][k].sees), number(l), number(h)
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
