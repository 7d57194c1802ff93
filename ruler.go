// SPDX-License-Identifier: Apache-2.0

package econbench

import "time"

// Ruler is what a calibration tells of one of a plan's workloads on the machine that the run measures on: how small an effect
// is seen. It is recorded with the run, so that a report quotes it on any machine and a later calibration does not change what
// was said.
type Ruler struct {
	Workload   string        `json:"workload"`
	Params     Params        `json:"params"`
	Pool       string        `json:"pool"`     // id of the run that was resampled
	Measured   time.Time     `json:"measured"` // when that run began
	Version    string        `json:"version"`  // of the econbench that measured it
	Arm        Arm           `json:"arm"`      // that was held against itself
	Blocks     int           `json:"blocks"`   // of the pool
	Trial      Seconds       `json:"trial"`    // that one trial took, whole
	Confidence float64       `json:"confidence"`
	Power      float64       `json:"power"` // share of runs that find an effect that the machine "sees"
	Lengths    []RulerLength `json:"lengths"`
}

// RulerLength is what runs of so many blocks can tell.
type RulerLength struct {
	Blocks      int      `json:"blocks"`
	Sees        *float64 `json:"sees"`                // smallest effect that is seen; null: none up to twofold
	SeesLow     *float64 `json:"sees_low,omitempty"`  // bounds of Sees by the pool's being one of many
	SeesHigh    *float64 `json:"sees_high,omitempty"` // null: not known, or beyond twofold
	FalseAlarms Bounded  `json:"false_alarms"`        // share of runs that tell an arm from itself
}

// Bounded is a share with the bounds between which it lies, with the confidence that stands beside it.
type Bounded struct {
	Share float64 `json:"share"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}
