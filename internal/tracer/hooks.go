// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/econbench/econbench/internal/trace"
)

// hook is a place in the kernel, and the program of bpf/trace.bpf.c that is copied for it. Kernels have functions that they
// inline, or don't have any more, or let nobody attach programs to (lockdown, no function tracer): those are skipped, and that is told.
type hook struct {
	name    string // of the function or tracepoint, as package trace knows it
	program string
	instead string // only where that one is missing
}

// hooks are all but the programs of fast paths, which are found on devices.
var hooks = []hook{
	{name: "tcp_sendmsg", program: "socket_sends"},
	{name: "udp_sendmsg", program: "socket_sends"},
	{name: "sys_enter", program: "task_sends", instead: "tcp_sendmsg"},
	{name: "__tcp_transmit_skb", program: "socket_transmits"},
	{name: "ip_output", program: "packet_third"},
	{name: "nf_hook_slow", program: "packet_filtered"},
	{name: "__dev_queue_xmit", program: "packet_first"},
	{name: "net_dev_queue", program: "packet_traced", instead: "__dev_queue_xmit"},
	{name: "net_dev_start_xmit", program: "packet_traced"},
	{name: "enqueue_to_backlog", program: "packet_to_cpu"},
	{name: "netif_rx", program: "packet_traced", instead: "enqueue_to_backlog"},
	{name: "gro_cells_receive", program: "packet_second"},
	{name: "napi_gro_receive_entry", program: "packet_traced"},
	{name: "netif_receive_skb", program: "packet_traced"},
	{name: "skb_do_redirect", program: "packet_first"},
	{name: "br_handle_frame_finish", program: "packet_third"},
	{name: "br_dev_queue_push_xmit", program: "packet_third"},
	{name: "vxlan_rcv", program: "packet_second"},
	{name: "ip_rcv", program: "packet_first"},
	{name: "ip_forward", program: "packet_first"},
	{name: "ip_local_deliver", program: "packet_first"},
	{name: "tcp_v4_rcv", program: "packet_first"},
	{name: "tcp_probe", program: "segment_received", instead: "tcp_v4_rcv"},
	{name: "udp_rcv", program: "packet_first"},
	{name: "sk_data_ready", program: "socket_ready"},
	{name: "sock_def_readable", program: "socket_readable", instead: "sk_data_ready"},
	{name: "sched_switch", program: "task_runs"},
	{name: "sock_recv_length", program: "socket_read"},
	{name: "tcp_recvmsg", program: "socket_received", instead: "sock_recv_length"},
	{name: "udp_recvmsg", program: "socket_received", instead: "sock_recv_length"},
}

// ends are hooks of which one has to be there, as transactions are told apart by them.
var ends = [][]string{{"tcp_sendmsg", "sys_enter"}, {"tcp_recvmsg", "sock_recv_length"}}

// softirqHooks tell stages which softirq they are in. Without them that would be told wrongly, so they are not optional.
var softirqHooks = []hook{
	{name: "softirq_exit", program: "softirq_ends"},
	{name: "softirq_entry", program: "softirq_begins"},
}

// hookNumber stands in the programs where their hook's number is to be (this_hook).
const hookNumber = 0x65636f6e62656e63

// numbered is a copy of a program for a hook.
func numbered(p *ebpf.ProgramSpec, number int) *ebpf.ProgramSpec {
	p = p.Copy()
	for i := range p.Instructions {
		in := &p.Instructions[i]
		if in.OpCode == asm.LoadImmOp(asm.DWord) && in.Constant == hookNumber {
			in.Constant = int64(number)
		}
	}
	return p
}

// attachHooks puts a copy of a program on each hook that the kernel has.
func (t *Tracer) attachHooks() error {
	missing := map[string]bool{}
	for _, h := range hooks {
		if h.instead != "" && !missing[h.instead] {
			continue
		}
		if err := t.attachHook(h); err != nil {
			missing[h.name] = true
			t.skip(h.name, err)
		}
	}
	for _, some := range ends {
		if !slices.ContainsFunc(some, func(name string) bool { return slices.Contains(t.names, name) }) {
			return fmt.Errorf("neither %s could be attached to: want Linux 6.3, or 5.17 and a kernel that lets programs be attached to its functions",
				strings.Join(some, " nor "))
		}
	}
	for _, h := range softirqHooks {
		if err := t.attachHook(h); err != nil {
			return fmt.Errorf("hook %s: %w", h.name, err)
		}
	}
	return nil
}

// attachHook gives the hook the next number.
func (t *Tracer) attachHook(h hook) error {
	spec := numbered(t.spec.Programs[h.program], len(t.names))
	spec.AttachTo = h.name
	err := t.load(h.name, spec)
	if errors.Is(err, btf.ErrNotFound) || errors.Is(err, ebpf.ErrNotSupported) {
		return errors.New("this kernel, with the modules that are loaded, has none of that name to be seen")
	}
	return err
}

// errFunctions is of a kernel whose tracepoints may be watched and whose functions may not: it is locked down, say.
var errFunctions = errors.New("this kernel lets no program be attached to functions and programs, by this user")

// load loads one program and attaches it.
func (t *Tracer) load(name string, spec *ebpf.ProgramSpec) error {
	one := &ebpf.CollectionSpec{Maps: t.spec.Maps, Variables: t.spec.Variables, Types: t.spec.Types, ByteOrder: t.spec.ByteOrder,
		Programs: map[string]*ebpf.ProgramSpec{"one": spec}}
	coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: t.maps})
	var refusal *ebpf.VerifierError
	if errors.As(err, &refusal) {
		fmt.Fprintf(os.Stderr, "trace %s: %+v\n", name, refusal)
		return fmt.Errorf("the kernel's verifier refused it (its log is the agent's): %w", refusal.Cause)
	}
	if errors.Is(err, os.ErrPermission) && spec.AttachType != ebpf.AttachTraceRawTp {
		return errFunctions
	}
	if err != nil {
		return err
	}
	defer coll.Close() // the link holds the program
	l, err := link.AttachTracing(link.TracingOptions{Program: coll.Programs["one"]})
	if err != nil {
		return fmt.Errorf("can't be attached to: %w", err)
	}
	t.links = append(t.links, l)
	t.names = append(t.names, name)
	return nil
}

func (t *Tracer) skip(name string, err error) {
	t.skipped = append(t.skipped, trace.Skipped{Hook: name, Why: err.Error()})
}
