// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// manyPorts is the first of the ports that sockets of many flows have, one after the other at either end.
const manyPorts = 10_000

// manyFlows are flows between sockets of two containers, or of two hosts, that do not block.
type manyFlows struct {
	ends [2][]int // sockets
	to   [2]netip.Addr
	// connected sockets have a flow each, the same one of either end. Others have one with each of the other end's: a million of a thousand.
	connected bool
}

// endsOf are the addresses and namespaces of two containers, or (bare) of their hosts.
func endsOf(hosts [2]*testHost, bare bool) (addrs [2]netip.Addr, spaces [2]netns.NsHandle) {
	for i, h := range hosts {
		addrs[i], spaces[i] = h.inner, h.container
		if bare {
			addrs[i], spaces[i] = h.outer, h.host
		}
	}
	return addrs, spaces
}

// connectMany makes so many UDP sockets at either end.
func connectMany(t *testing.T, hosts [2]*testHost, sockets int, connected, bare bool) *manyFlows {
	t.Helper()
	f := &manyFlows{connected: connected}
	t.Cleanup(f.close)
	addrs, spaces := endsOf(hosts, bare)
	for end, ns := range spaces {
		f.to[end] = addrs[1-end]
		for i := range sockets {
			f.ends[end] = append(f.ends[end], in(t, ns, func() (int, error) { return udpSocket(addrs[end], addrs[1-end], manyPorts+i, connected) }))
		}
	}
	return f
}

// connectManyTCP makes so many connections.
func connectManyTCP(t *testing.T, hosts [2]*testHost, n int, bare bool) *manyFlows {
	t.Helper()
	f := &manyFlows{connected: true}
	t.Cleanup(f.close)
	addrs, spaces := endsOf(hosts, bare)
	l := in(t, spaces[1], func() (net.Listener, error) { return net.Listen("tcp4", addrs[1].String()+":0") })
	defer l.Close()
	for range n {
		a := in(t, spaces[0], func() (net.Conn, error) { return net.Dial("tcp4", l.Addr().String()) })
		z, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		f.ends[0], f.ends[1] = append(f.ends[0], descriptor(t, a)), append(f.ends[1], descriptor(t, z))
		a.Close()
		z.Close()
	}
	return f
}

// descriptor is one of a connection's own, which stays when the connection's is closed.
func descriptor(t *testing.T, c net.Conn) (fd int) {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(n uintptr) { fd, err = unix.Dup(int(n)) }), err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func (f *manyFlows) close() {
	for _, fd := range append(f.ends[0], f.ends[1]...) {
		unix.Close(fd)
	}
}

// udpSocket makes one, connected to the same port at the other address if it is to be.
func udpSocket(here, there netip.Addr, port int, connected bool) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: here.As4(), Port: port})
	}
	if err == nil && connected {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: there.As4(), Port: port})
	}
	return fd, err
}

// flow is one of so many: the sockets of its ends. As few sockets are in use as the number allows.
func (f *manyFlows) flow(i, of int) [2]int {
	if f.connected {
		return [2]int{i, i}
	}
	wide := int(math.Ceil(math.Sqrt(float64(of))))
	return [2]int{i % wide, i / wide}
}

// send sends on a flow from one of its ends.
func (f *manyFlows) send(flow [2]int, from int, b []byte) error {
	fd := f.ends[from][flow[from]]
	if f.connected {
		_, err := unix.Write(fd, b)
		return err
	}
	return unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: f.to[from].As4(), Port: manyPorts + flow[1-from]})
}

// receive reads a datagram of a flow at one of its ends; false: none came within the time.
func (f *manyFlows) receive(flow [2]int, at int, b []byte, wait time.Duration) (n int, came bool) {
	fd := f.ends[at][flow[at]]
	var end time.Time
	for {
		n, err := unix.Read(fd, b)
		if err == nil {
			return n, true
		}
		if now := time.Now(); end.IsZero() {
			end = now.Add(wait)
		} else if now.After(end) || err != unix.EAGAIN {
			return 0, false
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1+int(time.Until(end).Milliseconds()))
	}
}

// walk goes through so many flows, each once before any is used again, and seldom from one to that beside it.
type walk struct{ at, of, step int }

func newWalk(of int) *walk {
	step := max(1, int(float64(of)*(math.Sqrt(5)-1)/2))
	for gcd(step, of) != 1 {
		step++
	}
	return &walk{of: of, step: step}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (w *walk) next() int {
	w.at = (w.at + w.step) % w.of
	return w.at
}
