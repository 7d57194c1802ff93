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

// hostDir is where a host sees its own state directory: the same short path in both, whatever Root is.
const hostDir = "/run/econbench/host"

// defaultIPv6 is the template of devices to come; see setupNetwork.
const defaultIPv6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"

// setupNamespaces makes the new namespaces a host: its own name, /proc, /sys, /run, /etc and data-root.
func setupNamespaces(cfg initConfig) error {
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return fmt.Errorf("hostname: %w", err)
	}
	// Slave, not private: what the machine unmounts later is not kept busy by a lab that stays.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("keep mounts to ourselves: %w", err)
	}
	steps := []func(initConfig) error{dropForeign, mountData, mountProc, mountSys, mountRun, mountEtc, setupNetwork}
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

// mountData makes the data-root a mount of its own, so that everything mounted below it later goes with one unmount.
func mountData(cfg initConfig) error {
	dir := cfg.Place.hostData(cfg.Host)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("data-root: %w", err)
	}
	src, fstype, flags, opts := dir, "", uintptr(unix.MS_BIND), ""
	if cfg.DataTmpfs {
		src, fstype, flags, opts = "econbench", "tmpfs", 0, "mode=0711"
	}
	if err := unix.Mount(src, dir, fstype, flags, opts); err != nil {
		return fmt.Errorf("mount data-root %s: %w", dir, err)
	}
	return nil
}

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

// mountRun hides the machine's /run behind an empty one, with it the sockets of the machine's own engine, containerd
// and systemd, so that dockerd starts a containerd of its own and may use its default paths: the sandboxes are in
// /run/docker/netns as on any host. Only the host's own state directory is carried over.
func mountRun(cfg initConfig) error {
	own := cfg.Place.host(cfg.Host)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, own, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("carry %s over: %w", own, err)
	}
	defer unix.Close(fd)
	if err := unix.Mount("econbench", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := os.MkdirAll(hostDir, 0o755); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, hostDir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("carry %s over: %w", own, err)
	}
	if filepath.Clean(evalLinks("/var/run")) == "/run" {
		return nil
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
			return fmt.Errorf("layer over /etc: overlayfs: %w; mkdir /etc/docker does too", overlayErr)
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

// leaveMounts brings the machine's own /run back to sight and takes the data-root's mounts away, so that both can be
// deleted. All other mounts go with the namespace.
func leaveMounts(cfg initConfig) error {
	var errs []error
	for _, dir := range []string{"/run", cfg.Place.hostData(cfg.Host)} {
		err := unix.Unmount(dir, unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
