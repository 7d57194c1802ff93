// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
)

// stanza is one paragraph of a control file (deb822(5)): field names in lower
// case, for they are case-insensitive, to values. The lines of a value that
// spans several are joined by "\n", each without its leading blank.
type stanza map[string]string

// maxLine bounds one line of a control file. The longest seen in an archive,
// a Provides of 30 kB, is far below it.
const maxLine = 1 << 20

// scanStanzas reads the control file r and calls yield for each stanza in
// order; an error of yield ends the scan. With want given, other fields
// (written in lower case) are passed over, which makes an archive's index of
// 60 MB readable in a fraction of a second.
func scanStanzas(r io.Reader, want map[string]bool, yield func(stanza) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 64<<10), maxLine)
	cur, field := stanza{}, ""
	inStanza := false
	for n := 1; sc.Scan(); n++ {
		line := sc.Bytes()
		switch {
		case len(line) > 0 && line[0] == '#':
		case len(bytes.TrimSpace(line)) == 0:
			if len(cur) > 0 {
				if err := yield(cur); err != nil {
					return err
				}
			}
			cur, field, inStanza = stanza{}, "", false
		case line[0] == ' ' || line[0] == '\t':
			if !inStanza {
				return fmt.Errorf("line %d: continuation %.40q without a field", n, line)
			}
			if field != "" {
				cur[field] += "\n" + strings.TrimRight(string(line[1:]), " \t\r")
			}
		default:
			name, value, ok := bytes.Cut(line, []byte(":"))
			if !ok || len(name) == 0 || bytes.ContainsAny(name, " \t") {
				return fmt.Errorf("line %d: %.40q is not a field", n, line)
			}
			inStanza = true
			if field = lowerField(name, want); field == "" {
				continue
			}
			if _, twice := cur[field]; twice {
				return fmt.Errorf("line %d: field %q occurs twice", n, field)
			}
			cur[field] = string(bytes.TrimSpace(value))
		}
	}
	if err := sc.Err(); err != nil {
		return err
	}
	if len(cur) > 0 {
		return yield(cur)
	}
	return nil
}

// lowerField returns the field's name in lower case, or "" if it is not wanted.
// It allocates nothing for a field that is not.
func lowerField(name []byte, want map[string]bool) string {
	if want == nil {
		return strings.ToLower(string(name))
	}
	var buf [64]byte
	if len(name) > len(buf) {
		return ""
	}
	low := buf[:len(name)]
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		low[i] = c
	}
	if want[string(low)] {
		return string(low)
	}
	return ""
}
