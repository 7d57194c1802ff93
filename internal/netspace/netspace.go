// SPDX-License-Identifier: Apache-2.0

// Package netspace finds, tells apart and enters network namespaces: those of processes, and those that an engine keeps
// under a path of its own mount namespace.
//
// In a container it needs the host's PID namespace, CAP_SYS_ADMIN (to enter) and CAP_SYS_PTRACE (to open those of others).
package netspace

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ID tells a network namespace from every other of the same boot. An inode number alone is used again once its
// namespace is gone; the cookie (SO_NETNS_COOKIE, Linux 5.14) never is.
type ID struct {
	Dev    uint64 `json:"dev"`
	Inode  uint64 `json:"inode"`
	Cookie uint64 `json:"cookie,omitempty"` // 0: the kernel has none
}

// Own opens the network namespace of the calling thread.
func Own() (netns.NsHandle, ID, error) { return open("/proc/thread-self/ns/net") }

// OfProcess opens the network namespace of a process.
func OfProcess(pid int) (netns.NsHandle, ID, error) {
	return open(fmt.Sprintf("/proc/%d/ns/net", pid))
}

func open(path string) (netns.NsHandle, ID, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return netns.None(), ID{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	ns := netns.NsHandle(fd)
	id, err := Identify(ns)
	if err != nil {
		return netns.None(), ID{}, errors.Join(err, ns.Close())
	}
	return ns, id, nil
}

// Identify tells which namespace a handle is.
func Identify(ns netns.NsHandle) (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(ns), &st); err != nil {
		return ID{}, fmt.Errorf("network namespace: identity: %w", err)
	}
	id := ID{Dev: st.Dev, Inode: st.Ino}
	err := In(ns, func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("network namespace: identity: %w", err)
		}
		defer unix.Close(s)
		if cookie, err := unix.GetsockoptUint64(s, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil {
			id.Cookie = cookie
		}
		return nil
	})
	return id, err
}

// InProcess runs f on a thread that is in the network namespace of a process. Sockets that f makes stay there.
func InProcess(pid int, f func() error) error {
	ns, _, err := OfProcess(pid)
	if err != nil {
		return fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	return In(ns, f)
}

// In runs f on a thread that is in ns. It never uses the process's first thread: what others read under /proc/self
// (and so /proc/net) is that thread's namespace.
func In(ns netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			err := In(ns, f) // another thread, as this one is taken
			runtime.UnlockOSThread()
			done <- err
			return
		}
		restored, err := switchAndRun(ns, f)
		if restored {
			runtime.UnlockOSThread() // otherwise the thread ends with this goroutine
		}
		done <- err
	}()
	return <-done
}

func switchAndRun(ns netns.NsHandle, f func() error) (restored bool, err error) {
	before, err := netns.GetFromPath("/proc/thread-self/ns/net")
	if err != nil {
		return true, fmt.Errorf("network namespace of this thread: %w", err)
	}
	defer before.Close()
	if err := netns.Set(ns); err != nil {
		return true, fmt.Errorf("enter network namespace (CAP_SYS_ADMIN): %w", err)
	}
	err = f()
	return netns.Set(before) == nil, err
}

// ProcessGone tells that a process, and with it a container's namespace, is no more.
func ProcessGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
