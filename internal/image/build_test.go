// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listing reads a tar: a line per entry.
func listing(t *testing.T, img *Image) []string {
	t.Helper()
	r, err := img.Open()
	check(t, err)
	defer r.Close()
	var lines []string
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return lines
		}
		check(t, err)
		line := fmt.Sprintf("%c %04o %s", h.Typeflag, h.Mode, h.Name)
		if h.Linkname != "" {
			line += " -> " + h.Linkname
		}
		lines = append(lines, line)
	}
}

func TestBuild(t *testing.T) {
	a := newFakeArchive()
	o := a.start(t)
	var last Progress
	o.Progress = func(p Progress) { last = p }
	img, err := Build(t.Context(), fakeRecipe(), o)
	check(t, err)
	want := []string{
		"5 0755 dev/", "5 0555 proc/", "5 0555 sys/", "5 0755 etc/", "5 0700 root/", "5 0755 run/", "5 1777 run/lock/", "5 1777 tmp/",
		"5 0755 var/", "5 0755 var/lib/", "5 0755 var/log/", "5 1777 var/tmp/",
		"2 0777 bin -> usr/bin", "2 0777 lib -> usr/lib", "2 0777 sbin -> usr/sbin", "2 0777 var/lock -> ../run/lock", "2 0777 var/run -> ../run",
		"0 0644 etc/passwd", "0 0644 etc/group", "0 0644 etc/nsswitch.conf",
		// app: README dropped, licence kept with its folders
		"5 0755 usr/", "5 0755 usr/bin/", "0 0644 usr/bin/app", "5 0755 usr/share/", "5 0755 usr/share/doc/", "5 0755 usr/share/doc/app/", "0 0644 usr/share/doc/app/copyright",
		// libone: /lib landed in /usr/lib
		"5 0755 usr/lib/", "5 0755 usr/lib/x/", "0 0644 usr/lib/x/libone.so.1", "2 0000 usr/lib/x/libone.so -> libone.so.1", "1 0000 usr/lib/x/hard -> usr/lib/x/libone.so.1",
		"0 0644 usr/lib/two",
		"0 0644 run/p",
		"2 0777 usr/bin/two -> ../lib/two", "2 0777 usr/bin/x -> ../lib/x",
		"5 0755 usr/share/econbench/", "0 0644 usr/share/econbench/manifest.json",
	}
	got := listing(t, img)
	var without []string
	for _, line := range got {
		if !strings.Contains(line, "lib64") { // amd64 alone
			without = append(without, line)
		}
	}
	if d := cmp.Diff(want, without); d != "" {
		t.Errorf("tar (-want +got):\n%s", d)
	}
	var names []string
	for _, p := range img.Manifest.Packages {
		names = append(names, p.Name+" "+p.Version)
	}
	if d := cmp.Diff([]string{"app 1.0-1", "libone 1.0-1", "libtwo 1.0-1", "provider 1.0-1"}, names); d != "" {
		t.Errorf("packages (-want +got):\n%s", d)
	}
	if last.Stage != StagePackages || last.Done != last.Total || last.Total == 0 {
		t.Errorf("last progress %+v is not the end of the packages", last)
	}
}

func TestBuildIsReproducible(t *testing.T) {
	a := newFakeArchive()
	first, err := Build(t.Context(), fakeRecipe(), a.start(t))
	check(t, err)
	second, err := Build(t.Context(), fakeRecipe(), a.start(t))
	check(t, err)
	if first.Digest != second.Digest || first.Path == second.Path {
		t.Errorf("digests of two builds: %s in %s, %s in %s", first.Digest, first.Path, second.Digest, second.Path)
	}
	inside := readFromTar(t, first, manifestPath)
	var m Manifest
	check(t, json.Unmarshal(inside, &m))
	if m.Ref != first.Ref || len(m.Packages) != 4 || m.Digest != "" || !m.Built.IsZero() {
		t.Errorf("manifest in the image: %s", inside)
	}
}

func readFromTar(t *testing.T, img *Image, name string) []byte {
	t.Helper()
	r, err := img.Open()
	check(t, err)
	defer r.Close()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		check(t, err)
		if h.Name == name {
			body, err := io.ReadAll(tr)
			check(t, err)
			return body
		}
	}
}

func TestCache(t *testing.T) {
	a := newFakeArchive()
	o := a.start(t)
	if _, err := Cached(fakeRecipe(), o); !errors.Is(err, ErrNotCached) {
		t.Fatalf("before the first build: %v", err)
	}
	first, err := Build(t.Context(), fakeRecipe(), o)
	check(t, err)
	n := len(a.requests)
	again, err := Build(t.Context(), fakeRecipe(), o)
	check(t, err)
	if d := cmp.Diff(first, again); d != "" || len(a.requests) != n {
		t.Errorf("second build: %d requests, image differs (-first +second):\n%s", len(a.requests)-n, d)
	}

	// a refresh asks the mirror for the Release, and for no package again
	o.Refresh = true
	_, err = Build(t.Context(), fakeRecipe(), o)
	check(t, err)
	if got := a.requests[n:]; len(got) != 1 || !strings.HasSuffix(got[0], "InRelease") {
		t.Errorf("refresh asked for %q", got)
	}

	// a damaged download and a damaged image are noticed and made again
	blobs, err := filepath.Glob(filepath.Join(o.CacheDir, "sha256", "*"))
	check(t, err)
	for _, file := range append(blobs, first.Path) {
		body, err := os.ReadFile(file)
		check(t, err)
		body[len(body)/2] ^= 1
		check(t, os.WriteFile(file, body, 0o644))
	}
	o.Refresh = false
	if _, err := Cached(fakeRecipe(), o); !errors.Is(err, ErrNotCached) {
		t.Errorf("damaged image: %v", err)
	}
	n = len(a.requests)
	repaired, err := Build(t.Context(), fakeRecipe(), o)
	check(t, err)
	if repaired.Digest != first.Digest || len(a.requests)-n != 1+len(blobs) {
		t.Errorf("repair: digest %s, was %s; %d requests for %d blobs", repaired.Digest, first.Digest, len(a.requests)-n, len(blobs))
	}
}

// TestBuildAtOnce shares one cache between builds, as processes would.
func TestBuildAtOnce(t *testing.T) {
	o := newFakeArchive().start(t)
	var wg sync.WaitGroup
	digests := make([]string, 4)
	for i := range digests {
		wg.Go(func() {
			img, err := Build(t.Context(), fakeRecipe(), o)
			if err != nil {
				t.Error(err)
				return
			}
			digests[i] = img.Digest
		})
	}
	wg.Wait()
	for _, d := range digests {
		if d != digests[0] {
			t.Errorf("digests differ: %q", digests)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(o.CacheDir, "*", "*.tmp*")); left != nil {
		t.Errorf("temporary files left: %q", left)
	}
}

// TestBuildErrors: what is wrong with an archive, and the line it gives.
func TestBuildErrors(t *testing.T) {
	flip := func(suffix string, keep func([]byte) []byte) func(string, []byte) []byte {
		return func(path string, body []byte) []byte {
			if strings.Contains(path, suffix) {
				return keep(bytes.Clone(body))
			}
			return body
		}
	}
	damage := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	field := func(old, new string) func(*fakeArchive) {
		return func(a *fakeArchive) { a.release = strings.Replace(a.release, old, new, 1) }
	}
	app := func(files ...tar.Header) func(*fakeArchive) {
		return func(a *fakeArchive) { a.debs["app"] = fakeDeb{files: files, ext: ".gz"} }
	}
	tests := []struct {
		name string
		set  func(*fakeArchive)
		want string
	}{
		{"tampered InRelease", func(a *fakeArchive) {
			a.change = flip("InRelease", func(b []byte) []byte { return bytes.Replace(b, []byte("Suite"), []byte("Sweet"), 1) })
		}, "verify dists/trixie/InRelease"},
		{"foreign key", func(a *fakeArchive) { a.signer = newKey("Stranger") }, "none of 1 signatures is good"},
		{"unsigned InRelease", func(a *fakeArchive) {
			a.change = flip("InRelease", func(b []byte) []byte { return []byte("Suite: stable\n") })
		}, "found no clearsigned text"},
		{"missing InRelease", func(a *fakeArchive) { a.gone = "InRelease" }, "/debian/dists/trixie/InRelease: found status 404 Not Found, allowed: 200"},
		{"ambiguous Release", field("Acquire-By-Hash: yes\n", "Acquire-By-Hash: yes\nMD5Sum:\nSHA256:\n"), `field "sha256" occurs twice`},
		{"expired", field("07 Mar", "28 Feb"), "expired: valid until 2026-02-28T10:00:00Z, now is 2026-03-01T12:00:00Z"},
		{"from the future", field("Date: Sat, 28 Feb", "Date: Tue, 03 Mar"), "46h0m0s ahead of this machine's clock, allowed: 1h0m0s"},
		{"other suite", field("Codename: trixie", "Codename: sid"), `found suite "stable", code name "sid", allowed: trixie`},
		{"other architecture", field("amd64 arm64", "s390x"), `found architectures ["all" "s390x"], allowed: `},
		{"damaged Packages", func(a *fakeArchive) { a.change = flip("by-hash", damage) }, "found sha256"},
		{"long Packages", func(a *fakeArchive) {
			a.change = flip("by-hash", func(b []byte) []byte { return append(b, "more"...) })
		}, "bytes, allowed: "},
		{"damaged deb", func(a *fakeArchive) { a.change = flip("libone.deb", damage) }, "package libone 1.0-1: fetch http"},
		{"truncated deb", func(a *fakeArchive) { a.change = flip("libone.deb", cut) }, "bytes, allowed: "},
		{"missing deb", func(a *fakeArchive) { a.gone = "libone.deb" }, "/debian/pool/libone.deb: found status 404 Not Found"},
		{"ambiguous index", func(a *fakeArchive) { a.debs["app"] = fakeDeb{fields: "Filename: pool/none.deb"} }, `field "filename" occurs twice`},
		{"missing dependency", func(a *fakeArchive) { delete(a.debs, "libtwo") }, "package other | libtwo, needed by app 1.0-1, is not to be had: found none of that name"},
		{"version too low", func(a *fakeArchive) { a.debs["libtwo"] = fakeDeb{fields: "Depends: libone (>> 1.0-1)"} }, "package libone (>> 1.0-1), needed by libtwo 1.0-1, is not to be had: found libone 1.0-1"},
		{"conflict", func(a *fakeArchive) { a.debs["libtwo"] = fakeDeb{fields: "Breaks: virtual (<< 4)"} }, "package libtwo 1.0-1 conflicts with virtual (<< 4): found provider 1.0-1"},
		{"path escape", app(file("./usr/../../etc/passwd")), `path "./usr/../../etc/passwd" leaves the image`},
		{"absolute path", app(file("/etc/passwd")), `path "/etc/passwd" leaves the image`},
		{"hard link escape", app(tar.Header{Typeflag: tar.TypeLink, Name: "./x", Linkname: "../etc/shadow"}), `path "../etc/shadow" leaves the image`},
		{"hard link to nothing", app(tar.Header{Typeflag: tar.TypeLink, Name: "./x", Linkname: "./y"}), "path /x of app 1.0-1 is a hard link to /y"},
		{"through a link", app(tar.Header{Typeflag: tar.TypeSymlink, Name: "./opt", Linkname: "/etc"}, file("./opt/passwd")), "path /opt/passwd of app 1.0-1 leads through /opt"},
		{"same path twice", func(a *fakeArchive) {
			a.debs["app"] = fakeDeb{fields: "Depends: libtwo", files: []tar.Header{file("./usr/lib/two")}}
		}, "path /usr/lib/two of libtwo 1.0-1 is there already: found app 1.0-1's"},
		{"device", app(tar.Header{Typeflag: tar.TypeChar, Name: "./dev/mem"}), `file dev/mem has type '3'`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newFakeArchive()
			tt.set(a)
			o := a.start(t)
			img, err := Build(t.Context(), fakeRecipe(), o)
			if err == nil {
				t.Fatalf("built %s", img.Ref)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("found error %q, want one line with %q", err, tt.want)
			}
			if left, _ := filepath.Glob(filepath.Join(o.CacheDir, "images", "*")); left != nil {
				t.Errorf("a failed build left %q", left)
			}
		})
	}
}

// TestMachineErrors: what this machine lacks.
func TestMachineErrors(t *testing.T) {
	tests := []struct {
		name string
		set  func(t *testing.T, o *Options)
		want string
	}{
		{"no keyring", func(t *testing.T, o *Options) {
			check(t, os.RemoveAll(filepath.Join(o.root, "usr/share/keyrings")))
		}, "keyring /usr/share/keyrings/debian-archive-keyring.gpg is missing: install debian-archive-keyring"},
		{"other system", func(t *testing.T, o *Options) {
			check(t, os.WriteFile(filepath.Join(o.root, "etc/os-release"), []byte("ID=\"fedora\"\n"), 0o644))
		}, `unsupported system: os-release has ID "fedora", allowed: debian, ubuntu`},
		{"no mirror", func(t *testing.T, o *Options) {
			check(t, os.Remove(filepath.Join(o.root, "etc/apt/sources.list.d/zz.sources")))
		}, `apt configuration names no main archive of debian: found ["http://example.invalid/debian bookworm"]`},
		{"unreachable mirror", func(t *testing.T, o *Options) {
			check(t, os.WriteFile(filepath.Join(o.root, "etc/apt/sources.list"), []byte("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://user:secret@127.0.0.1:1/debian trixie main"), 0o644))
		}, "fetch http://user:xxxxx@127.0.0.1:1/debian/dists/trixie/InRelease: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"cache not writable", func(t *testing.T, o *Options) {
			o.CacheDir = filepath.Join(o.root, "etc/os-release/cache")
		}, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newFakeArchive().start(t)
			tt.set(t, &o)
			_, err := Build(t.Context(), fakeRecipe(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("found error %v, want one line with %q", err, tt.want)
			}
		})
	}
}

// TestRetry: a mirror that fails at first.
func TestRetry(t *testing.T) {
	a := newFakeArchive()
	var mu sync.Mutex
	failed := map[string]bool{}
	a.change = func(path string, body []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(path, ".deb") && !failed[path] {
			failed[path] = true
			return body[:10]
		}
		return body
	}
	o := a.start(t)
	var last Progress
	o.Progress = func(p Progress) { last = p }
	_, err := Build(t.Context(), fakeRecipe(), o)
	check(t, err)
	if last.Done != last.Total {
		t.Errorf("progress ended at %d of %d", last.Done, last.Total)
	}
}

func TestCancel(t *testing.T) {
	o := newFakeArchive().start(t)
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(p Progress) {
		if p.Stage == StagePackages {
			cancel()
		}
	}
	if _, err := Build(ctx, fakeRecipe(), o); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled build: %v", err)
	}
}

// TestFileMirror: a mirror in a folder, named as sources.list(5) does.
func TestFileMirror(t *testing.T) {
	a := newFakeArchive()
	o := a.start(t)
	want, err := Build(t.Context(), fakeRecipe(), o)
	check(t, err)
	mirror := t.TempDir()
	for name, body := range a.serve() {
		file := filepath.Join(mirror, name)
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, body, 0o644))
	}
	list := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] file:" + mirror + "/debian trixie main\n"
	check(t, os.WriteFile(filepath.Join(o.root, "etc/apt/sources.list"), []byte(list), 0o644))
	n := len(a.requests)
	o.CacheDir = t.TempDir()
	got, err := Build(t.Context(), fakeRecipe(), o)
	check(t, err)
	if got.Digest != want.Digest || len(a.requests) != n {
		t.Errorf("digest %s, want %s; %d requests to the server", got.Digest, want.Digest, len(a.requests)-n)
	}
}

// TestDiskFull writes to a device that is always full, as a full disk would be.
func TestDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no device to be full: %v", err)
	}
	defer full.Close()
	_, err = localWriter{full}.Write([]byte("x"))
	if err == nil || err.Error() != "write to cache: write /dev/full: no space left on device" || mayPass(err) {
		t.Errorf("found error %v, which may pass: %t", err, mayPass(err))
	}
}
