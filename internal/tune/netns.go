// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// nsID tells a network namespace from every other of the same boot. An inode number alone is used again once its
// namespace is gone; the cookie (SO_NETNS_COOKIE, Linux 5.14) never is.
type nsID struct {
	Dev    uint64 `json:"dev"`
	Inode  uint64 `json:"inode"`
	Cookie uint64 `json:"cookie,omitempty"` // 0: the kernel has none
}

// ownNetns opens the network namespace of the calling thread.
func ownNetns() (netns.NsHandle, nsID, error) { return openNetns("/proc/thread-self/ns/net") }

// netnsOf opens the network namespace of a process.
func netnsOf(pid int) (netns.NsHandle, nsID, error) {
	return openNetns(fmt.Sprintf("/proc/%d/ns/net", pid))
}

func openNetns(path string) (netns.NsHandle, nsID, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return netns.None(), nsID{}, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	ns := netns.NsHandle(fd)
	id, err := identify(ns)
	if err != nil {
		return netns.None(), nsID{}, errors.Join(err, ns.Close())
	}
	return ns, id, nil
}

func identify(ns netns.NsHandle) (nsID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(ns), &st); err != nil {
		return nsID{}, fmt.Errorf("network namespace: identity: %w", err)
	}
	id := nsID{Dev: st.Dev, Inode: st.Ino}
	err := inNetns(ns, func() error {
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

// InNetnsOf runs f on a thread that is in the network namespace of a process. Sockets that f makes stay there.
func InNetnsOf(pid int, f func() error) error {
	ns, _, err := netnsOf(pid)
	if err != nil {
		return fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	return inNetns(ns, f)
}

// inNetns runs f on a thread that is in ns. It never uses the process's first thread: what others read under /proc/self
// (and so /proc/net) is that thread's namespace.
func inNetns(ns netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			err := inNetns(ns, f) // another thread, as this one is taken
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

// processGone tells that a process, and with it a container's namespace, is no more.
func processGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// device looks a device up in the calling thread's network namespace.
func device(kind Kind, name string) (*net.Interface, error) {
	ifi, err := net.InterfaceByName(name)
	if err == nil {
		return ifi, nil
	}
	all, listErr := net.Interfaces()
	if listErr != nil {
		return nil, fmt.Errorf("%s: device %q: %w", kind, name, listErr)
	}
	var names []string
	for _, i := range all {
		if i.Name == name { // the look-up failed for another reason
			return nil, fmt.Errorf("%s: device %q: %w", kind, name, err)
		}
		names = append(names, i.Name)
	}
	return nil, fmt.Errorf("%s: device %q: %w in this network namespace; there are: %s", kind, name, errGone, join(names))
}

// bootID is the kernel's random identity of this boot.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return normal(string(b)), nil
}
