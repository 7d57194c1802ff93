// SPDX-License-Identifier: Apache-2.0

// Package wholefile writes files that are never seen half-written. It imports the standard library alone.
package wholefile

import (
	"errors"
	"os"
	"path/filepath"
)

// Write replaces path by a file that holds b, such that a reader or a crash sees the old or the new one, whole. Until then
// it has a name that begins with a dot.
func Write(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644) // CreateTemp's 0600 would keep what root wrote from everybody's reports
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes a rename or a new file survive a power cut.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
