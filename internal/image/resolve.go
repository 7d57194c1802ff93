// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// resolver finds the closure of a recipe's packages over Pre-Depends and
// Depends. There is no search: per group the first alternative that can be had
// is taken, as archives' own order means it, and a conflict is an error.
type resolver struct {
	from     *universe
	without  []string
	selected map[string]*debPackage
	queue    []*debPackage
}

// resolve returns the packages of an image, sorted by name.
func resolve(u *universe, r Recipe) ([]*debPackage, error) {
	for _, pattern := range r.Without {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("recipe %s: pattern %q: %w", r.Name, pattern, err)
		}
	}
	s := &resolver{from: u, without: r.Without, selected: map[string]*debPackage{}}
	for _, name := range r.Packages {
		if err := s.satisfy(alternatives{{Name: name}}, "recipe "+r.Name); err != nil {
			return nil, err
		}
	}
	for len(s.queue) > 0 {
		p := s.queue[0]
		s.queue = s.queue[1:]
		groups, err := parseRelations(p.preDepends + "," + p.depends)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", p, err)
		}
		for _, alts := range groups {
			if err := s.satisfy(alts, p.String()); err != nil {
				return nil, err
			}
		}
	}
	all := make([]*debPackage, 0, len(s.selected))
	for _, p := range s.selected {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *debPackage) int { return strings.Compare(a.Name, b.Name) })
	return all, checkConflicts(all)
}

// satisfy selects a package for alts, unless one that is selected already or
// one that is left out does for them.
func (s *resolver) satisfy(alts alternatives, why string) error {
	var first *debPackage
	for _, r := range alts {
		if s.excluded(r.Name) {
			return nil
		}
		for _, p := range s.from.candidates(r) {
			if s.selected[p.Name] != nil {
				return nil
			}
			if first == nil && !s.excluded(p.Name) {
				first = p
			}
		}
	}
	if first == nil {
		return fmt.Errorf("package %s, needed by %s, is not to be had: found %s", alts, why, s.offers(alts))
	}
	s.selected[first.Name] = first
	s.queue = append(s.queue, first)
	return nil
}

func (s *resolver) excluded(name string) bool {
	return slices.ContainsFunc(s.without, func(pattern string) bool {
		ok, _ := path.Match(pattern, name) // patterns were checked
		return ok
	})
}

// offers says which versions of the alternatives there are.
func (s *resolver) offers(alts alternatives) string {
	var found []string
	for _, r := range alts {
		if p := s.from.byName[r.Name]; p != nil {
			found = append(found, p.String())
		}
		for _, pr := range s.from.providers[r.Name] {
			found = append(found, fmt.Sprintf("%s providing %q", pr.pkg, pr.version))
		}
	}
	if found == nil {
		return "none of that name"
	}
	return strings.Join(found, ", ")
}

// checkConflicts holds the Conflicts and Breaks of each package against the
// others.
func checkConflicts(all []*debPackage) error {
	u := newUniverse()
	for _, p := range all {
		u.byName[p.Name] = p
	}
	if err := u.link(); err != nil {
		return err
	}
	for _, p := range all {
		groups, err := parseRelations(p.conflicts + "," + p.breaks)
		if err != nil {
			return fmt.Errorf("package %s: %w", p, err)
		}
		for _, alts := range groups {
			for _, r := range alts {
				for _, other := range u.candidates(r) {
					if other != p {
						return fmt.Errorf("package %s conflicts with %s: found %s", p, r, other)
					}
				}
			}
		}
	}
	return nil
}
