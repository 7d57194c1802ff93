// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// fakeNow is the present of the fake archives.
var fakeNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fakeKey is made once: it is the slow part.
var fakeKey = sync.OnceValue(func() *openpgp.Entity { return newKey("Fake Archive") })

func newKey(name string) *openpgp.Entity {
	e, err := openpgp.NewEntity(name, "", name+"@example.invalid", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return fakeNow.AddDate(-1, 0, 0) },
	})
	if err != nil {
		panic(err)
	}
	return e
}

// fakeDeb is a package of a fake archive.
type fakeDeb struct {
	fields string // of the index, beyond what is computed
	files  []tar.Header
	ext    string // of data.tar
}

// fakeArchive is a mirror and a machine that uses it. Change its fields, then
// build.
type fakeArchive struct {
	debs    map[string]fakeDeb // by name
	release string             // fields of Release
	signer  *openpgp.Entity
	// the files served, by path, may be changed on their way
	change func(path string, body []byte) []byte
	gone   string // part of a path that is not there
	root   string

	mu       sync.Mutex
	requests []string
}

func file(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}
}

func dir(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}

func newFakeArchive() *fakeArchive {
	return &fakeArchive{
		debs: map[string]fakeDeb{
			"app": {
				fields: "Depends: libone (>= 1), virtual, other | libtwo, perl:any",
				files:  []tar.Header{dir("./"), dir("./usr/"), dir("./usr/bin/"), file("./usr/bin/app"), dir("./usr/share/doc/app/"), file("./usr/share/doc/app/copyright"), file("./usr/share/doc/app/README")},
				ext:    ".xz",
			},
			"libone": {
				files: []tar.Header{dir("./"), dir("./lib/"), dir("./lib/x/"), file("./lib/x/libone.so.1"), {Typeflag: tar.TypeSymlink, Name: "./lib/x/libone.so", Linkname: "libone.so.1"}, {Typeflag: tar.TypeLink, Name: "./lib/x/hard", Linkname: "./lib/x/libone.so.1"}},
				ext:   ".zst",
			},
			"libtwo":   {files: []tar.Header{dir("./"), dir("./usr/"), file("./usr/lib/two")}, ext: ".gz"},
			"provider": {fields: "Provides: virtual (= 3)", files: []tar.Header{dir("./var/run/"), file("./var/run/p")}},
		},
		release: "Origin: Fake\nSuite: stable\nCodename: trixie\nDate: Sat, 28 Feb 2026 10:00:00 UTC\nValid-Until: Sat, 07 Mar 2026 10:00:00 UTC\n" +
			"Architectures: all amd64 arm64\nComponents: main\nAcquire-By-Hash: yes\n",
		signer: fakeKey(),
		change: func(_ string, body []byte) []byte { return body },
	}
}

// fakeRecipe is what the fake archive has.
func fakeRecipe() Recipe {
	return Recipe{Name: "fake", Packages: []string{"app"}, Without: []string{"perl*"}, Links: []string{"usr/lib/*"}}
}

// start serves the archive, and returns options for a machine that uses it.
func (a *fakeArchive) start(t testing.TB) Options {
	t.Helper()
	served := a.serve()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.requests = append(a.requests, r.URL.Path)
		a.mu.Unlock()
		body, ok := served[r.URL.Path]
		if !ok || a.gone != "" && strings.Contains(r.URL.Path, a.gone) {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(a.change(r.URL.Path, body))
	}))
	t.Cleanup(srv.Close)
	a.root = t.TempDir()
	var keyring bytes.Buffer
	check(t, fakeKey().Serialize(&keyring))
	for name, text := range map[string]string{
		"etc/os-release": "ID=debian\nVERSION_CODENAME=bookworm\n",
		"etc/apt/sources.list.d/third-party.list":       "deb [signed-by=/usr/share/keyrings/x.gpg] http://example.invalid/debian bookworm main\n",
		"etc/apt/sources.list.d/zz.sources":             "Types: deb\nURIs: " + srv.URL + "/debian/\nSuites: bookworm\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
		"usr/share/keyrings/debian-archive-keyring.gpg": keyring.String(),
	} {
		file := filepath.Join(a.root, name)
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(text), 0o644))
	}
	return Options{CacheDir: t.TempDir(), root: a.root, now: fakeNow, pause: time.Millisecond}
}

// serve returns the archive's files by path.
func (a *fakeArchive) serve() map[string][]byte {
	all := map[string][]byte{}
	var index strings.Builder
	for _, name := range slices.Sorted(maps.Keys(a.debs)) {
		d := a.debs[name]
		deb := makeDeb(d)
		filename := "pool/" + name + ".deb"
		all["/debian/"+filename] = deb
		fmt.Fprintf(&index, "Package: %s\nVersion: 1.0-1\nFilename: %s\nSize: %d\nSHA256: %s\nDescription: long\n text\n", name, filename, len(deb), sum(deb))
		if d.fields != "" {
			fmt.Fprintln(&index, d.fields)
		}
		index.WriteString("\n")
	}
	packages := pack(".xz", []byte(index.String()))
	base := "/debian/dists/trixie/"
	dir := "main/binary-" + runtime.GOARCH
	all[base+dir+"/by-hash/SHA256/"+sum(packages)] = packages
	text := a.release + fmt.Sprintf("SHA256:\n %s %d %s/Packages.xz\n", sum(packages), len(packages), dir)
	all[base+"InRelease"] = sign(a.signer, text)
	return all
}

func sign(key *openpgp.Entity, text string) []byte {
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, key.PrivateKey, &packet.Config{Time: func() time.Time { return fakeNow.AddDate(0, 0, -1) }})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

func makeDeb(d fakeDeb) []byte {
	var data bytes.Buffer
	tw := tar.NewWriter(&data)
	for _, h := range d.files {
		h.ModTime = fakeNow.AddDate(0, -1, 0)
		var body string
		if h.Typeflag == tar.TypeReg {
			body = "contents of " + h.Name + "\n"
			h.Size = int64(len(body))
		}
		must(tw.WriteHeader(&h))
		_, err := io.WriteString(tw, body)
		must(err)
	}
	must(tw.Close())
	var b bytes.Buffer
	b.WriteString(arMagic)
	member(&b, "debian-binary", []byte("2.0\n"))
	member(&b, "control.tar.gz", []byte("odd"))
	member(&b, "data.tar"+d.ext, pack(d.ext, data.Bytes()))
	return b.Bytes()
}

func member(b *bytes.Buffer, name string, body []byte) {
	fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(body))
	b.Write(body)
	if len(body)%2 != 0 {
		b.WriteByte('\n')
	}
}

func pack(ext string, body []byte) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch ext {
	case ".xz":
		w, err = xz.NewWriter(&b)
	case ".zst":
		w, err = zstd.NewWriter(&b)
	case ".gz":
		w = gzip.NewWriter(&b)
	default:
		return body
	}
	must(err)
	_, err = w.Write(body)
	must(err)
	must(w.Close())
	return b.Bytes()
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
