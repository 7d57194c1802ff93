// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// Path is what most transactions passed, stage by stage.
type Path struct {
	OneClock     bool              `json:"one_clock"`    // both hosts are one kernel
	Transactions int               `json:"transactions"` // that were recorded whole
	Followed     int               `json:"followed"`     // of these, those of exactly this path; of the side with fewer, from two clocks
	Between      econbench.Seconds `json:"between"`      // mean time from one request to the next, of all; while tracing
	Lost         int               `json:"lost"`         // events that there was no room for
	Programs     []Program         `json:"programs"`     // BPF programs on devices that ran
	Stages       []Stage           `json:"stages"`
	Request      Counts            `json:"request"`
	Response     Counts            `json:"response"`
	Whole        Counts            `json:"whole"`
}

// Counts sum a path, or one direction of it, up.
type Counts struct {
	Seconds    econbench.Seconds `json:"seconds"`
	Stages     int               `json:"stages"`
	Namespaces int               `json:"namespaces"`
	Devices    int               `json:"devices"`   // bridges included
	Netfilter  *int              `json:"netfilter"` // hooks with something on them; null: this kernel does not let them be seen
	Backlogs   int               `json:"backlogs"`  // queues from which a softirq takes packets on
	Softirqs   int               `json:"softirqs"`  // rounds
	Wakeups    int               `json:"wakeups"`   // programs that got the CPU
}

// ErrNothing says that no transaction was recorded from its beginning to its end.
var ErrNothing = errors.New("no transaction was seen whole")

// Follow finds the transactions in what both hosts recorded, groups them by the stages that they passed, and tells of the largest
// group. Transactions that began before the recording or went on after it are left out.
func Follow(client, server Record, oneClock bool) (p Path, err error) {
	if oneClock {
		p, err = follow(whole, client, server)
	} else {
		p, err = followApart(client, server)
	}
	if err != nil {
		return p, err
	}
	p.OneClock, p.Lost = oneClock, client.Lost+server.Lost
	p.Programs = programsThatRan(client, server)
	bridged(p.Stages, client, server)
	p.count(slices.Contains(client.Hooks, hookNetfilter) && slices.Contains(server.Hooks, hookNetfilter))
	return p, nil
}

// leastRuns is how often a program has to run for each transaction to be on its way.
const leastRuns = 0.5

func programsThatRan(records ...Record) (list []Program) {
	list = []Program{} // none is not unknown
	for _, r := range records {
		for _, p := range r.Programs {
			if p.Runs >= leastRuns {
				p.Side = r.Side
				list = append(list, p)
			}
		}
	}
	return list
}

// bridged notes which packets a bridge has passed on from one of its ports to another, where its own hooks can't be seen.
func bridged(stages []Stage, records ...Record) {
	for i := 1; i < len(stages); i++ {
		before, s := stages[i-1], &stages[i]
		if before.Side != s.Side || before.Namespace != s.Namespace || before.Lane == s.Lane {
			continue
		}
		if m := master(records, before); m != "" && m == master(records, *s) {
			s.Bridge = m
		}
	}
}

// master is the bridge that a stage's device is a port of.
func master(records []Record, s Stage) string {
	for _, r := range records {
		for _, n := range r.Namespaces {
			for _, d := range n.Devices {
				if r.Side == s.Side && n.Role == s.Namespace && d.Name == s.Lane {
					return d.Master
				}
			}
		}
	}
	return ""
}

// scope is the part of transactions that one clock has seen.
type scope int

const (
	whole  scope = iota // both hosts'
	waits               // the client's
	serves              // the server's
)

// follow does it for events of one clock.
func follow(part scope, records ...Record) (p Path, err error) {
	all, between := transactions(part, events(records))
	if len(all) == 0 {
		return p, notSeen(records)
	}
	p.Transactions, p.Between = len(all), between
	groups := map[string][][]seen{}
	for _, t := range all {
		k := key(t)
		groups[k] = append(groups[k], t)
	}
	var largest string
	for k, g := range groups {
		if n := len(groups[largest]); len(g) > n || len(g) == n && k < largest {
			largest = k
		}
	}
	p.Followed = len(groups[largest])
	p.Stages = medians(groups[largest])
	return p, nil
}

// notSeen says how far it got.
func notSeen(records []Record) error {
	var seen []string
	for _, r := range records {
		seen = append(seen, fmt.Sprintf("%s: %d events in %d namespaces", r.Side, len(r.Events), len(r.Namespaces)))
	}
	return fmt.Errorf("%w (%s)", ErrNothing, strings.Join(seen, ", "))
}

// events puts all records into the order of their one clock.
func events(records []Record) (all []seen) {
	for i := range records {
		for _, e := range records[i].Events {
			all = append(all, seen{e, &records[i]})
		}
	}
	slices.SortStableFunc(all, func(a, b seen) int { return cmp.Compare(a.At, b.At) })
	return all
}

// transactions cuts the events into transactions and keeps those that are whole; between is the mean time between two beginnings.
// One flow has one transaction at a time.
func transactions(part scope, all []seen) (list [][]seen, between econbench.Seconds) {
	var begun []int
	for i := range all {
		if before := max(i-1, 0); begins(part, all[before], all[i]) {
			begun = append(begun, i)
		}
	}
	for n := 1; n < len(begun); n++ { // the last one has no successor that would show that it is whole
		if t := trimmed(part, all[begun[n-1]:begun[n]]); t != nil {
			list = append(list, wakeups(t))
		}
	}
	if n := len(begun) - 1; n > 0 {
		between = seconds((all[begun[n]].At - all[begun[0]].At) / uint64(n))
	}
	return list, between
}

// begins says whether an event is the first of a transaction. The server's part begins with the first that follows a response.
func begins(part scope, before, e seen) bool {
	if part == serves {
		if e.hook() == hookRuns {
			return false
		}
		return e.Direction == request && before.Direction == response
	}
	return e.record.Side == econbench.ClientHost && sends[e.hook()] && e.Direction == request
}

// trimmed cuts off what came after a transaction's end; nil: it is not whole.
func trimmed(part scope, t []seen) []seen {
	at := func(side string, hook map[string]bool, direction uint8) (last int) {
		last = -1
		for i, e := range t {
			if e.record.Side == side && hook[e.hook()] && e.Direction == direction {
				last = i
			}
		}
		return last
	}
	read, answered := at(econbench.ServerHost, receives, request), at(econbench.ServerHost, sends, response)
	end := at(econbench.ClientHost, receives, response)
	switch part {
	case whole:
		if read < 0 || answered < read || end < answered {
			return nil
		}
	case waits:
		if end < 0 {
			return nil
		}
	case serves:
		end = len(t) - 1
		for end >= 0 && t[end].Direction == request {
			end-- // the program's, which has gone back to waiting
		}
		if read < 0 || answered < read || end <= answered {
			return nil
		}
	}
	return t[:end+1]
}

// wakeups leaves those changes of tasks out that are no stage: a program gets the CPU to read what has come, or for reasons of its own.
func wakeups(t []seen) (kept []seen) {
	for i, e := range t {
		if e.hook() != hookRuns || readsNext(t, i) {
			kept = append(kept, e)
		}
	}
	return kept
}

// readsNext says whether what follows on the same host in the same direction is the program's read.
func readsNext(t []seen, i int) bool {
	for _, e := range t[i+1:] {
		if e.record.Side == t[i].record.Side && e.Direction == t[i].Direction {
			return receives[e.hook()]
		}
	}
	return false
}

// round is a softirq from its beginning to its end.
type round struct {
	cpu   uint16
	since uint64
}

// sameRound is how far apart the hooks of two agents on one kernel may note the beginning of one softirq, in ns. One that ends
// and the next one take longer.
const sameRound = 1000

// rounds numbers the softirq rounds of a transaction, stage by stage; 0 is none.
func rounds(t []seen) []int {
	var known []round
	list := make([]int, len(t))
	for i, e := range t {
		if e.SoftirqSince == 0 {
			continue
		}
		n := slices.IndexFunc(known, func(r round) bool {
			return r.cpu == e.CPU && max(r.since, e.SoftirqSince)-min(r.since, e.SoftirqSince) < sameRound
		})
		if n < 0 {
			n = len(known)
			known = append(known, round{e.CPU, e.SoftirqSince})
		}
		list[i] = n + 1
	}
	return list
}

// key is the same for transactions of the same path: stages, places and softirq rounds, but neither CPUs nor times.
func key(t []seen) string {
	var b strings.Builder
	r := rounds(t)
	for i, e := range t {
		detail := e.Event.Detail
		if h := e.hook(); h == hookBacklog || h == hookRuns {
			detail = 0 // a CPU, a task
		}
		fmt.Fprintf(&b, "%s %d %d %d %d %d %d %d %d %d\n", e.record.Side, e.Hook, e.Netns, e.Ifindex, e.Direction, e.Tunnelled, e.Payload, detail, e.Softirq, r[i])
	}
	return b.String()
}

// medians are the stages of transactions of one path. Medians of times since the beginning are in order, as the times are.
func medians(group [][]seen) (stages []Stage) {
	r := rounds(group[0])
	at, since := make([]uint64, len(group)), make([]uint64, len(group))
	for i, e := range group[0] {
		for j, t := range group {
			at[j], since[j] = t[i].At-t[0].At, 0
			if i > 0 {
				since[j] = t[i].At - t[i-1].At
			}
		}
		s := e.stage()
		s.Round, s.At, s.Since = r[i], seconds(median(at)), seconds(median(since))
		stages = append(stages, s)
	}
	return stages
}

// median of values, whose order it changes; 0 of none.
func median(values []uint64) uint64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

func seconds(ns uint64) econbench.Seconds { return econbench.Seconds(float64(ns) / 1e9) }

// count sums the path up.
func (p *Path) count(netfilter bool) {
	for to, direction := range map[*Counts]string{&p.Request: Request, &p.Response: Response, &p.Whole: ""} {
		*to = countsOf(p.Stages, direction)
		if !netfilter {
			to.Netfilter = nil
		}
	}
	p.Whole.Seconds = p.Stages[len(p.Stages)-1].At
	if turn := slices.IndexFunc(p.Stages, func(s Stage) bool { return s.Direction == Response && sends[s.Hook] }); turn > 0 {
		p.Request.Seconds = p.Stages[turn-1].At
		p.Response.Seconds = p.Whole.Seconds - p.Stages[turn].At
	}
}

// countsOf counts in the stages of one direction, "" for both.
func countsOf(stages []Stage, direction string) (c Counts) {
	type named struct{ side, namespace, device string }
	namespaces, devices, softirqs := map[named]bool{}, map[named]bool{}, map[int]bool{}
	c.Netfilter = new(int)
	for _, s := range stages {
		if direction != "" && s.Direction != direction {
			continue
		}
		c.Stages++
		namespaces[named{s.Side, s.Namespace, ""}] = true
		for _, device := range []string{s.Lane, s.Bridge} {
			if device != "" && device != LaneProgram && device != LaneStack {
				devices[named{s.Side, s.Namespace, device}] = true
			}
		}
		if s.Round > 0 {
			softirqs[s.Round] = true
		}
		switch {
		case s.Hook == hookNetfilter:
			*c.Netfilter++
		case s.Hook == hookRuns:
			c.Wakeups++
		case s.Queues():
			c.Backlogs++
		}
	}
	c.Namespaces, c.Devices, c.Softirqs = len(namespaces), len(devices), len(softirqs)
	return c
}
