// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// entry is a file of a package, its name cleaned and without leading slash.
type entry struct {
	tar.Header
	body []byte
}

// movedDir is a folder that is a symbolic link in the image, as in every Debian
// or Ubuntu system: what packages ship in it lands in the target.
type movedDir struct {
	from, to string
	archs    []string // that have the link; nil: all
}

var movedDirs = []movedDir{
	{"bin", "usr/bin", nil},
	{"lib", "usr/lib", nil},
	{"lib64", "usr/lib64", []string{"amd64"}}, // where the ABI has its program loader
	{"sbin", "usr/sbin", nil},
	{"var/lock", "run/lock", nil},
	{"var/run", "run", nil},
}

// readDeb reads the files of a package (deb(5)) that the image takes.
func readDeb(file string) ([]entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a, err := newArReader(bufio.NewReaderSize(f, 1<<18))
	if err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		name, body, err := a.next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("found no member data.tar")
		}
		if err != nil {
			return nil, err
		}
		if first != (name == "debian-binary") {
			return nil, fmt.Errorf("found member %q, allowed: debian-binary first", name)
		}
		if first {
			if err := checkFormat(body); err != nil {
				return nil, err
			}
		}
		if strings.HasPrefix(name, "data.tar") {
			r, err := decompress(path.Ext(name), body)
			if err != nil {
				return nil, fmt.Errorf("member %s: %w", name, err)
			}
			defer r.Close()
			entries, err := readEntries(r)
			if err != nil {
				return nil, fmt.Errorf("member %s: %w", name, err)
			}
			return entries, nil
		}
	}
}

func checkFormat(r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, 16))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(text), "2.") {
		return fmt.Errorf("found package format %q, allowed: 2.x", strings.TrimSpace(string(text)))
	}
	return nil
}

// decompress reads what a file name's extension says: .xz, .zst, .gz, or none.
func decompress(ext string, r io.Reader) (io.ReadCloser, error) {
	switch ext {
	case ".xz":
		x, err := xz.NewReader(bufio.NewReaderSize(r, 1<<18))
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case ".zst":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case ".gz":
		return gzip.NewReader(r)
	case "", ".tar":
		return io.NopCloser(r), nil
	}
	return nil, fmt.Errorf("found compression %q, allowed: xz, zst, gz", ext)
}

// maxFile bounds a file of a package, in bytes: files are held in memory.
const maxFile = 512 << 20

// readEntries reads a package's tar.
func readEntries(r io.Reader) ([]entry, error) {
	var all []entry
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		e, ok, err := newEntry(h)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if e.Size > maxFile {
			return nil, fmt.Errorf("file %s has %d bytes, allowed: %d", e.Name, e.Size, maxFile)
		}
		if e.Typeflag == tar.TypeReg {
			if e.body, err = io.ReadAll(tr); err != nil {
				return nil, fmt.Errorf("file %s: %w", e.Name, err)
			}
		}
		all = append(all, e)
	}
}

// newEntry makes an image's entry from a package's; ok is false for what the
// image does not take. Of the header only what a file is stays: names of users,
// access times and the like would make the image depend on how it was packed.
func newEntry(h *tar.Header) (e entry, ok bool, err error) {
	name, err := cleanName(h.Name)
	if err != nil {
		return e, false, err
	}
	if name == "." || isMoved(name, h) || !keep(name, h.Typeflag == tar.TypeDir) {
		return e, false, nil
	}
	e.Header = tar.Header{
		Typeflag: h.Typeflag, Name: name, Size: h.Size,
		Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid, ModTime: h.ModTime.Truncate(1e9).UTC(),
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir, tar.TypeSymlink:
		e.Size = 0
		if h.Typeflag == tar.TypeSymlink {
			e.Linkname = h.Linkname
		}
	case tar.TypeLink:
		e.Size = 0
		if e.Linkname, err = cleanName(h.Linkname); err != nil {
			return e, false, fmt.Errorf("hard link %s: %w", name, err)
		}
	default:
		return e, false, fmt.Errorf("file %s has type %q, allowed: file, folder, link", name, h.Typeflag)
	}
	return e, true, nil
}

// cleanName returns a tar's name without "./", moved to where it lands. A name
// that leaves the root is an error.
func cleanName(name string) (string, error) {
	if name == "" || strings.HasPrefix(name, "/") || strings.ContainsRune(name, 0) ||
		slices.Contains(strings.Split(name, "/"), "..") {
		return "", fmt.Errorf("path %q leaves the image", name)
	}
	clean := path.Clean(name)
	for _, d := range movedDirs {
		if rest, ok := strings.CutPrefix(clean, d.from+"/"); ok {
			return d.to + "/" + rest, nil
		}
	}
	return clean, nil
}

// isMoved reports whether the entry is one of the moved folders itself, shipped
// as a folder that a maintainer script would replace, or as the link.
func isMoved(name string, h *tar.Header) bool {
	for _, d := range movedDirs {
		if name == d.from {
			return h.Typeflag == tar.TypeDir ||
				h.Typeflag == tar.TypeSymlink && path.Clean("/"+h.Linkname) == "/"+d.to
		}
	}
	return false
}
