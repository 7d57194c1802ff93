// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// hostDir is where a host sees its own state directory: the same short path in both, whatever Root is.
	hostDir = "/run/econbench/host"
	// dataDir is where a host sees its own data-root.
	dataDir = "/var/lib/docker"
)

// defaultIPv6 is the template of devices to come; see setupNetwork.
const defaultIPv6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"

// setupNamespaces makes the new namespaces a host: its own name, /proc, /sys, /run, /etc and data-root.
func (h *initHost) setupNamespaces() error {
	cfg := h.cfg
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	// Slave, not private: what the machine unmounts later is not kept busy by a lab that stays.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	steps := []func(initConfig) error{dropForeign, mountProc, mountSys, h.mountOwn, mountEtc, setupNetwork}
	for _, step := range steps {
		if err := step(cfg); err != nil {
			return err
		}
	}
	return nil
}

// dropForeign lets go of what is mounted below the machine's /run: users' directories, and named network namespaces,
// which would live on for as long as a copy of their mount does.
func dropForeign(cfg initConfig) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("mounts below /run: %w", err)
	}
	defer f.Close()
	for _, dir := range mountsBelow(f, "/run") {
		if isBelow(cfg.Place.Root, dir) || isBelow(cfg.Place.Data, dir) {
			continue
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	return nil
}

func isBelow(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// mountProc shows the host's own processes, and keeps dockerd from raising the machine's key quota (root_maxkeys is
// not namespaced; dockerd warns and goes on).
func mountProc(initConfig) error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	const keys = "/proc/sys/kernel/keys"
	if err := unix.Mount(keys, keys, "", unix.MS_BIND, ""); errors.Is(err, unix.ENOENT) {
		return nil // a kernel without CONFIG_KEYS
	} else if err != nil {
		return fmt.Errorf("mount %s: %w", keys, err)
	}
	if err := unix.Mount("", keys, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount %s read-only: %w", keys, err)
	}
	return nil
}

// mountSys mounts a sysfs that shows the host's own network devices, as a sysfs belongs to the network namespace it
// was mounted in, and carries what was mounted below the old one over: cgroups, tracing. The BPF file system is made
// anew, because hosts share no pinned object.
func mountSys(initConfig) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	below := mountsBelow(f, "/sys")
	f.Close()
	trees := map[string]int{}
	for _, dir := range below {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return fmt.Errorf("carry %s over: %w", dir, err)
		}
		defer unix.Close(fd)
		trees[dir] = fd
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	for _, dir := range below {
		if dir == "/sys/fs/bpf" {
			continue
		}
		if err := unix.MoveMount(trees[dir], "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("carry %s over: %w", dir, err)
		}
	}
	// A kernel without BPF is doctor's to complain about.
	_ = unix.Mount("bpf", "/sys/fs/bpf", "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
	return nil
}

// mountsBelow takes from a mountinfo file the mount points below dir that are not below another of them.
func mountsBelow(mountinfo io.Reader, dir string) []string {
	var found []string
	sc := bufio.NewScanner(mountinfo)
next:
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 5 || !strings.HasPrefix(f[4], dir+"/") {
			continue
		}
		for _, m := range found {
			if f[4] == m || strings.HasPrefix(f[4], m+"/") {
				continue next
			}
		}
		found = append(found, f[4])
	}
	return found
}

// mountOwn carries the host's own two directories over and hides the rest of /run and /var/lib.
func (h *initHost) mountOwn(cfg initConfig) error {
	state, err := openTree(cfg.Place.host(cfg.Host), 0o755)
	if err != nil {
		return err
	}
	defer unix.Close(state)
	data, err := openTree(cfg.Place.hostData(cfg.Host), 0o711)
	if err != nil {
		return err
	}
	defer unix.Close(data)
	return errors.Join(h.coverLib(data), h.coverRun(state))
}

// openTree takes hold of a directory that is going to be out of sight.
func openTree(dir string, perm os.FileMode) (int, error) {
	if err := os.MkdirAll(dir, perm); err != nil {
		return -1, fmt.Errorf("carry over: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("carry %s over: %w", dir, err)
	}
	return fd, nil
}

// cover hides a directory behind an empty one that has the tree, or a tmpfs when that is -1, at the path own.
func (h *initHost) cover(dir string, tree int, own string, perm os.FileMode) error {
	if err := unix.Mount("econbench", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	h.covered = append(h.covered, dir)
	if err := os.MkdirAll(own, perm); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	var err error
	if tree < 0 {
		err = unix.Mount("econbench", own, "tmpfs", 0, fmt.Sprintf("mode=%#o", perm))
	} else {
		err = unix.MoveMount(tree, "", unix.AT_FDCWD, own, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", own, err)
	}
	return nil
}

// coverLib puts the data-root at /var/lib/docker. It has to be there: whatever --data-root says, engines up to 20.10
// write the files of load balancers' sandboxes below /var/lib/docker/network/files.
func (h *initHost) coverLib(data int) error {
	if h.cfg.DataTmpfs {
		data = -1
	}
	return h.cover("/var/lib", data, dataDir, 0o711)
}

// coverRun hides the sockets of the machine's own engine, containerd and systemd, so that dockerd starts a containerd
// of its own and may use its default paths: the sandboxes are in /run/docker/netns as on any host.
func (h *initHost) coverRun(state int) error {
	if err := h.cover("/run", state, hostDir, 0o755); err != nil || evalLinks("/var/run") == "/run" {
		return err
	}
	if err := unix.Mount("/run", "/var/run", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount /var/run: %w", err)
	}
	return nil
}

func evalLinks(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	return path
}

// mountEtc puts a layer over /etc that takes what is written there, and an empty /etc/docker into it: the machine's
// daemon.json would contradict our flags, and engines up to 20.10 take their id from /etc/docker/key.json, so that
// two engines sharing it would be one to a swarm.
func mountEtc(initConfig) error {
	const layer = "/run/econbench/etc"
	for _, d := range []string{layer + "/upper", layer + "/work"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("layer over /etc: %w", err)
		}
	}
	opts := "lowerdir=/etc,upperdir=" + layer + "/upper,workdir=" + layer + "/work"
	overlayErr := unix.Mount("overlay", "/etc", "overlay", 0, opts)
	if _, err := os.Stat("/etc/docker"); err != nil {
		if overlayErr != nil {
			return fmt.Errorf("layer over /etc: overlayfs: %w: making the directory /etc/docker does as well", overlayErr)
		}
		if err := os.Mkdir("/etc/docker", 0o755); err != nil {
			return fmt.Errorf("layer over /etc: %w", err)
		}
	}
	if err := unix.Mount("econbench", "/etc/docker", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /etc/docker: %w", err)
	}
	return nil
}

// setupNetwork brings lo up and lets the wire be born without IPv6: router solicitations and multicast reports would be
// in its packet counters. Devices made later have IPv6 as on any host.
func setupNetwork(initConfig) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("loopback up: %w", err)
	}
	return setDefaultIPv6("1")
}

func setDefaultIPv6(disable string) error {
	err := os.WriteFile(defaultIPv6, []byte(disable), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
		return fmt.Errorf("ipv6: %w", err)
	}
	return nil
}

// wireIsThere checks that the controller has put its end in, and gives later devices their IPv6 back.
func wireIsThere() error {
	if _, err := netlink.LinkByName(WireDevice); err != nil {
		return fmt.Errorf("wire %s: %w", WireDevice, err)
	}
	return setDefaultIPv6("0")
}

// leaveMounts brings the machine's own /run and /var/lib back to sight, so that what is ours there can be deleted. All
// other mounts go with the namespace.
func (h *initHost) leaveMounts() error {
	var errs []error
	for _, dir := range h.covered {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
