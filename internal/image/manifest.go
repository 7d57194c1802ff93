// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// manifestPath is where an image carries its own manifest.
const manifestPath = "usr/share/econbench/manifest.json"

// Manifest says what an image is made of. The one inside the image lacks the
// fields from ReleaseDate on, so that the same packages give the same bytes.
type Manifest struct {
	Schema       int       `json:"schema"` // 1
	Ref          string    `json:"ref"`
	Recipe       string    `json:"recipe"`
	RecipeID     string    `json:"recipe_id"` // SHA-256, see Recipe.ID
	Distribution string    `json:"distribution"`
	Suite        string    `json:"suite"`
	Arch         string    `json:"arch"`
	Packages     []Package `json:"packages"` // sorted by name

	ReleaseDate time.Time `json:"release_date,omitzero"`    // of the archive's Release file
	Digest      string    `json:"digest,omitempty"`         // "sha256:" and the tar's SHA-256
	Size        int64     `json:"size,omitempty"`           // of the tar, bytes
	Built       time.Time `json:"built,omitzero"`           // when the build ended
	Elapsed     float64   `json:"elapsed_seconds,omitzero"` // how long it took
}

// Package is one package of an image.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the .deb
}

func newManifest(r Recipe, p Platform, pkgs []*debPackage) Manifest {
	m := Manifest{
		Schema: 1, Ref: r.Ref(p), Recipe: r.Name, RecipeID: r.ID(p),
		Distribution: p.Distribution, Suite: p.Suite, Arch: p.Arch,
	}
	for _, pkg := range pkgs {
		m.Packages = append(m.Packages, Package{pkg.Name, pkg.Version, pkg.Content.SHA256})
	}
	return m
}

func (m Manifest) encode() []byte {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		panic(err) // strings, numbers and times of this century: cannot fail
	}
	return append(text, '\n')
}

// images are the paths of a recipe's image in the cache: its manifest, and a
// pattern of its tars.
func (c cache) images(r Recipe, p Platform) (manifest, tars string) {
	base := filepath.Join(c.dir, "images", r.Name+"-"+r.ID(p)[:12])
	return base + ".json", base + "-*.tar"
}

func (c cache) imageTar(r Recipe, p Platform, digest string) string {
	return filepath.Join(c.dir, "images", r.Name+"-"+r.ID(p)[:12]+"-"+digest[:12]+".tar")
}

// loadImage returns the image in the cache, its bytes checked against its
// digest, or ErrNotCached.
func (c cache) loadImage(r Recipe, p Platform) (*Image, error) {
	file, _ := c.images(r, p)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", r.Ref(p), ErrNotCached)
	}
	if err != nil {
		return nil, fmt.Errorf("read cached image: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil || m.Schema != 1 || m.RecipeID != r.ID(p) || len(m.Digest) != len(digestPrefix)+64 {
		return nil, fmt.Errorf("%s: %w: manifest %s is not one of this version", r.Ref(p), ErrNotCached, file)
	}
	sum := m.Digest[len(digestPrefix):]
	path := c.imageTar(r, p, sum)
	found, err := hashFile(path)
	if want := (content{sum, m.Size}); err == nil && found != want {
		err = &mismatchError{found, want}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s: %w", r.Ref(p), ErrNotCached, path, err)
	}
	return &Image{Ref: m.Ref, Digest: m.Digest, Path: path, Size: m.Size, Manifest: m}, nil
}

// saveManifest makes the image of m the recipe's, and removes older ones.
func (c cache) saveManifest(r Recipe, p Platform, m Manifest, tar string) error {
	file, tars := c.images(r, p)
	_, err := writeFile(filepath.Dir(file), func(w io.Writer) (string, error) {
		_, err := w.Write(m.encode())
		return filepath.Base(file), err
	})
	if err != nil {
		return err
	}
	old, _ := filepath.Glob(tars) // errs on bad patterns alone
	for _, path := range old {
		if path != tar {
			_ = os.Remove(path) // the next build tries again
		}
	}
	return nil
}
