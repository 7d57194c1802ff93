// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The lock is an open file description lock (fcntl(2), F_OFD_SETLK, Linux 3.15). Like flock's it belongs to the open
// file, so the init processes hold it through the descriptor they inherit and it goes when the last of them does; unlike
// flock's it can be asked about without being taken, so that a `lab status` never makes an `Up` beside it fail.

var errLocked = errors.New("lock is held")

func wholeFile(typ int16) *unix.Flock_t {
	return &unix.Flock_t{Type: typ, Whence: io.SeekStart}
}

// takeLock takes the lab's lock, making its directory when needed; errLocked when a lab is alive.
func takeLock(root string) (*os.File, error) {
	path := filepath.Join(root, lockFile)
	for {
		if err := os.MkdirAll(root, 0o755); err != nil {
			return nil, fmt.Errorf("lab directory: %w", err)
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the last lab removed its directory just now
		}
		if err != nil {
			return nil, fmt.Errorf("lab lock: %w", err)
		}
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, wholeFile(unix.F_WRLCK))
		if err != nil {
			f.Close()
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
				return nil, errLocked
			}
			return nil, fmt.Errorf("lab lock %s: %w", path, err)
		}
		if sameFile(f, path) {
			return f, nil
		}
		f.Close() // the last lab unlinked it between our open and our lock
	}
}

// lockHeld tells whether a lab is alive, without taking its lock. Reading the file is enough of a right.
func lockHeld(root string) (bool, error) {
	f, err := os.Open(filepath.Join(root, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lab lock: %w", err)
	}
	defer f.Close()
	l := wholeFile(unix.F_WRLCK)
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, l); err != nil {
		return false, fmt.Errorf("lab lock %s: %w", f.Name(), err)
	}
	return l.Type != unix.F_UNLCK, nil
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}
