// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// GitHub is a summary for the page of a GitHub Actions job: what it comes to first, the tables, and all the rest folded away.
type GitHub struct{}

var _ econbench.Report = GitHub{}

func (GitHub) Name() string { return "github" }
func (GitHub) Help() string {
	return "Markdown for $GITHUB_STEP_SUMMARY: verdicts first, warnings folded, at most 1 MiB"
}

// summaryLimit is how much GitHub takes from a step, in bytes; of more it shows nothing at all. What is left free is for the line that
// says what was cut.
const summaryLimit = 1<<20 - 1<<10

// longestLine of a list, in characters.
const longestLine = 2000

// Render writes the summary.
func (GitHub) Render(w io.Writer, run *econbench.Run) error {
	s, err := Summarise(run)
	if err != nil {
		return err
	}
	page := stepSummary{limit: summaryLimit, whole: "econbench report DIR -f markdown"}
	page.text("## econbench: %s\n\n%s\n", escape(headline(s)), escape(runLine(s)))
	page.bullets("", verdictLines(s))
	for _, t := range tables(s) {
		title := nonEmpty(t.title)
		page.table("### "+escape(title[0])+"\n\n"+escape(strings.Join(title[1:], " · ")), t.columns, t.ruler)
	}
	page.bullets("G"+escape(meansHead(s))[1:], meanLines(s))
	var published bytes.Buffer
	publishedMarkdown(&published, s)
	page.add(published.String(), "published figures")
	if len(s.Cells) > 0 {
		page.text("\n%s\n", escape(legend(s)))
	}
	page.folded("Invalid trials, which do not count", notesOf(s, true))
	page.folded("Warnings", notesOf(s, false))
	page.reproduce(run)
	return page.write(w)
}

// headline is the run in a few words.
func headline(s *Summary) string {
	invalid := 0
	for _, c := range s.Cells {
		invalid += c.Invalid
	}
	counts := make(map[string]int)
	for _, c := range s.Cells {
		if m, ok := c.Metrics[c.primary]; ok && m.Ratio != nil {
			counts[string(m.Ratio.Verdict)]++
		}
	}
	var parts []string
	switch {
	case s.Status != econbench.StatusComplete:
		parts = append(parts, "the run is not complete")
	case s.Attempted == 0:
		parts = append(parts, "nothing was measured")
	}
	if invalid > 0 {
		parts = append(parts, counted(invalid, "invalid trial"))
	}
	return strings.Join(append(parts, countedVerdicts(counts, clean(s.Baseline.String()))...), "; ")
}

// countedVerdicts is "2 worse, 1 ~ against host"; nothing where there are none.
func countedVerdicts(counts map[string]int, against string) []string {
	var list []string
	for _, v := range []Verdict{VerdictWorse, VerdictBetter, VerdictSame, VerdictInconclusive, VerdictNone} {
		if n := counts[string(v)]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, v))
		}
	}
	if len(list) == 0 {
		return nil
	}
	return []string{strings.Join(list, ", ") + " against " + against}
}

// verdictLines are the verdicts with their figures, the worst first.
func verdictLines(s *Summary) (lines []string) {
	for _, v := range []Verdict{VerdictWorse, VerdictInconclusive, VerdictSame, VerdictBetter} {
		for _, c := range s.Cells {
			m, ok := c.Metrics[c.primary]
			if !ok || m.Ratio == nil || m.Ratio.Verdict != v {
				continue
			}
			line := fmt.Sprintf("%s: %s in %s, %s %s", v, clean(c.Arm.String()), clean(strings.TrimSpace(c.Workload+" "+c.Params.String())), clean(c.primary), showRatio(m.Ratio))
			if m.Ratio.Reason != "" {
				line += " (" + clean(m.Ratio.Reason) + ")"
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// stepSummary is a page that must not grow beyond a limit. What has no room is left out, piece by piece, and said.
type stepSummary struct {
	b     bytes.Buffer
	limit int
	whole string // command that shows all of it
	cut   []string
}

// add writes a piece if there is room for it.
func (p *stepSummary) add(piece, what string) bool {
	if p.b.Len()+len(piece) > p.limit {
		if !slices.Contains(p.cut, what) {
			p.cut = append(p.cut, what)
		}
		return false
	}
	p.b.WriteString(piece)
	return true
}

func (p *stepSummary) text(format string, values ...any) {
	p.add(fmt.Sprintf(format, values...), "text")
}

// lines writes as many as there is room for, and leaves some room for what comes after them.
func (p *stepSummary) lines(lines []string, reserve int) {
	for i, l := range lines {
		if r := []rune(l); len(r) > longestLine {
			l = string(r[:longestLine]) + "…"
		}
		item := "- " + escape(l) + "\n"
		if p.b.Len()+len(item)+reserve > p.limit {
			p.cut = append(p.cut, counted(len(lines)-i, "line"))
			return
		}
		p.b.WriteString(item)
	}
}

func (p *stepSummary) bullets(head string, lines []string) {
	if len(lines) == 0 {
		return
	}
	if head != "" {
		head = "\n" + head + "\n"
	}
	if p.add(head+"\n", "a list") {
		p.lines(lines, p.limit/2)
	}
}

func (p *stepSummary) table(head string, cols []column, below string) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\n%s\n\n", head)
	drawMarkdown(&b, cols)
	if below != "" {
		fmt.Fprintf(&b, "\n%s\n", escape(below))
	}
	p.add(b.String(), "tables")
}

// folded writes a list that is opened with a click.
func (p *stepSummary) folded(head string, lines []string) {
	if len(lines) == 0 {
		return
	}
	const end = "\n</details>\n"
	if p.add(fmt.Sprintf("\n<details><summary>%s (%d)</summary>\n\n", escape(head), len(lines)), head) {
		p.lines(lines, len(end)+reproduceRoom)
		p.b.WriteString(end)
	}
}

// reproduceRoom is kept free for the command that measured.
const reproduceRoom = 8 << 10

// reproduce shows the command that measured; of `econbench run` with the seed that it came to have, which other commands (calibrate, whose
// pools are runs) do not take.
func (p *stepSummary) reproduce(run *econbench.Run) {
	if len(run.Command) == 0 {
		return
	}
	argv, seeded := againCommand(run)
	head := "To measure it again"
	if seeded {
		head += ", in the same order"
	}
	p.add(fmt.Sprintf("\n<details><summary>%s</summary>\n\n%s\n</details>\n", head, fenced("", commandLine(argv)+"\n")), "the command")
}

// fenced is a block of text in Markdown, whatever is in it.
func fenced(language, text string) string {
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fence + language + "\n" + text + fence + "\n"
}

func (p *stepSummary) write(w io.Writer) error {
	if len(p.cut) > 0 {
		list := strings.Join(p.cut, ", ")
		if r := []rune(list); len(r) > 500 {
			list = string(r[:500]) + "…"
		}
		fmt.Fprintf(&p.b, "\nLeft out, for GitHub takes 1 MiB: %s. `%s` has all.\n", escape(list), p.whole)
	}
	return writeTrimmed(w, p.b.Bytes())
}
