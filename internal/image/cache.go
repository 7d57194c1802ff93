// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	staleTemp = time.Hour           // a temporary file of that age is a dead process's
	staleBlob = 60 * 24 * time.Hour // a download not used for so long is removed
)

// DefaultCacheDir is $ECONBENCH_CACHE, else /var/cache/econbench for root, else
// the folder econbench of the user's cache directory.
func DefaultCacheDir() string {
	if dir := os.Getenv("ECONBENCH_CACHE"); dir != "" {
		return dir
	}
	if os.Getuid() == 0 {
		return "/var/cache/econbench"
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "econbench")
	}
	return filepath.Join(os.TempDir(), "econbench-"+strconv.Itoa(os.Getuid()))
}

// cache is a folder with
//
//	sha256/HASH              what was downloaded
//	images/NAME-ID.json      the manifest of the recipe's image
//	images/NAME-ID-HASH.tar  the image
//
// Every file appears under its name by rename, whole and synced, so processes
// that share a cache need no lock: at worst both do the same work.
type cache struct{ dir string }

// mismatchError says that bytes are not those that were asked for.
type mismatchError struct{ found, want content }

func (e *mismatchError) Error() string {
	if e.found.Size != e.want.Size {
		return fmt.Sprintf("found %d bytes, allowed: %d", e.found.Size, e.want.Size)
	}
	return fmt.Sprintf("found sha256 %s, allowed: %s", e.found.SHA256, e.want.SHA256)
}

func (c cache) blob(want content) string { return filepath.Join(c.dir, "sha256", want.SHA256) }

// find returns the path of a download that is there and whole. One that is not
// whole is removed.
func (c cache) find(want content) (string, bool) {
	path := c.blob(want)
	found, err := hashFile(path)
	if err != nil {
		return "", false
	}
	if found != want {
		_ = os.Remove(path) // best effort: put replaces it anyway
		return "", false
	}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // it may be another user's; then its age alone counts
	return path, true
}

// put stores what r yields if it is what was asked for: a *mismatchError else.
// Errors of r come back as they are.
func (c cache) put(want content, r io.Reader) (string, error) {
	return writeFile(filepath.Dir(c.blob(want)), func(w io.Writer) (string, error) {
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, want.Size+1))
		if err != nil {
			return "", err
		}
		if found := (content{hex.EncodeToString(h.Sum(nil)), n}); found != want {
			return "", &mismatchError{found, want}
		}
		return want.SHA256, nil
	})
}

// hashFile reads a file.
func hashFile(path string) (content, error) {
	f, err := os.Open(path)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20))
	return content{hex.EncodeToString(h.Sum(nil)), n}, err
}

// writeFile makes a file with all that write wrote appear in dir, under the name
// that write returns, or nothing at all.
func writeFile(dir string, write func(io.Writer) (name string, err error)) (path string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", &cacheError{err}
	}
	f, err := os.CreateTemp(dir, "new.tmp*")
	if err != nil {
		return "", &cacheError{err}
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	name, err := write(localWriter{f})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, name)
	for _, step := range []func() error{
		func() error { return f.Chmod(0o644) },
		f.Sync,
		f.Close,
		func() error { return os.Rename(f.Name(), path) },
	} {
		if err := step(); err != nil {
			return "", &cacheError{err}
		}
	}
	return path, nil
}

// cacheError is a failure to write here, as against one to read from a mirror:
// trying again is of no use.
type cacheError struct{ err error }

func (e *cacheError) Error() string { return "write to cache: " + e.err.Error() }
func (e *cacheError) Unwrap() error { return e.err }

// localWriter marks the errors of a file's Write as the cache's.
type localWriter struct{ f *os.File }

func (w localWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = &cacheError{err}
	}
	return n, err
}

// prune removes what dead processes left and what was not used for long.
// Failures do not matter: the next build tries again.
func (c cache) prune(now time.Time) {
	for _, dir := range []string{"sha256", "images"} {
		entries, _ := os.ReadDir(filepath.Join(c.dir, dir))
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				continue
			}
			age := now.Sub(info.ModTime())
			temp := strings.Contains(e.Name(), ".tmp")
			if temp && age > staleTemp || !temp && dir == "sha256" && age > staleBlob {
				_ = os.Remove(filepath.Join(c.dir, dir, e.Name()))
			}
		}
	}
}
