// SPDX-License-Identifier: Apache-2.0

// Package profiler samples the stacks of what a host's CPUs do: the agent's half of package profile. The kernel's cpu-clock
// event writes a call chain into a ring for each CPU at each tick of a timer of its own (perf_event_open(2)); there is no program to load
// and no counter of the CPU's is needed, so that it works in virtual machines too. Rings are file descriptors and go with the agent.
//
// The timer is an interrupt: what runs with interrupts off is seen where they come on again.
package profiler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/profile"
)

// Bounds of an order.
const (
	mostFrequency = 20e3 // 1/s; a sample takes some µs
	mostDuration  = time.Hour
)

// drainEvery is the pause between two looks into the rings. At 999 samples in a second, each of 1 kB at most, a ring fills in 256 ms.
const drainEvery = 50 * time.Millisecond

// Sample samples for a while, after the warm-up. It says in one line what the kernel does not let it do.
func Sample(ctx context.Context, o profile.Order) (r profile.Recording, err error) {
	if err := check(o); err != nil {
		return r, fmt.Errorf("profile: %w", err)
	}
	rings, err := openRings(o.Scope.CPUs, o.Frequency)
	if err != nil {
		return r, fmt.Errorf("profile: %w", err)
	}
	defer func() {
		for _, ring := range rings {
			err = errors.Join(err, ring.close())
		}
	}()
	s := &sampler{stacks: map[string]*rawStack{}, processes: map[int]*process{}, binaries: binaries{}, proc: "/proc"}
	defer s.binaries.close()
	if err := wait(ctx, o.Warmup.Duration()); err != nil {
		return r, fmt.Errorf("profile: %w", err)
	}
	window, err := s.record(ctx, rings, o.Duration.Duration())
	if err != nil {
		return r, fmt.Errorf("profile: %w", err)
	}
	s.lookAgain()
	symbols, err := readKallsyms(filepath.Join(s.proc, "kallsyms"))
	if err != nil {
		return r, fmt.Errorf("profile: %w", err)
	}
	r = s.name(symbols)
	r.Side, r.CPUs, r.Frequency, r.Window = o.Scope.Side, o.Scope.CPUs, o.Frequency, window.Seconds()
	return r, nil
}

func check(o profile.Order) error {
	warmup, duration := o.Warmup.Duration(), o.Duration.Duration()
	switch {
	case len(o.Scope.CPUs) == 0:
		return errors.New("no CPUs: want one or more")
	case !(o.Frequency >= 1 && o.Frequency <= mostFrequency):
		return fmt.Errorf("frequency %g/s: want 1 to %g", o.Frequency, mostFrequency)
	case warmup < 0 || warmup > mostDuration || duration <= 0 || duration > mostDuration:
		return fmt.Errorf("duration %v after %v: want at most %v", duration, warmup, mostDuration)
	}
	return nil
}

// record lets all rings run for a while and empties them meanwhile.
func (s *sampler) record(ctx context.Context, rings []*ring, duration time.Duration) (window time.Duration, err error) {
	begin := time.Now()
	for _, ring := range rings {
		if err := ring.enable(true); err != nil {
			return 0, err
		}
	}
	for left := duration; left > 0; left = duration - time.Since(begin) {
		if err := wait(ctx, min(left, drainEvery)); err != nil {
			return 0, err
		}
		if time.Since(begin) < duration { // what is in the rings then is read when they stand still
			s.drainAll(rings)
		}
	}
	for _, ring := range rings {
		if err := ring.enable(false); err != nil {
			return 0, err
		}
	}
	window = time.Since(begin)
	s.drainAll(rings)
	return window, nil
}

func (s *sampler) drainAll(rings []*ring) {
	for _, ring := range rings {
		s.take(ring.drain())
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// refused puts what has to be done into words, for the errors that perf_event_open gives as a rule.
func refused(cpu int, err error) error {
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("sample CPU %d: %w (CAP_PERFMON or CAP_SYS_ADMIN is needed, and a seccomp profile that lets perf_event_open pass)", cpu, err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("sample CPU %d: %w: want a kernel with CONFIG_PERF_EVENTS", cpu, err)
	}
	return fmt.Errorf("sample CPU %d: %w", cpu, err)
}

// pageSize is that of rings.
var pageSize = os.Getpagesize()
