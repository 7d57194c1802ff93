// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/econbench/econbench"
)

// Markdown is the text report's tables for issues and pull requests.
type Markdown struct{}

var _ econbench.Report = Markdown{}

func (Markdown) Name() string { return "markdown" }
func (Markdown) Help() string { return "the text report's tables as GitHub-flavoured Markdown" }

// Render writes a heading and a table per workload, then the notes as lists.
func (Markdown) Render(w io.Writer, run *econbench.Run) error {
	s, err := Summarise(run)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n", escape(runLine(s)))
	for _, t := range tables(s) {
		title := nonEmpty(t.title)
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", escape(title[0]), escape(strings.Join(title[1:], " · ")))
		drawMarkdown(&b, t.columns)
		if t.ruler != "" {
			fmt.Fprintf(&b, "\n%s\n", escape(t.ruler))
		}
	}
	list := func(head string, lines []string) {
		if len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s\n\n", head)
		}
		for _, l := range lines {
			fmt.Fprintf(&b, "- %s\n", escape(l))
		}
	}
	list("G"+meansHead(s)[1:], meanLines(s))
	publishedMarkdown(&b, s)
	list("Invalid trials, which do not count:", notesOf(s, true))
	list("Warnings:", notesOf(s, false))
	if len(s.Cells) > 0 {
		fmt.Fprintf(&b, "\n%s\n", escape(legend(s)))
	}
	return writeTrimmed(w, b.Bytes())
}

func drawMarkdown(b *bytes.Buffer, cols []column) {
	row := func(text func(column) string) {
		for _, c := range cols {
			b.WriteString("| " + text(c) + " ")
		}
		b.WriteString("|\n")
	}
	row(func(c column) string { return escape(c.header) })
	row(func(c column) string {
		if c.left {
			return ":--"
		}
		return "--:"
	})
	for i := range cols[0].cells {
		row(func(c column) string { return escape(c.cells[i]) })
	}
}

var markdownEscapes = strings.NewReplacer(`\`, `\\`, "&", "&amp;", "|", `\|`, "*", `\*`, "_", `\_`, "`", "\\`", "<", "&lt;", "[", `\[`, "]", `\]`, "~", `\~`, "#", `\#`)

// escape makes s stand for itself.
func escape(s string) string { return markdownEscapes.Replace(s) }
