// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hostProcess is the controller's end of one lab-init.
type hostProcess struct {
	name    string
	cmd     *exec.Cmd
	control net.Conn
	log     string       // file with the init's own output
	events  chan message // closed when the init has closed its end
	exited  chan struct{}
	failure string // what it said before it ended; valid after events is closed
	waitErr error  // valid after exited is closed
}

// startHosts starts both inits. The pipes between them let each notice the other's death.
func (e *Emulated) startHosts(env environment, lock *os.File) error {
	aRead, bWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe between hosts: %w", err)
	}
	defer aRead.Close()
	defer bWrite.Close()
	bRead, aWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pipe between hosts: %w", err)
	}
	defer bRead.Close()
	defer aWrite.Close()
	peers := [2][2]*os.File{{aRead, aWrite}, {bRead, bWrite}}
	for i := range hostNames {
		h, err := startHost(e.initConfig(i, env), lock, peers[i])
		if err != nil {
			return fmt.Errorf("host %s: %w", hostNames[i], err)
		}
		e.hosts[i] = h
		// An init that died at once is noticed by await.
		e.state.Hosts[i].Init, _ = processOf(h.cmd.Process.Pid)
	}
	return nil
}

func (e *Emulated) initConfig(i int, env environment) initConfig {
	return initConfig{
		Place: e.place, Host: hostNames[i], Hostname: e.state.Hosts[i].Hostname, Keep: e.opts.Keep,
		Engine: env.engine, Path: env.path, Storage: env.storage, DataTmpfs: env.dataTmpfs,
		Pool: bridges[i], MTU: e.opts.MTU, SocketGID: e.opts.SocketGID, SocketMode: e.opts.SocketMode.Perm(),
	}
}

func startHost(cfg initConfig, lock *os.File, peer [2]*os.File) (*hostProcess, error) {
	arg, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	dir := cfg.Place.host(cfg.Host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		ours.Close()
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "init.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", InitCommand, string(arg))
	cmd.Args[0] = "econbench"
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs, lock, peer[0], peer[1]} // from descriptor 3 on
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start in new namespaces: %w", err)
	}
	h := &hostProcess{
		name: cfg.Host, cmd: cmd, control: ours, log: log.Name(),
		events: make(chan message, 4), exited: make(chan struct{}),
	}
	go h.listen()
	go func() {
		h.waitErr = cmd.Wait()
		close(h.exited)
	}()
	return h, nil
}

func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "control")
	defer f.Close()
	theirs := os.NewFile(uintptr(fds[1]), "control")
	ours, err := net.FileConn(f)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	return ours, theirs, nil
}

func (h *hostProcess) listen() {
	defer close(h.events)
	dec := json.NewDecoder(h.control)
	for {
		var m message
		if dec.Decode(&m) != nil {
			return
		}
		if m.Op == opFailed {
			h.failure = m.Error
		} else {
			h.events <- m
		}
	}
}

func (h *hostProcess) tell(m message) {
	// An init that is gone is noticed by the end of its events.
	_ = json.NewEncoder(h.control).Encode(m)
}

// wait returns when the init has ended, with its last words.
func (h *hostProcess) wait() error {
	for range h.events {
	}
	<-h.exited
	return h.lastWords()
}

func (h *hostProcess) lastWords() error {
	if h.failure != "" {
		return errors.New(h.failure)
	}
	words := "ended"
	if b, err := os.ReadFile(h.log); err == nil && len(b) > 0 {
		words += ", saying " + strings.TrimSpace(string(b[max(0, len(b)-1000):]))
	}
	if h.waitErr != nil {
		return fmt.Errorf("init %s: %w", words, h.waitErr)
	}
	return fmt.Errorf("init %s", words)
}

// await waits until both hosts have said op.
func (e *Emulated) await(ctx context.Context, op string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no word of %q within %v", op, limit))
	defer cancel()
	for i, h := range e.hosts {
		select {
		case m, ok := <-h.events:
			if !ok {
				<-h.exited
				return e.firstFailure(i)
			}
			if m.Op != op {
				return fmt.Errorf("host %s: said %q, want %q", h.name, m.Op, op)
			}
		case <-ctx.Done():
			return fmt.Errorf("host %s: %w", h.name, context.Cause(ctx))
		}
	}
	return nil
}

// firstFailure finds the host that failed, as against the one that went down because the other did.
func (e *Emulated) firstFailure(noticed int) error {
	h := e.hosts[noticed]
	if other := e.hosts[1-noticed]; h.failure == "" {
		err := other.wait()
		if other.failure != "" {
			h = other
			return fmt.Errorf("host %s: %w", h.name, err)
		}
	}
	return fmt.Errorf("host %s: %w", h.name, h.lastWords())
}

// end waits for an init that has been told to go and kills it when it does not; the kernel then kills its namespace.
func (h *hostProcess) end(ctx context.Context) error {
	select {
	case <-h.exited:
		return nil
	case <-ctx.Done():
	}
	if err := h.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("host %s: kill: %w", h.name, err)
	}
	<-h.exited
	return fmt.Errorf("host %s: killed, did not end when told: %w", h.name, context.Cause(ctx))
}
