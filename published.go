// SPDX-License-Identifier: Apache-2.0

package econbench

// PublishedFigure is what somebody published of a fast path, to be shown beside what was measured. Nothing rests on it.
type PublishedFigure struct {
	Workload string  `json:"workload"`
	Params   Params  `json:"params,omitempty"` // those that the measured workload must have; none: whatever they are
	Metric   string  `json:"metric"`
	Arm      Arm     `json:"arm"`
	Against  Arm     `json:"against"`
	Gain     float64 `json:"gain"`            // ratio arm / against: 1.18 is +18 %
	UpTo     float64 `json:"up_to,omitempty"` // the other end of a range that was published; 0: there is one figure
	Source   string  `json:"source"`          // paper, table or figure
}

// Farthest is the end of the published range that is farthest from 1.
func (f PublishedFigure) Farthest() float64 {
	if f.UpTo != 0 && (f.Gain >= 1) == (f.UpTo > f.Gain) {
		return f.UpTo
	}
	return f.Gain
}

// Nearest is the end of the published range that is nearest to 1: what has to be reached.
func (f PublishedFigure) Nearest() float64 {
	if f.UpTo != 0 && f.Farthest() == f.Gain {
		return f.UpTo
	}
	return f.Gain
}
