// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"path"
	"slices"
	"testing"
	"time"
)

// TestMirror builds the tools from the mirror that this machine's apt is
// configured with, and looks whether every program finds its libraries.
func TestMirror(t *testing.T) {
	p, d, err := hostPlatform("/")
	if errors.Is(err, ErrUnsupported) {
		t.Skipf("needs Debian or Ubuntu: %v", err)
	}
	check(t, err)
	if all, err := readSources("/"); err == nil && all == nil {
		t.Skip("needs apt's configuration: /etc/apt names no archive")
	}
	o := Options{CacheDir: t.TempDir()}
	start := time.Now()
	img, err := Build(t.Context(), Tools(), o)
	check(t, err)
	cold := time.Since(start)
	start = time.Now()
	warm, err := Build(t.Context(), Tools(), o)
	check(t, err)
	t.Logf("%s: %d packages, %.1f MB, cold %.1f s, warm %.3f s", img.Ref, len(img.Manifest.Packages), float64(img.Size)/1e6, cold.Seconds(), time.Since(start).Seconds())
	if img.Digest != warm.Digest || img.Ref != Tools().Ref(p) {
		t.Errorf("found %s %s, then %s %s", img.Ref, img.Digest, warm.Ref, warm.Digest)
	}
	if img.Size > 100e6 {
		t.Errorf("image has %d bytes, allowed: 100 MB", img.Size)
	}
	if img.Manifest.Distribution != d.id || img.Manifest.ReleaseDate.IsZero() {
		t.Errorf("found manifest %+v", img.Manifest)
	}
	programs := checkLibraries(t, img)
	for _, name := range []string{
		"usr/bin/iperf3", "usr/bin/memcached", "usr/bin/netperf", "usr/bin/netserver", "usr/bin/wrk", "usr/sbin/nginx",
		"usr/bin/dash", "usr/bin/sleep", "usr/bin/ss", "usr/bin/tcpdump",
	} {
		if !slices.Contains(programs, name) {
			t.Errorf("image lacks /%s", name)
		}
	}
}

// checkLibraries holds the libraries that each program and library needs
// against those in the image, and returns the programs. It is what a run of
// each would find, without an engine.
func checkLibraries(t *testing.T, img *Image) (programs []string) {
	t.Helper()
	r, err := img.Open()
	check(t, err)
	defer r.Close()
	there := map[string]bool{}
	needed := map[string][]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		check(t, err)
		there[path.Base(h.Name)] = true
		if h.Typeflag != tar.TypeReg {
			continue
		}
		body, err := io.ReadAll(tr)
		check(t, err)
		f, err := elf.NewFile(bytes.NewReader(body))
		if err != nil {
			continue // no program
		}
		libs, err := f.ImportedLibraries()
		check(t, err)
		for _, lib := range libs {
			needed[lib] = append(needed[lib], h.Name)
		}
		if dir := path.Base(path.Dir(h.Name)); dir == "bin" || dir == "sbin" {
			programs = append(programs, h.Name)
		}
	}
	for lib, by := range needed {
		if !there[lib] {
			t.Errorf("image lacks %s, needed by %q", lib, by)
		}
	}
	return programs
}
