// SPDX-License-Identifier: Apache-2.0

package netspace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// AtPath opens a network namespace by the path that it has in the engine's mount namespace, which an agent in a
// container sees only through some process's root: that of process 1, or that of a dockerd with a mount namespace of its
// own. An agent needs the host's PID namespace and CAP_SYS_PTRACE for it.
func AtPath(path string) (*os.File, error) { return AtPathBy("/proc", path) }

// AtPathBy is AtPath by way of another /proc, for tests.
func AtPathBy(proc, path string) (*os.File, error) {
	var tried []string
	for _, root := range engineRoots(proc) {
		f, err := openUnder(root, path)
		if err == nil {
			return f, nil
		}
		tried = append(tried, fmt.Sprintf("under %s: %v", root, err))
	}
	return nil, fmt.Errorf("network namespace %s: %s", path, strings.Join(tried, "; "))
}

// engineRoots lists the roots that an engine may live in.
func engineRoots(proc string) []string {
	roots := []string{filepath.Join(proc, "1/root")}
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return roots
	}
	procs, err := fs.AllProcs()
	if err != nil {
		return roots
	}
	for _, p := range procs {
		if comm, err := p.Comm(); err == nil && comm == "dockerd" && p.PID != 1 {
			roots = append(roots, filepath.Join(proc, fmt.Sprint(p.PID), "root"))
		}
	}
	return roots
}

// openUnder resolves the path inside root, symbolic links too: /var/run is an absolute link to /run nearly everywhere
// and would lead back into the agent's own root.
func openUnder(root, path string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("openat2: %w (needs Linux 5.6)", err)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, errors.New("not a namespace: nothing is mounted there")
	}
	return f, nil
}
