// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// hostArm is the arm that closes the whole gap.
var hostArm = econbench.Arm{Topology: "host", Fastpath: econbench.NoFastpath}

// Reached says whether what was measured comes up to what was published.
type Reached string

const (
	ReachedYes     Reached = "yes"     // the whole interval does
	ReachedNo      Reached = "no"      // none of it does
	ReachedUnclear Reached = "unclear" // the interval has the published figure in it, or there is none
)

// Published is a published figure beside what the run measured of it. Numbers are null where there is none.
type Published struct {
	econbench.PublishedFigure
	Params   econbench.Params `json:"params"`   // of the workload that was measured
	Measured *Paired          `json:"measured"` // arm / against; null: not measured, Note says why
	Reached  Reached          `json:"reached,omitempty"`
	// Gap is the share of the gap between the arm's topology and the host's network that the arm closes: (arm − topology) / (host −
	// topology). null: not measured, or there is no gap.
	Gap *Paired `json:"gap"`
	// Host is host / against: no path over a network can be expected to gain more. null: not measured.
	Host *Paired `json:"host"`
	// OutOfReach says that even the host's network does not gain what was published: on this machine no fast path can show it.
	OutOfReach bool   `json:"out_of_reach"`
	Note       string `json:"note,omitempty"` // why something is null

	unit string
}

// Paired is the median of a figure that each block gives one of, with its interval.
type Paired struct {
	Median   *float64 `json:"median"`
	Low      *float64 `json:"low"` // null with too few blocks
	High     *float64 `json:"high"`
	Coverage float64  `json:"coverage"` // exact coverage of the interval; without one, what minimum to maximum would cover
	N        int      `json:"n"`        // blocks
	Excluded int      `json:"excluded"` // blocks that have both sides and yet no figure
}

// pairedOf is the median of one value a block; nil if no block has both sides.
func pairedOf(byBlock map[int]float64, excluded int, o Options) *Paired {
	if len(byBlock)+excluded == 0 {
		return nil
	}
	p := &Paired{N: len(byBlock), Excluded: excluded}
	if p.N == 0 {
		return p
	}
	values := slices.Collect(maps.Values(byBlock))
	p.Median = number(median(values))
	iv := medianInterval(values, o.Confidence)
	if p.Coverage = iv.coverage; iv.ok {
		p.Low, p.High = number(iv.low), number(iv.high)
	}
	return p
}

// besidePublished holds each of the plan's published figures against every workload of the plan that it is of.
func besidePublished(plan econbench.Plan, data []*cellData, o Options) (list []Published) {
	cells := make(map[cellKey]*cellData)
	for _, d := range data {
		cells[keyOf(d.cell)] = d
	}
	for _, f := range plan.Published {
		found := false
		for _, w := range plan.Workloads {
			if w.Name == f.Workload && hasParams(w.Params, f.Params) {
				found = true
				list = append(list, beside(f, w, plan, cells, o))
			}
		}
		if !found {
			p := Published{PublishedFigure: f, Params: f.Params, Note: "the run has no such workload"}
			if p.Params == nil {
				p.Params = econbench.Params{}
			}
			list = append(list, p)
		}
	}
	return list
}

func hasParams(all, some econbench.Params) bool {
	for k, v := range some {
		if all[k] != v {
			return false
		}
	}
	return true
}

// beside holds a published figure against a workload.
func beside(f econbench.PublishedFigure, w econbench.PlannedWorkload, plan econbench.Plan, cells map[cellKey]*cellData, o Options) Published {
	p := Published{PublishedFigure: f, Params: w.Params}
	known, _ := plan.Metric(f.Metric)
	p.unit = known.Unit
	of := func(a econbench.Arm) map[int]float64 {
		if d := cells[keyOf(econbench.Cell{Arm: a, Workload: w.Name, Params: w.Params})]; d != nil {
			return d.perBlock(f.Metric)
		}
		return nil
	}
	arm, against, host := of(f.Arm), of(f.Against), of(hostArm)
	var without []string
	for _, a := range []econbench.Arm{f.Arm, f.Against} {
		if !slices.ContainsFunc(plan.Arms, func(b econbench.Arm) bool { return a.String() == b.String() }) {
			without = append(without, a.String())
		}
	}
	ratios, excluded := pairedRatios(arm, against)
	p.Measured = pairedOf(ratios, excluded, o)
	switch {
	case len(without) > 0:
		p.Note = "the run has no arm " + strings.Join(without, " and no arm ")
		return p
	case p.Measured == nil:
		p.Note = "no block has valid trials with " + f.Metric + " of both arms"
		return p
	}
	p.Reached = reached(p.Measured, f)
	if f.Arm.String() != hostArm.String() && f.Against.String() != hostArm.String() {
		ratios, excluded = pairedRatios(host, against)
		p.Host = pairedOf(ratios, excluded, o)
		p.OutOfReach = p.Host != nil && reached(p.Host, f) == ReachedNo
	}
	floor := econbench.Arm{Topology: f.Arm.Topology, Fastpath: econbench.NoFastpath}
	p.Gap, p.Note = gapClosed(arm, of(floor), host, known.Better, o)
	return p
}

// reached holds the interval of a measured ratio against the published one, of a range its end that is nearer to 1.
func reached(m *Paired, f econbench.PublishedFigure) Reached {
	if m.Low == nil || m.High == nil {
		return ReachedUnclear
	}
	goal, up := f.Nearest(), f.Nearest() >= 1
	switch {
	case up && *m.High < goal, !up && *m.Low > goal:
		return ReachedNo
	case up && *m.Low >= goal, !up && *m.High <= goal:
		return ReachedYes
	}
	return ReachedUnclear
}

// gapClosed is the share of the gap between floor and host that an arm closes, block by block. A block in which host is no better than
// the floor has no gap, and no share.
func gapClosed(arm, floor, host map[int]float64, better econbench.Better, o Options) (*Paired, string) {
	shares := make(map[int]float64)
	without, all := 0, 0
	for block, a := range arm {
		f, hasFloor := floor[block]
		h, hasHost := host[block]
		if !hasFloor || !hasHost {
			continue
		}
		all++
		if share := (a - f) / (h - f); (better == econbench.Lower) == (h < f) && h != f && isFinite(share) {
			shares[block] = share
		} else {
			without++
		}
	}
	switch {
	case all == 0:
		return nil, "no gap: it takes host and the network without the fast path in the same blocks"
	case len(shares) == 0:
		return nil, "no gap: host is in no block better than the network without the fast path"
	}
	gap := pairedOf(shares, without, o)
	if without > 0 {
		return gap, fmt.Sprintf("%d of %s had no gap, host was not better", without, counted(all, "block"))
	}
	return gap, ""
}
