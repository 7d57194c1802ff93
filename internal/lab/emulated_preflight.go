// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// minFree is what two engines with econbench's image need on disk, in bytes, with room for a database's tables.
const minFree = 1 << 30

// maxSocketPath is sun_path's size less the closing zero; see unix(7).
const maxSocketPath = 107

// environment is what preflight found.
type environment struct {
	engine    string // path of dockerd
	path      string // PATH for it
	storage   string // --storage-driver
	dataTmpfs bool   // mount a tmpfs as data-root
	warnings  []string
}

// preflight checks, before anything is made, that an emulated lab can come up here.
func preflight(o Options) (environment, error) {
	var env environment
	if err := checkRights(); err != nil {
		return env, err
	}
	p := o.place()
	if s := p.socket(hostNames[0]); len(s) > maxSocketPath {
		return env, fmt.Errorf("socket %s: path has %d bytes, a unix socket's may have %d: choose a shorter root", s, len(s), maxSocketPath)
	}
	if err := env.findBinaries(o.EngineBinary); err != nil {
		return env, err
	}
	return env, env.chooseStorage(p.Data)
}

// checkRights wants the capabilities that new namespaces, mounts and links need. Root without them (in a container,
// say) is told which is missing.
func checkRights() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	var missing []string
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"}} {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("rights: user id is %d, the emulated lab needs root: use sudo, or --hosts with two engines", os.Geteuid())
	}
	if len(missing) > 0 {
		return fmt.Errorf("rights: root lacks %s, which the emulated lab needs: use --hosts with two engines", strings.Join(missing, ", "))
	}
	return nil
}

// findBinaries looks in the engine's own directory, PATH, and the system directories that sudo's PATH may lack.
func (env *environment) findBinaries(engine string) error {
	if engine == "" {
		engine = "dockerd"
	}
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
	if strings.ContainsRune(engine, '/') {
		abs, err := filepath.Abs(engine)
		if err != nil {
			return fmt.Errorf("engine %s: %w", engine, err)
		}
		engine = filepath.Base(abs)
		dirs = append([]string{filepath.Dir(abs)}, dirs...)
		if !isExecutable(abs) {
			return fmt.Errorf("engine %s: no such program", abs)
		}
	}
	dirs = unique(dirs)
	need := []struct{ name, get string }{
		{engine, "docker.io"}, {"containerd", "docker.io or containerd"}, {"runc", "docker.io or runc"}, {"iptables", "iptables"},
	}
	for _, n := range need {
		path := lookup(n.name, dirs)
		if path == "" {
			return fmt.Errorf("program %s: not found in %s: install %s", n.name, strings.Join(dirs, ":"), n.get)
		}
		if n.name == engine {
			env.engine = path
		}
	}
	env.path = strings.Join(dirs, ":")
	return nil
}

// unique keeps the first of each absolute directory.
func unique(dirs []string) []string {
	var kept []string
	for _, d := range dirs {
		if filepath.IsAbs(d) && !slices.Contains(kept, d) {
			kept = append(kept, d)
		}
	}
	return kept
}

func lookup(name string, dirs []string) string {
	for _, d := range dirs {
		if p := filepath.Join(d, name); isExecutable(p) {
			return p
		}
	}
	return ""
}

func isExecutable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// chooseStorage takes overlay2, which cannot work on top of another overlayfs: then on a tmpfs; vfs, slow and large,
// where the kernel has no overlayfs.
func (env *environment) chooseStorage(data string) error {
	env.storage = "overlay2"
	if b, err := os.ReadFile("/proc/filesystems"); err == nil && !strings.Contains(string(b), "\toverlay\n") && !hasModule("overlay") {
		env.storage = "vfs"
		env.warnings = append(env.warnings, "storage: the kernel has no overlayfs: engines use vfs, slow and large")
	}
	dir := data
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if errors.Is(err, fs.ErrNotExist) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return fmt.Errorf("data directory %s: %w", dir, err)
		}
		return env.judgeStorage(data, st)
	}
}

func (env *environment) judgeStorage(data string, st unix.Statfs_t) error {
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC && env.storage == "overlay2" {
		env.dataTmpfs = true
		env.warnings = append(env.warnings, "storage: "+data+" is on overlayfs: the engines' data is kept in memory")
		return nil
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("data directory %s: its file system is read-only: choose another", data)
	}
	if free := st.Bavail * uint64(st.Bsize); free < minFree {
		return fmt.Errorf("data directory %s: %d MB free, two engines need %d: make room or choose another", data, free>>20, minFree>>20)
	}
	return nil
}

// hasModule tells whether a module of this name can be loaded.
func hasModule(name string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	b, err := os.ReadFile(filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]), "modules.dep"))
	return err == nil && strings.Contains(string(b), "/"+name+".ko")
}
