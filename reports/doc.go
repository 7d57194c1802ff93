// SPDX-License-Identifier: Apache-2.0

// Package reports renders runs. Every format draws on one value, the Summary: medians with exact intervals, ratios to the
// baseline paired by block, verdicts. A format adds no number of its own, so no two of them can disagree.
//
// It imports the root package and numeric and table libraries. It measures nothing, reads no files, and knows no
// workload, topology or fast path by name. What it computes, and from which sources, is in docs/formats.md.
package reports
