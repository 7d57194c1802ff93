// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Addresses are from 198.18.0.0/15, set aside for benchmarking (RFC 2544, RFC 6890): nobody's network has them, and
// the hosts have no route out.
const (
	DefaultRoot     = "/run/econbench/lab"
	DefaultDataRoot = "/var/lib/econbench/lab"
	DefaultMTU      = 1500    // bytes
	WireDevice      = "wire0" // in both hosts

	namespacesDeadline = 10 * time.Second
	downDeadline       = 15 * time.Second
)

var (
	underlay = [2]netip.Prefix{netip.MustParsePrefix("198.18.0.1/24"), netip.MustParsePrefix("198.18.0.2/24")}
	// bridges are the pools of each engine's own bridges (docker_gwbridge).
	bridges = [2]string{"198.19.128.0/18", "198.19.192.0/18"}
)

// Decisions a caller makes.
var (
	ErrLive   = errors.New("emulated lab is in use")
	ErrNone   = errors.New("no emulated lab is up")
	ErrBroken = errors.New("emulated lab is broken")
)

// Options say how to make an emulated lab and where. The zero value is good: an ephemeral lab in the default place.
type Options struct {
	Keep         bool         // outlive the calling process, until Down
	MTU          int          // of the wire, bytes; 0: DefaultMTU
	Holder       string       // id of the run it is for; "": "kept" with Keep, else "unnamed"
	Version      string       // of econbench, for the record
	EngineBinary string       // path or name of dockerd; "": dockerd from PATH. Its directory is searched first for containerd and runc
	SocketGID    int          // group of the engines' sockets; 0: root
	SocketMode   fs.FileMode  // permissions of the engines' sockets; 0: 0660. Who may use one is root on this machine
	Progress     func(string) // gets a line for each step and each warning; nil: nobody does
	Root         string       // of sockets, logs, record; "": DefaultRoot. Two labs in two Roots do not meet
	DataRoot     string       // of the engines' data; "": DefaultDataRoot, or Root/data when Root is set
	// InUse is asked by Down before a kept lab goes down; an error refuses. nil: nobody is asked.
	InUse func(context.Context, State) error
}

func (o Options) withDefaults() (Options, error) {
	if o.MTU == 0 {
		o.MTU = DefaultMTU
	}
	if o.MTU < 576 || o.MTU > 65535 {
		return o, fmt.Errorf("wire mtu %d: want 576 to 65535 bytes", o.MTU)
	}
	if o.Holder == "" {
		o.Holder = "unnamed"
		if o.Keep {
			o.Holder = "kept"
		}
	}
	if o.SocketMode == 0 {
		o.SocketMode = 0o660
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.DataRoot == "" {
		o.DataRoot = DefaultDataRoot
		if o.Root != "" && filepath.Clean(o.Root) != DefaultRoot {
			o.DataRoot = filepath.Join(o.Root, "data")
		}
	}
	if o.Root == "" {
		o.Root = DefaultRoot
	}
	return o, nil
}

func (o Options) place() place { return newPlace(o.Root, o.DataRoot) }

// Emulated is an emulated lab that is up. One that Up made without Keep lives until Close or the end of the process.
type Emulated struct {
	opts   Options
	place  place
	state  State
	hosts  [2]*hostProcess // nil in a kept lab that Current found
	lost   chan struct{}
	mu     sync.Mutex
	err    error // why the lab was lost
	closed bool
}

// Up makes an emulated lab: two engines on this machine, each a host in namespaces of its own, joined by a wire. It
// removes what a dead lab left first. ErrLive when another one is up. A failed Up leaves nothing behind.
func Up(ctx context.Context, opts Options) (*Emulated, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("emulated lab: %w", err)
	}
	env, err := preflight(o)
	if err != nil {
		return nil, fmt.Errorf("emulated lab: %w", err)
	}
	for _, w := range env.warnings {
		o.Progress("warning: " + w)
	}
	lock, err := claim(ctx, o)
	if err != nil {
		return nil, err
	}
	e := &Emulated{opts: o, place: o.place(), lost: make(chan struct{})}
	err = e.bringUp(ctx, env, lock)
	lock.Close() // from now on the inits alone hold it
	if err != nil {
		return nil, fmt.Errorf("emulated lab: %w", errors.Join(err, e.takeDown(ctx)))
	}
	return e, nil
}

// bringUp is Up after the lock is taken; on an error the caller takes down what is there.
func (e *Emulated) bringUp(ctx context.Context, env environment, lock *os.File) error {
	if err := e.record(env); err != nil {
		return err
	}
	e.opts.Progress("starting hosts")
	if err := e.startHosts(env, lock); err != nil {
		return err
	}
	if err := writeState(e.place.Root, e.state); err != nil {
		return err
	}
	if err := e.await(ctx, opNamespaces, namespacesDeadline); err != nil {
		return err
	}
	e.opts.Progress("joining hosts by a wire")
	if err := makeWire(e.hosts[0].cmd.Process.Pid, e.hosts[1].cmd.Process.Pid, e.opts.MTU); err != nil {
		return err
	}
	e.opts.Progress("starting engines")
	for _, h := range e.hosts {
		h.tell(message{Op: opStart})
	}
	if err := e.await(ctx, opUp, engineDeadline+namespacesDeadline); err != nil {
		return err
	}
	e.state.Phase = PhaseUp
	if err := writeState(e.place.Root, e.state); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.opts.Keep {
		for _, h := range e.hosts {
			h.tell(message{Op: opDetach})
		}
	}
	go e.watch()
	e.opts.Progress("engines are up")
	return nil
}

// record writes what is going to be, before anything is.
func (e *Emulated) record(env environment) error {
	self, err := processOf(os.Getpid())
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	e.state = State{
		ID: newID(), Phase: PhaseStarting, Holder: e.opts.Holder, Keep: e.opts.Keep, Version: e.opts.Version,
		Created: time.Now().UTC(), Controller: self, Wire: Wire{Device: WireDevice, MTU: e.opts.MTU}, Warnings: env.warnings,
	}
	for i, name := range hostNames {
		e.state.Hosts = append(e.state.Hosts, HostState{
			Name: name, Hostname: "econbench-" + name, Address: underlay[i].String(),
			Socket: "unix://" + e.place.socket(name), Data: e.place.hostData(name),
			Log: filepath.Join(e.place.host(name), engineLog),
		})
	}
	return writeState(e.place.Root, e.state)
}

func newID() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return hex.EncodeToString(b)
}

// watch turns an unexpected end of a host into the end of the lab.
func (e *Emulated) watch() {
	ended := make(chan int, len(e.hosts))
	for i, h := range e.hosts {
		go func() {
			_ = h.wait() // firstFailure asks again
			ended <- i
		}()
	}
	err := e.firstFailure(<-ended)
	e.mu.Lock()
	if !e.closed && e.err == nil {
		e.err = fmt.Errorf("emulated lab: %w", err)
	}
	e.mu.Unlock()
	close(e.lost)
}

// Hosts are the URLs of the two engines: "unix:///run/econbench/lab/a/docker.sock", ….
func (e *Emulated) Hosts() [2]string {
	return [2]string{e.state.Hosts[0].Socket, e.state.Hosts[1].Socket}
}

// Underlay are the two hosts' addresses on the wire, in the order of Hosts.
func (e *Emulated) Underlay() [2]netip.Prefix { return underlay }

// State is the lab as recorded when it came up.
func (e *Emulated) State() State { return e.state }

// Lost is closed when a host of the lab ended, Close included; Err says why. A lab that Current found never says.
func (e *Emulated) Lost() <-chan struct{} { return e.lost }

// Err is why the lab was lost: a killed engine, a killed init. nil while it is up and after Close.
func (e *Emulated) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// RestartEngine ends an engine of the lab, given by its URL, and returns when its successor answers. Containers end with it;
// images, volumes and the host stay.
func (e *Emulated) RestartEngine(ctx context.Context, url string) error {
	i := slices.IndexFunc(e.state.Hosts, func(h HostState) bool { return h.Socket == url })
	if i < 0 {
		return fmt.Errorf("emulated lab: engine %s: is none of its", url)
	}
	h := e.state.Hosts[i]
	socket := strings.TrimPrefix(url, "unix://")
	was, err := os.Stat(socket)
	if err == nil {
		err = signalProcess(h.Init, restartSignal)
	}
	if err != nil {
		return fmt.Errorf("emulated lab: restart engine %s: %w", h.Name, err)
	}
	return poll(ctx, "emulated lab: engine "+h.Name+" anew", 2*stopDeadline+engineDeadline, func(ctx context.Context) (bool, error) {
		if !h.Init.alive() {
			return false, fmt.Errorf("emulated lab: engine %s did not come back, its log is %s", h.Name, h.Log)
		}
		// The successor's socket is another file, which may have the old one's inode again; its owner is set last.
		is, err := os.Stat(socket)
		fresh := err == nil && (!os.SameFile(was, is) || !is.ModTime().Equal(was.ModTime())) && is.Mode().Perm() == was.Mode().Perm()
		return fresh && ping(ctx, socket) == nil, nil
	})
}

// Close takes the lab down and returns when nothing of it is left, even if ctx is cancelled already; a kept lab is only
// let go of, Down ends it. Closing twice does nothing the second time.
func (e *Emulated) Close(ctx context.Context) error {
	e.mu.Lock()
	was := e.closed
	e.closed = true
	e.mu.Unlock()
	if was || e.opts.Keep {
		for _, h := range e.hosts {
			if h != nil && e.opts.Keep {
				h.control.Close()
			}
		}
		return nil
	}
	if err := e.takeDown(ctx); err != nil {
		return fmt.Errorf("emulated lab down: %w", err)
	}
	return nil
}

// takeDown ends both hosts, in reverse order, and removes what they did not. A cancelled ctx does not stop it: it is
// what a cancelled run is to be followed by, and takes a tenth of a second.
func (e *Emulated) takeDown(ctx context.Context) error {
	for i := len(e.hosts) - 1; i >= 0; i-- {
		if h := e.hosts[i]; h != nil {
			h.control.Close()
		}
	}
	ctx = context.WithoutCancel(ctx)
	limited, cancel := context.WithTimeout(ctx, downDeadline)
	defer cancel()
	var errs []error
	for i := len(e.hosts) - 1; i >= 0; i-- {
		if h := e.hosts[i]; h != nil {
			errs = append(errs, h.end(limited))
		}
	}
	_, err := Clean(ctx, e.opts)
	if errors.Is(err, ErrLive) {
		err = nil // somebody else's, already
	}
	return errors.Join(append(errs, err)...)
}
