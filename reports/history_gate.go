// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/econbench/econbench"
)

// Acknowledgement is a change that somebody knows of and accepts. Patterns are those of path.Match; an empty one is anything.
type Acknowledgement struct {
	Place     string `json:"place"`     // file:line where it stands
	Night     string `json:"night"`     // where the new level begins: a run's id, or a date, YYYY-MM-DD in UTC
	Workload  string `json:"workload"`  // pattern
	Params    string `json:"params"`    // pattern of "k=v k=v"
	Arm       string `json:"arm"`       // pattern
	Metric    string `json:"metric"`    // pattern
	Tolerance int    `json:"tolerance"` // nights before or behind: with more nights a change may turn out to lie next to where it was seen first
	Reason    string `json:"reason"`
	Link      string `json:"link,omitempty"`
}

// AcknowledgementStatus is one with what it is about.
type AcknowledgementStatus struct {
	Acknowledgement
	Changes int `json:"changes"` // how many it is about; 0: it may be removed
}

// HistoryGate is what a nightly job has to know: has anything become slower that nobody knows of?
type HistoryGate struct {
	Exit        int                 `json:"exit"`        // 2: a regression; 1: the newest night could not be measured; 0: neither
	Regressions []HistoryRegression `json:"regressions"` // that stand and are not acknowledged
	Unmeasured  []string            `json:"unmeasured"`  // why the newest night could not be measured
	Acknowledge string              `json:"acknowledge"` // YAML that acknowledges the regressions, once reasons are written; empty: none
}

// HistoryRegression is a series whose newest level is worse than one that was there before, or that was accepted.
type HistoryRegression struct {
	Arm      econbench.Arm    `json:"arm"`
	Workload string           `json:"workload"`
	Params   econbench.Params `json:"params"`
	Metric   string           `json:"metric"`
	Factor   float64          `json:"factor"` // newest level / accepted level
	Nights   []int            `json:"nights"` // where it changed for the worse
}

// acknowledge holds acknowledgements against the changes. An entry is about one change of a series at most: the nearest on the setup of the
// night that it names. What another machine shows at that time is another change.
func (b *historian) acknowledge() {
	for i, a := range b.o.Acknowledged {
		status := AcknowledgementStatus{Acknowledgement: a}
		if night, ok := b.nightOf(a.Night); ok {
			for j := range b.h.Series {
				if s := &b.h.Series[j]; a.about(s) {
					if c := b.nearest(s.track(b.h.Nights[night].Setup), night, a.Tolerance); c != nil {
						c.Acknowledged = &i
						status.Changes++
					}
				}
			}
		}
		b.h.Acknowledgements = append(b.h.Acknowledgements, status)
		if status.Changes == 0 {
			b.h.Warnings = append(b.h.Warnings, Note{Text: fmt.Sprintf("%s: no change at %s is there to acknowledge: the entry may be removed, or is mistyped", clean(a.Place), clean(a.Night))})
		}
	}
}

func (a Acknowledgement) about(s *HistorySeries) bool {
	return matches(a.Workload, s.Workload) && matches(a.Params, s.Params.String()) && matches(a.Arm, s.Arm.String()) && matches(a.Metric, s.Metric)
}

// nightOf finds a run by its id, or the first night of a date; where there was none on it, the next one. No level begins with a night that
// is of no setup.
func (b *historian) nightOf(text string) (int, bool) {
	day, err := time.Parse(time.DateOnly, text)
	for i, n := range b.nights {
		if n.setup == 0 {
			continue
		}
		if n.run.ID == text || err == nil && !n.run.Started.Before(day) {
			return i, true
		}
	}
	return 0, false
}

// nearest is the change of a track that lies nearest to a night of its setup, within a tolerance that is counted in nights of that
// setup; nil: there is none that nothing acknowledges yet.
func (b *historian) nearest(t *HistoryTrack, night, tolerance int) (found *HistoryChange) {
	if t == nil {
		return nil
	}
	least := tolerance + 1
	for i := range t.Changes {
		c := &t.Changes[i]
		if far := b.apart(t.Setup, c.Night, night); c.Acknowledged == nil && far < least {
			found, least = c, far
		}
	}
	return found
}

// apart is how many nights of a setup one of its nights lies before or behind another.
func (b *historian) apart(setup, x, y int) (n int) {
	for i := min(x, y); i < max(x, y); i++ {
		if b.nights[i].setup == setup {
			n++
		}
	}
	return n
}

// track is the series on a setup; nil: it has no night there.
func (s *HistorySeries) track(setup int) *HistoryTrack {
	for i := range s.Tracks {
		if s.Tracks[i].Setup == setup {
			return &s.Tracks[i]
		}
	}
	return nil
}

// gate looks at the newest setup and the newest plan alone: what is measured no more is no regression of today's. A night that failed
// before it had trials is of no setup, or of an old one, and takes no regression away.
func (b *historian) gate() {
	g := &b.h.Gate
	g.Regressions, g.Unmeasured = []HistoryRegression{}, b.unmeasured()
	newest := b.newestSetup()
	b.warnYoung(newest)
	for i := range b.h.Series {
		s := &b.h.Series[i]
		t := s.track(newest)
		if t == nil || !b.current(s) {
			continue
		}
		factor, open, stands := standing(s.Better, t.Changes, b.o.MinEffect)
		if !stands {
			continue
		}
		t.Standing = number(factor)
		r := HistoryRegression{Arm: s.Arm, Workload: s.Workload, Params: s.Params, Metric: s.Metric, Factor: factor}
		for _, at := range open {
			r.Nights = append(r.Nights, t.Changes[at].Night)
			g.Acknowledge += acknowledging(s, t.Changes[at], b.nightName(t.Changes[at].Night))
		}
		g.Regressions = append(g.Regressions, r)
	}
	switch {
	case len(g.Regressions) > 0:
		g.Exit = 2
	case len(g.Unmeasured) > 0:
		g.Exit = 1
	}
}

// newestSetup is that of the newest night that has one; 0: none has.
func (b *historian) newestSetup() int {
	for i := len(b.nights) - 1; i >= 0; i-- {
		if b.nights[i].setup != 0 {
			return b.nights[i].setup
		}
	}
	return 0
}

// current says that the gate looks at a series: it is judged, and in the newest plan. One that is not is warned of.
func (b *historian) current(s *HistorySeries) bool {
	return s.Judged && s.Points[len(s.Points)-1].Night == b.newestPlan()
}

// warnYoung says of what the gate can't fail yet: of all of a setup with few nights, else of each series that has few of them.
func (b *historian) warnYoung(setup int) {
	if setup == 0 {
		return
	}
	s := b.h.Setups[setup-1]
	least := fewestNights(b.o.MinSegment)
	if s.Nights >= least {
		for i := range b.h.Series {
			b.warnYoungSeries(&b.h.Series[i], setup, least)
		}
		return
	}
	text := fmt.Sprintf("setup %d has %s; a change can be found from %d on, and until then the gate finds no regression", setup, counted(s.Nights, "night"), least)
	if len(s.Differences) > 0 {
		text += "; if what changed is what is tested, --across has nights compared all the same"
	}
	b.h.Warnings = append(b.h.Warnings, Note{Text: text})
}

func (b *historian) warnYoungSeries(s *HistorySeries, setup, least int) {
	nights := 0
	if t := s.track(setup); t != nil {
		nights = t.Nights
	}
	if b.current(s) && nights < least {
		s.Warnings = append(s.Warnings, Note{Text: fmt.Sprintf("%s with a value on setup %d; a change can be found from %d on, and until then the gate finds no regression of it",
			counted(nights, "night"), setup, least)})
	}
}

// standing says whether the newest level is worse than the accepted one by more than the least effect that counts, and which changes
// made it so. What is accepted is the best level so far; an acknowledged loss lowers it. So what was lost and won back is
// over, what was won and lost again is a loss, and small losses add up.
func standing(better econbench.Better, changes []HistoryChange, least float64) (factor float64, open []int, stands bool) {
	now, accepted := 1.0, 1.0
	for i, c := range changes {
		gain := c.Factor
		if better == econbench.Lower {
			gain = 1 / gain
		}
		now *= gain
		switch {
		case gain < 1 && c.Acknowledged != nil:
			accepted *= gain
		case gain < 1:
			open = append(open, i)
		}
		if now >= accepted || gain > 1 && effect(now/accepted) < least {
			accepted, open = max(now, accepted), nil
		}
	}
	factor = now / accepted
	stands = factor < 1 && effect(factor) >= least && len(open) > 0
	if better == econbench.Lower {
		factor = 1 / factor
	}
	return factor, open, stands
}

// unmeasured says what of the newest night could not be measured.
func (b *historian) unmeasured() (why []string) {
	why = []string{}
	last := len(b.nights) - 1
	for i := last; i >= 0 && b.nights[i].run == nil; i-- {
		why = append(why, fmt.Sprintf("%s could not be read: %s", clean(b.nights[i].Label), clean(b.nights[i].unread.Error())))
	}
	at := b.newest()
	n, shown := b.nights[at], b.h.Nights[at]
	if age := b.o.Now.Sub(n.run.Started); b.o.MaxAge > 0 && age > b.o.MaxAge {
		why = append(why, fmt.Sprintf("the newest run, %s, began %s ago; want %s at most", clean(n.run.ID), age.Round(time.Minute), b.o.MaxAge))
	}
	if n.run.Status != econbench.StatusComplete {
		why = append(why, runLine(&Summary{Run: shown.Run, Status: n.run.Status, Error: n.run.Error, Planned: *shown.Planned, Attempted: *shown.Attempted}))
	}
	judged := false
	for i := range b.h.Series {
		s := &b.h.Series[i]
		if p := s.Points[len(s.Points)-1]; p.Night == at {
			judged = judged || s.Judged
			switch {
			case s.Primary && p.Value == nil:
				why = append(why, fmt.Sprintf("%s: %s", s.title(), p.Gap))
			case s.Primary && 2*p.N < n.run.Plan.Blocks:
				why = append(why, fmt.Sprintf("%s: only %d of %s have a value", s.title(), p.N, counted(n.run.Plan.Blocks, "block")))
			}
		}
	}
	if !judged {
		why = append(why, "nothing of the newest run is judged: no arm has a baseline and a primary metric of which one way is better (--absolute judges without a baseline)")
	}
	return why
}

// nightName is the night as an entry names it: its date, or its run where there were others on that day.
func (b *historian) nightName(at int) string {
	n := b.h.Nights[at]
	for i, other := range b.h.Nights {
		if i != at && other.Run != "" && other.name() == n.name() || n.Started == nil {
			return yamlText(n.Run)
		}
	}
	return n.name()
}

// acknowledging is the entry that acknowledges a change.
func acknowledging(s *HistorySeries, c HistoryChange, night string) string {
	var b strings.Builder
	entry := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "    %s: %s\n", key, yamlText(value))
		}
	}
	fmt.Fprintf(&b, "  - night: %s # %s\n", night, percent(c.Factor)+"%")
	entry("workload", literally(s.Workload))
	entry("params", literally(s.Params.String()))
	entry("arm", literally(s.Arm.String()))
	entry("metric", literally(s.Metric))
	b.WriteString("    reason: \"\"\n")
	return b.String()
}

// literally makes a name a pattern that matches it alone.
func literally(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(name)
}

// yamlText is text in YAML: plain where that is plainly text, else with Go's quotes and escapes, which are YAML's too and leave nothing
// that a terminal would take for more than a letter (JSON's leave U+009B and U+202E).
func yamlText(text string) string {
	plain := func(r rune) bool { return r >= 'a' && r <= 'z' || r == '_' || r >= 'A' && r <= 'Z' }
	if rest := strings.TrimFunc(text, func(r rune) bool { return plain(r) || r == '+' || r >= '0' && r <= '9' }); text != "" && rest == "" && plain(rune(text[0])) {
		if _, err := strconv.ParseBool(text); err != nil && !strings.Contains("yes no on off null Yes No On Off Null NULL", text) {
			return text
		}
	}
	return strconv.Quote(text)
}
