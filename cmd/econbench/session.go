// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/docker"
	"github.com/econbench/econbench/internal/image"
	"github.com/econbench/econbench/internal/lab"
)

// session is what a command measures on: two engines, given or started here, and the lab connected over them.
type session struct {
	kind     string // "emulated" or "real"
	hosts    [2]string
	emulated *lab.Emulated // nil unless this session started it
	ours     *lab.Emulated // that the hosts are of, whoever started it; nil: the hosts were given
	lab      *lab.Lab
}

// sessionOptions say what to open.
type sessionOptions struct {
	labFlags
	run       string
	placement econbench.Placement
	needs     engine.Needs // of its endpoints
	sweepOnly bool         // remove what dead runs left, and nothing more
	progress  func(format string, args ...any)
	agentLog  func(host string) io.Writer
}

// checkHosts finds what is wrong with the given hosts without asking them.
func (f *labFlags) checkHosts() error {
	if _, err := f.addresses(); err != nil || len(f.hosts) == 0 {
		return err
	}
	if len(f.hosts) != 2 {
		return fmt.Errorf("hosts %q: want two, client's and server's, got %d", strings.Join(f.hosts, ","), len(f.hosts))
	}
	if f.hosts[0] == f.hosts[1] {
		return fmt.Errorf("hosts %q: both are %s: want two different engines", strings.Join(f.hosts, ","), f.hosts[0])
	}
	for _, h := range f.hosts {
		if err := docker.CheckHost(h, f.tlsDir); err != nil {
			return err
		}
	}
	return nil
}

// openSession gets two engines, the tool image into them, and connects. Closing the session gives all of it back; a
// failed open has given it back already.
func openSession(ctx context.Context, o sessionOptions) (s *session, err error) {
	s = &session{kind: "real"}
	defer func() {
		if err != nil {
			err = errors.Join(s.explain(err), s.Close(context.WithoutCancel(ctx)))
		}
	}()
	// Engines and image take a few seconds each and don't need each other.
	type built struct {
		image lab.ToolImage
		err   error
	}
	imaged := make(chan built, 1)
	imageCtx, stopImage := context.WithCancel(ctx)
	defer stopImage()
	go func() {
		img, err := toolImage(imageCtx, o.needs.Image, o.cacheDir, o.progress)
		imaged <- built{img, err}
	}()
	enginesErr := s.openEngines(ctx, o)
	if enginesErr != nil {
		stopImage()
	}
	b := <-imaged
	if enginesErr != nil {
		return s, enginesErr
	}
	if b.err != nil {
		if b.image, err = loadedImage(ctx, o.needs.Image, s.hosts, o.tlsDir, b.err); err != nil {
			return s, err
		}
	}
	underlay, err := o.addresses()
	if err != nil {
		return s, err
	}
	binary, err := os.Executable()
	if err != nil {
		return s, fmt.Errorf("own binary: %w", err)
	}
	return s, s.connect(ctx, lab.ConnectOptions{
		Run: o.run, Holder: holder(), TLSDir: o.tlsDir, Image: b.image, Binary: binary, Generator: o.needs.Generator, Underlay: underlay,
		Placement: o.placement, SweepOnly: o.sweepOnly, Progress: o.progress, AgentLog: o.agentLog,
	})
}

// connect connects to the engines. Those of an emulated lab are ours to restart when they can't go on without; each once.
func (s *session) connect(ctx context.Context, opt lab.ConnectOptions) (err error) {
	for range len(s.hosts) + 1 {
		s.lab, err = lab.Connect(ctx, s.hosts, opt)
		var stuck *lab.StuckError
		if s.ours == nil || !errors.As(err, &stuck) {
			return err
		}
		opt.Progress("restarting it: %v", stuck)
		if failed := s.ours.RestartEngine(ctx, stuck.Engine); failed != nil {
			return errors.Join(err, failed)
		}
	}
	return err
}

// openEngines takes the hosts given, else the kept emulated lab, else starts one that dies with this process.
func (s *session) openEngines(ctx context.Context, o sessionOptions) error {
	if len(o.hosts) > 0 {
		s.hosts = [2]string(o.hosts)
		return nil
	}
	s.kind = "emulated"
	kept, err := lab.Current(ctx, labOptions())
	switch {
	case err == nil:
		o.progress("using the emulated lab that is up")
		s.hosts, s.ours = kept.Hosts(), kept
		return nil
	case !errors.Is(err, lab.ErrNone):
		return err
	}
	opt := labOptions()
	opt.Holder, opt.Progress = o.run, func(line string) { o.progress("emulated lab: %s", line) }
	if s.emulated, err = lab.Up(ctx, opt); err != nil {
		return err
	}
	s.hosts, s.ours = s.emulated.Hosts(), s.emulated
	return nil
}

// Close gives everything back, newest first.
func (s *session) Close(ctx context.Context) error {
	var errs []error
	if s.lab != nil {
		err := s.lab.Close(ctx)
		if s.emulated != nil && s.emulated.Err() != nil {
			err = nil // the engines are gone and with them all that was to be given back
		}
		errs = append(errs, err)
	}
	if s.emulated != nil {
		errs = append(errs, s.emulated.Close(ctx))
	}
	return errors.Join(errs...)
}

// lossNoticed is how much earlier than the first process of an emulated host others may notice its engine's death. On a crowded
// machine a second was too little.
const lossNoticed = 5 * time.Second

// explain puts the death of an emulated host in the place of all that came of it.
func (s *session) explain(err error) error {
	if err == nil || s.emulated == nil || errors.Is(err, errInterrupted) {
		return err
	}
	select {
	case <-s.emulated.Lost():
	case <-time.After(lossNoticed):
	}
	if lost := s.emulated.Err(); lost != nil {
		return lost
	}
	return err
}

// watch ends the context when an emulated host dies, so that nobody waits for its engine's deadlines.
func (s *session) watch(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if s.emulated != nil {
		go func() {
			select {
			case <-s.emulated.Lost():
				cancel(s.emulated.Err())
			case <-ctx.Done():
			}
		}()
	}
	return ctx, func() { cancel(nil) }
}

// toolImage is an image from the cache, built first if need be. The recipe's name may be left out.
func toolImage(ctx context.Context, name, cacheDir string, progress func(string, ...any)) (t lab.ToolImage, err error) {
	recipe, err := recipeOf(name)
	if err != nil {
		return t, err
	}
	o := image.Options{CacheDir: cacheDir}
	img, err := image.Cached(recipe, o)
	if errors.Is(err, image.ErrNotCached) {
		stage := ""
		o.Progress = func(p image.Progress) {
			if p.Stage != stage {
				stage = p.Stage
				progress("building image %s: %s", recipe.Name, stage)
			}
		}
		img, err = image.Build(ctx, recipe, o)
	}
	if err != nil {
		return t, fmt.Errorf("image %s: %w", recipe.Name, err)
	}
	return lab.ToolImage{Ref: img.Ref, Digest: img.Digest, Open: img.Open, Changes: image.ImportChanges()}, nil
}

// recipeOf finds the recipe of a plan's image: the tools' unless it needs another.
func recipeOf(name string) (image.Recipe, error) {
	if name == "" {
		return image.Tools(), nil
	}
	return image.Lookup(name)
}

// loadedImage is the image that both engines already have, for a controller that can neither build nor find one.
func loadedImage(ctx context.Context, name string, hosts [2]string, tlsDir string, cause error) (t lab.ToolImage, err error) {
	platform, err := image.HostPlatform()
	if err != nil {
		return t, errors.Join(cause, err)
	}
	recipe, err := recipeOf(name)
	if err != nil {
		return t, err
	}
	t.Ref = recipe.Ref(platform)
	for _, host := range hosts {
		e, err := docker.Dial(ctx, host, tlsDir)
		if err != nil {
			return t, err
		}
		digest, err := e.ImageDigest(ctx, t.Ref)
		if err := errors.Join(err, e.Close()); err != nil {
			return t, err
		}
		if digest == "" || (t.Digest != "" && t.Digest != digest) {
			return t, fmt.Errorf("%w; and engine %s has no image %s of the same content as the other", cause, host, t.Ref)
		}
		t.Digest = digest
	}
	t.Open = func() (io.ReadCloser, error) { return nil, cause }
	return t, nil
}

// holder names this process to those who find an engine in use.
func holder() string {
	who := "uid " + fmt.Sprint(os.Getuid())
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	machine, _ := os.Hostname()
	return fmt.Sprintf("%s@%s pid %d", who, machine, os.Getpid())
}

// facts are what is known of both hosts, by role.
func (s *session) facts() map[string]econbench.HostFacts {
	client, server := s.lab.Client(), s.lab.Server()
	return map[string]econbench.HostFacts{client.Name(): client.Facts(), server.Name(): server.Facts()}
}
