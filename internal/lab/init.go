// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// InitCommand is the hidden subcommand that a controller starts itself with, once for each emulated host.
const InitCommand = "lab-init"

// Descriptors that a lab-init process inherits.
const (
	fdControl   = 3 // one end of a socket pair: commands in, events out; its end-of-file is the controller's death
	fdLock      = 4 // the lab's lock, held as long as this is open
	fdPeerRead  = 5 // the other init's death is the end-of-file here …
	fdPeerWrite = 6 // … and ours is its
)

const (
	peerDeadline = 5 * time.Second
	stopDeadline = 20 * time.Second // dockerd gives its containers 15 s
	// restartSignal tells an init to start its engine anew. (A kept lab's init listens to nobody else.)
	restartSignal = unix.SIGUSR1
)

// Why an init goes down.
var (
	errControllerGone = errors.New("controller is gone")
	errPeerGone       = errors.New("the other host is gone")
	errTold           = errors.New("told to stop")
)

// initConfig is the one argument of lab-init.
type initConfig struct {
	Place      place       `json:"place"`
	Host       string      `json:"host"` // "a" or "b"
	Hostname   string      `json:"hostname"`
	Keep       bool        `json:"keep"`
	Engine     string      `json:"engine"` // path of dockerd
	Path       string      `json:"path"`   // PATH for the engine
	Storage    string      `json:"storage"`
	DataTmpfs  bool        `json:"data_tmpfs"`
	Pool       string      `json:"pool"` // of the engine's own bridges
	MTU        int         `json:"mtu"`
	SocketGID  int         `json:"socket_gid"`
	SocketMode fs.FileMode `json:"socket_mode"`
}

// message is what controller and init say to each other, one JSON object a line.
type message struct {
	Op    string `json:"op"`
	Error string `json:"error,omitempty"`
}

const (
	opNamespaces = "namespaces" // init: my namespaces are ready for the wire
	opStart      = "start"      // controller: the wire is there, start the engine
	opUp         = "up"         // init: the engine answers
	opDetach     = "detach"     // controller: live on without me
	opFailed     = "failed"     // init: could not, or the engine died; going down
)

// initHost is pid 1 of one emulated host.
type initHost struct {
	cfg      initConfig
	control  net.Conn
	start    chan struct{} // closed at opStart
	restart  chan os.Signal
	reaper   *reaper
	covered  []string      // directories of the machine hidden from the host
	peerDone chan struct{} // closed when the other init has exited
	peerDied bool          // valid after peerDone: it went without a word
}

// InitMain runs an emulated host: it is pid 1 in PID, mount, network, UTS and IPC namespaces of its own, starts the
// engine there, and supervises it until the controller dies, the other host dies, the engine dies, or SIGTERM. Then it
// kills all that is in its PID namespace and removes what is on disk. It is started by Up and of no use by hand.
func InitMain(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: %d arguments, want one: it is started by econbench itself", InitCommand, len(args))
	}
	var cfg initConfig
	if err := json.Unmarshal([]byte(args[0]), &cfg); err != nil {
		return fmt.Errorf("%s: %w in %.80q", InitCommand, err, args[0])
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("%s: pid is %d, want 1: it is started by econbench itself", InitCommand, os.Getpid())
	}
	h, err := newInitHost(cfg)
	if err != nil {
		return fmt.Errorf("%s %s: %w", InitCommand, cfg.Host, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	h.watch(cancel)
	runErr := h.run(ctx)
	if isAsked(runErr) {
		runErr = nil
	}
	if runErr != nil {
		h.tell(message{Op: opFailed, Error: runErr.Error()})
	}
	if err := errors.Join(runErr, h.shutdown()); err != nil {
		return fmt.Errorf("host %s: %w", cfg.Host, err)
	}
	return nil
}

func isAsked(err error) bool {
	return errors.Is(err, errControllerGone) || errors.Is(err, errPeerGone) || errors.Is(err, errTold)
}

func newInitHost(cfg initConfig) (*initHost, error) {
	for fd := fdControl; fd <= fdPeerWrite; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("inherited descriptor %d: %w", fd, err)
		}
	}
	f := os.NewFile(fdControl, "control")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &initHost{
		cfg:      cfg,
		control:  conn,
		start:    make(chan struct{}),
		restart:  make(chan os.Signal, 1),
		reaper:   newReaper(),
		peerDone: make(chan struct{}),
	}, nil
}

// watch cancels the host's life at the first reason to go down.
func (h *initHost) watch(cancel context.CancelCauseFunc) {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, unix.SIGTERM, unix.SIGINT)
	signal.Ignore(unix.SIGHUP)
	signal.Notify(h.restart, restartSignal)
	go func() {
		<-sig
		cancel(errTold)
	}()
	go h.watchControl(cancel)
	go h.watchPeer(cancel)
}

func (h *initHost) watchControl(cancel context.CancelCauseFunc) {
	dec := json.NewDecoder(h.control)
	detached := false
	for {
		var m message
		if err := dec.Decode(&m); err != nil {
			if !detached {
				cancel(errControllerGone)
			}
			return
		}
		switch m.Op {
		case opStart:
			close(h.start)
		case opDetach:
			detached = h.cfg.Keep
		}
	}
}

// watchPeer reads the other init's pipe: a byte when it goes down in good order, end-of-file when it has exited.
func (h *initHost) watchPeer(cancel context.CancelCauseFunc) {
	f := os.NewFile(fdPeerRead, "peer")
	defer f.Close()
	var b [1]byte
	n, _ := f.Read(b[:])
	h.peerDied = n == 0
	cancel(errPeerGone)
	for n > 0 {
		n, _ = f.Read(b[:])
	}
	close(h.peerDone)
}

func (h *initHost) tell(m message) {
	// A controller that is gone, or has detached, hears nothing; that is noticed elsewhere.
	_ = h.control.SetWriteDeadline(time.Now().Add(time.Second))
	_ = json.NewEncoder(h.control).Encode(m)
}

// run brings the host up and returns when it has to go down, with the reason.
func (h *initHost) run(ctx context.Context) error {
	if err := h.setupNamespaces(); err != nil {
		return err
	}
	h.tell(message{Op: opNamespaces})
	select {
	case <-h.start:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := wireIsThere(); err != nil {
		return err
	}
	go h.reaper.run()
	if err := h.engine(ctx); err != nil {
		return err
	}
	h.tell(message{Op: opUp})
	for {
		select {
		case status := <-h.reaper.engine:
			return engineDied(h.cfg, status)
		case <-h.restart:
			if err := h.stopEngine(); err != nil {
				return err
			}
			if err := h.engine(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// engine starts the engine and returns when it answers.
func (h *initHost) engine(ctx context.Context) error {
	if err := h.reaper.started(func() (int, error) { return startEngine(h.cfg) }); err != nil {
		return err
	}
	return awaitEngine(ctx, h.cfg, h.reaper.engine)
}

// stopEngine ends the engine in good order, so that it leaves no containerd and no network behind, or else by force.
func (h *initHost) stopEngine() error {
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := h.reaper.signal(s); err != nil {
			return fmt.Errorf("engine %s: stop: %w", h.cfg.Host, err)
		}
		select {
		case <-h.reaper.engine:
			return nil
		case <-time.After(stopDeadline):
		}
	}
	return fmt.Errorf("engine %s: still there %v after it was killed", h.cfg.Host, stopDeadline)
}

// shutdown ends everything in the host and removes what it left. Of the two hosts the last one out also removes what
// they share: that is a, or b when a died without a word.
func (h *initHost) shutdown() error {
	w := os.NewFile(fdPeerWrite, "peer")
	_, _ = io.WriteString(w, ".") // the other one may be gone
	errs := []error{h.reaper.killAll(), h.leaveMounts(), h.cfg.Place.removeHost(h.cfg.Host)}
	if h.cfg.Host == hostNames[1] && !h.peerDead() {
		return errors.Join(errs...)
	}
	select {
	case <-h.peerDone:
		errs = append(errs, h.cfg.Place.removeAll())
	case <-time.After(peerDeadline):
		errs = append(errs, fmt.Errorf("the other host is still there after %v: clean needed", peerDeadline))
	}
	return errors.Join(errs...)
}

func (h *initHost) peerDead() bool {
	select {
	case <-h.peerDone:
		return h.peerDied
	default:
		return false
	}
}
