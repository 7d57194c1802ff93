// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/docker"
	"github.com/econbench/econbench/internal/image"
	"github.com/econbench/econbench/internal/lab"
)

const (
	// programTimeout bounds a program that is asked for its version.
	programTimeout = 5 * time.Second
	// hostTimeout bounds one engine's answer.
	hostTimeout = 15 * time.Second
	// stealWindow is how long steal is watched: 20 ticks of the slowest clock.
	stealWindow = 200 * time.Millisecond
)

// machine is what the checks look at: files below a root, and questions that no file answers. Tests replace any of it.
type machine struct {
	options Options
	root    string // "/" but in tests
	euid    int
	path    []string // directories of programs
	window  time.Duration

	run    func(ctx context.Context, program string, args ...string) (string, error)
	space  func(path string) (space, error)
	probe  func() (probed, error)
	cached func() (*image.Image, error)
	labIs  func(context.Context) (lab.State, error)
	engine func(ctx context.Context, host string) (engineFacts, error)
}

// space is what a file system has left.
type space struct {
	free    uint64 // bytes
	overlay bool   // it is an overlayfs
	dir     string // the nearest directory that exists
}

// engineFacts are what an engine says of itself.
type engineFacts struct {
	name, version, id, arch string
	swarm                   docker.Swarm
}

func thisMachine(o Options) *machine {
	if o.CacheDir == "" {
		o.CacheDir = image.DefaultCacheDir()
	}
	m := &machine{
		options: o, root: "/", euid: os.Geteuid(), window: stealWindow,
		path:  programDirs(),
		run:   runProgram,
		space: spaceOf,
		cached: once(func() (*image.Image, error) {
			return image.Cached(image.Tools(), image.Options{CacheDir: o.CacheDir}) // reads all of it
		}),
		labIs:  func(ctx context.Context) (lab.State, error) { return lab.Status(ctx, lab.Options{}) },
		engine: func(ctx context.Context, host string) (engineFacts, error) { return askEngine(ctx, host, o.TLSDir) },
	}
	m.probe = once(func() (probed, error) { return probeKernel(m.euid) })
	return m
}

// programDirs are where the emulated lab looks for programs: PATH, and the system directories that sudo's may lack.
func programDirs() []string {
	var dirs []string
	for _, d := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin") {
		if filepath.IsAbs(d) && !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// once remembers the first answer: several checks share a probe.
func once[T any](ask func() (T, error)) func() (T, error) {
	var answer T
	var err error
	asked := false
	return func() (T, error) {
		if !asked {
			answer, err = ask()
			asked = true
		}
		return answer, err
	}
}

// read is a file's text without the blanks around it.
func (m *machine) read(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(m.root, name))
	return strings.TrimSpace(string(b)), err
}

// has tells whether a file is there.
func (m *machine) has(name string) bool {
	_, err := os.Stat(filepath.Join(m.root, name))
	return err == nil
}

// find looks a program up.
func (m *machine) find(program string) (string, bool) {
	for _, d := range m.path {
		p := filepath.Join(d, program)
		st, err := os.Stat(p)
		if err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return p, true
		}
	}
	return "", false
}

func runProgram(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, programTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second // for one that left a child with its output
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// spaceOf asks the nearest directory that exists: the path itself may be made only later.
func spaceOf(path string) (space, error) {
	for dir := path; ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err != nil {
			return space{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
		}
		return space{free: st.Bavail * uint64(st.Bsize), overlay: st.Type == unix.OVERLAYFS_SUPER_MAGIC, dir: dir}, nil
	}
}

// askEngine asks who an engine is and what swarm it is in.
func askEngine(ctx context.Context, host, tlsDir string) (f engineFacts, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, hostTimeout, fmt.Errorf("no answer in %v", hostTimeout))
	defer cancel()
	e, err := docker.Dial(ctx, host, tlsDir)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	f = engineFacts{name: e.Name(), version: e.Version(), id: e.ID(), arch: e.Architecture()}
	f.swarm, err = e.Swarm(ctx)
	return f, err
}
