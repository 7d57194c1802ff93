// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
)

// cgroupFolders are where a container's cgroup is in the host's cgroup file systems; "" where the host has none of that kind.
// A hybrid machine has both.
type cgroupFolders struct {
	unified string // version 2
	cpuacct string // version 1's hierarchy of that controller
}

// cgroupOf finds the folders of a process's cgroup. It shares the host's cgroup namespace, so that paths in /proc/PID/cgroup are
// the host's. An error means that there is no such process; a host that does not show its cgroups has no folders.
func cgroupOf(proc string, pid int) (f cgroupFolders, err error) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return f, err
	}
	process, err := fs.Proc(pid)
	if err != nil {
		return f, fmt.Errorf("process %d: %w", pid, err)
	}
	groups, err := process.Cgroups()
	if err != nil {
		return f, fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	for _, view := range cgroupViews(proc) {
		mounts, err := fs.GetProcMounts(view.pid)
		if err != nil {
			continue // a kernel or a user that does not let it be seen
		}
		for _, m := range mounts {
			for _, g := range groups {
				switch {
				case m.FSType == "cgroup2" && g.HierarchyID == 0:
					f.unified = cmp.Or(f.unified, under(view.root, m, g.Path))
				case m.FSType == "cgroup" && slices.Contains(g.Controllers, "cpuacct") && hasOption(m, "cpuacct"):
					f.cpuacct = cmp.Or(f.cpuacct, under(view.root, m, g.Path))
				}
			}
		}
	}
	return f, nil
}

// cgroupView is a process by whose mounts cgroups can be found, and its root.
type cgroupView struct {
	pid  int
	root string
}

// cgroupViews are the host's first process, whose mounts show all cgroups while a container's may show its own alone; and this one,
// where that one's root is closed to it.
func cgroupViews(proc string) []cgroupView {
	return []cgroupView{{1, filepath.Join(proc, "1/root")}, {os.Getpid(), "/"}}
}

// under is a cgroup's folder below a mount, which may show part of the tree alone; "" when that cgroup can't be seen there.
func under(root string, m *procfs.MountInfo, cgroup string) string {
	below, err := filepath.Rel(m.Root, cgroup)
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return ""
	}
	dir := filepath.Join(root, m.MountPoint, below)
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

func hasOption(m *procfs.MountInfo, name string) bool {
	_, ok := m.SuperOptions[name]
	return ok
}
