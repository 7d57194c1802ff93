// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteFolded writes a line for each stack: its frames from the root on, with semicolons, a blank and the number of samples. It is what
// flamegraph.pl and its relatives read.
func WriteFolded(w io.Writer, list []Stack) error {
	var b bytes.Buffer
	for _, s := range Merge(list) {
		fmt.Fprintf(&b, "%s %d\n", strings.Join(s.Frames, ";"), s.Count)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// longestLine is more than any stack needs: 127 frames of the kernel's, with names of at most 512 B.
const longestLine = 1 << 20

// ParseFolded reads what WriteFolded writes, and what others write in that format. Empty lines and lines that begin with # are passed
// over. Stacks that are given twice are added up.
func ParseFolded(r io.Reader) ([]Stack, error) {
	var list []Stack
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if at <= 0 {
			return nil, fmt.Errorf("line %d: %.80q: want frames with semicolons, a blank and a number", n, line)
		}
		count, err := strconv.ParseInt(line[at+1:], 10, 32)
		if err != nil || count < 0 {
			return nil, fmt.Errorf("line %d: count %.40q: want a whole number from 0 to 2147483647", n, line[at+1:])
		}
		list = append(list, Stack{Frames: strings.Split(strings.TrimSpace(line[:at]), ";"), Count: int(count)})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("folded stacks: %w", err)
	}
	return Merge(list), nil
}
