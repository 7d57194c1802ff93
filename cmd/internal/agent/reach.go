// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/netspace"
)

const (
	// reachPort is discard's (RFC 863): nobody serves it, and a refusal is an answer.
	reachPort = 9
	// reachTry is less than the first retransmission of a SYN, so that a path that has just come up is noticed at once.
	reachTry = 200 * time.Millisecond
)

// reach tries a TCP connection until the address accepts or refuses: either way a packet went there and one came back.
func (a *agent) reach(ctx context.Context, args agentproto.ReachArgs) (any, error) {
	var last error // of a try that was not cut short, which says more than one that was
	for {
		err := netspace.InProcess(args.PID, func() error { return dial(ctx, netip.AddrPortFrom(args.Addr, reachPort)) })
		if err == nil || errors.Is(err, unix.ECONNREFUSED) {
			return nil, nil
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, err // the process has ended
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if sleep(ctx, 20*time.Millisecond) != nil {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}

func dial(ctx context.Context, to netip.AddrPort) error {
	d := net.Dialer{Timeout: reachTry}
	conn, err := d.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// idle waits until somebody listens at each of the ports and no connection to them is left. (iperf3 closes its listener with a test's
// connections and opens another one: a client that comes between is reset.)
func (a *agent) idle(ctx context.Context, args agentproto.IdleArgs) (any, error) {
	for {
		listening, connected, err := connections(args)
		if err != nil || listening >= args.Ports && connected == 0 {
			return nil, err
		}
		if sleep(ctx, 5*time.Millisecond) != nil {
			return nil, fmt.Errorf("ports %d to %d: %d listened at, %d connections: %w", args.Port, int(args.Port)+args.Ports-1, listening, connected, context.Cause(ctx))
		}
	}
}

// connections counts listeners at some ports and connections to them.
func connections(args agentproto.IdleArgs) (listening, connected int, err error) {
	err = netspace.InProcess(args.PID, func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			list, err := netspace.Whole(func() ([]*netlink.Socket, error) { return netlink.SocketDiagTCP(family) })
			if err != nil {
				return fmt.Errorf("list TCP sockets: %w", err)
			}
			for _, s := range list {
				switch {
				case s.ID.SourcePort < args.Port || int(s.ID.SourcePort-args.Port) >= args.Ports || s.State == netlink.TCP_TIME_WAIT:
				case s.State == netlink.TCP_LISTEN:
					listening++
				default:
					connected++
				}
			}
		}
		return nil
	})
	return listening, connected, err
}

// listens looks for a socket that accepts connections to an address of the host, or to all of them, at the port. The kernel's
// list is read: a connection would be an event in the life of whoever listens.
func (a *agent) listens(_ context.Context, at netip.AddrPort) (bool, error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := netspace.Whole(func() ([]*netlink.Socket, error) { return netlink.SocketDiagTCP(family) })
		if err != nil {
			return false, fmt.Errorf("list TCP sockets: %w", err)
		}
		for _, s := range list {
			addr, ok := netip.AddrFromSlice(s.ID.Source)
			addr = addr.Unmap()
			if s.State == netlink.TCP_LISTEN && s.ID.SourcePort == at.Port() && ok && (addr == at.Addr() || addr.IsUnspecified()) {
				return true, nil
			}
		}
	}
	return false, nil
}
