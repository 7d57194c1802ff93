// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/prometheus/procfs"
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
	for {
		err := netspace.InProcess(args.PID, func() error { return dial(ctx, netip.AddrPortFrom(args.Addr, reachPort)) })
		if err == nil || errors.Is(err, unix.ECONNREFUSED) {
			return nil, nil
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, err // the process has ended
		}
		if sleep(ctx, 20*time.Millisecond) != nil {
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
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

// listens looks for a socket that accepts connections to an address of the host, or to all of them, at the port. The kernel's
// list is read: a connection would be an event in the life of whoever listens.
func (a *agent) listens(_ context.Context, at netip.AddrPort) (bool, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return false, err
	}
	v4, err := fs.NetTCP()
	if err != nil {
		return false, fmt.Errorf("read TCP sockets: %w", err)
	}
	v6, err := fs.NetTCP6()
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a host without IPv6
		return false, fmt.Errorf("read TCP sockets: %w", err)
	}
	for _, s := range slices.Concat(v4, v6) {
		addr, ok := netip.AddrFromSlice(s.LocalAddr)
		addr = addr.Unmap()
		if s.St == tcpListen && s.LocalPort == uint64(at.Port()) && ok && (addr == at.Addr() || addr.IsUnspecified()) {
			return true, nil
		}
	}
	return false, nil
}

// tcpListen is TCP_LISTEN of include/net/tcp_states.h.
const tcpListen = 10
