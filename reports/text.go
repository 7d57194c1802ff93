// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
	"golang.org/x/term"

	"github.com/econbench/econbench"
)

// Colour says when verdicts are coloured. They read the same without.
type Colour int

const (
	ColourAuto   Colour = iota // when the writer is a terminal and NO_COLOR is not set (no-color.org)
	ColourNever                //
	ColourAlways               //
)

// textWidth is the width of the text report, in columns.
const textWidth = 120

// Text is the default format: a table a workload, for people. The zero value is ready to use.
type Text struct {
	Colour Colour
}

var _ econbench.Report = Text{}

func (Text) Name() string { return "text" }
func (Text) Help() string { return "a table per workload, for reading; 120 columns" }

// Render writes the tables, then what is to be known about them.
func (f Text) Render(w io.Writer, run *econbench.Run) error {
	s, err := Summarise(run)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	wrap(&b, "", runLine(s))
	paint := f.painter(w)
	for _, t := range tables(s) {
		b.WriteByte('\n')
		wrap(&b, "", strings.Join(nonEmpty(t.title), " · "))
		for _, cols := range t.fit(textWidth - 1) {
			if err := drawText(&b, cols, paint); err != nil {
				return fmt.Errorf("render text: %w", err)
			}
		}
		wrap(&b, " ", t.ruler)
	}
	section(&b, meansHead(s), meanLines(s))
	if err := publishedText(&b, s, paint); err != nil {
		return fmt.Errorf("render text: %w", err)
	}
	section(&b, "invalid trials, which do not count:", notesOf(s, true))
	section(&b, "warnings:", notesOf(s, false))
	if len(s.Cells) > 0 {
		b.WriteByte('\n')
		wrap(&b, "", legend(s))
	}
	return writeTrimmed(w, b.Bytes())
}

// runLine names the run and how it ended.
func runLine(s *Summary) string {
	done := fmt.Sprintf("%d of %s", s.Attempted, counted(s.Planned, "trial"))
	var end string
	switch s.Status {
	case econbench.StatusComplete:
		end = "complete, " + done
	case econbench.StatusRunning:
		end = "not finished (still going on, or killed) after " + done
	case "":
		end = "status not recorded, " + done
	default:
		end = clean(string(s.Status)) + " after " + done
	}
	if s.Error != "" {
		end += ": " + clean(s.Error)
	}
	var where []string
	if s.Lab != "" {
		where = append(where, clean(s.Lab)+" lab")
	}
	if s.Version != "" {
		where = append(where, "econbench "+clean(s.Version))
	}
	line := "run " + clean(s.Run) + ": " + end
	if len(where) > 0 {
		line += " (" + strings.Join(where, ", ") + ")"
	}
	return line
}

// legend explains the signs, once, below everything.
func legend(s *Summary) string {
	return fmt.Sprintf("Medians over blocks, ± half their interval; ×: median ratio to %s in the same block [its interval]; intervals cover at "+
		"least 95%%. ~: no significant difference; ? and inconclusive: the data cannot tell; other ratios are significant at 5%%. "+
		"n: valid trials/all.",
		clean(s.Baseline.String())) + rulerLegend(s)
}

// drawText draws one table without lines, as benchstat does.
func drawText(w io.Writer, cols []column, paint func(string) string) error {
	off := tw.Off
	align := make([]tw.Align, len(cols))
	header := make([]string, len(cols))
	for i, c := range cols {
		align[i], header[i] = tw.AlignRight, c.header
		if c.left {
			align[i] = tw.AlignLeft
		}
	}
	cell := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoFormat: off, AutoWrap: tw.WrapNone},
		Alignment:  tw.CellAlignment{PerColumn: align},
		Padding:    tw.CellPadding{Global: tw.Padding{Left: " ", Right: " ", Overwrite: true}},
	}
	t := tablewriter.NewTable(w,
		tablewriter.WithConfig(tablewriter.Config{Header: cell, Row: cell, Behavior: tw.Behavior{TrimSpace: off}}),
		tablewriter.WithEastAsian(off), // × and µ are one column wide, whatever the locale
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders:  tw.BorderNone,
			Symbols:  tw.NewSymbols(tw.StyleNone),
			Settings: tw.Settings{Lines: tw.LinesNone, Separators: tw.SeparatorsNone},
		})))
	t.Header(header)
	for row := range cols[0].cells {
		line := make([]string, len(cols))
		for i, c := range cols {
			line[i] = c.cells[row]
			if c.verdict {
				line[i] = paint(line[i])
			}
		}
		if err := t.Append(line); err != nil {
			return err
		}
	}
	return t.Render()
}

// painter colours verdicts, or leaves them as they are.
func (f Text) painter(w io.Writer) func(string) string {
	colours := map[string]string{string(VerdictBetter): "32", string(VerdictWorse): "31", string(VerdictInconclusive): "33"}
	on := f.Colour == ColourAlways
	if file, ok := w.(*os.File); ok && f.Colour == ColourAuto {
		on = os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(file.Fd()))
	}
	return func(s string) string {
		if code := colours[s]; on && code != "" {
			return "\x1b[" + code + "m" + s + "\x1b[0m"
		}
		return s
	}
}

func section(b *bytes.Buffer, head string, lines []string) {
	if len(lines) == 0 {
		return
	}
	b.WriteString("\n" + head + "\n")
	for _, l := range lines {
		wrap(b, "  ", l)
	}
}

// wrap writes text in lines of at most textWidth columns, all indented, those that continue a little more.
func wrap(b *bytes.Buffer, indent, text string) {
	line, width := indent, utf8.RuneCountInString(indent)
	empty := true
	flush := func() {
		b.WriteString(line + "\n")
		line, empty = indent+"  ", true
		width = utf8.RuneCountInString(line)
	}
	for _, word := range strings.Fields(text) {
		r := []rune(word)
		if !empty && width+1+len(r) > textWidth {
			flush()
		}
		for len(r) > textWidth-width-1 { // a word longer than a line
			room := textWidth - width - 1
			line += string(r[:room])
			r = r[room:]
			flush()
		}
		if !empty {
			line, width = line+" ", width+1
		}
		line, width, empty = line+string(r), width+len(r), false
	}
	if !empty {
		flush()
	}
}

func nonEmpty(parts []string) []string {
	var out []string
	for _, p := range parts {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// writeTrimmed leaves no blanks at the ends of lines.
func writeTrimmed(w io.Writer, b []byte) error {
	lines := strings.Split(strings.TrimRight(string(b), "\n "), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	if _, err := io.WriteString(w, strings.Join(lines, "\n")+"\n"); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
