// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Difference sets an arm's profile against its baseline's, by the work that each did.
type Difference struct {
	Base, Arm *Profile
	Unit      string   // of all costs, "ns per transaction"
	Whole     Change   // all the work
	Kinds     []Change // by what functions belong to; they add up to Whole
	Functions []Change // by own time, the largest change first; they add up to Whole

	short string
	worth [2]float64
}

// Change is what something costs in the baseline and in the arm.
type Change struct {
	Name      string // the function's
	Kind      Kind
	Cost      [2]float64 // of the baseline, of the arm
	Share     [2]float64 // of the whole
	Under     [2]float64 // with all that it calls
	Samples   [2]int
	Change    float64
	Margin    float64 // of Change, by the number of samples alone: 95 % of such are within
	Uncertain bool    // Change is within Margin
}

// Compare sets two profiles against each other.
func Compare(base, arm *Profile) *Difference {
	ub, ua := base.Unit(), arm.Unit()
	if ub.key != ua.key { // one of them was not counted
		ub, ua = base.byTime(), arm.byTime()
	}
	d := &Difference{Base: base, Arm: arm, Unit: ua.Name, short: ua.Short, worth: [2]float64{ub.Of, ua.Of}}
	functions, kinds := map[string]*Change{}, map[Kind]*Change{}
	for side, p := range []*Profile{base, arm} {
		under := map[string]int{}
		for _, s := range p.Stacks {
			if s.apart() {
				continue
			}
			name, kind := s.own()
			count(functions, name, side, s.Count).Kind = kind
			count(kinds, kind, side, s.Count).Kind = kind
			d.Whole.Samples[side] += s.Count
			for i, f := range s.Frames {
				if !slices.Contains(s.Frames[:i], f) {
					under[label(f)] += s.Count
				}
			}
		}
		for name, c := range functions {
			c.Under[side] = float64(under[strings.TrimSuffix(name, interruptsOn)]) * d.worth[side]
		}
	}
	d.reckon(&d.Whole)
	for _, k := range Kinds() {
		if c := kinds[k]; c != nil {
			d.reckon(c)
			d.Kinds = append(d.Kinds, *c)
		}
	}
	for name, c := range functions {
		c.Name = name
		d.reckon(c)
		d.Functions = append(d.Functions, *c)
	}
	sortBy(d.Functions, func(c Change) float64 { return math.Abs(c.Change) })
	return d
}

func count[K comparable](in map[K]*Change, key K, side, n int) *Change {
	if in[key] == nil {
		in[key] = &Change{}
	}
	in[key].Samples[side] += n
	return in[key]
}

// reckon turns samples into costs. Samples are taken to be independent of each other: their number is then as uncertain as its root.
func (d *Difference) reckon(c *Change) {
	variance := 0.0
	for side, n := range c.Samples {
		c.Cost[side] = float64(n) * d.worth[side]
		if whole := d.Whole.Samples[side]; whole > 0 {
			c.Share[side] = float64(n) / float64(whole)
		}
		variance += float64(n) * d.worth[side] * d.worth[side]
	}
	c.Change, c.Margin = c.Cost[ofArm]-c.Cost[ofBase], 1.96*math.Sqrt(variance)
	c.Uncertain = math.Abs(c.Change) <= c.Margin
}

// byTime is the unit of profiles whose work was not counted.
func (p *Profile) byTime() Unit {
	untold := *p
	untold.Transactions, untold.Throughput = nil, nil
	return untold.Unit()
}

// interruptsOn ends the names under which the time is told that is seen where interrupts come on again.
const interruptsOn = " (irqs on)"

// enablers are functions that do nothing but let interrupts come, by themselves or behind a lock.
var enablers = []string{
	"_raw_spin_unlock_irqrestore", "_raw_spin_unlock_irq", "_raw_read_unlock_irqrestore", "_raw_write_unlock_irqrestore",
	"pvm_irq_enable", "__raw_callee_save_pvm_irq_enable", "native_irq_enable", "xen_irq_enable_direct", "pvm_restore_fl",
	"__raw_callee_save_xen_irq_enable", "trace_hardirqs_on",
}

// own is the function that a sample found at work. The timer that samples is an interrupt: what runs with interrupts off is seen where
// they come on again, and that is told of the function which let them.
func (s Stack) own() (name string, kind Kind) {
	last := len(s.Frames) - 1
	at := last
	for at > 1 && slices.Contains(enablers, label(s.Frames[at])) {
		at--
	}
	name, kind = label(s.Frames[at]), KindOf(s.Frames[at])
	if at < last {
		name += interruptsOn
	}
	return name, kind
}

// WriteFolded writes stack, count of the baseline and count of the arm, as difffolded.pl does. The baseline's counts are brought to the
// arm's amount of work, rounded.
func (d *Difference) WriteFolded(w io.Writer) error {
	scale := 1.0
	if d.worth[ofArm] > 0 {
		scale = d.worth[ofBase] / d.worth[ofArm]
	}
	counts := map[string][2]int{}
	for _, s := range d.Base.Stacks {
		c := counts[strings.Join(s.Frames, ";")]
		c[ofBase] += int(math.Round(float64(s.Count) * scale))
		counts[strings.Join(s.Frames, ";")] = c
	}
	for _, s := range d.Arm.Stacks {
		c := counts[strings.Join(s.Frames, ";")]
		c[ofArm] += s.Count
		counts[strings.Join(s.Frames, ";")] = c
	}
	var lines []string
	for text, c := range counts {
		lines = append(lines, fmt.Sprintf("%s %d %d\n", text, c[ofBase], c[ofArm]))
	}
	slices.Sort(lines)
	_, err := io.WriteString(w, strings.Join(lines, ""))
	return err
}

// sortBy puts the largest first, and equals in the order of their names.
func sortBy(list []Change, by func(Change) float64) {
	slices.SortFunc(list, func(a, b Change) int {
		switch x, y := by(a), by(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
}
