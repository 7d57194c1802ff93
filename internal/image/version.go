// SPDX-License-Identifier: Apache-2.0

package image

import "strings"

// compareVersions orders two Debian package versions as Debian policy 5.6.12
// does: epoch, then upstream version, then revision. It returns a negative
// number, 0 or a positive number. Every string has a place in the order, so
// there is no error; versions that differ only in spelling ("1.0" and "1.00",
// "1" and "0:1-0") compare as equal.
func compareVersions(a, b string) int {
	ea, ua, ra := splitVersion(a)
	eb, ub, rb := splitVersion(b)
	if c := comparePart(ea, eb); c != 0 {
		return c
	}
	if c := comparePart(ua, ub); c != 0 {
		return c
	}
	return comparePart(ra, rb)
}

// splitVersion cuts [epoch:]upstream[-revision]. What is absent is empty, which
// comparePart treats as it treats "0", as the policy asks.
func splitVersion(v string) (epoch, upstream, revision string) {
	upstream = v
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, upstream = e, rest
	}
	if i := strings.LastIndexByte(upstream, '-'); i >= 0 {
		upstream, revision = upstream[:i], upstream[i+1:]
	}
	return epoch, upstream, revision
}

// comparePart compares alternating runs of non-digits (by weight) and digits
// (by value, of any length).
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !isDigit(a[0])) || (b != "" && !isDigit(b[0])) {
			if c := weight(a) - weight(b); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
		}
		var na, nb string
		na, a = cutDigits(a)
		nb, b = cutDigits(b)
		if len(na) != len(nb) {
			return len(na) - len(nb)
		}
		if c := strings.Compare(na, nb); c != 0 {
			return c
		}
	}
	return 0
}

// weight orders the first byte of s among non-digits: tilde before the end of
// the part, which stands before letters, which stand before all else.
func weight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'A' && s[0] <= 'Z', s[0] >= 'a' && s[0] <= 'z':
		return int(s[0])
	default:
		return int(s[0]) + 256
	}
}

// cutDigits takes the leading digits off s, less their leading zeros.
func cutDigits(s string) (number, rest string) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
