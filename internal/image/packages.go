// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// debPackage is one package of an archive's index.
type debPackage struct {
	Name, Version string
	Priority      string
	Filename      string // below the mirror's base
	Content       content

	// relations, parsed where they are needed: an index holds 60,000 packages
	preDepends, depends, conflicts, breaks, provides string
}

func (p *debPackage) String() string { return p.Name + " " + p.Version }

// provider is a package and the version in which it provides a virtual one, ""
// where it names none.
type provider struct {
	pkg     *debPackage
	version string
}

// universe is what can be chosen from: the newest version of each package.
type universe struct {
	byName    map[string]*debPackage
	providers map[string][]provider
}

// indexFields are the fields of a Packages file that are read.
var indexFields = map[string]bool{
	"package": true, "version": true, "priority": true, "filename": true, "size": true, "sha256": true,
	"pre-depends": true, "depends": true, "conflicts": true, "breaks": true, "provides": true,
}

func newUniverse() *universe {
	return &universe{byName: map[string]*debPackage{}, providers: map[string][]provider{}}
}

// read adds a Packages file.
func (u *universe) read(r io.Reader) error {
	return scanStanzas(r, indexFields, func(st stanza) error {
		p := &debPackage{
			Name: st["package"], Version: st["version"], Priority: st["priority"], Filename: st["filename"],
			preDepends: st["pre-depends"], depends: st["depends"],
			conflicts: st["conflicts"], breaks: st["breaks"], provides: st["provides"],
		}
		if p.Name == "" || p.Version == "" {
			return fmt.Errorf("package %q has version %q", p.Name, p.Version)
		}
		var err error
		if p.Content, err = parseContent(st["sha256"], st["size"]); err != nil {
			return fmt.Errorf("package %s: %w", p.Name, err)
		}
		if clean := path.Clean("/" + p.Filename); clean != "/"+p.Filename || clean == "/" {
			return fmt.Errorf("package %s: file name %q leaves the archive", p.Name, p.Filename)
		}
		if old := u.byName[p.Name]; old == nil || compareVersions(p.Version, old.Version) > 0 {
			u.byName[p.Name] = p
		}
		return nil
	})
}

// link notes who provides what; to be called once, after the last read.
func (u *universe) link() error {
	for _, p := range u.byName {
		if p.provides == "" {
			continue
		}
		groups, err := parseRelations(p.provides)
		if err != nil {
			return fmt.Errorf("package %s: field Provides: %w", p, err)
		}
		for _, alts := range groups {
			for _, r := range alts {
				u.providers[r.Name] = append(u.providers[r.Name], provider{p, r.Version})
			}
		}
	}
	for _, ps := range u.providers {
		slices.SortFunc(ps, func(a, b provider) int {
			if c := priority(a.pkg) - priority(b.pkg); c != 0 {
				return c
			}
			return strings.Compare(a.pkg.Name, b.pkg.Name)
		})
	}
	return nil
}

// priority orders providers: the one nearest to a minimal system first.
func priority(p *debPackage) int {
	order := []string{"required", "important", "standard", "optional"}
	if i := slices.Index(order, p.Priority); i >= 0 {
		return i
	}
	return len(order)
}

// candidates returns the packages that satisfy r, the best first: the one of
// that name, then those that provide it. An unversioned Provides satisfies no
// versioned relation (Debian policy 7.5).
func (u *universe) candidates(r relation) []*debPackage {
	var found []*debPackage
	if p := u.byName[r.Name]; p != nil && r.admits(p.Version) {
		found = append(found, p)
	}
	for _, pr := range u.providers[r.Name] {
		if r.Op == "" || pr.version != "" && r.admits(pr.version) {
			found = append(found, pr.pkg)
		}
	}
	return found
}
