// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"flag"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

var (
	attachCosts = flag.Int("attach-costs", 3, "rounds of what TestAttachCosts times, after one that warms up; dozens for figures worth telling")
	attachKind  = flag.String("attach-kind", "oncache", "the fast path, with its setting, that TestAttachCosts attaches")
)

// stopwatches add up what steps take.
type stopwatches struct {
	sync.Mutex
	spent map[string]time.Duration
}

func (s *stopwatches) begin(step string) (done func()) {
	began := time.Now()
	return func() {
		s.Lock()
		defer s.Unlock()
		s.spent[step] += time.Since(began)
	}
}

// take is what steps have taken since it was asked last.
func (s *stopwatches) take() map[string]time.Duration {
	s.Lock()
	defer s.Unlock()
	spent := s.spent
	s.spent = map[string]time.Duration{}
	return spent
}

// costs are what rounds took, by what was done, in ms.
type costs map[string][]float64

func (c costs) add(what string, d time.Duration, containers int) {
	c[what] = append(c[what], d.Seconds()*1000/float64(containers))
}

// String tells medians, and the least and the most.
func (c costs) String() string {
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c)) {
		all := slices.Sorted(slices.Values(c[what]))
		fmt.Fprintf(&b, "\n  %-34s %6.1f [%.1f, %.1f]", what, all[len(all)/2], all[0], all[len(all)-1])
	}
	return b.String()
}

// TestAttachCosts tells what it costs to take containers in, by the steps of it, and to let go of them: all at once, and one more on a
// network that is attached already, from when all is there that is looked for. What it demands is that all of them take part.
func TestAttachCosts(t *testing.T) {
	defer func(was func(string) func()) { stopwatch = was }(stopwatch)
	k := slices.IndexFunc(fastKinds(), func(k fastKind) bool { return k.name == *attachKind })
	if k < 0 {
		t.Fatalf("-attach-kind %s: there is none of that name", *attachKind)
	}
	for _, n := range []int{1, 10, 50} {
		host := twoHosts(t, fastKinds()[k])[0]
		for i := range n - 1 {
			_, leave := host.join(t, fmt.Sprintf("c%d", i), crowded(100+i), hardwareAddressOf(crowded(100+i)))
			t.Cleanup(leave)
		}
		watches := &stopwatches{spent: map[string]time.Duration{}}
		stopwatch = watches.begin
		c := costs{}
		for round := range 1 + *attachCosts {
			if round == 1 {
				clear(c)
			}
			attachCost(t, host, n, c, watches)
		}
		t.Logf("%d containers, ms: median [least, most]%s", n, c)
	}
}

// attachCost is a round: attach to n containers, one more, and detach.
func attachCost(t *testing.T, host *testHost, n int, c costs, watches *stopwatches) {
	t.Helper()
	watches.take()
	began := time.Now()
	host.attach(t, econbench.AttachOptions{})
	c.add("attach, each", time.Since(began), n)
	if got := host.inside(); got != n {
		t.Fatalf("%d containers take part, want %d", got, n)
	}
	for step, spent := range watches.take() {
		c.add("attach, each: "+step, spent, n)
	}
	began = time.Now()
	host.handedOver(t)
	c.add("and handed over to tcx, each", time.Since(began), n)
	watches.take()
	_, leave := host.join(t, "late", crowded(99), hardwareAddressOf(crowded(99)))
	defer leave()
	began = time.Now()
	for host.inside() != n+1 {
		if time.Since(began) > 10*time.Second {
			t.Fatal("one more does not take part after 10 s")
		}
		time.Sleep(200 * time.Microsecond)
	}
	c.add("one more", time.Since(began), 1)
	for step, spent := range watches.take() {
		c.add("one more: "+step, spent, 1)
	}
	began = time.Now()
	if err := host.detach(); err != nil {
		t.Fatal(err)
	}
	c.add("detach, each", time.Since(began), n+1)
}

// inside is how many containers take part: a status would look at all flows.
func (host *testHost) inside() int {
	o := host.attached.(*overlay)
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.endpoints)
}

// crowded are addresses of a host with many containers.
func crowded(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 19, 77, byte(i)}) }

func hardwareAddressOf(a netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{2, 66}, a.AsSlice()...)
}
