// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// sysfs is a mount of sysfs that no mount namespace has: it is reached through its file descriptor and is gone when that
// is closed, or its process killed. A container's own /sys is read-only and shows the network namespace it was mounted
// in. Needs Linux 5.2 (fsopen, fsmount) and CAP_SYS_ADMIN.
type sysfs struct{ fd int }

// mountSysfs mounts sysfs as it looks from the calling thread's network namespace, writable.
func mountSysfs() (*sysfs, error) {
	ctx, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("sysfs: open (Linux 5.2, CAP_SYS_ADMIN): %w", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return nil, fmt.Errorf("sysfs: create (CAP_SYS_ADMIN): %w", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("sysfs: mount: %w", err)
	}
	s := &sysfs{fd}
	if err := s.makeWritable(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// makeWritable: all sysfs mounts of one network namespace share a superblock, and where the first of them was a
// container's, it was made read-only. Switching that off opens nothing to the container, whose mount is read-only too.
func (s *sysfs) makeWritable() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(s.fd, &st); err != nil {
		return fmt.Errorf("sysfs: state: %w", err)
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return nil
	}
	ctx, err := unix.Fspick(s.fd, "", unix.FSPICK_CLOEXEC|unix.FSPICK_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("sysfs: make writable: %w", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigSetFlag(ctx, "rw"); err != nil {
		return fmt.Errorf("sysfs: make writable: %w", err)
	}
	if err := unix.FsconfigReconfigure(ctx); err != nil {
		return fmt.Errorf("sysfs: make writable: %w", err)
	}
	return nil
}

// path is a path inside the mount.
func (s *sysfs) path(elem ...string) string {
	return filepath.Join(append([]string{"/proc/self/fd", strconv.Itoa(s.fd)}, elem...)...)
}

// Close takes the mount away.
func (s *sysfs) Close() error { return unix.Close(s.fd) }
