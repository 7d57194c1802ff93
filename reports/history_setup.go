// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"path"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// Setup is nights that differ in nothing that decides figures: hosts, lab, image, and the plan as far as it is compared. Changes are
// looked for within a setup alone. Its nights need not follow each other: two machines that take turns are two setups, and a
// kernel that is booted again goes on with its own nights. A night without trials makes none: what failed before its lab was open tells
// no facts, and would differ from all nights.
type Setup struct {
	Number      int             `json:"setup"`       // from 1, by first night
	First       int             `json:"first"`       // nights
	Last        int             `json:"last"`        //
	Nights      int             `json:"nights"`      // how many, of those with trials
	After       int             `json:"after"`       // the setup of the night before First; 0: none
	Differences []RunDifference `json:"differences"` // from that one, in what decides figures

	early, late *econbench.Run // what a night has to agree with
}

// group gives every night its setup; those without trials that of nights which they are like, or none.
func (b *historian) group() {
	setups := &b.h.Setups
	previous := -1
	for i, n := range b.nights {
		if n.run == nil {
			continue
		}
		at := b.setupOf(n.run)
		if n.trials == 0 {
			if at >= 0 {
				n.setup = (*setups)[at].Number
			}
			continue
		}
		if at < 0 {
			at = len(*setups)
			s := Setup{Number: at + 1, First: i, Differences: []RunDifference{}, early: n.run}
			if previous >= 0 {
				s.After = b.nights[previous].setup
				decisive, _ := b.differences(b.nights[previous].run, n.run)
				s.Differences = append(s.Differences, decisive...)
			}
			*setups = append(*setups, s)
		}
		s := &(*setups)[at]
		s.Last, s.Nights, s.late = i, s.Nights+1, n.run
		n.setup = s.Number
		previous = i
	}
}

// recentSetups is how many setups a night may go back to, the latest. Each is held against all facts of a night, and where every night has
// a kernel of its own there are as many as nights.
const recentSetups = 20

// setupOf is the index of the setup that a night goes on with; -1: of none.
func (b *historian) setupOf(run *econbench.Run) int {
	latest := make([]int, len(b.h.Setups))
	for i := range latest {
		latest[i] = i
	}
	slices.SortFunc(latest, func(i, j int) int { return b.h.Setups[j].Last - b.h.Setups[i].Last })
	for _, i := range latest[:min(len(latest), recentSetups)] {
		if b.alike(b.h.Setups[i], run) {
			return i
		}
	}
	return -1
}

// alike holds a night against the first and the latest of a setup: a fact that only one of two tells is no difference, so that a
// night which tells little must not join two that contradict each other.
func (b *historian) alike(s Setup, run *econbench.Run) bool {
	if decisive, _ := b.differences(s.late, run); len(decisive) > 0 {
		return false
	}
	decisive, _ := b.differences(s.early, run)
	return len(decisive) == 0
}

// differences are those that decide figures, and those that do not or that the user wants to look across.
func (b *historian) differences(old, new *econbench.Run) (decisive, noted []RunDifference) {
	all, noted := differences(old, new)
	for _, d := range all {
		if b.across(d) {
			noted = append(noted, d)
		} else {
			decisive = append(decisive, d)
		}
	}
	return decisive, noted
}

func (b *historian) across(d RunDifference) bool {
	fact, _, _ := strings.Cut(d.Fact, " of ")
	return slices.ContainsFunc(b.o.Across, func(pattern string) bool { return matches(pattern, fact) })
}

// between is what else changed from one night to the next: where a level changes, what may have changed it.
func (b *historian) between(before, night int) []RunDifference {
	_, noted := b.differences(b.nights[before].run, b.nights[night].run)
	return append([]RunDifference{}, noted...)
}

// matches holds a name against a pattern of path.Match, in which * is any text, slashes included. An empty pattern is any name.
func matches(pattern, name string) bool {
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x00") }
	ok, err := path.Match(flat(pattern), flat(name))
	return pattern == "" || err == nil && ok
}
