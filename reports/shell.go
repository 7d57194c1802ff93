// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/econbench/econbench"
)

// commandLine is a command as bash takes it, on one line. The program's folder is left away: it is that of the machine that measured.
func commandLine(words []string) string {
	var out []string
	for i, w := range words {
		if i == 0 {
			w = filepath.Base(w)
		}
		out = append(out, ShellWord(w))
	}
	return strings.Join(out, " ")
}

// againCommand is the command of a run, with the seed that it drew where that gives the same order. Where it wrote to is left away: nothing may
// be there.
func againCommand(run *econbench.Run) (argv []string, seeded bool) {
	for i := 0; i < len(run.Command); i++ {
		switch a := run.Command[i]; {
		case (a == "-o" || a == "--out") && i+1 < len(run.Command):
			i++
		case strings.HasPrefix(a, "--out=") || strings.HasPrefix(a, "-o="):
		default:
			argv = append(argv, a)
		}
	}
	if len(argv) < 2 || argv[1] != "run" {
		return slices.Clone(run.Command), false
	}
	if !slices.ContainsFunc(argv, func(a string) bool { return a == "--seed" || strings.HasPrefix(a, "--seed=") }) {
		argv = append(argv, fmt.Sprintf("--seed=%d", run.Plan.Seed))
	}
	return argv, true
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./~#-]+$`)

// ShellWord is a word that bash takes as it is, whatever is in it. What can't be seen, or would move a cursor, is written as bytes.
func ShellWord(w string) string {
	switch {
	case bare.MatchString(w) && !strings.HasPrefix(w, "~") && !strings.HasPrefix(w, "#"):
		return w
	case utf8.ValidString(w) && !strings.ContainsFunc(w, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	var b strings.Builder
	for len(w) > 0 {
		r, n := utf8.DecodeRuneInString(w)
		switch {
		case r == '\\' || r == '\'':
			b.WriteString(`\` + w[:n])
		case unicode.IsPrint(r) && (r != utf8.RuneError || n > 1):
			b.WriteString(w[:n])
		default:
			for _, c := range []byte(w[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		w = w[n:]
	}
	return "$'" + b.String() + "'"
}
