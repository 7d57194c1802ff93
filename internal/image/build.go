// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"golang.org/x/sync/errgroup"
)

const (
	downloads    = 8        // at a time
	maxInRelease = 16 << 20 // bytes; Debian's is 140 kB
)

// builder makes one image.
type builder struct {
	recipe   Recipe
	platform Platform
	dist     distribution
	keys     openpgp.EntityList
	keyring  string
	fetch    *fetcher
	cache    cache
	progress progress
	started  time.Time // this process's clock
	now      time.Time // what the archive's dates are held against
}

// newBuilder reads all that is needed from this machine.
func newBuilder(r Recipe, o Options) (*builder, error) {
	b := &builder{recipe: r, cache: cache{o.CacheDir}, started: time.Now(), now: o.now}
	b.progress.to = o.Progress
	var err error
	if b.platform, b.dist, err = hostPlatform(o.root); err != nil {
		return nil, err
	}
	if b.keys, b.keyring, err = readKeyring(o.root, b.dist); err != nil {
		return nil, err
	}
	mirror, err := findMirror(o.root, b.dist, b.platform.Arch)
	if err != nil {
		return nil, err
	}
	b.fetch = newFetcher(mirror, aptProxies(o.root))
	b.fetch.pause = o.pause
	return b, nil
}

func (b *builder) build(ctx context.Context) (*Image, error) {
	b.cache.prune(time.Now())
	rel, err := b.release(ctx)
	if err != nil {
		return nil, err
	}
	u, err := b.universe(ctx, rel)
	if err != nil {
		return nil, err
	}
	pkgs, err := resolve(u, b.recipe)
	if err != nil {
		return nil, err
	}
	m := newManifest(b.recipe, b.platform, pkgs)
	tarPath, tar, err := b.assemble(ctx, pkgs, m)
	if err != nil {
		return nil, err
	}
	m.ReleaseDate, m.Digest, m.Size = rel.Date, digestPrefix+tar.SHA256, tar.Size
	m.Built, m.Elapsed = time.Now().UTC().Truncate(time.Second), time.Since(b.started).Seconds()
	if err := b.cache.saveManifest(b.recipe, b.platform, m, tarPath); err != nil {
		return nil, err
	}
	return &Image{Ref: m.Ref, Digest: m.Digest, Path: tarPath, Size: m.Size, Manifest: m}, nil
}

// release fetches and checks the archive's InRelease.
func (b *builder) release(ctx context.Context) (*release, error) {
	b.progress.start(StageRelease, 0)
	name := path.Join("dists", b.platform.Suite, "InRelease")
	signed, err := b.fetch.small(ctx, name, maxInRelease)
	if err != nil {
		return nil, err
	}
	b.progress.moved(len(signed))
	where := fmt.Sprintf("%s of %s", name, b.fetch.base.Redacted())
	text, err := verifyInRelease(signed, b.keys, b.now)
	if err != nil {
		return nil, fmt.Errorf("verify %s against %s: %w", where, b.keyring, err)
	}
	rel, err := parseRelease(text)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", where, err)
	}
	if err := rel.check(b.platform, b.dist, b.now); err != nil {
		return nil, fmt.Errorf("check %s: %w", where, err)
	}
	return rel, nil
}

// universe fetches and reads the lists of packages.
func (b *builder) universe(ctx context.Context, rel *release) (*universe, error) {
	type index struct {
		name string
		want content
	}
	var all []index
	var total int64
	for _, component := range b.dist.components {
		dir := path.Join(component, "binary-"+b.platform.Arch)
		x := index{name: path.Join(dir, "Packages.xz")}
		var ok bool
		if x.want, ok = rel.Files[x.name]; !ok {
			x.name = path.Join(dir, "Packages.gz")
			if x.want, ok = rel.Files[x.name]; !ok {
				return nil, fmt.Errorf("release %s lists neither Packages.xz nor Packages.gz in %s", b.platform.Suite, dir)
			}
		}
		all = append(all, x)
		total += x.want.Size
	}
	b.progress.start(StageIndex, total)
	u := newUniverse()
	for _, x := range all {
		file, err := b.index(ctx, rel, x.name, x.want)
		if err != nil {
			return nil, err
		}
		if err := readIndex(u, file, path.Ext(x.name)); err != nil {
			return nil, fmt.Errorf("read %s: %w", x.name, err)
		}
	}
	return u, u.link()
}

// index fetches a list of packages: by its hash if the archive can do that,
// which stays right while the mirror is being updated, else by its name.
func (b *builder) index(ctx context.Context, rel *release, name string, want content) (string, error) {
	dists := path.Join("dists", b.platform.Suite)
	if rel.ByHash {
		byHash := path.Join(dists, path.Dir(name), "by-hash/SHA256", want.SHA256)
		file, err := b.fetch.blob(ctx, b.cache, byHash, want, b.progress.moved)
		var status *statusError
		if !errors.As(err, &status) {
			return file, err
		}
	}
	return b.fetch.blob(ctx, b.cache, path.Join(dists, name), want, b.progress.moved)
}

func readIndex(u *universe, file, ext string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := decompress(ext, f)
	if err != nil {
		return err
	}
	defer r.Close()
	return u.read(r)
}

// assemble fetches, unpacks and writes the packages, all at once; the order of
// the tar is that of pkgs.
func (b *builder) assemble(ctx context.Context, pkgs []*debPackage, m Manifest) (string, content, error) {
	var total int64
	for _, p := range pkgs {
		total += p.Content.Size
	}
	b.progress.start(StagePackages, total)
	g, ctx := errgroup.WithContext(ctx)
	slots, cpus := make(chan struct{}, downloads), make(chan struct{}, runtime.GOMAXPROCS(0))
	unpacked := make([]chan []entry, len(pkgs))
	for i, p := range pkgs {
		unpacked[i] = make(chan []entry, 1)
		g.Go(func() error {
			entries, err := b.unpack(ctx, p, slots, cpus)
			if err == nil {
				unpacked[i] <- entries
			}
			return err
		})
	}
	var sum content
	var file string
	g.Go(func() (err error) {
		file, sum, err = b.write(ctx, pkgs, unpacked, m)
		return err
	})
	err := g.Wait()
	return file, sum, err
}

// unpack fetches and reads one package; slots bound the downloads, cpus the
// decompressions at a time.
func (b *builder) unpack(ctx context.Context, p *debPackage, slots, cpus chan struct{}) ([]entry, error) {
	file, err := func() (string, error) {
		slots <- struct{}{}
		defer func() { <-slots }()
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return b.fetch.blob(ctx, b.cache, p.Filename, p.Content, b.progress.moved)
	}()
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", p, err)
	}
	cpus <- struct{}{}
	defer func() { <-cpus }()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	entries, err := readDeb(file)
	if err != nil {
		return nil, fmt.Errorf("unpack package %s: %w", p, err)
	}
	return entries, nil
}

// write writes the tar to the cache: layout, packages, links, manifest.
func (b *builder) write(ctx context.Context, pkgs []*debPackage, unpacked []chan []entry, m Manifest) (string, content, error) {
	first, err := layout(b.recipe, b.platform)
	if err != nil {
		return "", content{}, err
	}
	return b.cache.putImage(b.recipe, b.platform, func(w io.Writer) error {
		t := newMerger(w)
		addAll := func(owner string, entries []entry) error {
			for _, e := range entries {
				if err := t.add(owner, e); err != nil {
					return err
				}
			}
			return nil
		}
		if err := addAll(layoutOwner, first); err != nil {
			return err
		}
		for i, p := range pkgs {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case entries := <-unpacked[i]:
				if err := addAll(p.String(), entries); err != nil {
					return err
				}
			}
		}
		if err := t.link(b.recipe.Links); err != nil {
			return err
		}
		if err := t.add(layoutOwner, textFile(manifestPath, string(m.encode()))); err != nil {
			return err
		}
		return t.tw.Close()
	})
}

// putImage writes a recipe's tar, which is named by its own hash.
func (c cache) putImage(r Recipe, p Platform, write func(io.Writer) error) (string, content, error) {
	var sum content
	path, err := writeFile(filepath.Join(c.dir, "images"), func(w io.Writer) (string, error) {
		h := sha256.New()
		n := new(counter)
		out := bufio.NewWriterSize(io.MultiWriter(w, h, n), 1<<20)
		if err := write(out); err != nil {
			return "", err
		}
		if err := out.Flush(); err != nil {
			return "", err
		}
		sum = content{hex.EncodeToString(h.Sum(nil)), int64(*n)}
		return filepath.Base(c.imageTar(r, p, sum.SHA256)), nil
	})
	return path, sum, err
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
