// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/gob"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// ledger knows who held which address when, and judges what containers report of each other by that.
type ledger struct {
	mu       sync.Mutex
	holds    map[netip.Addr][]hold
	last     map[asking]answered
	here     map[string]net.Conn // by name: those whose reports are read
	answers  map[string]int      // by protocol
	asked    int
	late     map[string]int // by protocol; "packet" for what no socket saw
	latest   time.Duration
	wrong    []string
	wrongs   int
	readers  sync.WaitGroup
	listener net.Listener
}

// hold is a time in which a container may have had an address: it begins before the engine was asked to give it, and ends after the
// engine said that it was taken.
type hold struct {
	name     string
	from, to int64
}

// asking is somebody who asks an address by some protocol.
type asking struct {
	client   string
	to       netip.Addr
	protocol string
}

func (a asking) String() string { return fmt.Sprintf("%s to %s by %s", a.client, a.to, a.protocol) }

// answered says who gave the last answer, and when it was asked for.
type answered struct {
	name string
	sent int64
}

// tooLate is for how long at most something may reach a container by an address that it has no more: packets may lie in its sockets, and an agent
// on a busy machine is told in its turn. Programs of an agent that hangs stop after half of that.
const tooLate = 10 * time.Second

func newLedger() *ledger {
	return &ledger{holds: map[netip.Addr][]hold{}, last: map[asking]answered{}, here: map[string]net.Conn{}, answers: map[string]int{}, late: map[string]int{}}
}

// listen takes reports at a socket until close.
func (l *ledger) listen(path string) (err error) {
	if l.listener, err = net.Listen("unix", path); err != nil {
		return err
	}
	l.readers.Go(func() {
		for {
			c, err := l.listener.Accept()
			if err != nil {
				return
			}
			l.readers.Go(func() { l.read(c) })
		}
	})
	return nil
}

func (l *ledger) close() {
	_ = l.listener.Close()
	l.mu.Lock()
	for _, c := range l.here {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.readers.Wait()
}

func (l *ledger) read(c net.Conn) {
	defer c.Close()
	from, name := gob.NewDecoder(c), ""
	for {
		var r record
		if from.Decode(&r) != nil { // its container ended
			break
		}
		if r.Kind == hello {
			name = r.Name
			l.mu.Lock()
			l.here[name] = c
			l.mu.Unlock()
			continue
		}
		l.take(r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.here[name] == c {
		delete(l.here, name)
	}
}

// give says that a container is about to be given an address.
func (l *ledger) give(name string, a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holds[a] = append(l.holds[a], hold{name, clock(), math.MaxInt64})
}

// gone says that a container has no address any more, the engine says.
func (l *ledger) gone(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, all := range l.holds {
		for i, h := range all {
			if h.name == name && h.to == math.MaxInt64 {
				all[i].to = clock()
			}
		}
	}
}

// take judges one report.
func (l *ledger) take(r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r.Kind {
	case asked:
		l.asked += r.Count
	case misled:
		l.fault(fmt.Sprintf("%s by %s: %s", r.Name, r.Protocol, r.Detail))
	case belated:
		l.late[r.Protocol]++
		l.latest = max(l.latest, r.Age)
		if r.Age > tooLate {
			l.fault(fmt.Sprintf("%s by %s, %v after it had lost %s: %s", r.Name, r.Protocol, r.Age, r.To, r.Detail))
		}
	case answer:
		l.answers[r.Protocol]++
		right := slices.ContainsFunc(l.holds[r.To], func(h hold) bool {
			return h.name == r.Name && h.from <= r.Received && h.to >= r.Sent
		})
		if nameless(r.Protocol) {
			right = r.Name == r.To.String()
		}
		if !right {
			l.fault(fmt.Sprintf("%s asked %s by %s and was answered by %s, which did not have that address: %+v", r.Client, r.To, r.Protocol, r.Name, r))
		}
		if key := (asking{r.Client, r.To, r.Protocol}); r.Sent > l.last[key].sent {
			l.last[key] = answered{r.Name, r.Sent}
		}
	}
}

// nameless is what the kernel answers: it says its address alone.
func nameless(protocol string) bool { return protocol == byEcho || protocol == bySYN }

func (l *ledger) fault(text string) {
	if l.wrongs++; len(l.wrong) < 20 {
		l.wrong = append(l.wrong, text)
	}
}

// silent lists who was not answered by the one who has the address now, to a question asked since then.
func (l *ledger) silent(has map[netip.Addr]string, since int64) (list []asking) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for from, client := range has {
		for to, server := range has {
			for _, protocol := range whoamiProtocols {
				key := asking{client, to, protocol}
				got := l.last[key]
				if from != to && (got.sent < since || !nameless(protocol) && got.name != server) {
					list = append(list, key)
				}
			}
		}
	}
	return list
}

// faults hands over what was wrong since the last time.
func (l *ledger) faults() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list, l.wrong = l.wrong, nil
	return list
}

func (l *ledger) total() (answers int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.answers {
		answers += n
	}
	return answers
}

// TestLedger is of the oracle itself: what it lets pass, and what it does not.
func TestLedger(t *testing.T) {
	a, b := netip.MustParseAddr("198.19.100.2"), netip.MustParseAddr("198.19.100.3")
	for _, c := range []struct {
		name  string
		r     record
		wrong bool
	}{
		{"by who has it", record{Name: "new", To: a, Sent: 350, Received: 360}, false},
		{"by who had it when it was sent", record{Name: "old", To: a, Sent: 190, Received: 390}, false},
		{"by who got it before the answer came", record{Name: "new", To: a, Sent: 210, Received: 310}, false},
		{"by who had it no more", record{Name: "old", To: a, Sent: 201, Received: 310}, true},
		{"by who did not have it yet", record{Name: "new", To: a, Sent: 210, Received: 299}, true},
		{"by one of another address", record{Name: "other", To: a, Sent: 350, Received: 360}, true},
		{"an echo", record{Protocol: byEcho, Name: a.String(), To: a, Sent: 350, Received: 360}, false},
		{"an echo of another address", record{Protocol: byEcho, Name: b.String(), To: a, Sent: 350, Received: 360}, true},
		{"a stray", record{Kind: misled, Name: "new"}, true},
		{"one that lay in its socket", record{Kind: belated, Name: "old", Age: time.Second}, false},
		{"one long after", record{Kind: belated, Name: "old", Age: time.Minute}, true},
	} {
		l := newLedger()
		l.holds[a] = []hold{{"old", 100, 200}, {"new", 300, math.MaxInt64}}
		l.holds[b] = []hold{{"other", 100, math.MaxInt64}}
		if c.r.Kind == hello {
			c.r.Kind = answer
		}
		l.take(c.r)
		if got := len(l.faults()) > 0; got != c.wrong {
			t.Errorf("%s: wrong: %t, want %t", c.name, got, c.wrong)
		}
	}
	l := newLedger()
	has := map[netip.Addr]string{a: "new", b: "other"}
	for _, protocol := range whoamiProtocols {
		l.take(record{Kind: answer, Protocol: protocol, Client: "new", To: b, Name: "other", Sent: 100})
		l.take(record{Kind: answer, Protocol: protocol, Client: "other", To: a, Name: "new", Sent: 100})
	}
	if n := len(l.silent(has, 100)); n != 0 {
		t.Errorf("%d silent of those who have been answered", n)
	}
	if n := len(l.silent(has, 101)); n != 2*len(whoamiProtocols) {
		t.Errorf("%d silent since then, want all %d", n, 2*len(whoamiProtocols))
	}
	if has[b] = "another"; len(l.silent(has, 100)) != len(whoamiProtocols)*2-2 {
		t.Errorf("silent: %v, want all but what the kernel of %s answers", l.silent(has, 100), b)
	}
}
