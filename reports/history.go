// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// HistorySchema is the version of a history's JSON. Fields may be added to a version; none changes its meaning.
const HistorySchema = 1

// DefaultMinSegment is how many nights a level lasts at least. One night that is off is a spike and two in a row are not rare
// where nights are noisy, so that a change is said in its third night at the earliest.
const DefaultMinSegment = 3

// HistoryOptions are choices of a history. The zero value of a field stands for its default.
type HistoryOptions struct {
	Options                        // Alpha: the chance that equal nights of a setup show any change, DefaultHistoryAlpha; MinEffect as CompareOptions has it
	MinSegment   int               // nights that a level lasts at least: DefaultMinSegment
	Absolute     bool              // absolute values carry all verdicts; without it they carry none
	Arms         []econbench.Arm   // these alone; none: all
	Workloads    []string          // these alone; none: all
	Metrics      []string          // described beside the primary ones
	Across       []string          // patterns of facts that may differ within one setup: what is measured, for whom the kernel is
	Acknowledged []Acknowledgement //
	Now          time.Time         // with MaxAge
	MaxAge       time.Duration     // the newest run must have begun within it before Now; 0: whenever
}

// DefaultHistoryAlpha is stricter than a single comparison's: a history is looked at again every night.
const DefaultHistoryAlpha = 0.01

func (o HistoryOptions) withDefaults() HistoryOptions {
	if o.Alpha == 0 {
		o.Alpha = DefaultHistoryAlpha
	}
	o.Options = CompareOptions{Options: o.Options}.withDefaults().Options
	if o.MinSegment == 0 {
		o.MinSegment = DefaultMinSegment
	}
	o.MinSegment = max(o.MinSegment, leastSegment)
	return o
}

// History is what many runs of one thing say: the level of each series of nights, and where it changed. Its JSON is a contract:
// docs/formats.md.
type History struct {
	Schema           int                     `json:"schema"`
	Alpha            float64                 `json:"alpha"`
	Confidence       float64                 `json:"confidence"`
	MinEffect        float64                 `json:"min_effect"`
	MinSegment       int                     `json:"min_segment"` // nights
	Absolute         bool                    `json:"absolute_only"`
	Nights           []HistoryNight          `json:"nights"` // by time
	Setups           []Setup                 `json:"setups"`
	Series           []HistorySeries         `json:"series"`
	Acknowledgements []AcknowledgementStatus `json:"acknowledgements"`
	Gate             HistoryGate             `json:"gate"`
	Warnings         []Note                  `json:"warnings"`
}

// HistoryNight is one run, or what could not be read as one.
type HistoryNight struct {
	Label     string           `json:"label"` // the path that the user gave
	Run       string           `json:"run"`
	Started   *time.Time       `json:"started"` // null: not known
	Version   string           `json:"version"`
	Status    econbench.Status `json:"status,omitempty"` // absent: could not be read, or is not recorded
	Planned   *int             `json:"planned"`          // trials; null, as the two below: could not be read
	Attempted *int             `json:"attempted"`        // trials, valid or not
	Valid     *int             `json:"valid"`            // trials
	Setup     int              `json:"setup"`            // number of its setup; 0: of none, as it could not be read, or has no trials and is like no other
	Unread    string           `json:"unread,omitempty"` // why it could not be read
	Warnings  []Note           `json:"warnings"`
}

// name is the night as people call it: its date, or else its run, or its folder.
func (n HistoryNight) name() string {
	switch {
	case n.Started != nil:
		return n.Started.UTC().Format(time.DateOnly)
	case n.Run != "":
		return clean(n.Run)
	}
	return clean(n.Label)
}

// HistorySeries is a metric of an arm under a workload, night by night.
type HistorySeries struct {
	Arm      econbench.Arm    `json:"arm"`
	Workload string           `json:"workload"`
	Params   econbench.Params `json:"params"`
	Metric   string           `json:"metric"`
	Unit     string           `json:"unit"` // of Level; a ratio has none
	Better   econbench.Better `json:"better"`
	Primary  bool             `json:"primary"`
	Carrier  Carrier          `json:"carrier"`  // what Value is: a ratio to the baseline of the same block, or the metric itself
	Baseline string           `json:"baseline"` // of the ratio; empty for absolute values
	Judged   bool             `json:"judged"`   // the gate looks at it
	Points   []HistoryPoint   `json:"points"`   // of nights whose plan has it
	Tracks   []HistoryTrack   `json:"tracks"`   // one for each setup that it was measured on
	Warnings []Note           `json:"warnings"`
}

// HistoryPoint is what one night says. Numbers are null where there is none.
type HistoryPoint struct {
	Night int      `json:"night"` // index in Nights, from 0
	Value *float64 `json:"value"` // median over blocks
	Low   *float64 `json:"low"`   // interval of that median; null with too few blocks
	High  *float64 `json:"high"`
	N     int      `json:"n"`             // blocks
	Level *float64 `json:"level"`         // the metric's median in its base unit, whatever Value is
	Gap   string   `json:"gap,omitempty"` // why there is no value
}

// HistoryTrack is a series on one setup: levels, and the changes between them.
type HistoryTrack struct {
	Setup    int              `json:"setup"`
	Nights   int              `json:"nights"` // with a value
	Gaps     int              `json:"gaps"`   // without one, though planned
	Segments []HistorySegment `json:"segments"`
	Changes  []HistoryChange  `json:"changes"` // one less than segments
	Border   *HistoryBorder   `json:"border"`  // to the setup before; null for the first
	Factor   *float64         `json:"factor"`  // last level / first
	Verdict  Verdict          `json:"verdict"` // on Factor
	Reason   string           `json:"reason,omitempty"`
	Standing *float64         `json:"standing"` // last level / the level that is accepted, where that is a regression; null: none
}

// HistorySegment is a stretch of nights of one level.
type HistorySegment struct {
	First int      `json:"first"` // nights
	Last  int      `json:"last"`
	N     int      `json:"n"`     // nights with a value
	Level float64  `json:"level"` // median of their values
	Low   *float64 `json:"low"`   // its interval
	High  *float64 `json:"high"`
}

// HistoryChange is where a level ends and another one begins.
type HistoryChange struct {
	Night        int             `json:"night"`  // the first of the new level
	Before       int             `json:"before"` // the last of the old one
	Run          string          `json:"run"`    // of Night
	Old          float64         `json:"old"`    // levels
	New          float64         `json:"new"`
	Factor       float64         `json:"factor"` // median of all quotients new / old
	Low          *float64        `json:"low"`    // its interval
	High         *float64        `json:"high"`
	P            float64         `json:"p"`           // of the t-test
	PCorrected   float64         `json:"p_corrected"` // over nights and series
	Verdict      Verdict         `json:"verdict"`
	Reason       string          `json:"reason,omitempty"`
	Acknowledged *int            `json:"acknowledged"` // index in Acknowledgements; null: it is not
	Noted        []RunDifference `json:"noted"`        // between the two nights, in what does not decide figures
}

// HistoryBorder is how a setup's first level lies to the level before it. It is never a regression: something else was measured.
type HistoryBorder struct {
	From   int     `json:"from"` // setup
	Old    float64 `json:"old"`  // its last level
	New    float64 `json:"new"`
	Factor float64 `json:"factor"`
}

// NewHistory lays nights side by side and looks for changes. It fails on names that no night has, and where no night could be
// read; anything odd is said in warnings.
func NewHistory(list []Night, o HistoryOptions) (*History, error) {
	o = o.withDefaults()
	h := &History{
		Schema: HistorySchema, Alpha: o.Alpha, Confidence: o.Confidence, MinEffect: o.MinEffect, MinSegment: o.MinSegment, Absolute: o.Absolute,
		Nights: []HistoryNight{}, Setups: []Setup{}, Series: []HistorySeries{}, Acknowledgements: []AcknowledgementStatus{}, Warnings: []Note{},
	}
	b := &historian{h: h, o: o, nights: h.inOrder(list)}
	if err := b.checkNames(); err != nil {
		return nil, err
	}
	b.group()
	for _, n := range b.nights {
		h.Nights = append(h.Nights, n.shown())
	}
	b.collect()
	b.detect()
	b.acknowledge()
	b.gate()
	return h, nil
}

// inOrder sorts nights by time, those of which none is known last: they may be the newest. A run that is there twice counts once.
func (h *History) inOrder(list []Night) (nights []*Night) {
	seen := make(map[string]string)
	for i := range list {
		n := &list[i]
		if n.run != nil && n.run.ID != "" {
			if first, twice := seen[n.run.ID]; twice {
				h.Warnings = append(h.Warnings, Note{Text: fmt.Sprintf("%s is the run of %s, %s, and counts once", clean(n.Label), clean(first), clean(n.run.ID))})
				continue
			}
			seen[n.run.ID] = n.Label
		}
		nights = append(nights, n)
	}
	slices.SortStableFunc(nights, func(a, b *Night) int {
		switch x, y := a.began(), b.began(); {
		case x.IsZero() != y.IsZero():
			if x.IsZero() {
				return 1
			}
			return -1
		default:
			return x.Compare(y)
		}
	})
	return nights
}

// historian makes a history.
type historian struct {
	h      *History
	o      HistoryOptions
	nights []*Night
}

// checkNames finds arms, workloads, metrics and facts asked for that no night has.
func (b *historian) checkNames() error {
	arms, workloads, metrics, facts := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	readable := false
	for _, n := range b.nights {
		if n.run == nil {
			continue
		}
		readable = true
		for _, c := range n.cells {
			arms[c.cell.Arm.String()], workloads[c.cell.Workload] = true, true
			for name := range c.readings {
				metrics[name] = true
			}
		}
		for name := range n.seen {
			metrics[name] = true
		}
		n.facts(facts)
	}
	if !readable {
		return fmt.Errorf("history: no run could be read%s", b.firstUnread())
	}
	for _, a := range b.o.Arms {
		if !arms[a.String()] {
			return fmt.Errorf("history: %w", names.Unknown("arm", a.String(), slices.Sorted(maps.Keys(arms))))
		}
	}
	for _, w := range b.o.Workloads {
		if !workloads[w] {
			return fmt.Errorf("history: %w", names.Unknown("workload", w, slices.Sorted(maps.Keys(workloads))))
		}
	}
	for _, m := range b.o.Metrics {
		if !metrics[m] {
			return fmt.Errorf("history: %w", names.Unknown("metric", m, slices.Sorted(maps.Keys(metrics))))
		}
	}
	for _, p := range b.o.Across {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(facts)), func(fact string) bool { return matches(p, fact) }) {
			return fmt.Errorf("history: %w", names.Unknown("fact", p, slices.Sorted(maps.Keys(facts))))
		}
	}
	return nil
}

func (b *historian) firstUnread() string {
	for _, n := range b.nights {
		if n.unread != nil {
			return ": " + n.unread.Error()
		}
	}
	return ""
}

// detect looks for changes in every series, setup by setup. Series of one kind on one setup share the chance of a false change.
func (b *historian) detect() {
	type family struct {
		setup int
		kind  string
	}
	sizes := make(map[family]int)
	of := func(s *HistorySeries, setup int) family {
		if s.Judged {
			return family{setup, ""}
		}
		return family{setup, string(s.Carrier) + " " + s.Metric}
	}
	for i := range b.h.Series {
		s := &b.h.Series[i]
		for setup, t := range b.tracksOf(s) {
			sizes[of(s, setup+1)] += places(len(t.values), b.o.MinSegment)
		}
	}
	for i := range b.h.Series {
		s := &b.h.Series[i]
		for setup, t := range b.tracksOf(s) {
			if len(t.values)+t.gaps > 0 {
				b.track(s, setup+1, t, sizes[of(s, setup+1)])
			}
		}
		b.borders(s)
	}
}

// rawTrack is a series on one setup before anything is found in it.
type rawTrack struct {
	nights []int // indices of nights with a value
	values []float64
	gaps   int
}

// tracksOf are the series by setup, from setup 1 on.
func (b *historian) tracksOf(s *HistorySeries) []rawTrack {
	tracks := make([]rawTrack, len(b.h.Setups))
	for _, p := range s.Points {
		setup := b.h.Nights[p.Night].Setup
		if setup == 0 { // it has no trials, and so no value
			continue
		}
		t := &tracks[setup-1]
		if p.Value == nil {
			t.gaps++
			continue
		}
		t.nights, t.values = append(t.nights, p.Night), append(t.values, *p.Value)
	}
	return tracks
}

// track finds the changes of a series on one setup.
func (b *historian) track(s *HistorySeries, setup int, raw rawTrack, family int) {
	t := HistoryTrack{Setup: setup, Nights: len(raw.values), Gaps: raw.gaps, Segments: []HistorySegment{}, Changes: []HistoryChange{}}
	logs := make([]float64, len(raw.values))
	for i, v := range raw.values {
		logs[i] = math.Log(v)
	}
	var cuts []cut
	if family > 0 {
		cuts = changePoints(logs, b.o.MinSegment, b.o.Alpha/float64(family))
	}
	bounds := []int{0}
	for _, c := range cuts {
		bounds = append(bounds, c.at)
	}
	bounds = append(bounds, len(logs))
	var residuals []float64
	for i := 0; i+1 < len(bounds) && len(logs) > 0; i++ {
		from, to := bounds[i], bounds[i+1]
		seg := HistorySegment{First: raw.nights[from], Last: raw.nights[to-1], N: to - from, Level: median(raw.values[from:to])}
		if iv := medianInterval(raw.values[from:to], b.o.Confidence); iv.ok {
			seg.Low, seg.High = number(iv.low), number(iv.high)
		}
		t.Segments = append(t.Segments, seg)
		mid := median(logs[from:to])
		for _, v := range logs[from:to] {
			residuals = append(residuals, v-mid)
		}
	}
	for i, c := range cuts {
		t.Changes = append(t.Changes, b.change(s, raw, bounds[i], c, bounds[i+2], family))
	}
	b.sum(s, &t)
	if r, ok := correlated(residuals); ok {
		s.Warnings = append(s.Warnings, Note{Text: fmt.Sprintf("nights of setup %d resemble the night before (autocorrelation %.2f): allowance is made, and yet changes are found more often than alpha says", setup, r)})
	}
	s.Tracks = append(s.Tracks, t)
}

// change describes one that was found.
func (b *historian) change(s *HistorySeries, raw rawTrack, from int, c cut, to, family int) HistoryChange {
	old, new := raw.values[from:c.at], raw.values[c.at:to]
	d := changeOf(old, new, 0, b.o.Options)
	night, before := raw.nights[c.at], raw.nights[c.at-1]
	out := HistoryChange{
		Night: night, Before: before, Run: b.h.Nights[night].Run, Old: median(old), New: median(new), Factor: *d.Factor, Low: d.Low, High: d.High,
		P: c.p, PCorrected: min(1, c.p*float64(family)), Noted: b.between(before, night),
	}
	out.Verdict, out.Reason = b.verdict(s, out.Factor)
	return out
}

// verdict is on a change that is significant, or on several together.
func (b *historian) verdict(s *HistorySeries, factor float64) (Verdict, string) {
	if s.Carrier == CarrierAbsolute && !b.o.Absolute {
		return VerdictNone, "levels drift between boots and with what else a machine does; --absolute judges them"
	}
	verdict, reason := direction(s.Better, factor)
	if verdict.directed() && effect(factor) < b.o.MinEffect {
		return VerdictSame, fmt.Sprintf("%.2g%% is less than the least difference that counts, %.3g%%", 100*effect(factor), 100*b.o.MinEffect)
	}
	return verdict, reason
}

// sum says what all changes of a track come to.
func (b *historian) sum(s *HistorySeries, t *HistoryTrack) {
	if least := fewestNights(b.o.MinSegment); t.Nights < least {
		t.Verdict, t.Reason = VerdictInconclusive, fmt.Sprintf("%s with a value; a change can be found from %d on", counted(t.Nights, "night"), least)
		return
	}
	factor := 1.0
	for _, c := range t.Changes {
		factor *= c.Factor
	}
	t.Factor = number(factor)
	if len(t.Changes) == 0 {
		t.Verdict = VerdictSame
		if s.Carrier == CarrierAbsolute && !b.o.Absolute {
			t.Verdict = VerdictNone
		}
		return
	}
	t.Verdict, t.Reason = b.verdict(s, factor)
}

// borders hold each setup's first level against the last one that was measured before it on another.
func (b *historian) borders(s *HistorySeries) {
	for i := range s.Tracks {
		t := &s.Tracks[i]
		if len(t.Segments) == 0 {
			continue
		}
		first, latest := t.Segments[0].First, -1
		for _, other := range s.Tracks {
			for _, seg := range other.Segments {
				if other.Setup != t.Setup && seg.First < first && seg.First > latest {
					latest = seg.First
					t.Border = &HistoryBorder{From: other.Setup, Old: seg.Level, New: t.Segments[0].Level}
				}
			}
		}
		if t.Border != nil {
			t.Border.Factor = t.Border.New / t.Border.Old
		}
	}
}

// correlated says whether nights that follow each other are alike beyond their level: lag 1 autocorrelation, one-sided p below 0.005 by
// its standard error 1/√n [Box, Jenkins, Reinsel: Time Series Analysis, section 2.1.6].
func correlated(residuals []float64) (r float64, ok bool) {
	const leastNights, z = 20, 2.58
	n := len(residuals)
	if n < leastNights {
		return 0, false
	}
	r = autocorrelation(residuals)
	return r, r*math.Sqrt(float64(n)) > z
}
