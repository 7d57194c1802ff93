// SPDX-License-Identifier: Apache-2.0

// Package names answers what a user mistyped.
package names

import (
	"fmt"
	"slices"
	"strings"
)

// Unknown is the error for a name that is not among the allowed ones: it names the nearest of them, if one is near.
func Unknown(kind, got string, allowed []string) error {
	hint := ""
	if near, ok := Nearest(got, allowed); ok {
		hint = fmt.Sprintf("did you mean %q? ", near)
	}
	return fmt.Errorf("unknown %s %q: %sallowed: %s", kind, got, hint, strings.Join(allowed, ", "))
}

// Nearest finds the allowed name that begins as got does, or else the one that takes the fewest edits to reach, if they
// are at most half of got's length.
func Nearest(got string, allowed []string) (string, bool) {
	got = strings.ToLower(got)
	best, least := "", 1+(len(got)+1)/2
	for _, name := range allowed {
		if len(got) > 1 && strings.HasPrefix(strings.ToLower(name), got) {
			return name, true
		}
		if d := distance(got, strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	return best, best != ""
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], slices.Min([]int{diagonal + cost, row[j] + 1, row[j+1] + 1})
		}
	}
	return row[len(b)]
}
