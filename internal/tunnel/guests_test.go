// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/econbench/econbench/internal/netspace"
)

func TestSpecOfGuests(t *testing.T) {
	for want, guests := range map[string][]Guest{
		"container at 198.19.0.1: want another address of":   {{1, netip.MustParseAddr("198.19.0.1")}},
		"container at 198.18.200.2: want another address of": {{1, spec(0).Addr.Addr()}},
		"9 containers beside the first: want 8 at most":      make([]Guest, 9),
	} {
		s := spec(0)
		s.Others = guests
		if err := s.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestGuests joins a second container of one host, which reaches and is gone as the first is.
func TestGuests(t *testing.T) {
	hosts := twoHosts(t)
	before := hosts[0].links(t)
	holder := exec.Command("sleep", "300")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait() // says that it was killed
	})
	second := netip.MustParseAddr("198.18.200.9")
	client, server := spec(0), spec(1)
	client.Others = []Guest{{holder.Process.Pid, second}}
	server.Peers = append(server.Peers, Peer{second, client.Underlay})
	end, err := hosts[0].build(t, client)
	if err != nil {
		t.Fatal(err)
	}
	other, err := hosts[1].build(t, server)
	if err != nil {
		t.Fatal(err)
	}
	ns, _, err := netspace.OfProcess(holder.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	guest := &host{container: ns}
	if to := server.Addr.Addr(); !guest.reaches(t, to, 10*time.Second) || !hosts[0].reaches(t, to, 10*time.Second) {
		t.Errorf("%s is not reached by both; made: %q", to, end.Done)
	}
	if !hosts[1].reaches(t, second, 10*time.Second) {
		t.Errorf("%s is not reached", second)
	}
	if err := errors.Join(other.Undo(), end.Undo()); err != nil {
		t.Error(err)
	}
	if after := hosts[0].links(t); after != before {
		t.Errorf("devices %q, before %q", after, before)
	}
	client.Others[0].PID = 1 << 30
	if _, err := hosts[0].build(t, client); err == nil || !strings.Contains(err.Error(), "container at 198.18.200.9: process 1073741824") {
		t.Errorf("no such process: %v", err)
	}
	if after := hosts[0].links(t); after != before {
		t.Errorf("a failed build left %q, before %q", after, before)
	}
}
