// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"

	"github.com/econbench/econbench"
)

// Change is by what factor a metric of one run lies above that of another, one value a block. Numbers are null where there
// is none.
type Change struct {
	Factor   *float64 `json:"factor"` // median of all quotients new / old
	Low      *float64 `json:"low"`    // interval of that factor; null with too few values
	High     *float64 `json:"high"`
	Coverage float64  `json:"coverage"` // coverage of the interval; without one, what smallest to largest quotient would cover
	OldN     int      `json:"old_n"`    // values of each run
	NewN     int      `json:"new_n"`
	Excluded int      `json:"excluded"` // values that have no logarithm: zero or negative
	P        *float64 `json:"p"`        // Mann-Whitney U on the logarithms, two-sided, not corrected
}

// changeOf compares the values of two runs. excluded are values that were left out before.
func changeOf(old, new []float64, excluded int, o Options) *Change {
	c := &Change{Excluded: excluded}
	logs := func(values []float64) (out []float64) {
		for _, v := range values {
			if !(v > 0) || !isFinite(v) {
				c.Excluded++
				continue
			}
			out = append(out, math.Log(v))
		}
		return out
	}
	x, y := logs(old), logs(new)
	if c.OldN, c.NewN = len(x), len(y); c.OldN == 0 || c.NewN == 0 {
		return c
	}
	s := shiftOf(x, y, o.Confidence)
	c.Coverage = s.coverage
	c.Factor = number(unlog(s.estimate))
	if s.ok {
		c.Low, c.High = number(unlog(s.low)), number(unlog(s.high))
	}
	c.P = number(rankSum(x, y))
	return c
}

// unlog takes back what rounding does to logarithms of equal values.
func unlog(v float64) float64 {
	if same(v, 0) {
		return 1
	}
	return math.Exp(v)
}

// lacks says what a change has too little of for any verdict; "" where it has enough.
func (c *Change) lacks(o Options) string {
	switch {
	case c.Excluded > 0:
		return fmt.Sprintf("%d of %d values have no ratio: zero or negative", c.Excluded, c.OldN+c.NewN+c.Excluded)
	case c.OldN == 0 || c.NewN == 0:
		return fmt.Sprintf("%s of old, %d of new", counted(c.OldN, "value"), c.NewN)
	case c.Low == nil || c.High == nil || c.Factor == nil || c.P == nil:
		return fmt.Sprintf("%d+%d blocks; an interval takes %[3]d+%[3]d", c.OldN, c.NewN, fewest(1-o.Confidence))
	}
	return ""
}

// judge gives the verdict on a metric that may move one way or the other, and of which nothing lacks. p is corrected over a family of
// hypotheses; nil stands for the change's own.
func (c *Change) judge(better econbench.Better, pHolm *float64, family int, o Options) (Verdict, string) {
	p := c.P
	if pHolm != nil {
		p = pHolm
	}
	width := 100 * halfWidth(c.Low, c.High, c.Factor)
	switch {
	case *p <= o.Alpha && *c.Factor != 1:
		verdict, reason := direction(better, *c.Factor)
		if verdict.directed() && effect(*c.Factor) < o.MinEffect {
			return VerdictSame, fmt.Sprintf("significant, but %.2g%% is less than the least difference that counts, %.3g%%",
				100*effect(*c.Factor), 100*o.MinEffect)
		}
		return verdict, reason
	case leastRankP(c.OldN, c.NewN)*float64(family) > o.Alpha*(1+1e-9):
		return VerdictInconclusive, fmt.Sprintf("%d+%d blocks; significance takes %[3]d+%[3]d (%s)", c.OldN, c.NewN,
			fewest(o.Alpha/float64(family)), counted(family, "workload"))
	case width > 100*o.Threshold:
		return VerdictInconclusive, fmt.Sprintf("interval is ±%.1f%%, wider than ±%.3g%%", width, 100*o.Threshold)
	}
	return VerdictSame, ""
}
