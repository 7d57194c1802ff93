// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/fastpath"
	"github.com/econbench/econbench/internal/image"
	"github.com/econbench/econbench/internal/lab"
	"github.com/econbench/econbench/internal/netspace"
	"github.com/econbench/econbench/internal/tune"
)

var (
	eventCount = flag.Int("events", 30, "events that each fast path goes through in TestFastpathEvents; thousands find what is rare")
	eventSeed  = flag.Uint64("event-seed", 1, "seed of their order")
	eventPaths = flag.String("event-fastpaths", "", "fast paths that go through them (default: all of overlays'); none is the kernel's path alone, for comparison")
)

const (
	eachHost = 6 // containers at first
	// talkAgain is how long whoever lives may take to be heard by all after an event. Engines gossip of each other's containers, which
	// takes a second or so; after the restart of one they tell each other all of it in up to a minute.
	talkAgain = 2 * time.Minute
	// followSYN is how long after a connection was opened, by the kernel's path, all other answers may take.
	followSYN = 20 * time.Second
)

// TestFastpathEvents has containers on two hosts, all of which ask each other's names all the time, while they are stopped, killed,
// replaced, moved, given each other's addresses, while engines are restarted and the fast path is switched, detached and attached. Whoever
// answers has to be who had the address; all have to be heard again after each round of events, and to be on the fast path.
func TestFastpathEvents(t *testing.T) {
	names := strings.Split(*eventPaths, ",")
	if *eventPaths == "" {
		names = nil
		for _, p := range fastpath.All() {
			if b, ok := p.(econbench.Bound); ok && slices.Contains(b.Topologies(), "overlay") {
				names = append(names, p.Name())
			}
		}
	}
	for i, name := range names {
		t.Run(name, func(t *testing.T) {
			u := newTurmoil(t, name)
			if u.restartEvery = 250; *eventCount < 2*u.restartEvery { // in a short test once, for the first of the fast paths
				u.restartEvery = max(1, *eventCount/2)
				u.spared = i > 0
			}
			u.run()
		})
	}
}

// dweller is a container.
type dweller struct {
	host int
	name string // never used again
	id   string
	addr netip.Addr
}

// turmoil is a test at work.
type turmoil struct {
	*testing.T
	hosts    [2]*engineHost
	fastpath string // econbench.NoFastpath: none
	r        *rand.Rand
	l        *ledger
	folder   string // of the containers' and the test's
	image    string
	all      []netip.Addr

	mu       sync.Mutex
	dwellers []*dweller
	named    int
	mode     econbench.Order
	attached bool

	restartEvery int  // events until an engine is restarted, which takes half a minute
	restarts     int  // so often
	spared       bool // no engine is restarted

	counts   map[string]int // events by kind
	slow     []string
	slowest  time.Duration
	docker   []string // what the kernel's path alone did not mend either
	counters econbench.Counters
	before   []econbench.Counters // of the agents at work, as of when they were last looked at
}

func newTurmoil(t *testing.T, fastpath string) *turmoil {
	t.Helper()
	u := &turmoil{
		T: t, hosts: sharedHosts(t), fastpath: fastpath, r: rand.New(rand.NewPCG(*eventSeed, 0)), l: newLedger(),
		counts: map[string]int{}, counters: econbench.Counters{}, mode: econbench.OrderOn,
	}
	for _, h := range u.hosts {
		h.web.Timeout = time.Minute // an engine that attaches a container waits for its swarm's manager
	}
	overlayOf(t, u.hosts)
	platform, err := image.HostPlatform()
	if err != nil {
		t.Fatal(err)
	}
	u.image = image.Tools().Ref(platform)
	for i := range 2*eachHost + 2 { // two more than there are containers
		u.all = append(u.all, netip.AddrFrom4([4]byte{198, 19, 100, byte(10 + i)}))
	}
	u.folder, err = os.MkdirTemp(built.dir, "o") // a socket's path has 108 bytes
	if err == nil {
		err = u.l.listen(filepath.Join(u.folder, filepath.Base(whoamiSocket)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range u.dwellers {
			u.remove(d)
		}
		u.l.close()
	})
	return u
}

// run goes through the events, some at a time.
func (u *turmoil) run() {
	var all sync.WaitGroup
	for i := range 2 * eachHost {
		d := &dweller{host: i % 2, addr: u.all[i]}
		u.dwellers = append(u.dwellers, d)
		all.Go(func() { u.move(d, i%2, d.addr) })
	}
	all.Wait()
	u.settle("the beginning", clock())
	u.attach()
	u.settle("attaching", clock())
	for round, done := 0, 0; done < *eventCount && !u.Failed() && u.hasTime(); round++ {
		events := u.round
		if n := done / u.restartEvery; n > u.restarts && !u.spared {
			u.restarts, events = n, u.engineRestarts
		}
		kinds := events()
		done += len(kinds)
		u.settle(fmt.Sprintf("round %d (%s)", round, strings.Join(kinds, ", ")), clock())
	}
	u.ended()
}

// hasTime says whether go test's own limit leaves time for another round; how many events there were is told at the end.
func (u *turmoil) hasTime() bool {
	limit, ok := u.Deadline()
	return !ok || time.Until(limit) > 4*time.Minute
}

// ended tells the figures, and looks for what agents did not let go of.
func (u *turmoil) ended() {
	if u.fastpath != econbench.NoFastpath && !u.Failed() {
		u.leaks()
		u.detach()
		u.settle("detaching", clock())
		for i := range u.hosts {
			if n := u.lanes(i); n != 0 {
				u.Errorf("host %d: %d lanes are left", i, n)
			}
		}
	}
	u.l.mu.Lock()
	defer u.l.mu.Unlock()
	c, n := u.counters, 0
	for _, kind := range slices.Sorted(maps.Keys(u.counts)) {
		n += u.counts[kind]
		u.Logf("%5d %s", u.counts[kind], kind)
	}
	u.Logf("%5d events (seed %d); %d questions, answers %v, wrong ones %d; late %v, the latest %v; slowest to talk again %v", n, *eventSeed, u.l.asked,
		u.l.answers, u.l.wrongs, u.l.late, u.l.latest, u.slowest)
	for _, direction := range []string{econbench.Egress, econbench.Ingress} {
		if seen, hits := c[direction+"."+econbench.CounterSeen], c[direction+"."+econbench.CounterHits]; seen > 0 {
			u.Logf("%s: %.0f segments seen, %.0f hits (%.3f), %.0f misses", direction, seen, hits, hits/seen, c[direction+"."+econbench.CounterMisses])
		}
	}
	u.Logf("lost: %.0f refused, %.0f failed", c["lost.refused"], c["lost.failed"])
	for _, text := range append(u.slow, u.docker...) {
		u.Log(text) // not the fast path's doing: it is the same without
	}
}

// has is who has which address at the moment.
func (u *turmoil) has() map[netip.Addr]string {
	has := map[netip.Addr]string{}
	for _, d := range u.dwellers {
		has[d.addr] = d.name
	}
	return has
}

// settle waits until all talk again and are on the fast path.
func (u *turmoil) settle(after string, since int64) {
	u.Helper()
	silent, opened, fast := u.await(since)
	took := time.Duration(clock() - since).Round(time.Millisecond)
	u.slowest = max(u.slowest, took)
	u.Logf("%s: %v until all talk after %s; %d answers", time.Now().Format(time.TimeOnly), took, after, u.l.total())
	if took > 5*time.Second {
		u.slow = append(u.slow, fmt.Sprintf("%v until all talked again, %v of it until the kernel's path opened all connections, after %s", took, opened.Round(time.Millisecond), after))
	}
	text := fmt.Sprintf("after %s, in %v: %d are not answered: %v", after, took, len(silent), silent[:min(8, len(silent))])
	switch {
	case fast:
		u.Errorf("%s; connections are opened, by the kernel's path", text)
	case len(silent) > 0:
		u.blame(text, silent)
	}
	for _, text := range u.l.faults() {
		u.Errorf("after %s: %s", after, text)
	}
	if u.attached && !u.Failed() {
		u.carries(after)
	}
}

// await waits until all are answered. Connections with IP options are opened by the kernel's path, whatever is attached: where that works and the
// rest does not follow, it is the fast path's fault. opened is how long the first took.
func (u *turmoil) await(since int64) (silent []asking, opened time.Duration, fast bool) {
	type pair struct {
		client string
		to     netip.Addr
	}
	begin, deaf := time.Now(), map[pair]time.Time{} // until when the kernel's path did not work for them
	for ; ; time.Sleep(20 * time.Millisecond) {
		silent = u.l.silent(u.has(), since)
		for _, a := range silent {
			if _, known := deaf[pair{a.client, a.to}]; a.protocol == bySYN || !known {
				deaf[pair{a.client, a.to}] = time.Now()
			}
			if a.protocol == bySYN {
				opened = time.Since(begin)
			}
		}
		for _, a := range silent {
			fast = fast || time.Since(deaf[pair{a.client, a.to}]) > followSYN
		}
		if len(silent) == 0 || fast || time.Since(begin) > talkAgain {
			return silent, opened, fast
		}
	}
}

// blame is about connections that are not even opened: the engines' fault, when they are not without a fast path either. Then they
// are put right, as somebody would who runs them.
func (u *turmoil) blame(text string, silent []asking) {
	u.Helper()
	if u.attached && u.mode != econbench.OrderOff {
		u.program("set", someNetwork, "off")
		if still, _, _ := u.await(clock()); len(still) == 0 {
			u.Errorf("%s; without the fast path they are", text)
			return
		}
		u.program("set", someNetwork, string(u.mode))
	}
	u.docker = append(u.docker, "the engines' own: "+text)
	for range 3 {
		for _, d := range u.dwellers {
			if slices.ContainsFunc(silent, func(a asking) bool { return a.to == d.addr || a.client == d.name }) {
				u.remove(d)
				u.move(d, d.host, d.addr)
			}
		}
		if silent, _, _ = u.await(clock()); len(silent) == 0 {
			return
		}
	}
	u.Errorf("%s; nor after they were replaced, without a fast path", text)
}

// look reads both agents, and adds up what was counted since the last time.
func (u *turmoil) look() (list []fastpath.OverlayStatus) {
	s := lab.Stay{Engines: []string{u.hosts[0].url, u.hosts[1].url}, Network: someNetwork, Progress: func(string, ...any) {}, Log: io.Discard}
	all, err := s.Status(u.Context(), false)
	if err != nil {
		u.Fatal(err)
	}
	for i, agent := range all {
		var o fastpath.OverlayStatus
		if err := json.Unmarshal(agent.Agent.Detail, &o); err != nil || agent.Agent.Error != "" {
			u.Fatalf("%s: %v %q", agent.Engine, err, agent.Agent.Error)
		}
		list = append(list, o)
		for name, n := range o.Counters {
			if len(u.before) > i {
				n -= u.before[i][name]
			}
			u.counters[name] += n
		}
	}
	u.before = nil
	for _, o := range list {
		u.before = append(u.before, o.Counters)
	}
	return list
}

// carries waits until all containers are on the fast path and it carries what they send, as far as it is on.
func (u *turmoil) carries(after string) {
	u.Helper()
	var why string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		first := u.look()
		heard := u.l.total()
		for until := time.Now().Add(5 * time.Second); u.l.total() < heard+300 && time.Now().Before(until); time.Sleep(time.Millisecond) {
		}
		if why = u.complaint(first, u.look()); why == "" {
			return
		}
	}
	u.Errorf("after %s: %s", after, why)
}

// complaint says what is wrong with what both agents tell, "" for nothing.
func (u *turmoil) complaint(first, second []fastpath.OverlayStatus) string {
	if len(first) != 2 || len(second) != 2 {
		return fmt.Sprintf("%d agents, then %d", len(first), len(second))
	}
	for i, s := range second {
		var want, got []string
		for _, d := range u.dwellers {
			if d.host == i {
				want = append(want, d.addr.String())
			}
		}
		for _, c := range s.Containers {
			got = append(got, c.Address)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) || len(s.Refused) > 0 || s.Error != "" {
			return fmt.Sprintf("host %d: containers %v on the fast path, want %v; refused %v, error %q", i, got, want, s.Refused, s.Error)
		}
		if n := u.lanes(i); n != len(want) {
			return fmt.Sprintf("host %d: %d lanes for %d containers", i, n, len(want))
		}
		for _, direction := range []string{econbench.Egress, econbench.Ingress} {
			grown := func(name string) float64 {
				return s.Counters[direction+"."+name] - first[i].Counters[direction+"."+name]
			}
			// A connection with IP options before each short one takes the kernel's path.
			seen, hits := grown(econbench.CounterSeen), grown(econbench.CounterHits)
			if on := u.mode == econbench.OrderOn || u.mode == econbench.OrderClear; on && hits < 0.5*seen || on && hits == 0 || !on && hits > 0 {
				return fmt.Sprintf("host %d, %s: %.0f hits of %.0f segments with the fast path %s; %v", i, direction, hits, seen, u.mode, s.Counters)
			}
		}
	}
	return ""
}

// lanes counts the devices that agents have made in a host.
func (u *turmoil) lanes(host int) (n int) {
	u.Helper()
	err := netspace.InProcess(u.hosts[host].init, func() error {
		all, err := netspace.Whole(netlink.LinkList)
		for _, l := range all {
			if strings.HasPrefix(l.Attrs().Name, tune.LinkPrefix) {
				n++
			}
		}
		return err
	})
	if err != nil {
		u.Fatal(err)
	}
	return n
}

// leaks compares what agents hold after all the events with what fresh ones hold.
func (u *turmoil) leaks() {
	old := [2]int{u.files(0), u.files(1)}
	u.detach()
	u.attach()
	u.settle("attaching anew", clock())
	for i := range u.hosts {
		fresh := u.files(i)
		for end := time.Now().Add(10 * time.Second); old[i] > fresh+2 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			fresh = max(fresh, u.files(i)) // it takes in one container after the other, and puts off what comes with news
		}
		if old[i] > fresh+2 { // a connection to ask it, an event at work
			u.Errorf("host %d: the agent had %d open files after all events, a fresh one has %d", i, old[i], fresh)
		} else {
			u.Logf("host %d: the agent had %d open files after all events, a fresh one has %d", i, old[i], fresh)
		}
	}
}

// files counts what the agent on a host has open: programs, maps and links are files, too.
func (u *turmoil) files(host int) int {
	u.Helper()
	var list []struct{ ID string }
	u.hosts[host].must(u.T, "GET", `/containers/json?filters={"name":["econbench-fastpath"]}`, nil, &list)
	if len(list) != 1 {
		u.Fatalf("host %d: agents %v", host, list)
	}
	var agent struct{ State struct{ Pid int } }
	u.hosts[host].must(u.T, "GET", "/containers/"+list[0].ID+"/json", nil, &agent)
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/root/proc/%d/fd", u.hosts[host].init, agent.State.Pid))
	if err != nil {
		u.Fatal(err)
	}
	return len(open)
}

// program runs a command of the fast path's that has to succeed.
func (u *turmoil) program(args ...string) {
	u.Helper()
	start(u.T, sharedLab(), append([]string{"fastpath"}, args...)...).want(0)
}

// attach attaches, in the middle of whatever happens. Where a host has no container on the network at that moment, or an engine is just
// building or taking down its sandbox, it is refused, and asked for again.
func (u *turmoil) attach() {
	u.Helper()
	if u.fastpath == econbench.NoFastpath || u.attached {
		return
	}
	passing := func(said string) bool {
		return strings.Contains(said, "no container on") || strings.Contains(said, "no vxlan device")
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		p := start(u.T, sharedLab(), "fastpath", "attach", someNetwork, "--fastpath", u.fastpath)
		if p.wait() != 1 || !passing(p.said()) || time.Now().After(deadline) {
			p.want(0)
			break
		}
	}
	u.attached, u.mode, u.before = true, econbench.OrderOn, nil
}

func (u *turmoil) detach() {
	if u.attached {
		u.look() // what is counted until then is lost with them
		u.program("detach", someNetwork)
		u.attached, u.before = false, nil
	}
}

// try asks an engine until it does so: addresses that were let go of are taken for a while yet, says the swarm's manager.
func (u *turmoil) try(host int, method, path string, in, out any) {
	u.Helper()
	var err error
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err = u.hosts[host].ask(method, path, in, out)
		if err == nil || u.Context().Err() != nil || strings.Contains(err.Error(), "304 Not Modified") { // it is as it was to be
			return
		}
		if time.Now().After(deadline) {
			u.Errorf("host %d: %s %s: not within %v: %v", host, method, path, patience, err)
			return
		}
	}
}

// move starts a new container under an address.
func (u *turmoil) move(d *dweller, host int, addr netip.Addr) {
	u.Helper()
	own, err := os.Executable()
	if err != nil {
		u.Fatal(err)
	}
	u.mu.Lock()
	u.named++
	d.host, d.addr, d.name = host, addr, fmt.Sprintf("c%d", u.named)
	u.mu.Unlock()
	argv := []string{"/whoami"}
	for _, a := range u.all {
		argv = append(argv, a.String())
	}
	var made struct{ ID string }
	u.try(host, "POST", "/containers/create", map[string]any{
		"Image": u.image, "Cmd": argv, "Env": []string{whoamiEnv + "=" + d.name, "GOMAXPROCS=2"},
		"HostConfig":       map[string]any{"NetworkMode": someNetwork, "Binds": []string{own + ":/whoami:ro", u.folder + ":" + whoamiFolder}},
		"NetworkingConfig": map[string]any{"EndpointsConfig": map[string]any{someNetwork: endpointAt(addr)}},
	}, &made)
	d.id = made.ID
	u.begin(d)
}

func endpointAt(addr netip.Addr) map[string]any {
	return map[string]any{"IPAMConfig": map[string]string{"IPv4Address": addr.String()}}
}

// begin starts a container that is there.
func (u *turmoil) begin(d *dweller) {
	u.l.give(d.name, d.addr)
	u.try(d.host, "POST", "/containers/"+d.id+"/start", nil, nil)
}

func (u *turmoil) remove(d *dweller) {
	if d.id == "" {
		return
	}
	err := u.hosts[d.host].ask("DELETE", "/containers/"+d.id+"?force=1", nil, nil)
	for deadline := time.Now().Add(patience); err != nil && !strings.Contains(err.Error(), http.StatusText(http.StatusNotFound)); {
		if time.Now().After(deadline) {
			u.Error(err)
			break
		}
		time.Sleep(100 * time.Millisecond)
		err = u.hosts[d.host].ask("DELETE", "/containers/"+d.id+"?force=1", nil, nil)
	}
	u.l.gone(d.name)
	d.id = ""
}

func (u *turmoil) disconnect(d *dweller) {
	u.try(d.host, "POST", "/networks/"+someNetwork+"/disconnect", map[string]any{"Container": d.id}, nil)
	u.l.gone(d.name)
}

func (u *turmoil) connect(d *dweller, addr netip.Addr) {
	u.mu.Lock()
	d.addr = addr
	u.mu.Unlock()
	u.l.give(d.name, addr)
	u.try(d.host, "POST", "/networks/"+someNetwork+"/connect", map[string]any{"Container": d.id, "EndpointConfig": endpointAt(addr)}, nil)
}

// happening is what befalls containers: it takes something away, and then gives it back, or something else. In between others are
// befallen, too: a swarm's manager frees addresses in its own time, and who asks for one before waits for 20 s and is refused.
type happening struct {
	kind   string
	takes  int // containers
	weight int // how often it comes
	do     func(u *turmoil, d ...*dweller) (then func())
}

var happenings = []happening{
	{"stop and start", 1, 2, func(u *turmoil, d ...*dweller) func() {
		u.try(d[0].host, "POST", "/containers/"+d[0].id+"/stop?t=2", nil, nil)
		u.l.gone(d[0].name)
		return func() { u.begin(d[0]) }
	}},
	{"kill and start", 1, 2, func(u *turmoil, d ...*dweller) func() {
		u.try(d[0].host, "POST", "/containers/"+d[0].id+"/kill", nil, nil)
		u.try(d[0].host, "POST", "/containers/"+d[0].id+"/wait", nil, &struct{}{})
		u.l.gone(d[0].name)
		return func() { u.begin(d[0]) }
	}},
	{"restart", 1, 2, func(u *turmoil, d ...*dweller) func() {
		u.try(d[0].host, "POST", "/containers/"+d[0].id+"/restart?t=2", nil, nil) // it has its address all the time, as far as one can tell
		return func() {}
	}},
	{"a new container under its address", 1, 3, func(u *turmoil, d ...*dweller) func() {
		u.remove(d[0])
		return func() { u.move(d[0], d[0].host, d[0].addr) }
	}},
	{"a new container under its address on the other host", 1, 4, func(u *turmoil, d ...*dweller) func() {
		u.remove(d[0])
		return func() { u.move(d[0], 1-d[0].host, d[0].addr) }
	}},
	{"disconnected and connected", 1, 3, func(u *turmoil, d ...*dweller) func() {
		u.disconnect(d[0])
		return func() { u.connect(d[0], d[0].addr) }
	}},
	{"two exchange their addresses", 2, 4, func(u *turmoil, d ...*dweller) func() {
		u.disconnect(d[0])
		u.disconnect(d[1])
		return func() {
			a, b := d[0].addr, d[1].addr
			u.connect(d[0], b)
			u.connect(d[1], a)
		}
	}},
	{"one goes, its address is given to one that lives", 2, 2, func(u *turmoil, d ...*dweller) func() {
		u.disconnect(d[1])
		u.remove(d[0])
		return func() {
			a, b := d[0].addr, d[1].addr
			u.connect(d[1], a)
			u.move(d[0], d[0].host, b)
		}
	}},
}

// pick draws what befalls containers next, and of those that are left whom: nil for none.
func (u *turmoil) pick(left *[]*dweller) (h happening, whom []*dweller) {
	total := 0
	for _, h := range happenings {
		total += h.weight
	}
	n := u.r.IntN(total)
	for _, h = range happenings {
		if n -= h.weight; n < 0 {
			break
		}
	}
	if len(*left) >= h.takes {
		whom, *left = (*left)[:h.takes], (*left)[h.takes:]
	}
	return h, whom
}

// round has some containers befallen at once, and the fast path too, now and then. It returns the events' kinds.
func (u *turmoil) round() (kinds []string) {
	left, then := u.candidates(), make(chan func(), len(u.dwellers))
	var all sync.WaitGroup
	for range 6 + u.r.IntN(7) {
		if h, whom := u.pick(&left); whom != nil {
			kinds = append(kinds, h.kind)
			all.Go(func() { then <- h.do(u, whom...) })
		}
	}
	if u.attached {
		kinds = append(kinds, u.command()...)
	} // else a host might have no container at the moment, and none to come
	all.Wait()
	close(then)
	for give := range then {
		all.Go(give)
	}
	kinds = append(kinds, u.command()...)
	begin := time.Now()
	all.Wait()
	if took := time.Since(begin); took > 10*time.Second {
		u.slow = append(u.slow, fmt.Sprintf("the engines took %v for %s", took.Round(time.Millisecond), strings.Join(kinds, ", ")))
	}
	for _, kind := range kinds {
		u.counts[kind]++
	}
	return kinds
}

// command gives the fast path an order, now and then.
func (u *turmoil) command() (kinds []string) {
	if u.fastpath == econbench.NoFastpath {
		return nil
	}
	switch n := u.r.IntN(24); {
	case !u.attached && n < 12:
		u.attach()
		return []string{"attached"}
	case !u.attached || n >= 12:
		return nil
	case u.mode != econbench.OrderOn:
		return []string{u.order(econbench.OrderOn)}
	case n < 4:
		return []string{u.order(econbench.Order(econbench.Orders()[n]))}
	case n == 4:
		u.detach()
		return []string{"detached"}
	}
	return nil
}

// candidates are containers in an order that is drawn. No host is left without any, and none is crowded.
func (u *turmoil) candidates() []*dweller {
	var some [2]int
	for _, d := range u.dwellers {
		some[d.host]++
	}
	left := slices.DeleteFunc(slices.Clone(u.dwellers), func(d *dweller) bool { return some[d.host] < eachHost-1 })
	u.r.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
	return left
}

// order gives one to what is attached.
func (u *turmoil) order(o econbench.Order) string {
	u.program("set", someNetwork, string(o))
	if o != econbench.OrderClear {
		u.mode = o
	}
	return "set " + string(o)
}

// engineRestarts has an engine restarted, under its containers and its agent.
func (u *turmoil) engineRestarts() []string {
	h := u.r.IntN(2)
	was := u.attached
	u.detachOne(1 - h)
	up, err := lab.Current(u.Context(), lab.Options{Root: sharedLab()})
	if err != nil {
		u.Fatal(err)
	}
	if err = up.RestartEngine(u.Context(), u.hosts[h].url); err != nil { // late, on a busy machine
		u.docker = append(u.docker, err.Error())
		u.try(h, "GET", "/info", nil, nil)
	}
	var all sync.WaitGroup
	for _, d := range u.dwellers {
		if d.host == h {
			u.l.gone(d.name)
			all.Go(func() { u.begin(d) })
		}
	}
	all.Wait()
	if was {
		u.attach()
	}
	const kind = "an engine restarted"
	u.counts[kind]++
	return []string{kind}
}

// detachOne leaves the other host's agent to its fate.
func (u *turmoil) detachOne(host int) {
	if !u.attached {
		return
	}
	u.look()
	s := lab.Stay{Engines: []string{u.hosts[host].url}, Network: someNetwork, Progress: func(string, ...any) {}, Log: io.Discard}
	if err := s.Detach(u.Context()); err != nil && !errors.Is(err, lab.ErrNotAttached) {
		u.Fatal(err)
	}
	u.attached, u.before = false, nil
}
