// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// The picture's measures, in px.
const (
	svgWidth   = 1400.0
	svgLeft    = 284.0 // of the plot: names of lanes stand before it
	svgRight   = 24.0
	svgTop     = 104.0
	laneHeight = 30.0
	groupGap   = 12.0 // between two namespaces
	barHeight  = 8.0
	charWidth  = 5.6 // of the small labels, at most as a rule
	footLine   = 15.0
)

// Colours that people with any colour vision tell apart, on white.
const (
	colourRequest  = "#0b67a8"
	colourResponse = "#c65a00"
	colourSoftirq  = "#6b7f3a"
	colourInk      = "#222222"
	colourFaint    = "#666666"
)

// svg is a picture under construction.
type svg struct {
	bytes.Buffer
	scale float64 // px per s
	lanes []lane
}

// lane is a row: a device, or a stack or the programs of a namespace.
type lane struct {
	side, namespace, name, kind string
	y                           float64 // of its bars' middle
}

// RenderSVG draws the path: time from left to right, a row for each device, rows grouped by namespace. Nothing in it is written
// over something else: a label stands over its own bar, when that is long enough for it, and else is what a pointer over the bar
// shows. The time axis reaches to span at least, so that pictures of several arms can be compared.
func (p *Picture) RenderSVG(w io.Writer, span econbench.Seconds) error {
	span = max(span, p.Whole.Seconds, 1e-6)
	s := &svg{scale: (svgWidth - svgLeft - svgRight) / float64(span)}
	bottom := s.layLanes(p.Stages)
	cpus := cpusOf(p.Stages)
	axis := bottom + 10 + float64(len(cpus))*22
	notes := p.footer()
	height := axis + 44 + footLine*float64(len(notes))
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif" font-size="12">`+"\n",
		svgWidth, height, svgWidth, height)
	fmt.Fprintf(s, `<title>%s: the path of a request and its response</title>`+"\n", escape(p.title()))
	fmt.Fprintf(s, `<defs>%s%s</defs>`+"\n", arrow(Request), arrow(Response))
	fmt.Fprintf(s, `<rect width="100%%" height="100%%" fill="#ffffff"/>`+"\n")
	s.head(p)
	s.groups(bottom)
	s.axis(span, axis)
	s.softirqs(p.Stages, cpus, bottom+10)
	s.path(p.Stages)
	for i, note := range notes {
		s.text(20, axis+52+footLine*float64(i), 11, "start", colourFaint, note)
	}
	s.WriteString("</svg>\n")
	_, err := w.Write(s.Bytes())
	return err
}

// layLanes gives each place a row, in the order of the request's visits, and tells where they end.
func (s *svg) layLanes(stages []Stage) (bottom float64) {
	type group struct{ side, namespace string }
	var order []group
	rows := map[group][]lane{}
	for _, st := range stages {
		g := group{st.Side, st.Namespace}
		if _, known := rows[g]; !known {
			order = append(order, g)
		}
		for _, name := range []string{st.Bridge, st.Lane} {
			l := lane{side: st.Side, namespace: st.Namespace, name: name, kind: st.Kind}
			if name == st.Bridge {
				l.kind = "bridge"
			}
			known := name == ""
			for _, other := range rows[g] {
				known = known || other.name == name
			}
			if !known {
				rows[g] = append(rows[g], l)
			}
		}
	}
	y := svgTop
	for _, g := range order {
		y += groupGap
		list := rows[g]
		slices.SortStableFunc(list, func(a, b lane) int { return a.rank() - b.rank() })
		for _, l := range list {
			l.y = y + laneHeight*0.68
			s.lanes = append(s.lanes, l)
			y += laneHeight
		}
	}
	return y + groupGap/2
}

// rank puts programs and stack before the client's devices and behind the server's, so that requests lead downwards.
func (l lane) rank() int {
	rank := map[string]int{LaneProgram: 0, LaneStack: 1}
	r, ok := rank[l.name]
	if !ok {
		r = 2
	}
	if l.side == econbench.ServerHost {
		return -r
	}
	return r
}

// at is the middle of a stage's row.
func (s *svg) at(side, namespace, name string) float64 {
	for _, l := range s.lanes {
		if l.side == side && l.namespace == namespace && l.name == name {
			return l.y
		}
	}
	return svgTop
}

func (s *svg) x(t econbench.Seconds) float64 { return svgLeft + float64(t)*s.scale }

// head writes title, figures and legend.
func (s *svg) head(p *Picture) {
	fmt.Fprintf(s, `<text x="20" y="32" font-size="20" font-weight="bold" fill="%s">%s</text>`+"\n", colourInk, escape(p.Arm.String()))
	c := p.Whole
	s.text(20, 54, 13, "start", colourInk, fmt.Sprintf("one transaction of %s: %s µs through %d namespaces and %d devices, %d softirq rounds, %d backlog queues, %d wake-ups",
		strings.TrimSpace(p.Workload+" "+p.Params.String()), micros(c.Seconds), c.Namespaces, c.Devices, c.Softirqs, c.Backlogs, c.Wakeups)+netfilterText(c))
	s.text(20, 72, 11, "start", colourFaint, p.conditions())
	x := 20.0
	for _, item := range []struct {
		text string
		draw func(x, y float64)
	}{
		{"request", func(x, y float64) { s.bar(x, x+26, y, colourRequest, false, false, "") }},
		{"response", func(x, y float64) { s.bar(x, x+26, y, colourResponse, false, false, "") }},
		{"in a tunnel's packet", func(x, y float64) { s.bar(x, x+26, y, colourRequest, true, false, "") }},
		{"waiting for a softirq or for the CPU", func(x, y float64) { s.bar(x, x+26, y, colourRequest, false, true, "") }},
		{"stage", func(x, y float64) { s.dot(x+20, y, colourRequest) }},
		{"softirq at work", func(x, y float64) {
			fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="26" height="12" rx="2" fill="%s" fill-opacity="0.25" stroke="%s"/>`+"\n", x, y-6, colourSoftirq, colourSoftirq)
		}},
	} {
		item.draw(x, 90)
		s.text(x+32, 94, 11, "start", colourInk, item.text)
		x += 32 + float64(len(item.text))*6.3 + 20
	}
}

func netfilterText(c Counts) string {
	if c.Netfilter == nil {
		return ""
	}
	return fmt.Sprintf(", %d netfilter hooks", *c.Netfilter)
}

// groups draws the rows and the namespaces that they are in.
func (s *svg) groups(bottom float64) {
	for i := 0; i < len(s.lanes); {
		end := i
		for end < len(s.lanes) && s.lanes[end].side == s.lanes[i].side && s.lanes[end].namespace == s.lanes[i].namespace {
			end++
		}
		fill := "#eef4fa"
		if s.lanes[i].side == econbench.ServerHost {
			fill = "#fbf3ea"
		}
		top := s.lanes[i].y - laneHeight*0.68
		height := laneHeight * float64(end-i)
		fmt.Fprintf(s, `<rect x="12" y="%.1f" width="%.1f" height="%.1f" rx="4" fill="%s"/>`+"\n", top, svgWidth-24, height, fill)
		if name := s.lanes[i].side + " " + s.lanes[i].namespace; end-i > 1 {
			s.text(20, s.lanes[i].y+4, 11, "start", colourInk, s.lanes[i].side)
			s.text(20, s.lanes[i].y+4+13, 11, "start", colourInk, s.lanes[i].namespace)
		} else {
			s.text(20, s.lanes[i].y+4, 11, "start", colourInk, name)
		}
		for _, l := range s.lanes[i:end] {
			name := l.name
			if l.kind != "" && l.kind != l.name {
				name += " · " + l.kind
			}
			s.text(svgLeft-10, l.y+4, 11, "end", colourInk, name)
			fmt.Fprintf(s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ffffff" stroke-width="2"/>`+"\n", svgLeft, l.y, svgWidth-svgRight, l.y)
		}
		i = end
	}
}

// axis draws ticks at round times.
func (s *svg) axis(span econbench.Seconds, y float64) {
	step := math.Pow(10, math.Floor(math.Log10(float64(span))))
	for _, part := range []float64{0.1, 0.2, 0.5, 1} {
		if float64(span)/(step*part) <= 12 {
			step *= part
			break
		}
	}
	fmt.Fprintf(s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", svgLeft, y, svgWidth-svgRight, y, colourFaint)
	for i := 0; float64(i)*step <= float64(span)*1.0001; i++ {
		t := float64(i) * step
		x := s.x(econbench.Seconds(t))
		fmt.Fprintf(s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#000000" stroke-opacity="0.08"/>`+"\n", x, svgTop+groupGap, x, y)
		s.text(x, y+16, 11, "middle", colourFaint, fmt.Sprintf("%g", math.Round(t*1e9)/1e3))
	}
	s.text(svgLeft-10, y+16, 11, "end", colourFaint, "µs since the send")
}

// cpusOf are the CPUs that softirqs worked on, in order.
func cpusOf(stages []Stage) (list []int) {
	most := -1
	used := map[int]bool{}
	for _, st := range stages {
		if st.Round > 0 {
			used[st.CPU] = true
			most = max(most, st.CPU)
		}
	}
	for cpu := range most + 1 {
		if used[cpu] {
			list = append(list, cpu)
		}
	}
	return list
}

// softirqs draws a row for each CPU with the softirq rounds, as far as stages show them.
func (s *svg) softirqs(stages []Stage, cpus []int, top float64) {
	for row, cpu := range cpus {
		y := top + 22*float64(row)
		s.text(svgLeft-10, y+12, 11, "end", colourFaint, fmt.Sprintf("softirqs of CPU %d", cpu))
		begin, end := map[int]econbench.Seconds{}, map[int]econbench.Seconds{}
		for _, st := range stages {
			if st.Round == 0 || st.CPU != cpu {
				continue
			}
			if _, known := begin[st.Round]; !known {
				begin[st.Round] = st.At
			}
			end[st.Round] = st.At
		}
		for _, st := range stages {
			from, ok := begin[st.Round]
			if !ok || st.CPU != cpu {
				continue
			}
			delete(begin, st.Round)
			x, width := s.x(from), max(3, s.x(end[st.Round])-s.x(from))
			label := fmt.Sprintf("%s %d", st.Softirq, st.Round)
			fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="16" rx="2" fill="%s" fill-opacity="0.25" stroke="%s"><title>%s: %s µs</title></rect>`+"\n",
				x, y, width, colourSoftirq, colourSoftirq, escape(label), micros(end[st.Round]-from))
			if width > float64(len(label))*6.4+6 {
				s.text(x+width/2, y+12, 10, "middle", colourInk, label)
			}
		}
	}
}

// path draws the bars, from each stage to the next, and what leads from row to row.
func (s *svg) path(stages []Stage) {
	for i, st := range stages {
		if i == len(stages)-1 {
			break
		}
		next := stages[i+1]
		x0, x1, y := s.x(st.At), s.x(next.At), s.at(st.Side, st.Namespace, st.Lane)
		waits := st.Queues() || next.Hook == hookRuns
		label := fmt.Sprintf("%s: %s µs to %s", st.Text(), micros(next.Since), next.Text())
		s.bar(x0, x1, y, colourOf(st), st.Tunnelled, waits, label)
		s.label(st, next, x0, x1, y)
		to := s.at(next.Side, next.Namespace, next.Lane)
		if next.Bridge != "" {
			via := s.at(next.Side, next.Namespace, next.Bridge)
			s.dot(x1, via, colourOf(next))
			if to != y {
				s.down(x1, y, via, next, false)
				y = via
			}
		}
		if to != y {
			s.down(x1, y, to, next, true)
		}
	}
	for _, st := range stages {
		s.dot(s.x(st.At), s.at(st.Side, st.Namespace, st.Lane), colourOf(st))
	}
}

// label stands over a bar that is as long as it.
func (s *svg) label(st, next Stage, x0, x1, y float64) {
	time := micros(next.Since)
	if next.Reckoned {
		time = "~" + time
	}
	for _, text := range []string{st.Text() + " " + time, time} {
		if float64(len([]rune(text)))*charWidth+4 <= x1-x0 {
			s.text((x0+x1)/2, y-7, 9.5, "middle", colourInk, text)
			return
		}
	}
}

func colourOf(s Stage) string {
	if directionOf(s) == Response {
		return colourResponse
	}
	return colourRequest
}

// directionOf is one of the two, whatever a file says.
func directionOf(s Stage) string {
	if s.Direction == Response {
		return Response
	}
	return Request
}

// bar is a stretch of time in a row.
func (s *svg) bar(x0, x1, y float64, colour string, tunnelled, waits bool, label string) {
	opacity := "1"
	if waits {
		opacity = "0.3"
	}
	fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.0f" fill="%s" fill-opacity="%s">`, x0, y-barHeight/2, max(x1-x0, 0.5), barHeight, colour, opacity)
	if label != "" {
		fmt.Fprintf(s, `<title>%s</title>`, escape(label))
	}
	s.WriteString("</rect>\n")
	if tunnelled {
		fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="2" fill="#ffffff"/>`+"\n", x0, y-1, max(x1-x0, 0.5))
	}
}

func (s *svg) dot(x, y float64, colour string) {
	fmt.Fprintf(s, `<circle cx="%.1f" cy="%.1f" r="3" fill="#ffffff" stroke="%s" stroke-width="1.6"/>`+"\n", x, y, colour)
}

// down leads from one row to another.
func (s *svg) down(x, from, to float64, st Stage, arrow bool) {
	stop := to - 5
	if to < from {
		stop = to + 5
	}
	marker := ""
	if arrow {
		marker = fmt.Sprintf(` marker-end="url(#%s)"`, directionOf(st))
	}
	fmt.Fprintf(s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="1.2"%s/>`+"\n", x, from, x, stop, colourOf(st), marker)
}

// arrow is the head of lines of a direction.
func arrow(direction string) string {
	colour := colourOf(Stage{Direction: direction})
	return fmt.Sprintf(`<marker id="%s" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="%s"/></marker>`,
		direction, colour)
}

// text writes a line.
func (s *svg) text(x, y, size float64, anchor, colour, text string) {
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" font-size="%g" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, size, anchor, colour, escape(text))
}

// footer is what one has to know, in lines.
func (p *Picture) footer() (lines []string) {
	notes := []string{p.basis()}
	for _, side := range []string{econbench.ClientHost, econbench.ServerHost} {
		var list []string
		for _, r := range p.Programs {
			if r.Side == side {
				list = append(list, fmt.Sprintf("%s at %s's %s %s (%.2f runs per transaction of %.0f ns)", r.Name, r.Namespace, r.Device, r.Hook, r.Runs, r.Seconds*1e9))
			}
		}
		if len(list) > 0 {
			notes = append(notes, "BPF programs on the "+side+"'s side: "+strings.Join(list, ", "))
		}
	}
	for _, note := range append(notes, p.Notes()...) {
		for i, line := range wrap(note, 190) {
			if i > 0 {
				line = "    " + line
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes all
	return b.String()
}
