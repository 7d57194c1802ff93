// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"strings"

	"github.com/econbench/econbench"
)

// all is the one list of formats. The first is the default.
var all = []econbench.Report{
	Text{},
	Markdown{},
	CSV{},
	JSON{},
}

// All lists the formats, the default first.
func All() []econbench.Report { return append([]econbench.Report(nil), all...) }

// Named finds a format by name.
func Named(name string) (econbench.Report, error) {
	var names []string
	for _, r := range all {
		if r.Name() == name {
			return r, nil
		}
		names = append(names, r.Name())
	}
	hint := ""
	if n := nearest(name, names); n != "" {
		hint = fmt.Sprintf("did you mean %q? ", n)
	}
	return nil, fmt.Errorf("report format %q: unknown; %sallowed are %s", name, hint, strings.Join(names, ", "))
}

// nearest is the name that the fewest edits make of s, if these are few enough for a slip of the fingers or s begins it.
func nearest(s string, names []string) string {
	best, bestEdits := "", 3
	for _, n := range names {
		if s != "" && strings.HasPrefix(n, strings.ToLower(s)) {
			return n
		}
		if e := edits(strings.ToLower(s), n); e < bestEdits {
			best, bestEdits = n, e
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
