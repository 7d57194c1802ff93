// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/econbench/econbench"
)

// RenderText writes the path as an indented list: namespaces, their devices, and what happens there.
func (p *Picture) RenderText(w io.Writer) error {
	t := &texter{w: w}
	t.line("%s · %s", p.title(), p.conditions())
	t.line("%s", p.basis())
	for i := 0; i < len(p.Stages); {
		direction := p.Stages[i].Direction
		end := i
		for end < len(p.Stages) && p.Stages[end].Direction == direction {
			end++
		}
		t.line("")
		t.stages(direction, p.Stages[i:end])
		i = end
	}
	if len(p.Programs) > 0 {
		t.line("")
		t.line("BPF programs on the way                            runs per transaction  ns per run")
		for _, r := range p.Programs {
			where := strings.Join([]string{r.Side, r.Namespace, r.Device, r.Hook}, " ")
			t.line("  %-32s %-15s %20.2f  %10.0f", where, r.Name, r.Runs, r.Seconds*1e9)
		}
	}
	if len(p.Carried) > 0 {
		t.line("")
		t.line("fast path before the tracing                             eligible        hits  hit ratio")
		for _, c := range p.Carried {
			t.line("  %-48s %14.0f  %10.0f  %9s", c.Host+" "+c.Direction, c.Eligible, c.Hits, percent(c.HitRatio))
		}
	}
	t.line("")
	for _, note := range p.Notes() {
		t.wrapped(note)
	}
	return t.err
}

// title is the arm and what is exchanged over it.
func (p *Picture) title() string {
	return strings.TrimSpace(p.Arm.String() + " · " + p.Workload + " " + p.Params.String())
}

func (p *Picture) conditions() string {
	return fmt.Sprintf("%s lab · placement %s · wire %s · Linux %s", p.Lab, p.Placement, p.Wire, p.Kernel)
}

// basis is how many transactions the path stands for.
func (p *Picture) basis() string {
	return fmt.Sprintf("%d of %d transactions took exactly this path; times are their medians, in µs, the tracing's own included",
		p.Followed, p.Transactions)
}

// Notes are what one has to know before one takes a figure for more than it is.
func (p *Picture) Notes() (notes []string) {
	notes = append(notes, p.overhead())
	if !p.OneClock {
		notes = append(notes, "two clocks: each host's times are its own's; the wire (reckoned) is half of what the client's host waited and the server's did not hold")
	}
	if 2*p.Followed < p.Transactions {
		notes = append(notes, fmt.Sprintf("most transactions took other paths, none of them as often: this one stands for %.0f %%", 100*float64(p.Followed)/float64(p.Transactions)))
	}
	for _, line := range p.Untold() {
		notes = append(notes, "not seen: "+line)
	}
	return notes
}

// overhead compares the rates.
func (p *Picture) overhead() string {
	if p.Rate == nil || p.RateAfter == nil || p.Between <= 0 {
		return "tracing: what it costs is not known, since transactions could not be counted without it"
	}
	text := fmt.Sprintf("tracing: %s transactions/s while it recorded, %s before and %s after", rate(p.RateTraced()), rate(*p.Rate), rate(*p.RateAfter))
	cost, ok := p.Cost()
	if !ok {
		return text + ": less than the machine's own noise"
	}
	return text + fmt.Sprintf(": it takes about %s µs of each, %.0f ns a stage", micros(cost), float64(cost)*1e9/float64(len(p.Stages)))
}

// RenderSummary writes a row for each arm.
func RenderSummary(w io.Writer, list []*Picture) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "arm\trequest µs\tresponse µs\tboth µs\tnamespaces\tdevices\tsoftirq rounds\tbacklogs\tnetfilter\tBPF runs\twake-ups\tuntraced trans./s\t")
	for _, p := range list {
		var runs float64
		for _, r := range p.Programs {
			runs += r.Runs
		}
		untraced := "n/a"
		if p.Rate != nil && p.RateAfter != nil {
			untraced = rate((*p.Rate + *p.RateAfter) / 2)
		}
		c := p.Whole
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%.1f\t%d\t%s\t\n", p.Arm, micros(p.Request.Seconds), micros(p.Response.Seconds), micros(c.Seconds),
			c.Namespaces, c.Devices, c.Softirqs, c.Backlogs, number(c.Netfilter), runs, c.Wakeups, untraced)
	}
	return t.Flush()
}

// texter writes lines and keeps the first error.
type texter struct {
	w   io.Writer
	err error
}

func (t *texter) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintln(t.w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
}

// textWidth is where long lines are broken.
const textWidth = 110

func (t *texter) wrapped(text string) {
	for i, line := range wrap(text, textWidth-2) {
		if i > 0 {
			line = "  " + line
		}
		t.line("%s", line)
	}
}

// wrap breaks a text at blanks; a word that is longer than a line has one to itself.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}

// stages lists those of one direction.
func (t *texter) stages(direction string, list []Stage) {
	head := "request: client → server"
	if direction == Response {
		head = "response: server → client"
	}
	t.line("%-66s %8s %8s  %3s  %s", head, "at", "since", "CPU", "softirq")
	ns, lane := "", ""
	for _, s := range list {
		if here := s.Side + " " + s.Namespace; here != ns {
			t.line("  %s", here)
			ns, lane = here, ""
		}
		at := s.Lane
		if s.Kind != "" {
			at += " (" + s.Kind + ")"
		}
		if at == lane {
			at = ""
		} else {
			lane = at
		}
		what := s.Text()
		if s.Tunnelled {
			what += " [tunnelled]"
		}
		since := micros(s.Since)
		if s.Reckoned {
			since = "~" + since
		}
		softirq := ""
		if s.Round > 0 {
			softirq = fmt.Sprintf("%s %d", s.Softirq, s.Round)
		}
		t.line("    %-25s %-36s %8s %8s  %3d  %s", at, what, micros(s.At), since, s.CPU, softirq)
	}
}

func micros(s econbench.Seconds) string { return fmt.Sprintf("%.1f", float64(s)*1e6) }

// rate is per s, in three digits.
func rate(r float64) string {
	if r >= 1000 {
		return fmt.Sprintf("%.1fk", r/1000)
	}
	return fmt.Sprintf("%.0f", r)
}

func number(n *int) string {
	if n == nil {
		return "n/a"
	}
	return fmt.Sprint(*n)
}

func percent(share *float64) string {
	if share == nil {
		return "n/a"
	}
	return fmt.Sprintf("%.1f%%", 100**share)
}
