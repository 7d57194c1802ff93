// SPDX-License-Identifier: Apache-2.0

package workloads

import "math"

// percentile is a share of a client's times, with its metric.
type percentile struct {
	metric string
	share  float64
}

// percentiles are those that clients which know each of their times tell.
var percentiles = []percentile{
	{"latency_p50", 0.5}, {"latency_p90", 0.9}, {"latency_p99", 0.99}, {"latency_p999", 0.999}, {"latency_p9999", 0.9999},
}

// known says whether any of n times lies beyond: else it would be the longest by another name.
func (p percentile) known(n int) bool { return math.Round(float64(n)*(1-p.share)*1000) >= 1000 }

// rank is the smallest of the sorted values that so large a share of them is not above (nearest rank).
func rank(sorted []float64, share float64) float64 {
	return sorted[max(0, min(len(sorted)-1, int(math.Ceil(share*float64(len(sorted))))-1))]
}
