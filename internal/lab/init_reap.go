// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// killDeadline is how long killed processes may take to vanish; one in uninterruptible sleep may need it.
const killDeadline = 5 * time.Second

// reaper collects the children of pid 1: the engine, and all orphans of the PID namespace. It is the only waiter in
// the process; os/exec, which waits by pid, must not be used beside it.
type reaper struct {
	engine chan unix.WaitStatus // gets an engine's exit status, once for each

	mu  sync.Mutex
	pid int // of the engine; 0: none
}

func newReaper() *reaper {
	return &reaper{engine: make(chan unix.WaitStatus, 1)}
}

// started starts an engine, and knows it before it can have been collected.
func (r *reaper) started(start func() (pid int, err error)) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pid, err = start()
	return err
}

// signal sends the engine a signal; one that has ended needs none.
func (r *reaper) signal(s unix.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pid == 0 {
		return nil
	}
	return unix.Kill(r.pid, s)
}

// run collects for as long as the process lives.
func (r *reaper) run() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil { // ECHILD: no engine and no orphan of one, for now
			time.Sleep(pollEvery)
			continue
		}
		r.mu.Lock()
		if pid == r.pid {
			r.pid = 0
			r.engine <- ws
		}
		r.mu.Unlock()
	}
}

// killAll kills every other process of the PID namespace and returns when none is left. SIGKILL at once: everything
// the engine might put in order is deleted with its data-root and its namespaces.
func (r *reaper) killAll() error {
	deadline := time.Now().Add(killDeadline)
	for {
		err := unix.Kill(-1, unix.SIGKILL)
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("kill processes of the host: %w", err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("kill processes of the host: some left after %v", killDeadline)
		}
		// Kill finds zombies too, and the reaper may be done or never have begun.
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}
