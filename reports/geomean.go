// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"

	"github.com/econbench/econbench"
)

// Mean is an arm's geometric mean over the workloads of its primary metrics' ratios to the baseline, each turned such that
// above 1 is better. It sums up and carries no verdict: one workload's gain does not pay for another one's loss.
//
// Ratios are averaged block by block, so that the interval is that of a median of paired figures like any other; blocks
// that lack a workload's ratio are left out.
type Mean struct {
	Arm       econbench.Arm `json:"arm"`
	Workloads int           `json:"workloads"` // whose primary metric has a direction and a ratio
	Without   int           `json:"without"`   // workloads left out: no ratio in any block, or no direction
	Median    *float64      `json:"median"`    // of the blocks' means
	Low       *float64      `json:"low"`       // interval of that median; null with too few blocks
	High      *float64      `json:"high"`
	Coverage  float64       `json:"coverage"`
	N         int           `json:"n"` // blocks that have all these workloads
}

// means are those of all arms but the baseline, in the order of the cells.
func means(s *Summary, data []*cellData, baselines map[cellKey]*cellData, o Options) []Mean {
	logs := make(map[string][]map[int]float64) // by arm: for each workload the logarithms by block
	list := []Mean{}
	index := make(map[string]int)
	for _, d := range data {
		baseline := baselines[keyOf(withArm(d.cell, s.Baseline))]
		if d == baseline || s.Baseline.Topology == "" {
			continue
		}
		arm := d.cell.Arm.String()
		if _, known := index[arm]; !known {
			index[arm] = len(list)
			list = append(list, Mean{Arm: d.cell.Arm})
		}
		m := &list[index[arm]]
		turned := gains(d, baseline)
		if len(turned) == 0 {
			m.Without++
			continue
		}
		m.Workloads++
		logs[arm] = append(logs[arm], turned)
	}
	for i := range list {
		list[i].over(logs[list[i].Arm.String()], o)
	}
	return list
}

// gains are the logarithms of the primary metric's ratios by block, positive where the arm is better.
func gains(d, baseline *cellData) map[int]float64 {
	metric := d.metric(d.primary)
	if baseline == nil || metric.Better == econbench.Neither {
		return nil
	}
	sign := 1.0
	if metric.Better == econbench.Lower {
		sign = -1
	}
	ratios, _ := pairedRatios(d.perBlock(d.primary), baseline.perBlock(d.primary))
	for block, ratio := range ratios {
		ratios[block] = sign * math.Log(ratio)
	}
	return ratios
}

func (m *Mean) over(workloads []map[int]float64, o Options) {
	if len(workloads) == 0 {
		return
	}
	var values []float64
blocks:
	for block := range workloads[0] {
		sum := 0.0
		for _, w := range workloads {
			v, ok := w[block]
			if !ok {
				continue blocks
			}
			sum += v
		}
		values = append(values, math.Exp(sum/float64(len(workloads))))
	}
	if m.N = len(values); m.N == 0 {
		return
	}
	m.Median = number(median(values))
	iv := medianInterval(values, o.Confidence)
	m.Coverage = iv.coverage
	if iv.ok {
		m.Low, m.High = number(iv.low), number(iv.high)
	}
}

// told means sum something up: more than one workload.
func (m Mean) told() bool { return m.Workloads+m.Without >= 2 && m.N > 0 }

// meansHead and meanLines show the means where there is more than one workload to sum up.
func meansHead(s *Summary) string {
	return fmt.Sprintf("geometric mean of the workloads' primary ratios to %s, above 1 is better:", clean(s.Baseline.String()))
}

func meanLines(s *Summary) (lines []string) {
	for _, m := range s.Means {
		if !m.told() {
			continue
		}
		lines = append(lines, shorten(clean(m.Arm.String()))+" "+m.show())
	}
	return lines
}

// show is the mean with its interval and what it is of.
func (m Mean) show() string {
	text := showRatio(&Ratio{Median: m.Median, Low: m.Low, High: m.High})
	text += fmt.Sprintf(" (%s, %s", counted(m.Workloads, "workload"), counted(m.N, "block"))
	if m.Without > 0 {
		text += fmt.Sprintf("; %d without a ratio", m.Without)
	}
	return text + ")"
}
