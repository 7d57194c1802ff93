// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench"
)

// standing names the programs on a hook: those of tcx, and those of filters of ours.
func standing(t *testing.T, at point) (tcx, ofFilters []string) {
	t.Helper()
	if slices.Contains(hooks(), econbench.HookTCX) {
		found := in(t, at.ns, func() (*link.QueryResult, error) {
			return link.QueryPrograms(link.QueryOptions{Target: at.ifindex, Attach: at.hook})
		})
		for _, p := range found.Programs {
			tcx = append(tcx, programName(t, p.ID))
		}
	}
	parent := uint32(netlink.HANDLE_MIN_INGRESS)
	if at.hook == ebpf.AttachTCXEgress {
		parent = netlink.HANDLE_MIN_EGRESS
	}
	do(t, at.ns, func(h *netlink.Handle) error {
		all, err := filters(h, at.ifindex, parent)
		for _, f := range all {
			if b, ok := f.(*netlink.BpfFilter); ok && strings.HasPrefix(b.Name, filterName) {
				ofFilters = append(ofFilters, b.Name)
			}
		}
		return err
	})
	return tcx, ofFilters
}

func programName(t *testing.T, id ebpf.ProgramID) string {
	t.Helper()
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	return info.Name
}

// TestReserve puts a program on a hook that was held for it, and gives up one where nothing came, by each mechanism.
func TestReserve(t *testing.T) {
	host := twoHosts(t, fastKinds()[0])[0]
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "put", Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: asm.Instructions{asm.Mov.Imm32(asm.R0, -1), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	at := point{ns: host.host, hook: ebpf.AttachTCXEgress}
	do(t, host.host, func(h *netlink.Handle) (err error) { at.ifindex, err = indexOf(h, testWire); return err })
	for _, mechanism := range append(hooks(), "") {
		want := func(when string, tcx, ofFilters int) {
			t.Helper()
			names, others := standing(t, at)
			if len(names) != tcx || len(others) != ofFilters || tcx > 0 && names[0] != when {
				t.Errorf("hook %q, %s: tcx has %q, filters %q", mechanism, when, names, others)
			}
		}
		tcx, ofFilters := 0, 1
		if mechanism == econbench.HookTCX || mechanism == "" && len(hooks()) > 1 {
			tcx, ofFilters = 1, 0
		}
		a := attacher{mechanism: mechanism, owner: "test"}
		p := a.reserve(at)
		<-p.done
		want("reserved", tcx, 0)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		want("given up", 0, 0)
		c, err := a.reserve(at).put(prog)
		if err != nil {
			t.Fatal(err)
		}
		want("put", tcx, ofFilters)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		want("closed", 0, 0)
	}
	nowhere := attacher{}.reserve(point{ns: host.host, ifindex: 99999, hook: ebpf.AttachTCXEgress})
	if _, err := nowhere.put(prog); err == nil || !strings.Contains(err.Error(), "device 99999") {
		t.Errorf("put on a device that is not there: %v", err)
	}
}

// handedOver waits until filters hold nothing any more that is tcx's to hold.
func (host *testHost) handedOver(t *testing.T) {
	t.Helper()
	o := host.attached.(*overlay)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		o.mu.Lock()
		due := o.due()
		o.mu.Unlock()
		if due == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v is still a filter's after 20 s", due.program)
		}
	}
}

// TestHandedOver has tcx take over what filters held at first, and again and again from under traffic, of which nothing is lost.
func TestHandedOver(t *testing.T) { eachKind(t, testHandedOver) }

func testHandedOver(t *testing.T, k fastKind) {
	if !slices.Contains(hooks(), econbench.HookTCX) {
		t.Skip("this kernel has no tcx: Linux 6.6 or newer is needed")
	}
	hosts := twoHosts(t, k)
	for _, h := range hosts {
		h.attach(t, econbench.AttachOptions{})
	}
	hosts[0].handedOver(t)
	o := hosts[0].attached.(*overlay)
	e := o.endpoints[0]
	if !e.lane.private() {
		t.Skip("the lane has no device of its own")
	}
	i := slices.IndexFunc(e.handovers, func(h *handover) bool { return strings.Contains(h.program.String(), progFromLane) })
	h := e.handovers[i]
	if _, isFilter := h.now.(attachedFilter); isFilter {
		t.Fatal("a filter is at work where tcx should have taken over")
	}
	ended, stop := make(chan error), make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			o.mu.Lock()
			err := again(h)
			o.mu.Unlock()
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 3 {
		pingPong(t, hosts[0], hosts[1], 500, 100)
		stream(t, hosts[1], hosts[0], 3_000_001, "")
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	tcx, ofFilters := standing(t, h.at)
	if !slices.Equal(tcx, []string{progFromLane}) || len(ofFilters) > 0 {
		t.Errorf("tcx has %q, filters %q", tcx, ofFilters)
	}
	if c := hosts[0].counters(t); c["egress.hits"] < 1400 || c["lost.refused"]+c["lost.failed"] != 0 {
		t.Errorf("%v", c)
	}
}

// again has a filter hold what tcx holds, and hands it over again.
func again(h *handover) error {
	filter, err := attachFilter(h.at, h.program, h.owner)
	if err != nil {
		return err
	}
	if err := h.Close(); err != nil {
		return errors.Join(err, filter.Close())
	}
	h.now, h.due = filter, true
	return h.handOver()
}

// TestHandoverFails has a hand-over that fails for good: it is given up, so that those behind it have their turn.
func TestHandoverFails(t *testing.T) {
	if !slices.Contains(hooks(), econbench.HookTCX) {
		t.Skip("this kernel has no tcx: Linux 6.6 or newer is needed")
	}
	ns := twoHosts(t, fastKinds()[0])[0].container
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	h := &handover{at: point{ns, 1, ebpf.AttachTCXIngress}, program: prog, due: true}
	for i := range handoverTries {
		if err := h.handOver(); err == nil || h.due != (i < handoverTries-1) {
			t.Errorf("try %d: %v, due %t", i, err, h.due)
		}
	}
}
