// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// containerID is the least length of what a container is known by, as long as engines shorten its id to.
const containerID = 12

// quietPoll is the pause between two looks at how many connections have been accepted.
const quietPoll = 5 * time.Millisecond

// signal signals the processes of a container that run a program.
func (a *agent) signal(ctx context.Context, args agentproto.SignalArgs) (any, error) {
	if args.Number <= 0 || args.Program == "" || len(args.Container) < containerID {
		return nil, fmt.Errorf("signal %d to %q of container %q: not one that an agent may send", args.Number, args.Program, args.Container)
	}
	if quiet := args.Quiet.Duration(); quiet > 0 {
		err := untilQuiet(ctx, args.PID, quiet)
		if errors.Is(err, errNoQuiet) {
			return nil, nil // it ends by itself, later
		}
		if err != nil {
			return nil, err
		}
	}
	pids, err := running(args.Container, args.Signal)
	var errs []error
	for _, pid := range pids {
		errs = append(errs, signalIn(agentproto.Adoptee{PID: pid, Container: args.Container}, unix.Signal(args.Number)))
	}
	return nil, errors.Join(append(errs, err)...)
}

// quietWithin is how long quiet is waited for: on a host's own network others' connections may never let it come.
const quietWithin = time.Second

var errNoQuiet = errors.New("no moment without connections")

// untilQuiet returns when the network namespace of a process has accepted no connection for so long, or errNoQuiet.
func untilQuiet(ctx context.Context, pid int, quiet time.Duration) error {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	last, since := -1.0, time.Now()
	for began := since; time.Since(began) < quietWithin+quiet; {
		snmp, err := process.Snmp()
		if err == nil && snmp.PassiveOpens == nil {
			err = errors.New("not counted")
		}
		if err != nil {
			return fmt.Errorf("connections accepted in the network namespace of process %d: %w", pid, err)
		}
		if now := *snmp.PassiveOpens; now != last {
			last, since = now, time.Now()
		} else if time.Since(since) >= quiet {
			return nil
		}
		if err := sleep(ctx, quietPoll); err != nil {
			return err
		}
	}
	return errNoQuiet
}

// running lists the processes of a container that a signal is for.
func running(container string, s econbench.Signal) (pids []int, err error) {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{} // of those that run the program in the container
	for _, name := range names {
		comm, err := os.ReadFile(name)
		if err != nil || strings.TrimSpace(string(comm)) != s.Program {
			continue // ended, or another program
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return nil, err
		}
		if inside, err := isIn(pid, container); err != nil || !inside {
			continue
		}
		if p, err := procfs.NewProc(pid); err == nil {
			if stat, err := p.Stat(); err == nil {
				parents[pid] = stat.PPID
			}
		}
	}
	for pid, parent := range parents {
		if _, forked := parents[parent]; forked || !s.Forked {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// signalIn signals a process, if it is one of that container. One that has ended is fine.
func signalIn(who agentproto.Adoptee, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(who.PID, 0) // pins the process, so that the cgroup read below is that process's
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", who.PID, err)
	}
	defer unix.Close(fd)
	if inside, err := isIn(who.PID, who.Container); err != nil || !inside {
		return err // another process's PID by now
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("process %d of container %.12s: %v: %w", who.PID, who.Container, signal, err)
	}
	return nil
}

// isIn says whether a process is one of a container, by its cgroup.
func isIn(pid int, container string) (bool, error) {
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("process %d: %w", pid, err)
	}
	return strings.Contains(string(groups), container), nil
}
