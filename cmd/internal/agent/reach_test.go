// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/agentproto"
)

// A refusal is an answer; silence ends with the context, and says what was tried last.
func TestReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs CAP_SYS_ADMIN to enter a network namespace")
	}
	a := &agent{}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	self := agentproto.ReachArgs{PID: os.Getpid(), Addr: netip.MustParseAddr("127.0.0.1")}
	if _, err := a.reach(ctx, self); err != nil {
		t.Errorf("loopback: %v", err)
	}
	gone := agentproto.ReachArgs{PID: 1 << 22, Addr: self.Addr} // above the kernel's PID_MAX_LIMIT
	if _, err := a.reach(ctx, gone); err == nil || ctx.Err() != nil {
		t.Errorf("a process that is not there: %v", err)
	}

	apart := exec.Command("sleep", "60")
	apart.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := apart.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = apart.Process.Kill()
		_ = apart.Wait()
	}()
	short, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	lonely := agentproto.ReachArgs{PID: apart.Process.Pid, Addr: netip.MustParseAddr("198.18.0.1")}
	if _, err := a.reach(short, lonely); !errors.Is(err, unix.ENETUNREACH) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an address without a route: %v", err)
	}
}

// A listener counts at its own address and port, one of all addresses at each; a connection is no listener.
func TestListens(t *testing.T) {
	a := &agent{}
	asks := func(at netip.AddrPort, want bool) {
		t.Helper()
		if got, err := a.listens(t.Context(), at); got != want || err != nil {
			t.Errorf("%s: %t, %v, want %t", at, got, err, want)
		}
	}
	for listen, other := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true, "[::]:0": true} {
		l, err := net.Listen("tcp", listen)
		if err != nil {
			t.Fatal(err)
		}
		port := netip.MustParseAddrPort(l.Addr().String()).Port()
		at := func(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), port) }
		asks(at("127.0.0.1"), true)
		asks(at("127.0.0.2"), other)
		conn, err := net.Dial("tcp", at("127.0.0.1").String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		asks(at("127.0.0.1"), false)
	}
}
