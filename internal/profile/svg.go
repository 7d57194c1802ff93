// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// A picture's measures, in px.
const (
	svgWidth  = 1200.0
	svgMargin = 12.0
	svgHead   = 84.0 // title, figures, legend
	rowHeight = 16.0
	footLine  = 14.0
	charWidth = 6.7 // of labels
)

// leastShare of the whole that a frame must have to be drawn.
const leastShare = 0.001

// colours of kinds: light, so that dark letters are legible on all of them, in both schemes. Nobody has to tell them apart: each frame has
// its name, and its kind in what a pointer shows.
var colours = map[Kind]string{
	KindUser: "#f2c14e", KindEntry: "#d3d3d3", KindTransport: "#8ecae6", KindIP: "#b5e3e0", KindNetfilter: "#b7e4a0", KindCore: "#84b6ee",
	KindTunnel: "#f4a582", KindDriver: "#f9cfa6", KindBPF: "#ea94c8", KindMemory: "#e6e0a8", KindScheduler: "#c9b8ec", KindOther: "#ebebeb",
}

// canvas is a picture under construction.
type canvas struct {
	bytes.Buffer
	height, floor float64 // floor: the lowest row's bottom
}

// style: letters on frames are dark in both schemes, those beside them are not.
const style = `<style>text{font:11px "DejaVu Sans",Verdana,Helvetica,Arial,sans-serif;fill:#1a1a1a}.i{fill:#222}.f{fill:#666}.p{fill:#fff}.b{font-size:18px;font-weight:bold}` +
	`.s{stroke:#fff;stroke-width:.5}.z{stroke:#7a1f5c;stroke-width:1.2}` +
	`@media (prefers-color-scheme:dark){.i{fill:#e8e8e8}.f{fill:#a8a8a8}.p{fill:#14171a}.s{stroke:#14171a}}</style>`

// begin makes room for rows of frames and lines under them.
func begin(title string, rows, lines int) *canvas {
	c := &canvas{floor: svgHead + float64(rows)*rowHeight + 4}
	c.height = c.floor + 10 + footLine*float64(lines) + 6
	fmt.Fprintf(c, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f">`+"\n", svgWidth, c.height, svgWidth, c.height)
	fmt.Fprintf(c, "<title>%s</title>\n%s\n", escape(title), style)
	c.WriteString(`<rect class="p" width="100%" height="100%"/>` + "\n")
	return c
}

func (c *canvas) text(class string, x, y float64, text string) {
	fmt.Fprintf(c, `<text class="%s" x="%.0f" y="%.0f">%s</text>`+"\n", class, x, y, escape(text))
}

// frame draws a frame: root at the bottom, what it called over it. Its text may be cut, but not to fewer letters than least: half a
// number would be another one.
func (c *canvas) frame(b box, fill, class, text, tip string, least int) {
	x, width := svgMargin+b.x*(svgWidth-2*svgMargin), b.width*(svgWidth-2*svgMargin)
	y := c.floor - float64(b.row+1)*rowHeight
	fmt.Fprintf(c, `<g><title>%s</title><rect class="%s" x="%.1f" y="%.0f" width="%.1f" height="%.0f" fill="%s"/>`, escape(tip), class, x, y, max(width, 0.3), rowHeight-1, fill)
	if room := int((width - 5) / charWidth); room >= least {
		fmt.Fprintf(c, `<text x="%.1f" y="%.0f">%s</text>`, x+2.5, y+11.5, escape(short(text, room)))
	}
	c.WriteString("</g>\n")
}

// end writes the lines under the frames.
func (c *canvas) end(w io.Writer, lines []string) error {
	for i, line := range lines {
		c.text("f", svgMargin, c.floor+16+footLine*float64(i), line)
	}
	c.WriteString("</svg>\n")
	_, err := w.Write(c.Bytes())
	return err
}

// RenderSVG draws the profile as a flame graph: a frame is as wide as the CPU time that it and what it called took, and stands on
// its caller. From left to right the order is that of names, and not of time.
func (p *Profile) RenderSVG(w io.Writer) error {
	root := &node{}
	unit := p.Unit()
	root.add(p.Stacks, ofArm, unit.Of)
	boxes, rows, hidden := lay(root, leastShare)
	lines := p.footer(hidden)
	c := begin("CPU time of "+p.Title(), rows, len(lines))
	c.text("b i", svgMargin, 28, p.Title())
	c.text("i", svgMargin, 48, fmt.Sprintf("CPU time: %s %s on both hosts together; %s; %s; only work is drawn",
		number(root.total[ofArm]), unit.Name, p.rate(), p.shares()))
	c.legend()
	for _, b := range boxes {
		kind := KindOf(b.name)
		fill, class := colours[kind], "s"
		if b.row == 0 {
			fill = "#c8ccd0"
		}
		if kind == KindBPF {
			class = "z"
		}
		c.frame(b, fill, class, label(b.name), fmt.Sprintf("%s (%s): %.1f %%, %s %s; itself %s", label(b.name), kind, 100*b.width,
			number(b.total[ofArm]), unit.Name, number(b.self[ofArm])), 3)
	}
	return c.end(w, lines)
}

// legend names the colours.
func (c *canvas) legend() {
	x := svgMargin
	for _, k := range Kinds() {
		fmt.Fprintf(c, `<rect class="s" x="%.0f" y="60" width="12" height="12" fill="%s"/>`+"\n", x, colours[k])
		c.text("i", x+15, 70, string(k))
		x += 15 + float64(len(k))*5.9 + 12
	}
}

// footer is what one has to know, in lines that fit.
func (p *Profile) footer(hidden float64) (lines []string) {
	lines = append(lines, p.basis(), cut(hidden)+
		" What runs with interrupts off is seen where they come on again. Softirqs stand on whatever they interrupted.")
	for _, doubt := range p.Warnings {
		lines = append(lines, "warning: "+doubt)
	}
	return wrapAll(lines)
}

// cut says what is not drawn.
func cut(hidden float64) string {
	return fmt.Sprintf("Frames under %.1f %% are not drawn, %.1f %% of the whole.", 100*leastShare, 100*hidden)
}

// basis says how it was sampled.
func (p *Profile) basis() string {
	var hosts []string
	for _, s := range p.Sampled {
		hosts = append(hosts, fmt.Sprintf("%s CPU %s: %d samples in %.1f s, %.1f %% without a name, %d lost", s.Side, strings.Trim(fmt.Sprint(s.CPUs), "[]"),
			s.Samples, s.Window, share(s.Unresolved, s.Samples), s.Lost))
	}
	kernel := strings.SplitN(p.Kernel, ".", 3)
	return fmt.Sprintf("cpu-clock %.0f/s. %s. %s lab, placement %s, wire %s, Linux %s, econbench %s.", p.Frequency, strings.Join(hosts, "; "), p.Lab, p.Placement, p.Wire,
		strings.Join(kernel[:min(2, len(kernel))], "."), p.Version)
}

// RenderSVG draws the difference: a frame is as wide as what it costs in the arm or in the baseline, whichever is more, red where it costs
// more in the arm and blue where it costs less, the deeper the more.
func (d *Difference) RenderSVG(w io.Writer) error {
	root := &node{}
	root.add(d.Base.Stacks, ofBase, d.worth[ofBase])
	root.add(d.Arm.Stacks, ofArm, d.worth[ofArm])
	boxes, rows, hidden := lay(root, leastShare)
	lines := wrapAll([]string{d.Base.Arm.String() + ": " + d.Base.basis(), d.Arm.Arm.String() + ": " + d.Arm.basis(), cut(hidden) +
		" A frame is as wide as its cost in either arm, whichever is more, with all that is on it. Only work is drawn: no idle CPUs, agents or other processes."})
	title := fmt.Sprintf("%s against %s · %s", d.Arm.Arm, d.Base.Arm, strings.TrimSpace(d.Arm.Workload+" "+d.Arm.Params.String()))
	c := begin("CPU time of "+title, rows, len(lines))
	c.text("b i", svgMargin, 28, title)
	c.text("i", svgMargin, 48, fmt.Sprintf("CPU time in %s, both hosts together: %s → %s, %s; %s → %s", d.Unit, number(d.Whole.Cost[ofBase]), number(d.Whole.Cost[ofArm]),
		strings.TrimSpace(d.Whole.difference()), d.Base.rate(), d.Arm.rate()))
	c.scale(d.short)
	most := 0.0
	for _, b := range boxes {
		if b.row > 1 { // roots and processes have all the change there is
			most = max(most, math.Abs(b.change()))
		}
	}
	for _, b := range boxes {
		c.frame(b, shade(b.change(), most), "s", signed(b.change())+" "+label(b.name), fmt.Sprintf("%s (%s): %s → %s %s, %s; itself %s → %s", label(b.name), KindOf(b.name),
			number(b.total[ofBase]), number(b.total[ofArm]), d.Unit, signed(b.change()), number(b.self[ofBase]), number(b.self[ofArm])), len([]rune(signed(b.change())))+3)
	}
	return c.end(w, lines)
}

func (n *node) change() float64 { return n.total[ofArm] - n.total[ofBase] }

// shade is white for no change, red for more, blue for less; the root of the share, so that small changes are seen beside large ones.
func shade(change, most float64) string {
	if most <= 0 {
		return "#ffffff"
	}
	depth := math.Sqrt(min(1, math.Abs(change)/most))
	fade := func(to float64) int { return int(math.Round(255 - (255-to)*depth)) }
	if change > 0 {
		return fmt.Sprintf("#%02x%02x%02x", fade(240), fade(120), fade(95))
	}
	return fmt.Sprintf("#%02x%02x%02x", fade(95), fade(160), fade(240))
}

// scale explains the colours of a difference.
func (c *canvas) scale(unit string) {
	x := svgMargin
	for _, s := range []struct{ fill, text string }{
		{shade(1, 1), "red, +: costs more in the arm"}, {shade(0, 1), "the same"}, {shade(-1, 1), "blue, −: costs less"}, {"", "figures on frames: " + unit + ", with all that is on them"},
	} {
		if s.fill != "" {
			fmt.Fprintf(c, `<rect class="s" x="%.0f" y="60" width="12" height="12" fill="%s"/>`+"\n", x, s.fill)
			x += 15
		}
		c.text("i", x, 70, s.text)
		x += float64(len([]rune(s.text)))*6.2 + 14
	}
}

// wrapAll breaks lines that are too long for the picture.
func wrapAll(lines []string) (out []string) {
	const most = 190
	for _, line := range lines {
		at := ""
		for _, word := range strings.Fields(line) {
			if at != "" && len([]rune(at))+1+len([]rune(word)) > most {
				out = append(out, at)
				at = "   "
			}
			at = strings.TrimPrefix(at+" "+word, " ")
		}
		out = append(out, at)
	}
	return out
}

func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes all
	return b.String()
}
