// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/econbench/econbench/internal/image"
)

func checkImage(_ context.Context, m *machine) []Result {
	const name = "tool image"
	img, err := m.cached()
	switch {
	case err == nil:
		return ok(name, fmt.Sprintf("%s, %s, at %s", img.Ref, megabytes(uint64(img.Size)), img.Path))
	case errors.Is(err, image.ErrUnsupported):
		return required(missing(name, err.Error(), "the image can't be made from this machine's packages",
			"build docker/Dockerfile where there is a registry, and load the image into both engines"))
	case errors.Is(err, image.ErrNotCached):
		return ok(name, "not built yet: the first run builds it")
	}
	return warn(name, err.Error(), "the first run has to build it", "--cache-dir with another folder")
}

// system is the distribution whose archive the image is made from: "debian", "ubuntu", or "" when it is neither.
func (m *machine) system() string {
	text, err := m.read("etc/os-release")
	if err != nil {
		text, _ = m.read("usr/lib/os-release")
	}
	var ids []string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" {
			ids = slices.Insert(ids, 0, strings.Trim(value, `"'`))
		}
		if key == "ID_LIKE" {
			ids = append(ids, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	for _, id := range ids {
		if id == "debian" || id == "ubuntu" {
			return id
		}
	}
	return ""
}

func checkKeyring(_ context.Context, m *machine) []Result {
	const name = "archive keyring"
	id := m.system()
	if id == "" {
		return nil // checkImage said so
	}
	for _, ext := range []string{"gpg", "pgp"} {
		path := fmt.Sprintf("usr/share/keyrings/%s-archive-keyring.%s", id, ext)
		if m.has(path) {
			return ok(name, "/"+path)
		}
	}
	fix := "apt-get install " + map[string]string{"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}[id]
	return m.neededToBuild(missing(name, "none of "+id+"'s in /usr/share/keyrings", "packages for the tool image can't be verified", fix))
}

func checkMirror(_ context.Context, m *machine) []Result {
	const name = "apt mirror"
	if m.system() == "" {
		return nil
	}
	files := []string{"etc/apt/sources.list"}
	for _, ext := range []string{"list", "sources"} {
		more, _ := filepath.Glob(filepath.Join(m.root, "etc/apt/sources.list.d/*."+ext))
		for _, path := range more {
			if rel, err := filepath.Rel(m.root, path); err == nil {
				files = append(files, rel)
			}
		}
	}
	for _, file := range files {
		if text, err := m.read(file); err == nil && namesArchive(text) {
			return ok(name, "configured in /"+file)
		}
	}
	return m.neededToBuild(missing(name, "none in /etc/apt", "there are no packages to make the tool image from", "configure one in /etc/apt/sources.list.d"))
}

// namesArchive tells whether a file of apt's has an archive of binary packages, in either format of sources.list(5).
func namesArchive(text string) bool {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 2 && f[0] == "deb" || len(f) > 1 && strings.EqualFold(f[0], "URIs:") {
			return true
		}
	}
	return false
}

// neededToBuild makes a result required while there is no image.
func (m *machine) neededToBuild(r []Result) []Result {
	if _, err := m.cached(); err == nil {
		for i := range r {
			r[i].Status = Warn
			r[i].Cost = "the cached image is there; a new one can't be built: " + r[i].Cost
		}
		return r
	}
	return required(r)
}

// isSocket tells whether a unix socket is there.
func (m *machine) isSocket(path string) bool {
	st, err := os.Stat(filepath.Join(m.root, path))
	return err == nil && st.Mode()&os.ModeSocket != 0
}
