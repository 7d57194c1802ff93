// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench"
)

var update = flag.Bool("update", false, "rewrite the expected pictures in testdata")

// functions is in testdata like an arm: a bridge and a tunnel between two namespaces on Debian's 6.1, whose functions can be watched, in a
// virtual machine that is slow (go test ./internal/tracer -run TestTrace -keep FOLDER).
const functions = "functions"

// arms are those that testdata has some 8 ms of, as two agents recorded them on one kernel that lets tracepoints alone be watched.
var arms = []string{"host", "overlay", "overlay+oncache"}

// recorded reads an arm's records.
func recorded(t testing.TB, arm string) (r [2]Record) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", arm+".events.json"))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pictureOf is an arm's picture, with what a run would have known of it.
func pictureOf(t testing.TB, name string) *Picture {
	t.Helper()
	arm, err := econbench.ParseArm(name)
	if err != nil {
		t.Fatal(err)
	}
	r := recorded(t, name)
	path, err := Follow(r[0], r[1], true)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ratio := 25e3, 27e3, 1.0
	p := &Picture{
		Schema: Schema, Version: "test", Arm: arm, Workload: "tcp_rr", Params: econbench.Params{"request": "1"}, Lab: "emulated",
		Kernel: "6.18", Placement: econbench.Split, Wire: econbench.WireDefault, Rate: &before, RateAfter: &after, Path: path,
		Skipped: []Skipped{{"ip_rcv", "too fast"}, {"ip_output", "too slow"}, {"udp_rcv", "too fast"}},
	}
	if arm.Fastpath != econbench.NoFastpath {
		p.Carried = []econbench.Carried{{Host: "client", Direction: "egress", Eligible: 10, Hits: 10, HitRatio: &ratio}, {Host: "server", Direction: "ingress"}}
	}
	return p
}

// kinds are the kinds of devices and the bridges that stages of a direction are at.
func kinds(p Path, direction string) (list []string) {
	for _, s := range p.Stages {
		if s.Direction == direction {
			list = append(list, s.Kind)
			if s.Bridge != "" {
				list = append(list, "bridge")
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Both directions pass what the arm is made of, and the fast path cuts out what it says.
func TestFollow(t *testing.T) {
	for arm, want := range map[string]struct {
		kinds                                   []string
		namespaces, devices, softirqs, backlogs int
	}{
		"host":            {[]string{"", "veth"}, 2, 2, 2, 2},
		"overlay":         {[]string{"", "bridge", "veth", "vxlan"}, 6, 10, 4, 8},
		"overlay+oncache": {[]string{"", "macvlan", "veth"}, 4, 4, 2, 2},
	} {
		r := recorded(t, arm)
		p, err := Follow(r[0], r[1], true)
		if err != nil {
			t.Errorf("%s: %v", arm, err)
			continue
		}
		for _, direction := range []string{Request, Response} {
			if got := kinds(p, direction); !slices.Equal(got, want.kinds) {
				t.Errorf("%s: %s passes %q, want %q", arm, direction, got, want.kinds)
			}
		}
		c := p.Whole
		if c.Namespaces != want.namespaces || c.Devices != want.devices || c.Softirqs != want.softirqs || c.Backlogs != want.backlogs || c.Wakeups != 2 {
			t.Errorf("%s: %+v, want %+v and 2 wake-ups", arm, c, want)
		}
		if c.Netfilter != nil {
			t.Errorf("%s: %d netfilter hooks, where none could be seen", arm, *c.Netfilter)
		}
		if p.Followed < 20 || p.Followed > p.Transactions {
			t.Errorf("%s: %d of %d transactions", arm, p.Followed, p.Transactions)
		}
		wantInOrder(t, arm, p)
	}
}

// Where functions can be watched each stage is one of its own, and netfilter's hooks are counted.
func TestFollowFunctions(t *testing.T) {
	r := recorded(t, functions)
	p, err := Follow(r[0], r[1], true)
	if err != nil {
		t.Fatal(err)
	}
	wantInOrder(t, functions, p)
	count := map[string]int{}
	for _, s := range p.Stages {
		count[s.Hook]++
		if s.Bridge != "" {
			t.Errorf("%s: forwarded by %s, whose functions are stages", s.Hook, s.Bridge)
		}
	}
	for hook, want := range map[string]int{
		"vxlan_rcv": 2, "br_handle_frame_finish": 2, "br_dev_queue_push_xmit": 2, "ip_output": 4, "ip_local_deliver": 4, ProgramPrefix + "onlooker": 1,
	} {
		if count[hook] != want {
			t.Errorf("%s: %d times, want %d", hook, count[hook], want)
		}
	}
	if c := p.Whole; c.Netfilter == nil || *c.Netfilter != count[hookNetfilter] || *c.Netfilter == 0 || c.Backlogs != 4 || c.Devices != 6 {
		t.Errorf("counted %+v, %d netfilter hooks", c, count[hookNetfilter])
	}
}

// wantInOrder checks what holds of every path.
func wantInOrder(t *testing.T, arm string, p Path) {
	t.Helper()
	first, last := p.Stages[0], p.Stages[len(p.Stages)-1]
	if !sends[first.Hook] || first.Side != econbench.ClientHost || first.At != 0 || !receives[last.Hook] || last.Side != econbench.ClientHost || last.Direction != Response {
		t.Errorf("%s: from %+v to %+v", arm, first, last)
	}
	for i, s := range p.Stages[1:] {
		if s.At < p.Stages[i].At || s.Since < 0 {
			t.Errorf("%s: stage %d at %v, after one at %v", arm, i+1, s.At, p.Stages[i].At)
		}
	}
	if sum := p.Request.Stages + p.Response.Stages; sum != len(p.Stages) || p.Whole.Stages != sum {
		t.Errorf("%s: %d and %d stages of %d", arm, p.Request.Stages, p.Response.Stages, len(p.Stages))
	}
	if both := p.Request.Seconds + p.Response.Seconds; both <= 0 || both > p.Whole.Seconds*1.2 {
		t.Errorf("%s: %v and %v of %v", arm, p.Request.Seconds, p.Response.Seconds, p.Whole.Seconds)
	}
}

// With two clocks all but the wire is what it was, however far they are apart; what nobody saw is shared out evenly.
func TestTwoClocks(t *testing.T) {
	for _, arm := range arms {
		r := recorded(t, arm)
		one, err := Follow(r[0], r[1], true)
		if err != nil {
			t.Fatal(err)
		}
		for _, ahead := range []int64{3_600_000_000_000, -1_000_000, 0} {
			apart := recorded(t, arm)
			for i := range apart[1].Events {
				e := &apart[1].Events[i]
				e.At += uint64(ahead)
				if e.SoftirqSince != 0 {
					e.SoftirqSince += uint64(ahead)
				}
			}
			two, err := Follow(apart[0], apart[1], false)
			if err != nil {
				t.Fatalf("%s, %d ns apart: %v", arm, ahead, err)
			}
			wantInOrder(t, arm, two)
			if len(two.Stages) != len(one.Stages) || two.OneClock {
				t.Fatalf("%s, %d ns apart: %d stages, by one clock %d", arm, ahead, len(two.Stages), len(one.Stages))
			}
			reckoned := 0
			for i, s := range two.Stages {
				if o := one.Stages[i]; s.Hook != o.Hook || s.Side != o.Side || s.Lane != o.Lane || s.Direction != o.Direction {
					t.Errorf("%s: stage %d is %s on %s, by one clock %s on %s", arm, i, s.Hook, s.Side, o.Hook, o.Side)
				}
				if s.Reckoned {
					reckoned++
				}
			}
			if reckoned != 2 {
				t.Errorf("%s: %d stages are reckoned, want the two that follow the wire", arm, reckoned)
			}
			if off := math.Abs(float64(two.Whole.Seconds/one.Whole.Seconds) - 1); off > 0.05 {
				t.Errorf("%s: %v in all, by one clock %v", arm, two.Whole.Seconds, one.Whole.Seconds)
			}
		}
	}
}

// Transactions that the recording cut, or that lack a part, count nowhere.
func TestPartsOfTransactions(t *testing.T) {
	r := recorded(t, "overlay")
	all, err := Follow(r[0], r[1], true)
	if err != nil {
		t.Fatal(err)
	}
	lost := recorded(t, "overlay")
	var reads int
	lost[1].Events = slices.DeleteFunc(lost[1].Events, func(e Event) bool { // every second request is never read
		if lost[1].Hooks[e.Hook] == "sock_recv_length" {
			reads++
			return reads%2 == 0
		}
		return false
	})
	half, err := Follow(lost[0], lost[1], true)
	if err != nil || half.Transactions < all.Transactions/2-1 || half.Transactions > all.Transactions/2+1 {
		t.Errorf("%d transactions, %v: want half of %d", half.Transactions, err, all.Transactions)
	}
	if !slices.EqualFunc(half.Stages, all.Stages, func(a, b Stage) bool { return a.Hook == b.Hook && a.Lane == b.Lane }) {
		t.Errorf("another path:\n%v\n%v", half.Stages, all.Stages)
	}
	for name, change := range map[string]func(*[2]Record){
		"no events":          func(r *[2]Record) { r[0].Events, r[1].Events = nil, nil },
		"no server":          func(r *[2]Record) { r[1].Events = nil },
		"no client":          func(r *[2]Record) { r[0].Events = nil },
		"one transaction":    func(r *[2]Record) { r[0].Events = r[0].Events[:20] },
		"hooks of no name":   func(r *[2]Record) { r[0].Hooks = nil },
		"the same direction": func(r *[2]Record) { clearDirections(r) },
	} {
		for _, oneClock := range []bool{true, false} {
			r := recorded(t, "overlay")
			change(&r)
			if p, err := Follow(r[0], r[1], oneClock); !errors.Is(err, ErrNothing) {
				t.Errorf("%s, one clock %v: %d transactions, %v", name, oneClock, p.Transactions, err)
			}
		}
	}
}

func clearDirections(r *[2]Record) {
	for i := range r {
		for j := range r[i].Events {
			r[i].Events[j].Direction = request
		}
	}
}

// A program that gets the CPU to read is a stage; one that gets it for reasons of its own is none, and makes no path another one.
func TestWakeups(t *testing.T) {
	client, server := made(nil)
	runs := uint16(len(server.Hooks))
	server.Hooks = append(server.Hooks, hookRuns)
	var events Events
	for i, e := range server.Events {
		run := Event{At: e.At - 1, Hook: runs, Netns: 2, Direction: request, CPU: 1}
		if server.Hooks[e.Hook] == "tcp_recvmsg" || i%3 == 0 { // the first is a wake-up
			events = append(events, run)
		}
		events = append(events, e)
	}
	server.Events = events
	p, err := Follow(client, server, true)
	if err != nil || p.Followed != 3 || p.Whole.Wakeups != 1 {
		t.Errorf("%d transactions, %d wake-ups, %v: want 3 and 1", p.Followed, p.Whole.Wakeups, err)
	}
}

// made are records of three transactions of a few stages each, and of a fourth that is not over.
func made(change func(transaction int, e *Event)) (client, server Record) {
	hooks := []string{"tcp_sendmsg", "tcp_recvmsg", "netif_receive_skb", hookNetfilter, ProgramPrefix + "judge", hookBacklog}
	ns := func(inode uint32, role string) []Namespace {
		return []Namespace{{Inode: inode, Role: role, Devices: []Device{{Index: 2, Name: "eth0", Kind: "veth"}, {Index: 3, Name: "p0", Kind: "veth", Master: "br0"}}}}
	}
	client = Record{Side: "client", Hooks: hooks, Namespaces: ns(1, RoleContainer)}
	server = Record{Side: "server", Hooks: hooks, Namespaces: ns(2, RoleHost)}
	for n := range 4 {
		for _, at := range []struct {
			to *Record
			Event
		}{
			{&client, Event{At: 0, Hook: 0, Payload: 10}},
			{&client, Event{At: 100, Hook: 3, Ifindex: 2, Detail: 2<<8 | 3}},
			{&client, Event{At: 150, Hook: 4, Ifindex: 2, Detail: 7}},
			{&server, Event{At: 200, Hook: 5, Ifindex: 2, Detail: 1}},
			{&server, Event{At: 300, Hook: 2, Ifindex: 2, SoftirqSince: 5250, Softirq: 3, CPU: 1}},
			{&server, Event{At: 350, Hook: 3, Ifindex: 3, Detail: 7<<8 | 2, SoftirqSince: 5250, Softirq: 3, CPU: 1}},
			{&server, Event{At: 400, Hook: 1, Payload: 10, CPU: 1}},
			{&server, Event{At: 500, Hook: 0, Payload: 20, CPU: 1, Direction: response}},
			{&client, Event{At: 700, Hook: 2, Ifindex: 2, Direction: response}},
			{&client, Event{At: 900, Hook: 1, Payload: 20, Direction: response}},
		} {
			e := at.Event
			e.At += 5000 + uint64(n)*1000
			if e.SoftirqSince != 0 {
				e.SoftirqSince += uint64(n) * 1000
			}
			e.Netns = map[string]uint32{"client": 1, "server": 2}[at.to.Side]
			if change != nil {
				change(n, &e)
			}
			at.to.Events = append(at.to.Events, e)
		}
	}
	return client, server
}

// Each stage says where it was, and what the hook's own number means.
func TestStages(t *testing.T) {
	client, server := made(nil)
	client.Programs = []Program{{Name: "judge", Runs: 1}, {Name: "idle", Runs: 0.1}}
	p, err := Follow(client, server, true)
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ namespace, lane, kind, text, at string }
	var got []place
	for _, s := range p.Stages {
		got = append(got, place{s.Side + " " + s.Namespace, s.Lane, s.Kind, s.Text(), micros(s.At)})
	}
	want := []place{
		{"client container", LaneProgram, "", "program sends 10 B", "0.0"},
		{"client container", LaneStack, "", "netfilter OUTPUT", "0.1"},
		{"client container", "eth0", "veth", "BPF judge → redirect", "0.1"},
		{"server host", "eth0", "veth", "into the backlog of CPU 1", "0.2"},
		{"server host", "eth0", "veth", "receive", "0.3"},
		{"server host", "br0", "bridge", "netfilter bridge FORWARD", "0.3"},
		{"server host", LaneProgram, "", "program has read 10 B", "0.4"},
		{"server host", LaneProgram, "", "program sends 20 B", "0.5"},
		{"client container", "eth0", "veth", "receive", "0.7"},
		{"client container", LaneProgram, "", "program has read 20 B", "0.9"},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(place{})); d != "" {
		t.Errorf("stages (-want +got):\n%s", d)
	}
	if p.Transactions != 3 || p.Followed != 3 || p.Between != 1e-6 {
		t.Errorf("%d of %d transactions, %v apart: want all 3, 1 µs", p.Followed, p.Transactions, p.Between)
	}
	if c := p.Whole; *c.Netfilter != 2 || c.Devices != 3 || c.Backlogs != 1 || c.Softirqs != 1 || c.Namespaces != 2 {
		t.Errorf("counted %+v with %d netfilter hooks", c, *c.Netfilter)
	}
	if len(p.Programs) != 1 || p.Programs[0].Name != "judge" || p.Programs[0].Side != "client" {
		t.Errorf("programs %+v, want the one that runs each time", p.Programs)
	}
}

// The path that most took is told; CPUs and the time of stages make no other path of it, a verdict does.
func TestLargestGroup(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(n int, e *Event)
		followed int
		at       econbench.Seconds // of the third stage
	}{
		"same":            {nil, 3, 150e-9},
		"another CPU":     {func(n int, e *Event) { e.CPU += uint16(n) }, 3, 150e-9},
		"another queue":   {func(n int, e *Event) { e.Detail += int32(n) * b2i(e.Hook == 5) }, 3, 150e-9},
		"one verdict":     {func(n int, e *Event) { e.Detail += b2i(n == 1 && e.Hook == 4) }, 2, 150e-9},
		"one device":      {func(n int, e *Event) { e.Ifindex += uint32(b2i(n == 2 && e.Hook == 2)) }, 2, 150e-9},
		"times":           {func(n int, e *Event) { e.At += uint64(n) * 10 * uint64(b2i(e.Hook == 4)) }, 3, 160e-9},
		"softirq by two":  {func(n int, e *Event) { e.SoftirqSince += 100 * uint64(b2i(e.Hook == 3 && e.SoftirqSince != 0)) }, 3, 150e-9},
		"another softirq": {func(n int, e *Event) { e.Softirq += uint8(b2i(n == 0 && e.SoftirqSince != 0)) }, 2, 150e-9},
	} {
		client, server := made(c.change)
		p, err := Follow(client, server, true)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Followed != c.followed || math.Abs(float64(p.Stages[2].At-c.at)) > 1e-12 || p.Whole.Softirqs != 1 {
			t.Errorf("%s: %d transactions, third stage at %v, %d softirqs: want %d, %v, 1", name, p.Followed, p.Stages[2].At, p.Whole.Softirqs, c.followed, c.at)
		}
	}
}

func b2i(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		verdict(-1): "next", verdict(0): "pass", verdict(2): "drop", verdict(7): "redirect", verdict(99): "99",
		netfilterHook(2, 0): "PREROUTING", netfilterHook(7, 4): "bridge POSTROUTING", netfilterHook(5, 0): "family 5 hook 0", netfilterHook(2, 9): "family 2 hook 9",
		softirqName(3): "NET_RX", softirqName(2): "NET_TX", softirqName(77): "softirq 77",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if d := cmp.Diff([]string{"one two", "threefourfive", "six"}, wrap(" one two  threefourfive six", 8)); d != "" {
		t.Error(d)
	}
}

// Each form of a picture is what it was. -update rewrites them; look at the SVG before it is committed.
func TestGolden(t *testing.T) {
	var list []*Picture
	for _, arm := range append(arms, functions) {
		p := pictureOf(t, arm)
		list = append(list, p)
		golden(t, arm+".txt", p.RenderText)
		golden(t, arm+".json", p.RenderJSON)
		golden(t, arm+".svg", func(w io.Writer) error { return p.RenderSVG(w, 100e-6) })
	}
	golden(t, "summary.txt", func(w io.Writer) error { return RenderSummary(w, list) })
}

func golden(t *testing.T, name string, render func(io.Writer) error) {
	t.Helper()
	var got bytes.Buffer
	if err := render(&got); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

// label is a text of a picture, with the box that it takes.
type label struct {
	text           string
	x0, x1, y0, y1 float64
}

// labels reads the texts of an SVG, which has to be well-formed. Boxes are those of a wide font.
func labels(t *testing.T, svg []byte) (list []label) {
	t.Helper()
	for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "text" {
			continue
		}
		at := map[string]string{}
		for _, a := range start.Attr {
			at[a.Name.Local] = a.Value
		}
		var text string
		if err := dec.DecodeElement(&text, &start); err != nil {
			t.Fatal(err)
		}
		number := func(name string) float64 {
			v, err := strconv.ParseFloat(at[name], 64)
			if err != nil {
				t.Fatalf("text %q: %s=%q", text, name, at[name])
			}
			return v
		}
		width := float64(len([]rune(text))) * number("font-size") * 0.58
		x := number("x") - width*map[string]float64{"middle": 0.5, "end": 1}[at["text-anchor"]]
		list = append(list, label{text, x, x + width, number("y") - number("font-size")*0.8, number("y") + number("font-size")*0.2})
	}
}

// No label lies over another one or outside of the picture, whatever scale it is drawn to.
func TestLabelsAreApart(t *testing.T) {
	client, server := made(nil)
	other, err := Follow(client, server, true)
	if err != nil {
		t.Fatal(err)
	}
	pictures := []*Picture{{Workload: `<&">`, Path: other}}
	for _, arm := range append(arms, functions) {
		pictures = append(pictures, pictureOf(t, arm))
	}
	for _, p := range pictures {
		for _, span := range []econbench.Seconds{0, 100e-6, 400e-6, 10e-3} {
			var b bytes.Buffer
			if err := p.RenderSVG(&b, span); err != nil {
				t.Fatal(err)
			}
			list := labels(t, b.Bytes())
			if len(list) < 10 {
				t.Errorf("%s: %d labels", p.Arm, len(list))
			}
			for i, l := range list {
				if l.x0 < 0 || l.x1 > svgWidth {
					t.Errorf("%s, to %v: %q reaches from %.0f to %.0f", p.Arm, span, l.text, l.x0, l.x1)
				}
				for _, o := range list[:i] {
					if l.x0 < o.x1 && o.x0 < l.x1 && l.y0 < o.y1 && o.y0 < l.y1 {
						t.Errorf("%s, to %v: %q lies over %q", p.Arm, span, l.text, o.text)
					}
				}
			}
		}
	}
}

// What a picture says of the tracing's cost is what the rates say, and nothing where they say nothing.
func TestCost(t *testing.T) {
	p := pictureOf(t, "host")
	p.Between = 50e-6 // 20k/s, and without 25k and 27k
	if cost, ok := p.Cost(); !ok || math.Abs(float64(cost)-11.48e-6) > 0.01e-6 {
		t.Errorf("cost %v, want 11.48 µs", cost)
	}
	for want, change := range map[string]func(*Picture){
		"it takes about 11.5 µs of each": func(*Picture) {},
		"machine's own noise":            func(p *Picture) { p.Between = 30e-6 },
		"what it costs is not known":     func(p *Picture) { p.Rate = nil },
		"costs is not known":             func(p *Picture) { p.Between = 0 },
		"two clocks":                     func(p *Picture) { p.OneClock = false },
		"took other paths":               func(p *Picture) { p.Followed = p.Transactions / 3 },
		"not seen: ip_rcv, udp_rcv: too fast\nnot seen: ip_output: too slow": func(*Picture) {},
	} {
		changed := *p
		change(&changed)
		if notes := strings.Join(changed.Notes(), "\n"); !strings.Contains(notes, want) {
			t.Errorf("notes %q, want %q", notes, want)
		}
	}
}

func TestEvents(t *testing.T) {
	want := Events{{At: 1, SKB: 1 << 63, Detail: -1, Hook: 65535, Device: [16]byte{'e', 't', 'h'}}, {Direction: 1, Tunnelled: 1}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Events
	if err := json.Unmarshal(b, &got); err != nil || !slices.Equal(got, want) || got[0].DeviceName() != "eth" {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	for text, wrong := range map[string]string{`7`: "events: json", `"!"`: "events: illegal base64", `"AAAA"`: "events: unexpected EOF", `"////"`: "events: flate", `"SwQA"`: "events:"} {
		if err := json.Unmarshal([]byte(text), &got); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want %q", text, err, wrong)
		}
	}
}

// Whatever an agent says, there is a path or an error.
func FuzzFollow(f *testing.F) {
	for _, arm := range arms {
		r := recorded(f, arm)
		for i := range r {
			r[i].Events = r[i].Events[:min(len(r[i].Events), 90)]
		}
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	client, server := made(nil)
	b, err := json.Marshal([2]Record{client, server})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, false)
	f.Fuzz(func(t *testing.T, b []byte, oneClock bool) {
		var r [2]Record
		if json.Unmarshal(b, &r) != nil {
			return
		}
		path, err := Follow(r[0], r[1], oneClock)
		if err != nil {
			return
		}
		p := &Picture{Path: path}
		var svg bytes.Buffer
		if err := errors.Join(p.RenderSVG(&svg, 0), p.RenderText(io.Discard), p.RenderJSON(io.Discard)); err != nil {
			t.Fatal(err)
		}
		labels(t, svg.Bytes())
	})
}
