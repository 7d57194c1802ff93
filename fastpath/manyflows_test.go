// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// manyFlows are flows between two sockets each, whose descriptors do not block.
type manyFlows struct {
	pairs [][2]int
}

// connectMany makes so many flows of UDP between the hosts' containers, or between the hosts themselves, each with a socket at either end.
func connectMany(t *testing.T, hosts [2]*testHost, n int, bare bool) manyFlows {
	t.Helper()
	const first = 10_000
	f := manyFlows{make([][2]int, n)}
	addrs, spaces := [2]netip.Addr{hosts[0].inner, hosts[1].inner}, [2]netns.NsHandle{hosts[0].container, hosts[1].container}
	if bare {
		addrs, spaces = [2]netip.Addr{hosts[0].outer, hosts[1].outer}, [2]netns.NsHandle{hosts[0].host, hosts[1].host}
	}
	for end, ns := range spaces {
		fds := in(t, ns, func() ([]int, error) { return udpSockets(n, addrs[end], addrs[1-end], first) })
		t.Cleanup(func() {
			for _, fd := range fds {
				unix.Close(fd)
			}
		})
		for i, fd := range fds {
			f.pairs[i][end] = fd
		}
	}
	return f
}

// udpSockets makes sockets of ports that follow each other, connected to the same port at the other address, if that is valid.
func udpSockets(n int, here, there netip.Addr, first int) (fds []int, err error) {
	for i := range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fds, err
		}
		fds = append(fds, fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: here.As4(), Port: first + i}); err != nil {
			return fds, err
		}
		if !there.IsValid() {
			continue
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: there.As4(), Port: first + i}); err != nil {
			return fds, err
		}
	}
	return fds, nil
}
