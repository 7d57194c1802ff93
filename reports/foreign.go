// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Names that came from a file (metrics of a suite's programs, arms, parameters) have to pass through formats that allow less. What
// may not stand there is changed such that different names stay different.

// longestName is how much of a name a format with lines or labels is given: readers have limits of their own.
const longestName = 200

// identifier makes a name of letters, digits and underscores of any name. One that has to be changed ends with a digest of what it was.
func identifier(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r == '_' || r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '_'
	}, name)
	if plain == name && name != "" && len(name) <= longestName {
		return name
	}
	return plain[:min(len(plain), longestName)] + "_" + digest(name)
}

func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
}

// visible writes characters that cannot be seen, and bytes that are no UTF-8, as Go's escapes, so that nothing moves a cursor or
// ends a line. A text that is too long ends with a digest.
func visible(s string) string {
	var b strings.Builder
	for i, r := range s {
		size := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, size = utf8.DecodeRuneInString(s[i:])
		}
		if b.Len() >= longestName {
			return b.String() + "…" + digest(s)
		}
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\\':
			b.WriteString(`\\`)
		case unicode.IsPrint(r): // of blanks U+0020 alone
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
