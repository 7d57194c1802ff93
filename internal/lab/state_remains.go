// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// busyDeadline is how long a cgroup or directory may stay in use after the last process of a host was killed.
const busyDeadline = 3 * time.Second

// hostNames are the emulated hosts, in the order of everything that has two.
var hostNames = [2]string{"a", "b"}

// remains lists what of a lab exists on disk and in the cgroup trees.
func (p place) remains() []string {
	var found []string
	for _, path := range append([]string{p.Root, p.Data}, cgroupDirs(p.Cgroup)...) {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// removeHost removes one host's data-root, cgroups and state directory.
func (p place) removeHost(name string) error {
	return errors.Join(
		removeTree(p.hostData(name)),
		removeCgroups(cgroupDirs(filepath.Join(p.Cgroup, name))),
		removeTree(p.host(name)),
	)
}

// removeAll removes everything of a lab whose processes are gone. The caller holds its lock; the lock file goes last,
// so that nobody else begins before the rest is gone.
func (p place) removeAll() error {
	var errs []error
	for _, h := range hostNames {
		errs = append(errs, p.removeHost(h))
	}
	errs = append(errs, removeCgroups(cgroupDirs(p.Cgroup)), removeEmpty(p.Data))
	for _, f := range []string{stateFile, stateFile + ".new", lockFile} {
		if err := os.Remove(filepath.Join(p.Root, f)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("lab remains: %w", err))
		}
	}
	errs = append(errs, removeEmpty(p.Root))
	return errors.Join(errs...)
}

// removeTree removes a directory. No mount can be in the way: all of a host's mounts are in its mount namespace.
// A process that is just being killed may still write below it, hence the second try.
func removeTree(path string) error {
	return retry(func() error { return os.RemoveAll(path) })
}

// retry tries again, until busyDeadline has passed, what the last moments of killed processes are in the way of.
func retry(remove func() error) error {
	deadline := time.Now().Add(busyDeadline)
	for {
		err := remove()
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) && !isNotEmpty(err) || time.Now().After(deadline) {
			return fmt.Errorf("lab remains: %w", err)
		}
		time.Sleep(pollEvery)
	}
}

// removeEmpty removes a directory, and its parent when that is ours, if nothing else lives there.
func removeEmpty(dir string) error {
	err := os.Remove(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !isNotEmpty(err) {
		return fmt.Errorf("lab remains: %w", err)
	}
	if parent := filepath.Dir(dir); filepath.Base(parent) == "econbench" {
		_ = os.Remove(parent) // best effort: others of econbench's may be in it
	}
	return nil
}

func isNotEmpty(err error) bool {
	return errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST)
}

// cgroupDirs is where a cgroup of this name would be in every mounted hierarchy: one on cgroup v2, about ten on v1.
func cgroupDirs(name string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	var dirs []string
	for _, m := range cgroupMounts(f) {
		dirs = append(dirs, filepath.Join(m, name))
	}
	return dirs
}

// cgroupMounts takes the mount points of cgroup hierarchies from a mountinfo file; see proc(5).
func cgroupMounts(mountinfo io.Reader) []string {
	var mounts []string
	sc := bufio.NewScanner(mountinfo)
	for sc.Scan() {
		before, after, ok := strings.Cut(sc.Text(), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 1 || g[0] != "cgroup" && g[0] != "cgroup2" {
			continue
		}
		if !slices.Contains(mounts, f[4]) {
			mounts = append(mounts, f[4])
		}
	}
	return mounts
}

// removeCgroups removes cgroups and all below them.
func removeCgroups(dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, retry(func() error { return removeCgroup(dir) }))
	}
	return errors.Join(errs...)
}

// removeCgroup removes the deepest directories first; files in a cgroup cannot and need not be removed.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
