// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// goingDeadline is how long Up waits for a lab whose controller died to finish going down.
	goingDeadline = 15 * time.Second
	// killGrace is how long a lab must look used to be so: a process passes for alive until the kernel has come round
	// to a SIGKILL, and `kill -9` is often followed by `econbench clean` at once.
	killGrace = 250 * time.Millisecond
)

// claim takes the lab's lock and removes what a dead lab left. It waits for one that is just going down; for one that
// is in use it returns ErrLive, saying whose.
func claim(ctx context.Context, o Options) (*os.File, error) {
	p := o.place()
	begin := time.Now()
	for {
		lock, err := takeLock(p.Root)
		if err == nil {
			if err := p.removeDead(ctx, o.Progress); err != nil {
				lock.Close()
				return nil, fmt.Errorf("emulated lab: %w", err)
			}
			return lock, nil
		}
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("emulated lab: %w", err)
		}
		st, stErr := readState(p.Root)
		waited := time.Since(begin)
		if stErr == nil && st.inUse() && waited > killGrace || waited > goingDeadline {
			return nil, liveError(p, st, stErr)
		}
		if err := sleep(ctx, 5*pollEvery); err != nil {
			return nil, fmt.Errorf("emulated lab: %w", err)
		}
	}
}

// inUse tells a lab that somebody needs from one that is just going down. Each init goes when the other has died.
func (s State) inUse() bool {
	if !s.Keep || s.Phase != PhaseUp {
		return s.Controller.alive()
	}
	for _, h := range s.Hosts {
		if !h.Init.alive() {
			return false
		}
	}
	return true
}

// removeDead removes a dead lab's remains, but not the directory and lock that the caller has just made.
func (p place) removeDead(ctx context.Context, progress func(string)) error {
	st, err := readState(p.Root) // a record that cannot be read is no hindrance: names follow from p
	if !errors.Is(err, errNoRecord) {
		progress("removing what a dead lab left")
	}
	if err := awaitInits(ctx, st); err != nil {
		return err
	}
	var errs []error
	for _, h := range hostNames {
		errs = append(errs, p.removeHost(h))
	}
	return errors.Join(errs...)
}

// awaitInits waits until killed inits are gone. An init lets go of the lock a moment before the kernel has killed its
// PID namespace, and is a zombie or gone only after that (zap_pid_ns_processes in kernel/pid_namespace.c).
func awaitInits(ctx context.Context, st State) error {
	deadline := time.Now().Add(killDeadline)
	for _, h := range st.Hosts {
		for h.Init.alive() {
			if time.Now().After(deadline) {
				return fmt.Errorf("host %s: pid %d still there %v after it let go of the lab", h.Name, h.Init.PID, killDeadline)
			}
			if err := sleep(ctx, pollEvery); err != nil {
				return err
			}
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func liveError(p place, st State, stErr error) error {
	if stErr != nil {
		return fmt.Errorf("%w: %s is locked (%v)", ErrLive, p.Root, stErr)
	}
	hint := "wait for it to end"
	if st.Keep {
		hint = "use it, or take it down with `econbench lab down`"
	}
	return fmt.Errorf("%w: %s, held by %s (pid %d) since %s: %s",
		ErrLive, p.Root, st.Holder, st.Controller.PID, st.Created.Local().Format(time.DateTime), hint)
}

// Status tells what there is: a live lab, remains of a dead one, or nothing (PhaseNone). It needs no root.
func Status(_ context.Context, opts Options) (State, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return State{}, fmt.Errorf("emulated lab: %w", err)
	}
	p := o.place()
	live, err := lockHeld(p.Root)
	if err != nil {
		return State{}, fmt.Errorf("emulated lab: %w", err)
	}
	st, err := readState(p.Root)
	if err != nil && live {
		return State{}, fmt.Errorf("emulated lab: %w", err)
	}
	if live {
		st.Live = true
		return st, nil
	}
	st.Remains = p.remains()
	st.Phase = PhaseDead
	if err != nil && len(st.Remains) == 0 {
		st.Phase = PhaseNone
	}
	return st, nil
}

// Current is the kept lab that is up. ErrNone when there is none, ErrLive when there is one that belongs to a running
// controller, ErrBroken when an engine of it does not answer.
func Current(ctx context.Context, opts Options) (*Emulated, error) {
	st, err := Status(ctx, opts)
	if err != nil {
		return nil, err
	}
	o, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("emulated lab: %w", err)
	}
	switch {
	case !st.Live:
		return nil, ErrNone
	case !st.Keep || st.Phase != PhaseUp:
		return nil, liveError(o.place(), st, nil)
	case len(st.Hosts) != len(hostNames):
		return nil, fmt.Errorf("%w: %d hosts recorded in %s", ErrBroken, len(st.Hosts), o.Root)
	}
	for _, h := range st.Hosts {
		if err := ping(ctx, strings.TrimPrefix(h.Socket, "unix://")); err != nil {
			return nil, fmt.Errorf("%w: engine %s: %w: take it down with `econbench lab down`", ErrBroken, h.Name, err)
		}
	}
	o.Keep = true
	return &Emulated{opts: o, place: o.place(), state: st, lost: make(chan struct{})}, nil
}

// Down takes a kept lab down and returns when nothing of it is left. ErrNone when there is none; what a dead one left
// is removed all the same. A lab of a running controller is refused with ErrLive, as is one that opts.InUse defends.
func Down(ctx context.Context, opts Options) error {
	st, err := Status(ctx, opts)
	if err != nil {
		return err
	}
	o, err := opts.withDefaults()
	if err != nil {
		return fmt.Errorf("emulated lab: %w", err)
	}
	if st.Phase == PhaseNone {
		return ErrNone
	}
	if st.Live {
		if !st.Keep || st.Phase == PhaseStarting && st.Controller.alive() {
			return liveError(o.place(), st, nil)
		}
		if o.InUse != nil {
			if err := o.InUse(ctx, st); err != nil {
				return fmt.Errorf("%w: %w", ErrLive, err)
			}
		}
		if err := stopInits(ctx, o.place(), st); err != nil {
			return fmt.Errorf("emulated lab down: %w", err)
		}
	}
	_, err = Clean(ctx, opts)
	return err
}

// stopInits tells the recorded inits to go, kills those that do not, and waits until they are gone.
func stopInits(ctx context.Context, p place, st State) error {
	ctx, cancel := context.WithTimeout(ctx, downDeadline)
	defer cancel()
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		for i := len(st.Hosts) - 1; i >= 0; i-- {
			if err := signalProcess(st.Hosts[i].Init, sig); err != nil {
				return fmt.Errorf("host %s: %w", st.Hosts[i].Name, err)
			}
		}
		patience, stop := context.WithTimeout(ctx, downDeadline/2)
		err := awaitUnlocked(patience, p)
		stop()
		if err == nil {
			return awaitInits(ctx, st)
		}
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("lock of %s: still held after every init was killed", p.Root)
}

func awaitUnlocked(ctx context.Context, p place) error {
	for {
		held, err := lockHeld(p.Root)
		if err != nil || !held {
			return err
		}
		if err := sleep(ctx, pollEvery); err != nil {
			return fmt.Errorf("lab going down: %w", err)
		}
	}
}

// signalProcess signals this very process: the pidfd is taken first, then the identity checked, so that no reuse of
// the pid can come between (Linux 5.3).
func signalProcess(p Process, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) || p.PID <= 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	if !p.alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.PID, err)
	}
	return nil
}

// Clean removes what dead labs left and returns the paths it removed: none when there was nothing to remove. A live
// lab is not touched: ErrLive. One that is just going down because its controller died is waited for.
func Clean(ctx context.Context, opts Options) ([]string, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("emulated lab: %w", err)
	}
	p := o.place()
	found := p.remains()
	if len(found) == 0 {
		return nil, nil
	}
	lock, err := claim(ctx, o)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := p.removeAll(); err != nil {
		return nil, fmt.Errorf("emulated lab: %w", err)
	}
	var removed []string
	for _, path := range found {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			removed = append(removed, path)
		}
	}
	return removed, nil
}
