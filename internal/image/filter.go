// SPDX-License-Identifier: Apache-2.0

package image

import "strings"

// droppedTrees are folders of packages that no one reads in a container. They
// are part of the recipe's ID.
var droppedTrees = []string{
	"usr/share/bash-completion/",
	"usr/share/bug/",
	"usr/share/doc-base/",
	"usr/share/doc/",
	"usr/share/gcc/", // gdb's pretty printers
	"usr/share/gdb/",
	"usr/share/info/",
	"usr/share/lintian/",
	"usr/share/locale/", // translations; C.UTF-8 is in usr/lib/locale
	"usr/share/man/",
	"usr/share/menu/",
	"usr/share/postgresql-common/",
	"usr/share/zsh/",
}

// keptNames are base names that stay even in a dropped tree: the licences.
var keptNames = []string{"copyright"}

// keep reports whether the image takes the entry of a cleaned name. Folders of
// dropped trees go; those above a kept file are made again with it.
func keep(name string, isDir bool) bool {
	for _, tree := range droppedTrees {
		if !strings.HasPrefix(name+"/", tree) {
			continue
		}
		if isDir {
			return false
		}
		for _, kept := range keptNames {
			if strings.HasSuffix(name, "/"+kept) {
				return true
			}
		}
		// The documentation of a package can be a link to another's: its copyright too.
		return tree == "usr/share/doc/" && strings.Count(name, "/") == 3
	}
	return true
}
