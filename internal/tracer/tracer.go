// SPDX-License-Identifier: Apache-2.0

// Package tracer records which way the packets of one flow go through this host: the agent's half of package trace. It
// attaches programs to functions and tracepoints of the kernel (bpf/trace.bpf.c), and to the programs of fast paths that are on the
// devices of this host's namespaces. It changes nothing, but all that it watches takes longer meanwhile. Links are file
// descriptors and go with the agent.
package tracer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/trace"
)

// Objects are the compiled BPF programs of this package by name.
func Objects() map[string][]byte { return map[string][]byte{"trace": _TraceBytes} }

// Tracer is a set of hooks that are attached. It records nothing before Record.
type Tracer struct {
	order      trace.Order
	spec       *ebpf.CollectionSpec
	coll       *ebpf.Collection // of the maps alone
	maps       map[string]*ebpf.Map
	links      []link.Link
	names      []string // of the hooks, by number
	skipped    []trace.Skipped
	namespaces []namespace
	programs   []program
}

// mostEvents is how many an order may ask for: 64 MB.
const mostEvents = 1 << 20

// Start attaches the hooks, or has left nothing behind.
func Start(order trace.Order) (_ *Tracer, err error) {
	t := &Tracer{order: order}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("trace: %w", err), t.Close())
		}
	}()
	if order.Events < 1 || order.Events > mostEvents {
		return nil, fmt.Errorf("%d events: want 1 to %d", order.Events, mostEvents)
	}
	if err := supported(); err != nil {
		return nil, err
	}
	if t.namespaces, err = findNamespaces(order); err != nil {
		return nil, err
	}
	if err := t.makeMaps(); err != nil {
		return nil, err
	}
	if err := t.attachHooks(); err != nil {
		return nil, err
	}
	return t, t.attachPrograms()
}

// Skipped are the hooks that are not there.
func (t *Tracer) Skipped() []trace.Skipped { return t.skipped }

// supported says what the kernel lacks, before the verifier does in its own words.
func supported() error {
	if realtime, err := os.ReadFile("/sys/kernel/realtime"); err == nil && bytes.HasPrefix(realtime, []byte("1")) {
		return errors.New("kernel is PREEMPT_RT, whose softirqs are preempted: want one that is not")
	}
	if _, err := btf.LoadKernelSpec(); err != nil {
		return fmt.Errorf("kernel's types: %w: want Linux 5.17 or newer with CONFIG_DEBUG_INFO_BTF", err)
	}
	return nil
}

// makeMaps makes what all hooks share, with what is traced in it.
func (t *Tracer) makeMaps() (err error) {
	if err := rlimit.RemoveMemlock(); err != nil { // before 5.11, and there a few pages may fit all the same
		fmt.Fprintln(os.Stderr, "trace:", err)
	}
	if t.spec, err = loadTrace(); err != nil {
		return err
	}
	t.spec.Maps["events"].MaxEntries = uint32(t.order.Events)
	protocol := uint8(6)
	if t.order.Flow.Datagrams {
		protocol = 17
	}
	pairs := [2]tracePair{pairOf(t.order.Flow.Client, t.order.Flow.Server), pairOf(t.order.Flow.ClientHost, t.order.Flow.ServerHost)}
	for name, value := range map[string]any{
		"pairs": pairs, "protocol": protocol, "server_port": t.order.Flow.ServerPort, "slots": uint32(t.order.Events),
		"is_server":  t.order.Side == econbench.ServerHost,
		"send_calls": [4]int64{unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_WRITE, unix.SYS_WRITEV},
	} {
		if err := t.spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("program's variable %s: %w", name, err)
		}
	}
	maps := t.spec.Copy()
	maps.Programs = nil
	t.coll, err = ebpf.NewCollection(maps)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("make maps: %w (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, are needed)", err)
	}
	if err != nil {
		return fmt.Errorf("make maps: %w", err)
	}
	t.maps = t.coll.Maps
	for _, ns := range t.namespaces {
		if err := t.maps["namespaces"].Put(ns.Inode, uint32(1)); err != nil {
			return fmt.Errorf("namespace %s: %w", ns.Role, err)
		}
	}
	return nil
}

// pairOf is two addresses as packets have them.
func pairOf(client, server netip.Addr) (p tracePair) {
	for to, a := range map[*uint32]netip.Addr{&p.Client: client, &p.Server: server} {
		if a.Is4() {
			b := a.As4()
			*to = binary.NativeEndian.Uint32(b[:])
		}
	}
	return p
}

// poll is the pause between two looks whether all slots are taken.
const poll = 5 * time.Millisecond

// Record records for a while, or until there is no more room.
func (t *Tracer) Record(ctx context.Context, duration time.Duration) (r trace.Record, err error) {
	programs, err := t.runs(ctx)
	if err != nil {
		return r, fmt.Errorf("trace: programs' runs: %w", err)
	}
	recording, taken := t.coll.Variables["recording"], t.coll.Variables["taken"]
	if err := recording.Set(uint32(1)); err != nil {
		return r, fmt.Errorf("trace: begin: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var count uint32
	for ctx.Err() == nil && int(count) < t.order.Events {
		select {
		case <-ctx.Done():
		case <-time.After(poll):
		}
		if err := taken.Get(&count); err != nil {
			return r, fmt.Errorf("trace: %w", err)
		}
	}
	if err := recording.Set(uint32(0)); err != nil {
		return r, fmt.Errorf("trace: end: %w", err)
	}
	if err := t.detach(); err != nil { // waits for the programs that run
		return r, err
	}
	if err := taken.Get(&count); err != nil {
		return r, fmt.Errorf("trace: %w", err)
	}
	kept := min(int(count), t.order.Events)
	r = trace.Record{Side: t.order.Side, Hooks: t.names, Lost: int(count) - kept, Programs: programs}
	for _, ns := range t.namespaces {
		r.Namespaces = append(r.Namespaces, ns.Namespace)
	}
	r.Events, err = t.read(kept)
	return r, err
}

// read reads the first events and puts them in the order of their clock.
func (t *Tracer) read(count int) (list trace.Events, err error) {
	memory, err := t.maps["events"].Memory()
	if err != nil {
		return nil, fmt.Errorf("trace: events: %w", err)
	}
	list = make(trace.Events, count)
	body := make([]byte, count*binary.Size(trace.Event{}))
	if count == 0 {
		return list, nil
	}
	if _, err := memory.ReadAt(body, 0); err != nil {
		return nil, fmt.Errorf("trace: events: %w", err)
	}
	if err := binary.Read(bytes.NewReader(body), binary.NativeEndian, []trace.Event(list)); err != nil {
		return nil, fmt.Errorf("trace: events: %w", err)
	}
	slices.SortStableFunc(list, func(a, b trace.Event) int { return int(int64(a.At - b.At)) })
	return slices.DeleteFunc(list, func(e trace.Event) bool { return e.At == 0 }), nil // a slot whose taker was not done
}

// detach takes the hooks off, newest first.
func (t *Tracer) detach() (err error) {
	for _, l := range slices.Backward(t.links) {
		err = errors.Join(err, l.Close())
	}
	t.links = nil
	return err
}

// Close takes all back. It may be called again.
func (t *Tracer) Close() error {
	err := t.detach()
	for _, ns := range t.namespaces {
		err = errors.Join(err, ns.handle.Close())
	}
	t.namespaces = nil
	if t.coll != nil {
		t.coll.Close()
		t.coll = nil
	}
	return err
}
