// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What is here runs in containers: this test program, started again with a name in its environment. It tells whoever asks its
// name, by TCP and UDP, and asks all other addresses for theirs, all the time. What it is answered, and whatever reaches it and is
// none of its business, it reports to the test by a socket in a folder that all containers share.

const (
	whoamiEnv    = "ECONBENCH_TEST_WHOAMI" // the name; empty: this is a test
	whoamiFolder = "/oracle"
	whoamiSocket = whoamiFolder + "/socket"
	whoamiPort   = 7000
)

// Protocols that it speaks. "stream" is TCP on one connection for as long as it lasts, "tcp" on one a question.
const (
	byUDP    = "udp"
	byStream = "stream"
	byTCP    = "tcp"
	byEcho   = "echo" // answered by the kernel, which has no name
	bySYN    = "syn"  // so are the packets that open a connection with IP options before each of byTCP: the kernel's path, whatever is attached
)

var whoamiProtocols = []string{byUDP, byStream, byTCP, byEcho, bySYN}

// whoamiPace is how long it waits between two questions to one address, and for one answer.
var whoamiPace = map[string]struct{ every, patience time.Duration }{
	byUDP: {250 * time.Millisecond, 300 * time.Millisecond}, byStream: {250 * time.Millisecond, time.Second},
	byTCP: {time.Second, time.Second}, byEcho: {500 * time.Millisecond, 300 * time.Millisecond},
}

// recordKind says what a record tells.
type recordKind uint8

const (
	hello   recordKind = iota // Name is there
	answer                    // Name answered Client's question to To
	asked                     // so many questions were asked since the last record of this kind
	misled                    // something that must never happen
	belated                   // something for an address that Name had before, Age ago
)

// record is what a container reports. Times are of CLOCK_MONOTONIC in ns, which all containers of a machine share.
type record struct {
	Kind           recordKind
	Protocol       string
	Name, Client   string
	To             netip.Addr
	Sent, Received int64
	Count          int
	Age            time.Duration
	Detail         string
}

// clock is CLOCK_MONOTONIC, in ns.
func clock() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // never fails with that clock
	return now.Nano()
}

// whoami is the program.
type whoami struct {
	name    string
	reports chan record
	asked   atomic.Int64

	mu  sync.Mutex
	had map[netip.Addr]int64 // addresses that it has or had, and when it was last seen to have them
	has map[netip.Addr]bool
}

// whoamiMain is the program's main; its arguments are the addresses to ask.
func whoamiMain(name string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	w := &whoami{name: name, reports: make(chan record, 1000), had: map[netip.Addr]int64{}}
	test, err := net.Dial("unix", whoamiSocket)
	if err != nil {
		return err
	}
	defer test.Close()
	w.look()
	if err := errors.Join(w.serveUDP(), w.serveTCP(), w.tap()); err != nil {
		return err
	}
	e, err := w.echoes()
	if err != nil {
		return err
	}
	for _, arg := range args {
		to, err := netip.ParseAddr(arg)
		if err != nil {
			return err
		}
		go w.ask(to, byUDP, w.askUDP())
		go w.ask(to, byStream, w.askTCP(true))
		go w.ask(to, byTCP, w.askTCP(false))
		go w.ask(to, byEcho, e.ask)
	}
	return w.report(ctx, test)
}

// report sends reports until the program is to end, or nobody reads them.
func (w *whoami) report(ctx context.Context, test net.Conn) error {
	to := gob.NewEncoder(test)
	err := to.Encode(record{Kind: hello, Name: w.name})
	look, tell := time.NewTicker(50*time.Millisecond), time.NewTicker(time.Second)
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			w.look()
		case <-tell.C:
			err = to.Encode(record{Kind: asked, Name: w.name, Count: int(w.asked.Swap(0))})
		case r := <-w.reports:
			err = to.Encode(r)
		}
	}
	return err
}

// look takes down the addresses that it has now.
func (w *whoami) look() {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return // the next look will tell
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.has = map[netip.Addr]bool{}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			w.has[p.Addr()], w.had[p.Addr()] = true, clock()
		}
	}
}

func (w *whoami) hasNow(a netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.has[a]
}

// check reports something that reached it, so long ago, and was meant for an address which is not its own.
func (w *whoami) check(to netip.Addr, protocol string, ago time.Duration, detail func() string) {
	if w.hasNow(to) {
		return
	}
	if w.look(); w.hasNow(to) {
		return
	}
	w.mu.Lock()
	last, had := w.had[to]
	w.mu.Unlock()
	r := record{Kind: misled, Protocol: protocol, Name: w.name, To: to, Received: clock() - int64(ago), Detail: detail()}
	if had {
		r.Kind, r.Age = belated, time.Duration(r.Received-last)
	}
	if !had || r.Age > 0 {
		w.reports <- r
	}
}

// question is what is asked: by whom, from and to which address, when.
type question struct {
	client   string
	from, to netip.Addr
	sent     int64
}

func (q question) String() string { return fmt.Sprint(q.client, " ", q.from, " ", q.to, " ", q.sent) }

func parseQuestion(s string) (q question, err error) {
	var from, to string
	if _, err = fmt.Sscan(s, &q.client, &from, &to, &q.sent); err != nil {
		return q, err
	}
	if q.from, err = netip.ParseAddr(from); err == nil {
		q.to, err = netip.ParseAddr(to)
	}
	return q, err
}

// answerTo answers, and reports a question that came to the wrong one.
func (w *whoami) answerTo(text, protocol string, from netip.Addr) string {
	q, err := parseQuestion(text)
	if err != nil {
		w.reports <- record{Kind: misled, Protocol: protocol, Name: w.name, Detail: fmt.Sprintf("question %.80q: %v", text, err)}
		return ""
	}
	if from != q.from {
		w.reports <- record{Kind: misled, Protocol: protocol, Name: w.name, To: q.to, Detail: fmt.Sprintf("question %q came from %s", text, from)}
	}
	w.check(q.to, protocol, 0, func() string { return fmt.Sprintf("question %q", text) })
	return w.name + " " + text
}

func (w *whoami) serveUDP() error {
	s, err := net.ListenUDP("udp4", &net.UDPAddr{Port: whoamiPort})
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := s.ReadFromUDPAddrPort(b)
			if err != nil {
				continue // an error that ICMP told of
			}
			_, _ = s.WriteToUDPAddrPort([]byte(w.answerTo(string(b[:n]), byUDP, from.Addr().Unmap())), from)
		}
	}()
	return nil
}

func (w *whoami) serveTCP() error {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: whoamiPort})
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				continue
			}
			go func() {
				defer c.Close()
				from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
				lines := bufio.NewScanner(c)
				for c.SetReadDeadline(time.Now().Add(10*time.Second)) == nil && lines.Scan() {
					if _, err := fmt.Fprintln(c, w.answerTo(lines.Text(), byTCP, from)); err != nil {
						return
					}
				}
			}()
		}
	}()
	return nil
}

// tap reports packets that the stack was given and that are for somebody else. A bridge floods what it knows no port for: such a
// packet's hardware address is another one's, and so it is no PACKET_HOST; by a lane's end it would be.
func (w *whoami) tap() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IP))))
	if err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	go func() {
		b, oob := make([]byte, 64), make([]byte, 64)
		for {
			n, m, _, who, err := unix.Recvmsg(fd, b, oob, 0)
			at, ok := who.(*unix.SockaddrLinklayer)
			if err != nil || !ok || at.Pkttype != unix.PACKET_HOST || n < 20 {
				continue
			}
			w.check(netip.AddrFrom4([4]byte(b[16:20])), "packet", queued(oob[:m]), func() string {
				return fmt.Sprintf("a packet on device %d: % x", at.Ifindex, b[:min(n, 40)])
			})
		}
	}()
	return nil
}

// queued is for how long a packet has lain in the socket that the kernel gave it to.
func queued(oob []byte) time.Duration {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(all) == 0 || all[0].Header.Type != unix.SCM_TIMESTAMPNS || len(all[0].Data) < 16 {
		return 0
	}
	at := time.Unix(int64(binary.NativeEndian.Uint64(all[0].Data)), int64(binary.NativeEndian.Uint64(all[0].Data[8:])))
	return time.Since(at)
}

// ask asks an address until the program ends, by a way that asks once and gives up on an error.
func (w *whoami) ask(to netip.Addr, protocol string, once func(to netip.Addr, patience time.Duration) (said string, err error)) {
	pace := whoamiPace[protocol]
	for {
		time.Sleep(time.Duration(float64(pace.every) * (0.75 + rand.Float64()/2))) // the pace, jittered: not a wait for anything
		if w.hasNow(to) {
			continue
		}
		w.asked.Add(1)
		said, err := once(to, pace.patience)
		if err != nil {
			continue
		}
		w.take(to, protocol, said)
	}
}

// take reports an answer, which has the question in it.
func (w *whoami) take(to netip.Addr, protocol, said string) {
	name, rest, _ := strings.Cut(said, " ")
	q, err := parseQuestion(rest)
	r := record{Kind: answer, Protocol: protocol, Name: name, Client: w.name, To: to, Sent: q.sent, Received: clock(), Detail: said}
	if err != nil || q.to != to {
		r.Kind = misled
		r.Detail = fmt.Sprintf("answer %q to a question for %s: %v", said, to, err)
	} else if q.client != w.name {
		return // to one before it under this address, and on this port
	}
	w.reports <- r
}

// openPlainly opens and closes a connection whose packets are the kernel's, both ways: they record their route (RFC 791), which TCP answers
// in kind, and IP options are for no fast path.
func (w *whoami) openPlainly(to netip.Addr, d net.Dialer) error {
	d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
		const recordRoute, length, first = 7, 7, 4
		failed := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_OPTIONS, string([]byte{recordRoute, length, first, 0, 0, 0, 0, 0}))
		})
		return errors.Join(failed, err)
	}
	begun := clock()
	c, err := d.Dial("tcp4", netip.AddrPortFrom(to, whoamiPort).String())
	if err != nil {
		return err
	}
	w.reports <- record{Kind: answer, Protocol: bySYN, Name: to.String(), Client: w.name, To: to, Sent: begun, Received: clock()}
	return c.Close()
}

// askTCP asks on one connection for as long as it lasts (keep), or on one a question.
func (w *whoami) askTCP(keep bool) func(netip.Addr, time.Duration) (string, error) {
	var c *net.TCPConn
	var lines *bufio.Reader
	return func(to netip.Addr, patience time.Duration) (said string, err error) {
		if c == nil {
			d := net.Dialer{Timeout: patience, KeepAlive: -1}
			if !keep {
				if err := w.openPlainly(to, d); err != nil {
					return "", err
				}
			}
			dialled, err := d.Dial("tcp4", netip.AddrPortFrom(to, whoamiPort).String())
			if err != nil {
				return "", err
			}
			c = dialled.(*net.TCPConn)
			lines = bufio.NewReader(c)
		}
		defer func() {
			if err != nil {
				_ = c.SetLinger(0)
			}
			if err != nil || !keep {
				c.Close()
				c = nil
			}
		}()
		q := question{w.name, c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), to, clock()}
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return "", err
		}
		if _, err := fmt.Fprintln(c, q); err != nil {
			return "", err
		}
		said, err = lines.ReadString('\n')
		if said = strings.TrimSuffix(said, "\n"); err == nil && !strings.HasSuffix(said, " "+q.String()) {
			w.reports <- record{Kind: misled, Protocol: byStream, Name: w.name, To: to, Detail: fmt.Sprintf("answer %q to %q", said, q)}
		}
		return said, err
	}
}

// askUDP asks by one socket until it fails.
func (w *whoami) askUDP() func(netip.Addr, time.Duration) (string, error) {
	var c *net.UDPConn
	return func(to netip.Addr, patience time.Duration) (said string, err error) {
		if c == nil {
			if c, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, whoamiPort))); err != nil {
				return "", err
			}
		}
		q := question{w.name, c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), to, clock()}
		_, err = fmt.Fprint(c, q)
		if errors.Is(err, unix.ECONNREFUSED) { // of the question before
			_, err = fmt.Fprint(c, q)
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		for b := make([]byte, 2000); err == nil; {
			var n int
			if n, err = c.Read(b); err != nil {
				break
			}
			if said = string(b[:n]); strings.HasSuffix(said, " "+q.String()) {
				return said, nil
			}
			w.take(to, byUDP, said) // late: to a question before
		}
		if err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || !w.hasNow(q.from)) {
			c.Close() // its address may be another one's by now
			c = nil
		}
		return said, err
	}
}

// echoes asks by ICMP.
type echoes struct {
	w    *whoami
	conn net.PacketConn

	mu      sync.Mutex
	waiting map[uint16]chan string // by identifier
	next    uint16
}

func (w *whoami) echoes() (*echoes, error) {
	conn, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("echoes: %w", err)
	}
	e := &echoes{w: w, conn: conn, waiting: map[uint16]chan string{}}
	go e.read()
	return e, nil
}

// read hands replies to those who wait. They say where they come from, whatever is in them.
func (e *echoes) read() {
	b := make([]byte, 2000)
	for {
		n, from, err := e.conn.ReadFrom(b)
		if err != nil || n < 8 || b[0] != 0 {
			continue
		}
		e.mu.Lock()
		waiting := e.waiting[binary.BigEndian.Uint16(b[4:])]
		e.mu.Unlock()
		select {
		case waiting <- from.String() + " " + string(b[8:n]):
		default: // late, or nobody's
		}
	}
}

// ask sends one echo, each destination with an identifier of its own.
func (e *echoes) ask(to netip.Addr, patience time.Duration) (string, error) {
	id := binary.BigEndian.Uint16(to.AsSlice()[2:])
	replies := make(chan string, 1)
	e.mu.Lock()
	e.waiting[id] = replies
	e.next++
	seq := e.next
	e.mu.Unlock()
	q := question{e.w.name, netip.IPv4Unspecified(), to, clock()}
	p := append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16([]byte{8, 0, 0, 0}, id), seq), q.String()...)
	binary.BigEndian.PutUint16(p[2:], checksum(p))
	if _, err := e.conn.WriteTo(p, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return "", err
	}
	select {
	case said := <-replies:
		return said, nil
	case <-time.After(patience):
		return "", os.ErrDeadlineExceeded
	}
}

// checksum is the Internet's.
func checksum(b []byte) uint16 {
	var sum uint32
	for i, v := range b {
		sum += uint32(v) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
