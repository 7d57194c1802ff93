// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// merger writes the image's tar: each path once, every folder before what is in
// it, in the order of the calls.
type merger struct {
	tw   *tar.Writer
	seen map[string]owner
}

// owner is who brought a path, and as what.
type owner struct {
	pkg  string
	kind byte // tar.Type…
}

func newMerger(w io.Writer) *merger {
	return &merger{tw: tar.NewWriter(w), seen: map[string]owner{}}
}

// add writes an entry of pkg. A folder may come from several packages, the first
// one's mode counts; any other path from two is an error, since dpkg's
// diversions and replacements are not played here.
func (m *merger) add(pkg string, e entry) error {
	if old, ok := m.seen[e.Name]; ok {
		if old.kind == tar.TypeDir && e.Typeflag == tar.TypeDir {
			return nil
		}
		return fmt.Errorf("path /%s of %s is there already: found %s's", e.Name, pkg, old.pkg)
	}
	if err := m.parents(pkg, e.Name, e.ModTime); err != nil {
		return err
	}
	if e.Typeflag == tar.TypeLink {
		if target, ok := m.seen[e.Linkname]; !ok || target.kind != tar.TypeReg || target.pkg != pkg {
			return fmt.Errorf("path /%s of %s is a hard link to /%s, allowed: to a file before it", e.Name, pkg, e.Linkname)
		}
	}
	m.seen[e.Name] = owner{pkg, e.Typeflag}
	h := e.Header
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if err := m.tw.WriteHeader(&h); err != nil {
		return fmt.Errorf("path /%s of %s: %w", e.Name, pkg, err)
	}
	_, err := m.tw.Write(e.body)
	return err
}

// parents makes the folders above name that are not there (the filter takes some
// away), and refuses to go through anything else: a link could lead elsewhere.
func (m *merger) parents(pkg, name string, at time.Time) error {
	parent := path.Dir(name)
	if parent == "." {
		return nil
	}
	if old, ok := m.seen[parent]; ok {
		if old.kind != tar.TypeDir {
			return fmt.Errorf("path /%s of %s leads through /%s: found %s's, which is no folder", name, pkg, parent, old.pkg)
		}
		return nil
	}
	return m.add(pkg, entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: parent, Mode: 0o755, ModTime: at}})
}

// link adds symbolic links in /usr/bin to the files that match the patterns.
func (m *merger) link(patterns []string) error {
	for _, name := range slices.Sorted(maps.Keys(m.seen)) {
		link := "usr/bin/" + path.Base(name)
		_, taken := m.seen[link]
		if taken || !slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok }) {
			continue
		}
		target := "../" + strings.TrimPrefix(name, "usr/")
		if !strings.HasPrefix(name, "usr/") {
			target = "/" + name
		}
		err := m.add("the recipe", entry{Header: tar.Header{
			Typeflag: tar.TypeSymlink, Name: link, Linkname: target, Mode: 0o777, ModTime: layoutTime,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}
