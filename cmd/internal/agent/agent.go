// SPDX-License-Identifier: Apache-2.0

// Package agent is the part of econbench that runs inside a host: it serves the controller's requests over standard
// input and output, and puts back everything it changed when it is told to, when the controller dies or falls silent,
// and, by the journal, when an agent before it was killed.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/collectors"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/hostfacts"
	"github.com/econbench/econbench/internal/tracer"
	"github.com/econbench/econbench/internal/tune"
)

// Options of an agent.
type Options struct {
	Version    string // of econbench
	JournalDir string
	Readers    []econbench.Reader
	Drivers    func(*tune.Journal) []econbench.Driver // nil: no fast path can be attached
	Objects    map[string]string                      // BPF objects of this program by name, each with its digest
}

// agent is one conversation's state.
type agent struct {
	opt     Options
	journal *tune.Journal
	undone  []string
	drivers []econbench.Driver

	mu       sync.Mutex
	next     int            // handle of what is tuned or attached next
	applied  map[int]undoer // by tune or tunnel
	attached map[int]econbench.Attached
	tracers  map[int]*tracer.Tracer
	adopted  []agentproto.Adoptee
	closed   bool
}

// undoer is something that stands in the host until it is undone, by whoever has its handle or by the journal.
type undoer interface{ Undo() error }

// Run serves until the conversation ends and then undoes everything.
func Run(ctx context.Context, in io.Reader, out io.Writer, opt Options) (err error) {
	runtime.GOMAXPROCS(1) // two would look for work and watch each other; nothing here gains by doing two things at once
	if err := first(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err) // it can read all the same, at worse moments
	}
	journal, undone, err := tune.OpenJournal(opt.JournalDir)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	a := &agent{opt: opt, journal: journal, undone: undone, applied: map[int]undoer{}, attached: map[int]econbench.Attached{},
		tracers: map[int]*tracer.Tracer{}}
	a.opt.Readers = append(slices.Clone(opt.Readers), attachedReader{a})
	if opt.Drivers != nil {
		a.drivers = opt.Drivers(journal)
	}
	defer func() { err = errors.Join(err, a.close()) }()
	return agentproto.Serve(ctx, in, out, map[string]agentproto.Handler{
		agentproto.OpHello:   agentproto.Handle(a.hello),
		agentproto.OpTune:    agentproto.Handle(a.tune),
		agentproto.OpTunnel:  agentproto.Handle(a.tunnel),
		agentproto.OpUntune:  agentproto.Handle(a.untune),
		agentproto.OpWindow:  agentproto.Handle(a.window),
		agentproto.OpProbe:   agentproto.Handle(a.probe),
		agentproto.OpDevices: agentproto.Handle(a.devices),
		agentproto.OpReach:   agentproto.Handle(a.reach),
		agentproto.OpListens: agentproto.Handle(a.listens),
		agentproto.OpAdopt:   agentproto.Handle(a.adopt),
		agentproto.OpKill:    agentproto.Handle(a.kill),
		agentproto.OpSignal:  agentproto.Handle(a.signal),
		agentproto.OpIdle:    agentproto.Handle(a.idle),
		agentproto.OpAttach:  agentproto.Handle(a.attach),
		agentproto.OpAside:   agentproto.Handle(a.aside),
		agentproto.OpDetach:  agentproto.Handle(a.detach),
		agentproto.OpStatus:  agentproto.Handle(a.status),
		agentproto.OpTrace:   agentproto.Handle(a.trace),
		agentproto.OpRecord:  agentproto.Handle(a.record),
		agentproto.OpProfile: agentproto.Handle(a.profile),
		agentproto.OpFacts:   agentproto.Handle(a.facts),
		agentproto.OpExit:    agentproto.Handle(a.exit),
	})
}

func (a *agent) hello(context.Context, agentproto.HelloArgs) (r agentproto.HelloReply, err error) {
	r.Version, r.Undone = a.opt.Version, a.undone
	if r.Facts, err = hostfacts.Facts(); err != nil {
		return r, err
	}
	r.Addresses, err = hostfacts.Underlay()
	return r, err
}

func (a *agent) tune(ctx context.Context, list []tune.Tuning) (r agentproto.TuneReply, err error) {
	applied, err := a.journal.Apply(ctx, list)
	if err != nil {
		return r, err
	}
	return a.stand(applied, applied.Done), nil
}

// stand keeps what was done under a handle.
func (a *agent) stand(what undoer, done []string) agentproto.TuneReply {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	a.applied[a.next] = what
	return agentproto.TuneReply{Handle: a.next, Done: done}
}

func (a *agent) untune(_ context.Context, args agentproto.UntuneArgs) (any, error) {
	applied, err := claim(a, a.applied, args.Handle, "tuned or built")
	if err != nil {
		return nil, err
	}
	return nil, applied.Undo()
}

// claim takes what stands under a handle, so that it is undone once.
func claim[T any](a *agent, from map[int]T, handle int, what string) (taken T, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken, ok := from[handle]
	if !ok {
		return taken, fmt.Errorf("handle %d: nothing is %s under it", handle, what)
	}
	delete(from, handle)
	return taken, nil
}

func (a *agent) devices(_ context.Context, list []econbench.Device) ([]econbench.Device, error) {
	return collectors.ResolveDevices(list)
}

func (a *agent) adopt(_ context.Context, who agentproto.Adoptee) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.adopted = append(a.adopted, who)
	return nil, nil
}

func (a *agent) kill(_ context.Context, who agentproto.Adoptee) (any, error) {
	return nil, killAdoptee(who)
}

// exit puts everything back while the controller still listens, so that it hears of what could not be.
func (a *agent) exit(context.Context, json.RawMessage) (any, error) { return nil, a.close() }

// close undoes what stands, newest first, and ends the containers that the agent was told of. Their engine removes them.
func (a *agent) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	var errs []error
	for _, who := range slices.Backward(a.adopted) {
		errs = append(errs, killAdoptee(who))
	}
	a.adopted = nil
	for _, t := range a.tracers {
		errs = append(errs, t.Close())
	}
	clear(a.tracers)
	for _, handle := range slices.Backward(slices.Sorted(maps.Keys(a.attached))) {
		errs = append(errs, a.attached[handle].Close())
	}
	clear(a.attached)
	if a.journal != nil {
		errs = append(errs, a.journal.Close())
		a.journal = nil
	}
	return errors.Join(errs...)
}

// first puts this process before the programs it measures when a CPU is wanted by both: on a saturated CPU an agent of
// ordinary priority was kept from reading its counters by up to 70 ms. Priorities belong to threads on Linux; those to
// come inherit theirs.
func first() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("raise priority: %w", err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return fmt.Errorf("raise priority: task %q: %w", task.Name(), err)
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, -20); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("raise priority: %w", err)
		}
	}
	return nil
}

// killAdoptee kills a process of a container. One that has ended is fine.
func killAdoptee(who agentproto.Adoptee) error {
	if who.PID <= 1 || len(who.Container) < containerID {
		return fmt.Errorf("process %d of container %q: not one that an agent may end", who.PID, who.Container)
	}
	return signalIn(who, unix.SIGKILL)
}
