// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

var simulate = flag.Int("simulate", 0, "gates to simulate for each figure of TestGateErrorRates; 0: few, for the test alone")

// nights is what is simulated: gates of 5 % over workloads of one arm, n blocks in the old run, the new one and its extra blocks.
type nights struct {
	blocks, workloads int
	spread            float64 // standard deviation of a block's ratio, as a logarithm
	drift             float64 // likewise of what all blocks of a run have in common; extra blocks have their run's
	bursts            bool    // one block of ten has five times the spread
	loss              float64 // of the first workload
}

// rates are shares of gates: in which a workload was suspect, in which one had regressed, in which one could not be judged; of the
// first workload, of any other, which has lost nothing, and of any at all.
type rates struct{ suspect, regressed, unmeasured, othersSuspect, othersRegressed, anySuspect, anyRegressed, anyUnmeasured float64 }

// simulateGates gives a run's verdicts by the code that gives a real one's: ratios to the baseline are made up, not trials.
func simulateGates(s nights, gates int, random *rand.Rand) (r rates) {
	o := GateOptions{Share: 0.05}.compareOptions().withDefaults()
	one := 1 / float64(gates)
	for range gates {
		cells, old, drifts := s.planned(o, random)
		var suspects []ComparedCell
		var which []int
		othersSuspect, unmeasured, anyRegressed := false, false, false
		for w, c := range cells {
			switch verdict, _ := c.Metrics["transactions"].pass(0.05); {
			case verdict == GateSuspect:
				suspects = append(suspects, s.cell(w, old[w], s.ratios(drifts[w]+s.lost(w), random), o))
				which = append(which, w)
				othersSuspect = othersSuspect || w > 0
			case verdict == GateUnmeasured:
				unmeasured = true
				if w == 0 {
					r.unmeasured += one
				}
			}
		}
		if len(suspects) > 0 {
			r.anySuspect += one
		}
		if othersSuspect {
			r.othersSuspect += one
		}
		correctChanges(suspects, o.Options)
		othersRegressed := false
		for i, c := range suspects {
			verdict, _ := c.Metrics["transactions"].pass(0.05)
			anyRegressed = anyRegressed || verdict == GateSuspect
			unmeasured = unmeasured || verdict == GateUnmeasured
			if which[i] == 0 {
				if verdict == GateUnmeasured {
					r.unmeasured += one
				}
				r.suspect += one
				if verdict == GateSuspect {
					r.regressed += one
				}
			}
			othersRegressed = othersRegressed || which[i] > 0 && verdict == GateSuspect
		}
		if othersRegressed {
			r.othersRegressed += one
		}
		if anyRegressed {
			r.anyRegressed += one
		}
		if unmeasured {
			r.anyUnmeasured += one
		}
	}
	return r
}

// planned are the cells by their planned blocks, with what confirmations of them share: the old run's ratios, and how far the new run lies off.
func (s nights) planned(o CompareOptions, random *rand.Rand) (cells []ComparedCell, old [][]float64, drifts []float64) {
	cells, old, drifts = make([]ComparedCell, s.workloads), make([][]float64, s.workloads), make([]float64, s.workloads)
	for w := range cells {
		drifts[w] = s.drift * random.NormFloat64()
		old[w] = s.ratios(s.drift*random.NormFloat64(), random)
		cells[w] = s.cell(w, old[w], s.ratios(drifts[w]+s.lost(w), random), o)
	}
	correctChanges(cells, o.Options)
	return cells, old, drifts
}

func (s nights) lost(workload int) float64 {
	if workload > 0 {
		return 0
	}
	return math.Log(1 - s.loss)
}

func (s nights) ratios(shift float64, random *rand.Rand) []float64 {
	out := make([]float64, s.blocks)
	for i := range out {
		spread := s.spread
		if s.bursts && random.IntN(10) == 0 {
			spread *= 5
		}
		out[i] = math.Exp(shift + spread*random.NormFloat64())
	}
	return out
}

func (s nights) cell(workload int, old, new []float64, o CompareOptions) ComparedCell {
	m := MetricChange{Better: econbench.Higher, Primary: true, Carrier: CarrierRatio, Old: Level{N: len(old)}, New: Level{N: len(new)},
		Ratio: changeOf(old, new, 0, o.Options)}
	return ComparedCell{Arm: arm("overlay"), NewArm: arm("overlay"), Workload: fmt.Sprint(workload), primary: "transactions",
		Metrics: map[string]MetricChange{"transactions": m}}
}

// namedNights are nights as docs/measuring.md calls them.
type namedNights struct {
	name string
	nights
}

// simulatedNights are machines of all kinds, drifts the last.
func simulatedNights(workloads int, drifts ...float64) []namedNights {
	list := []namedNights{
		{"spread 1 %", nights{blocks: 10, workloads: workloads, spread: 0.01}},
		{"spread 2.5 %", nights{blocks: 10, workloads: workloads, spread: 0.025}},
		{"spread 5 %", nights{blocks: 10, workloads: workloads, spread: 0.05}},
		{"spread 5 %, 20 blocks", nights{blocks: 20, workloads: workloads, spread: 0.05}},
		{"spread 10 %", nights{blocks: 10, workloads: workloads, spread: 0.1}},
		{"spread 2.5 %, bursts", nights{blocks: 10, workloads: workloads, spread: 0.025, bursts: true}},
	}
	for _, d := range drifts {
		list = append(list, namedNights{fmt.Sprintf("spread 2.5 %%, runs drift by %g %%", 100*d), nights{blocks: 10, workloads: workloads, spread: 0.025, drift: d}})
	}
	return list
}

// TestGateErrorRates: false alarms are rare, regressions twice the gate's size are found. With -simulate 20000 it prints the table of
// docs/measuring.md.
func TestGateErrorRates(t *testing.T) {
	gates := *simulate
	if gates == 0 {
		gates = 150
	}
	random := rand.New(rand.NewPCG(11, 12))
	for _, c := range simulatedNights(3, 0.01, 0.02, 0.04) {
		var columns []string
		for _, loss := range []float64{0, 0.025, 0.05, 0.075, 0.10, 0.15} {
			s := c.nights
			s.loss = loss
			r := simulateGates(s, gates, random)
			if loss == 0 {
				columns = append(columns, fmt.Sprintf("%s, %s", shareText(r.suspect, gates), shareText(r.othersSuspect, gates)),
					fmt.Sprintf("%s, %s", shareText(r.regressed, gates), shareText(r.othersRegressed, gates)), shareText(r.unmeasured, gates))
				if c.drift == 0 && r.regressed+r.othersRegressed > 0.02 {
					t.Errorf("%s: %.3f of the gates fail without a loss", c.name, r.regressed+r.othersRegressed)
				}
				continue
			}
			columns = append(columns, shareText(r.regressed, gates))
			if found := r.regressed; c.spread <= 0.025 && c.drift <= 0.02 && !c.bursts && loss == 0.10 && found < 0.9 {
				t.Errorf("%s: %.3f of the gates find a loss of 10 %%", c.name, found)
			}
			if loss == 0.025 && c.drift == 0 && r.regressed > 0.05 {
				t.Errorf("%s: %.3f of the gates fail for half of their share", c.name, r.regressed)
			}
		}
		if *simulate > 0 {
			fmt.Fprintf(os.Stderr, "| %s | %s |\n", c.name, strings.Join(columns, " | "))
		}
	}
}

// TestGateNights: how a night of the nightly suite comes out when nothing is lost, four arms with eight workloads each. With -simulate 20000
// it prints the second table of docs/measuring.md.
func TestGateNights(t *testing.T) {
	gates := *simulate
	if gates == 0 {
		gates = 60
	}
	const arms = 4
	night := func(rate float64) float64 { return 1 - math.Pow(1-rate, arms) }
	random := rand.New(rand.NewPCG(21, 22))
	for _, c := range simulatedNights(8, 0.01, 0.0125, 0.02) {
		r := simulateGates(c.nights, gates, random)
		if c.drift == 0 && r.anyRegressed > 0.05 {
			t.Errorf("%s: %.3f of the arms fail without a loss", c.name, r.anyRegressed)
		}
		if *simulate == 0 {
			continue
		}
		found := []string{}
		for _, loss := range []float64{0.05, 0.075, 0.10} {
			c.loss = loss
			found = append(found, shareText(simulateGates(c.nights, gates, random).regressed, gates))
		}
		fmt.Fprintf(os.Stderr, "| %s | %s | %s | %s | %s | %s | %s |\n", c.name, shareText(r.anySuspect, gates), shareText(r.anyRegressed, gates), shareText(r.anyUnmeasured, gates),
			shareText(night(r.anyRegressed), gates), shareText(night(r.anyUnmeasured), gates), strings.Join(found, " | "))
	}
}

func shareText(share float64, of int) string {
	if share < 0.5/float64(of) {
		return "0"
	}
	if share > 0.995 {
		return "100 %"
	}
	return fmt.Sprintf("%.2g %%", 100*share)
}
