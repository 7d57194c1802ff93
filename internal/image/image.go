// SPDX-License-Identifier: Apache-2.0

// Package image builds container images without an image registry, from the
// packages of the Debian or Ubuntu mirror that apt is configured with. What it
// makes is the tar of a root file system, to be imported into an engine.
//
// A build goes: apt's configuration (apt.go) and the table of distributions
// (platform.go) → signed InRelease (release.go) → Packages (deb822.go,
// packages.go) → closure of the dependencies (relation.go, version.go,
// resolve.go) → download (fetch.go, cache.go) → data of each .deb (ar.go,
// deb.go, filter.go) → one tar (layout.go, merge.go). Each link of that chain
// is checked against the one before: signature, then hash after hash.
//
// It runs neither apt nor dpkg nor any maintainer script, needs no rights, reads
// no file but public ones, and does not talk to an engine. It resolves
// dependencies for the few packages of its recipes; it is no package manager.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// ErrNotCached says that an image was not built yet, or that its cached file is
// damaged.
var ErrNotCached = errors.New("image is not in the cache")

const digestPrefix = "sha256:"

// Options of a build; the zero value is good.
type Options struct {
	CacheDir string         // "": DefaultCacheDir()
	Refresh  bool           // ask the mirror, even if an image is cached
	Progress func(Progress) // called often, never twice at once; nil: not called

	root  string        // "/" but in tests: where /etc and /usr/share/keyrings are
	now   time.Time     // the present but in tests
	pause time.Duration // retryPause but in tests
}

// Image is a built image in the cache.
type Image struct {
	Ref      string // name to load it under, see Recipe.Ref
	Digest   string // "sha256:" and the SHA-256 of the tar, in hex; an engine shows it as the one layer of RootFS
	Path     string // of the tar
	Size     int64  // of the tar, bytes
	Manifest Manifest
}

// Open opens the image's tar.
func (i *Image) Open() (io.ReadCloser, error) {
	f, err := os.Open(i.Path)
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", i.Ref, err)
	}
	return f, nil
}

// Cached returns the recipe's image without any network traffic, or an error
// that is ErrNotCached. The image's bytes have been checked.
func Cached(r Recipe, o Options) (*Image, error) {
	o = o.withDefaults()
	p, _, err := hostPlatform(o.root)
	if err != nil {
		return nil, err
	}
	return cache{o.CacheDir}.loadImage(r, p)
}

// Build returns the recipe's image, from the cache unless it is not there or
// o.Refresh asks for a new one. A cached image has no age at which it expires:
// nightly figures stay comparable until someone decides to refresh.
//
// Errors are one line: what failed, where, what was found and what is allowed.
// Those of systems that have no such packages are ErrUnsupported.
func Build(ctx context.Context, r Recipe, o Options) (*Image, error) {
	o = o.withDefaults()
	if !o.Refresh {
		img, err := Cached(r, o)
		if !errors.Is(err, ErrNotCached) {
			return img, err
		}
	}
	b, err := newBuilder(r, o)
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", r.Name, err)
	}
	img, err := b.build(ctx)
	if err != nil {
		return nil, fmt.Errorf("build image %s: %w", r.Name, err)
	}
	return img, nil
}

func (o Options) withDefaults() Options {
	if o.CacheDir == "" {
		o.CacheDir = DefaultCacheDir()
	}
	if o.root == "" {
		o.root = "/"
	}
	if o.now.IsZero() {
		o.now = time.Now()
	}
	if o.pause == 0 {
		o.pause = retryPause
	}
	return o
}
