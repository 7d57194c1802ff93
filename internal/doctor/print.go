// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"fmt"
	"io"
	"unicode/utf8"
)

// Print writes results as a table with a heading for each group, and what to do below each that is not ok.
func Print(w io.Writer, all []Result) error {
	b := bufio.NewWriter(w)
	width := 0
	for _, r := range all {
		width = max(width, utf8.RuneCountInString(r.Name))
	}
	heading := ""
	count := map[Status]int{}
	for _, r := range all {
		if r.Group != heading {
			heading = r.Group
			fmt.Fprintln(b, heading)
		}
		count[r.Status]++
		fmt.Fprintf(b, "  %-7s  %-*s  %s\n", r.Status, width, r.Name, r.Found)
		if r.Cost != "" {
			fmt.Fprintf(b, "  %-7s  %-*s    cost: %s\n", "", width, "", r.Cost)
		}
		if r.Fix != "" {
			fmt.Fprintf(b, "  %-7s  %-*s    get:  %s\n", "", width, "", r.Fix)
		}
	}
	verdict := "econbench run can work here"
	if err := Ready(all); err != nil {
		verdict = err.Error()
	}
	fmt.Fprintf(b, "\n%d ok, %d warn, %d missing: %s\n", count[OK], count[Warn], count[Missing], verdict)
	return b.Flush()
}
