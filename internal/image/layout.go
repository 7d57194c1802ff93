// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"fmt"
	"slices"
	"strings"
	"time"
)

// layoutTime is the modification time of what no package brings.
var layoutTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// layoutOwner is who brings it, in errors.
const layoutOwner = "the layout"

// nsswitch is what a container needs: names from files, hosts from Docker's DNS.
const nsswitch = `passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
`

// standardUsers are accounts of every image, with Debian's fixed numbers.
var standardUsers = []User{
	{Name: "root", ID: 0, Home: "/root"},
	{Name: "www-data", ID: 33, Home: "/var/www"},
	{Name: "nobody", ID: 65534, Home: "/nonexistent"},
}

// layout returns what maintainer scripts would have made: the links into /usr,
// accounts, and folders with special modes. Neither ld.so.cache nor
// alternatives are there: the programs run without. It comes before the packages,
// so that its modes count.
func layout(r Recipe, p Platform) ([]entry, error) {
	var all []entry
	users := append(append([]User{}, standardUsers...), r.Users...)
	dirs := []Dir{
		{Path: "dev", Mode: 0o755}, {Path: "proc", Mode: 0o555}, {Path: "sys", Mode: 0o555}, // mounted over
		{Path: "etc", Mode: 0o755}, {Path: "root", Mode: 0o700},
		{Path: "run", Mode: 0o755}, {Path: "run/lock", Mode: 0o1777},
		{Path: "tmp", Mode: 0o1777},
		{Path: "var", Mode: 0o755}, {Path: "var/lib", Mode: 0o755}, {Path: "var/log", Mode: 0o755}, {Path: "var/tmp", Mode: 0o1777},
	}
	for _, d := range append(dirs, r.Dirs...) {
		id, err := userID(users, d.User)
		if err != nil {
			return nil, fmt.Errorf("recipe %s: folder %s: %w", r.Name, d.Path, err)
		}
		all = append(all, entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: d.Path, Mode: d.Mode, Uid: id, Gid: id}})
	}
	for _, d := range movedDirs {
		if d.archs == nil || slices.Contains(d.archs, p.Arch) {
			all = append(all, entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: d.from, Linkname: relative(d), Mode: 0o777}})
		}
	}
	all = append(all,
		textFile("etc/passwd", passwd(users)),
		textFile("etc/group", group(users)),
		textFile("etc/nsswitch.conf", nsswitch),
	)
	for i := range all {
		all[i].ModTime = layoutTime
	}
	return all, nil
}

// relative is the moved folder's target as seen from its link.
func relative(d movedDir) string {
	return strings.Repeat("../", strings.Count(d.from, "/")) + d.to
}

func userID(users []User, name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	for _, u := range users {
		if u.Name == name {
			return u.ID, nil
		}
	}
	return 0, fmt.Errorf("user %q is unknown", name)
}

// passwd is passwd(5): nobody can log in, root has a shell.
func passwd(users []User) string {
	var b strings.Builder
	for _, u := range users {
		shell := "/usr/sbin/nologin"
		if u.ID == 0 {
			shell = "/bin/sh"
		}
		fmt.Fprintf(&b, "%s:x:%d:%d:%s:%s:%s\n", u.Name, u.ID, u.ID, u.Name, u.Home, shell)
	}
	return b.String()
}

// group is group(5): one per user; nobody's is called nogroup in Debian.
func group(users []User) string {
	var b strings.Builder
	for _, u := range users {
		name := u.Name
		if name == "nobody" {
			name = "nogroup"
		}
		fmt.Fprintf(&b, "%s:x:%d:\n", name, u.ID)
	}
	return b.String()
}

// textFile is a file that anyone may read.
func textFile(name, text string) entry {
	return entry{
		Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(text)), Mode: 0o644, ModTime: layoutTime},
		body:   []byte(text),
	}
}
