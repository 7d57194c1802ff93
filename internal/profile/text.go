// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
)

// mostFunctions are in a table.
const mostFunctions = 15

// RenderText writes the difference as tables: by kind, and the functions whose own time changed most.
func (d *Difference) RenderText(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "profile: %s against %s · %s\n", d.Arm.Arm, d.Base.Arm, strings.TrimSpace(d.Arm.Workload+" "+d.Arm.Params.String()))
	fmt.Fprintf(&b, "CPU time in %s, both hosts together: %s → %s, %s\n", d.Unit, number(d.Whole.Cost[ofBase]),
		number(d.Whole.Cost[ofArm]), strings.TrimSpace(d.Whole.difference()))
	fmt.Fprintf(&b, "%s: %s, %s\n%s: %s, %s\n\n", d.Base.Arm, d.Base.rate(), d.Base.shares(), d.Arm.Arm, d.Arm.rate(), d.Arm.shares())
	d.header(&b, "kind", "")
	for _, c := range d.Kinds {
		d.row(&b, string(c.Kind), c)
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\nthe %d functions whose own time changed most\n", min(mostFunctions, len(d.Functions)))
	d.header(&b, "function", "   with what it calls  kind")
	for _, c := range d.Functions[:min(mostFunctions, len(d.Functions))] {
		d.row(&b, c.Name, c)
		fmt.Fprintf(&b, "  %8s → %-8s  %s\n", number(c.Under[ofBase]), number(c.Under[ofArm]), c.Kind)
	}
	b.WriteString("\n± is of the number of samples alone, 95 %; ~ a change within it. (irqs on): seen where interrupts come on again.\n")
	for _, p := range []*Profile{d.Base, d.Arm} {
		for _, doubt := range p.Warnings {
			fmt.Fprintf(&b, "warning: %s: %s\n", p.Arm, doubt)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

const nameWidth = 40

func (d *Difference) header(b *bytes.Buffer, what, more string) {
	fmt.Fprintf(b, "%*s  %17s  %17s  %17s%s\n", nameWidth, what, short(d.Base.Arm.String(), 17), short(d.Arm.Arm.String(), 17), "difference, "+d.short, more)
}

func (d *Difference) row(b *bytes.Buffer, name string, c Change) {
	fmt.Fprintf(b, "%*s  %8s %6.1f %%  %8s %6.1f %%  %17s", nameWidth, short(name, nameWidth), number(c.Cost[ofBase]), 100*c.Share[ofBase],
		number(c.Cost[ofArm]), 100*c.Share[ofArm], c.difference())
}

// difference is "+12 ± 3", with a ~ where that says nothing.
func (c Change) difference() string {
	mark := " "
	if c.Uncertain {
		mark = "~"
	}
	return signed(c.Change) + " ± " + number(c.Margin) + " " + mark
}

// RenderText writes one profile as tables: by kind, and the functions that take most.
func (p *Profile) RenderText(w io.Writer) error {
	d := Compare(p, p)
	var b bytes.Buffer
	fmt.Fprintf(&b, "profile: %s\n", p.Title())
	fmt.Fprintf(&b, "CPU time in %s, both hosts together: %s; %s\n%s\n\n", d.Unit, number(d.Whole.Cost[ofArm]), p.rate(), p.shares())
	for _, c := range d.Kinds {
		fmt.Fprintf(&b, "%*s  %8s %6.1f %%\n", nameWidth, c.Kind, number(c.Cost[ofArm]), 100*c.Share[ofArm])
	}
	fmt.Fprintf(&b, "\n%*s  %17s  with what it calls  kind\n", nameWidth, "function", "own time, "+d.short)
	for _, c := range d.largest() {
		fmt.Fprintf(&b, "%*s  %8s %6.1f %%  %17s  %s\n", nameWidth, short(c.Name, nameWidth), number(c.Cost[ofArm]), 100*c.Share[ofArm], number(c.Under[ofArm]), c.Kind)
	}
	for _, doubt := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", doubt)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// largest are the functions that take most in the arm.
func (d *Difference) largest() []Change {
	list := append([]Change(nil), d.Functions...)
	sortBy(list, func(c Change) float64 { return c.Cost[ofArm] })
	return list[:min(mostFunctions, len(list))]
}

// rate is the work done, for people.
func (p *Profile) rate() string {
	switch {
	case p.Transactions != nil:
		return fmt.Sprintf("%.4gk transactions/s", *p.Transactions/1e3)
	case p.Throughput != nil:
		return fmt.Sprintf("%.4g Gbit/s", *p.Throughput*8/1e9)
	}
	return "work not counted"
}

// shares are those of all samples: the work's, and what is told apart.
func (p *Profile) shares() string {
	work, apart := p.Apart()
	all := work
	for _, n := range apart {
		all += n
	}
	text := fmt.Sprintf("CPUs: %.1f %% work", share(work, all))
	for _, of := range []struct{ frame, text string }{{Idle, "idle"}, {Agent, "agents"}, {Others, "others' processes"}} {
		if n := apart[of.frame]; n > 0 {
			text += fmt.Sprintf(", %.1f %% %s", share(n, all), of.text)
		}
	}
	return text
}

// share is in per cent.
func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(n) / float64(of)
}

// number has three digits or all that stand before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a < 9.95:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

func signed(v float64) string {
	if v < 0 {
		return "−" + number(-v)
	}
	return "+" + number(v)
}

// short cuts what is too long for its column.
func short(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}
