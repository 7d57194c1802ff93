// SPDX-License-Identifier: Apache-2.0

package netspace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// AtPath opens a network namespace by the path that it has in the engine's mount namespace, which an agent in a
// container sees only through some process's root: that of process 1, or that of a dockerd with a mount namespace of its
// own; fs.ErrNotExist: none of them has it. An agent needs the host's PID namespace and CAP_SYS_PTRACE for it.
func AtPath(path string) (*os.File, error) { return AtPathBy("/proc", path) }

// AtPathBy is AtPath by way of another /proc, for tests.
func AtPathBy(proc, path string) (*os.File, error) {
	f, err := underRoots(proc, func(root string) (*os.File, error) { return openUnder(root, path) })
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return f, nil
}

// absent says in words of its own that something does not exist.
type absent string

func (a absent) Error() string        { return string(a) }
func (a absent) Is(target error) bool { return target == fs.ErrNotExist }

// remembered is the dockerd's root that was right last, by the /proc that it is seen through. To find one all processes are asked
// for their names: 2 to 5 ms on a machine with 200 of them, once a second and within the window that is measured, as fast paths
// look whether their network is still where it was.
var remembered sync.Map

// underRoots tries the roots that an engine may live in, until what is asked for is found.
func underRoots[T any](proc string, try func(root string) (T, error)) (found T, err error) {
	var tried []string
	missing, unknown := 0, 0 // roots without it, and roots that did not say; that of process 1 may not be for us to look into
	first := filepath.Join(proc, "1/root")
	attempt := func(root string) bool {
		if found, err = try(root); err != nil {
			tried = append(tried, fmt.Sprintf("under %s: %v", root, err))
			if errors.Is(err, fs.ErrNotExist) {
				missing++
			} else if !errors.Is(err, fs.ErrPermission) || root != first {
				unknown++
			}
		}
		return err == nil
	}
	if attempt(first) {
		return found, nil
	}
	last, _ := remembered.Load(proc)
	if root, ok := last.(string); ok && isEngine(filepath.Dir(root)) && attempt(root) {
		return found, nil
	}
	for _, root := range engineRoots(proc) {
		if root != last && attempt(root) {
			remembered.Store(proc, root)
			return found, nil
		}
	}
	text := strings.Join(tried, "; ")
	if missing > 0 && unknown == 0 {
		return found, absent(text)
	}
	return found, errors.New(text)
}

// engineRoots lists the roots of dockerds.
func engineRoots(proc string) (roots []string) {
	processes, err := procfs.NewFS(proc)
	if err != nil {
		return nil
	}
	procs, err := processes.AllProcs()
	if err != nil {
		return nil
	}
	sort.Sort(procs)
	for _, p := range procs {
		if dir := filepath.Join(proc, strconv.Itoa(p.PID)); p.PID != 1 && isEngine(dir) {
			roots = append(roots, filepath.Join(dir, "root"))
		}
	}
	return roots
}

// isEngine says whether a process, by its folder in /proc, is a dockerd.
func isEngine(dir string) bool {
	comm, err := os.ReadFile(filepath.Join(dir, "comm"))
	return err == nil && strings.TrimSpace(string(comm)) == "dockerd"
}

func openUnder(root, path string) (*os.File, error) {
	f, err := openInRoot(root, path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if !isNamespace(f) {
		f.Close()
		return nil, absent("not a namespace: nothing is mounted there")
	}
	return f, nil
}

// openInRoot resolves the path inside root, symbolic links too: /var/run is an absolute link to /run nearly everywhere
// and would lead back into the agent's own root.
func openInRoot(root, path string, flags uint64) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT})
	if errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("openat2: %w (needs Linux 5.6)", err)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Sandbox is where an engine keeps an overlay network's sandbox: libnetwork names it "1-" and the first ten characters of the
// network's id.
func Sandbox(folder, network string) string {
	return path.Join(folder, fmt.Sprintf("1-%.10s", network))
}

// Named is a network namespace of an engine's with the name of its file. It is to be closed.
type Named struct {
	Name string
	*os.File
}

// Under lists the network namespaces that an engine keeps in a folder of its mount namespace.
func Under(folder string) ([]Named, error) {
	list, err := underRoots("/proc", func(root string) ([]Named, error) {
		dir, err := openInRoot(root, folder, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		list, err := namespacesIn(dir)
		if err == nil && len(list) == 0 {
			err = errors.New("no network namespace")
		}
		return list, err
	})
	if err != nil {
		return nil, fmt.Errorf("network namespaces in %s: %w", folder, err)
	}
	return list, nil
}

// namespacesIn opens what of a folder is a namespace. An engine makes and removes them meanwhile.
func namespacesIn(dir *os.File) (list []Named, err error) {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), name)
		if !isNamespace(f) {
			f.Close()
			continue
		}
		list = append(list, Named{name, f})
	}
	return list, nil
}

func isNamespace(f *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &fs) == nil && fs.Type == unix.NSFS_MAGIC
}
