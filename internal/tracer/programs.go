// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/trace"
)

// program is a tc program on a device, whoever put it there.
type program struct {
	id   ebpf.ProgramID
	info trace.Program
}

// attachPrograms watches the tc programs that are on the devices of the host's namespaces. One that can't be watched is skipped,
// which is told: it has no BTF, say.
func (t *Tracer) attachPrograms() error {
	for _, ns := range t.namespaces {
		found, err := programsIn(ns)
		if err != nil {
			return fmt.Errorf("programs in namespace %s: %w", ns.Role, err)
		}
		t.programs = append(t.programs, found...)
	}
	watched := map[ebpf.ProgramID]bool{}
	for i := range t.programs {
		p := &t.programs[i]
		name, err := t.attachProgram(p.id, !watched[p.id])
		p.info.Name, watched[p.id] = name, true
		if err != nil && !errors.Is(err, unix.ENOENT) { // it may be gone by now
			t.skip(trace.ProgramPrefix+name, err)
		}
	}
	return nil
}

// attachProgram finds out a program's name and, once for each, watches it: what it was given, and its verdict.
func (t *Tracer) attachProgram(id ebpf.ProgramID, watch bool) (name string, err error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprint(id), err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return fmt.Sprint(id), err
	}
	functions, err := info.FuncInfos()
	if err != nil || len(functions) == 0 {
		return info.Name, errors.Join(errors.New("it was loaded without BTF"), err)
	}
	name = functions[0].Func.Name
	if !watch {
		return name, nil
	}
	spec := numbered(t.spec.Programs["packet_judged"], len(t.names))
	spec.AttachTarget, spec.AttachTo = p, name
	return name, t.load(trace.ProgramPrefix+name, spec)
}

// programsIn are the tc programs on a namespace's devices.
func programsIn(ns namespace) (list []program, err error) {
	h, err := netlink.NewHandleAt(ns.handle, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	hooks := []struct {
		name   string
		tcx    ebpf.AttachType
		parent uint32
	}{{"ingress", ebpf.AttachTCXIngress, netlink.HANDLE_MIN_INGRESS}, {"egress", ebpf.AttachTCXEgress, netlink.HANDLE_MIN_EGRESS}}
	err = netspace.In(ns.handle, func() error {
		for _, d := range ns.Devices {
			for _, at := range hooks {
				on := trace.Program{Namespace: ns.Role, Device: d.Name, Hook: at.name}
				l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: int(d.Index), Name: d.Name}}
				// A device without such filters is an error.
				filters, _ := netspace.Whole(func() ([]netlink.Filter, error) { return h.FilterList(l, at.parent) })
				for _, f := range filters {
					if b, ok := f.(*netlink.BpfFilter); ok {
						list = append(list, program{ebpf.ProgramID(b.Id), on})
					}
				}
				found, err := link.QueryPrograms(link.QueryOptions{Target: int(d.Index), Attach: at.tcx})
				if err != nil {
					continue // a kernel without tcx, or no such device any more
				}
				for _, p := range found.Programs {
					list = append(list, program{p.ID, on})
				}
			}
		}
		return nil
	})
	return list, err
}

// runsWindow is how long programs' runs are counted. The kernel's clock around each run costs every program on the machine time, so
// it is over before anything is recorded.
const runsWindow = 200 * time.Millisecond

// runs are how often each program runs for each thing that a program of this host sends, and how long. This is known where
// programs can't be watched, too. It takes as long on a host without any: both hosts are to record at the same time afterwards.
func (t *Tracer) runs(ctx context.Context) (list []trace.Program, err error) {
	if len(t.programs) > 0 {
		counting, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
		if err == nil {
			defer counting.Close()
		} else {
			t.programs = nil // a kernel before Linux 5.8
		}
	}
	before, sent, err := t.ran()
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(runsWindow):
	}
	after, now, err := t.ran()
	if err != nil {
		return nil, err
	}
	for i, p := range t.programs {
		count, took := after[i].count-before[i].count, after[i].took-before[i].took
		if now > sent {
			p.info.Runs = float64(count) / float64(now-sent)
		}
		if count > 0 {
			p.info.Seconds = took.Seconds() / float64(count)
		}
		list = append(list, p.info)
	}
	return list, nil
}

// ran is what a program has done so far.
type ran struct {
	count uint64
	took  time.Duration
}

// ran reads what all programs have done, and how often this host's programs sent.
func (t *Tracer) ran() (list []ran, sent uint64, err error) {
	for _, p := range t.programs {
		var r ran
		if handle, err := ebpf.NewProgramFromID(p.id); err == nil { // else it is gone
			if stats, err := handle.Stats(); err == nil {
				r = ran{stats.RunCount, stats.Runtime}
			}
			_ = handle.Close()
		}
		list = append(list, r)
	}
	return list, sent, t.coll.Variables["sent"].Get(&sent)
}
