// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"strings"
)

// relation is one alternative of a dependency field: name, or name (op version).
type relation struct {
	Name    string
	Op      string // <<, <=, =, >=, >>, or "" for any version
	Version string
}

func (r relation) String() string {
	if r.Op == "" {
		return r.Name
	}
	return r.Name + " (" + r.Op + " " + r.Version + ")"
}

// admits reports whether version satisfies the relation.
func (r relation) admits(version string) bool {
	c := compareVersions(version, r.Version)
	switch r.Op {
	case "<<":
		return c < 0
	case "<=":
		return c <= 0
	case "=":
		return c == 0
	case ">=":
		return c >= 0
	case ">>":
		return c > 0
	}
	return true
}

// alternatives are relations one of which is enough.
type alternatives []relation

func (a alternatives) String() string {
	texts := make([]string, len(a))
	for i, r := range a {
		texts[i] = r.String()
	}
	return strings.Join(texts, " | ")
}

// parseRelations reads a dependency field (Debian policy 7.1): groups parted by
// commas, alternatives by bars. Architecture qualifiers (name:any) are dropped,
// since all packages are of one architecture here.
func parseRelations(field string) ([]alternatives, error) {
	var groups []alternatives
	for _, group := range strings.Split(field, ",") {
		if strings.TrimSpace(group) == "" {
			continue
		}
		var alts alternatives
		for _, text := range strings.Split(group, "|") {
			r, err := parseRelation(strings.TrimSpace(text))
			if err != nil {
				return nil, err
			}
			alts = append(alts, r)
		}
		groups = append(groups, alts)
	}
	return groups, nil
}

func parseRelation(text string) (relation, error) {
	name, rest, constrained := strings.Cut(text, "(")
	name, _, _ = strings.Cut(strings.TrimSpace(name), ":")
	r := relation{Name: name}
	if name == "" || strings.ContainsFunc(name, func(c rune) bool { return !isWord(c, "+-.") }) {
		return r, fmt.Errorf("relation %q has no package's name", text)
	}
	if !constrained {
		return r, nil
	}
	rest, ok := strings.CutSuffix(strings.TrimSpace(rest), ")")
	if !ok {
		return r, fmt.Errorf("relation %q lacks its closing parenthesis", text)
	}
	rest = strings.TrimSpace(rest)
	i := strings.IndexFunc(rest, func(c rune) bool { return !strings.ContainsRune("<>=", c) })
	if i <= 0 {
		return r, fmt.Errorf("relation %q has no operator or no version", text)
	}
	r.Op, r.Version = rest[:i], strings.TrimSpace(rest[i:])
	switch r.Op {
	case "<": // obsolete spellings, policy 7.1
		r.Op = "<="
	case ">":
		r.Op = ">="
	case "<<", "<=", "=", ">=", ">>":
	default:
		return r, fmt.Errorf("relation %q has operator %q, allowed: <<, <=, =, >=, >>", text, r.Op)
	}
	if r.Version == "" || strings.ContainsFunc(r.Version, func(c rune) bool { return !isWord(c, "+-.~:") }) {
		return r, fmt.Errorf("relation %q has version %q", text, r.Version)
	}
	return r, nil
}

// isWord reports whether c is a letter or digit of ASCII or one of more.
func isWord(c rune, more string) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(more, c)
}
