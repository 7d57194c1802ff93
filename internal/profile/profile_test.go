// SPDX-License-Identifier: Apache-2.0

package profile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

var update = flag.Bool("update", false, "write golden files anew")

// ofFile is a profile of what is in testdata.
func ofFile(t *testing.T, name string, rate float64) *Profile {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".folded"))
	if err != nil {
		t.Fatal(err)
	}
	p := &Profile{Schema: Schema, Version: "test", Workload: "tcp_rr", Params: econbench.Params{"request": "1"}, Lab: "emulated", Kernel: "6.18.1-test",
		Placement: econbench.Split, Wire: econbench.WireDefault, Frequency: 1000, Window: 2, Transactions: &rate,
		Sampled: []Sampled{{Side: "client", CPUs: []int{0}, Window: 2, Samples: 590}, {Side: "server", CPUs: []int{1}, Window: 2, Samples: 491, Lost: 3, Unresolved: 1}}}
	if p.Arm, err = econbench.ParseArm(name); err != nil {
		t.Fatal(err)
	}
	p.Baseline, _ = econbench.ParseArm("overlay")
	if p.Stacks, err = ParseFolded(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	p.Warnings = p.Doubt()
	return p
}

func pair(t *testing.T) (base, arm *Profile) {
	t.Helper()
	base, arm = ofFile(t, "overlay", 10000), ofFile(t, "oncache", 20000)
	arm.Arm, _ = econbench.ParseArm("overlay+oncache")
	return base, arm
}

// golden holds what is rendered against a file.
func golden(t *testing.T, name string, render func(io.Writer) error) {
	t.Helper()
	var b bytes.Buffer
	if err := render(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what is rendered now: go test ./internal/profile -update, and look at it\n%s", path, b.Bytes())
	}
	if filepath.Ext(name) == ".svg" {
		for dec := xml.NewDecoder(&b); err == nil; {
			_, err = dec.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGolden(t *testing.T) {
	base, arm := pair(t)
	golden(t, "overlay.svg", base.RenderSVG)
	golden(t, "overlay.txt", base.RenderText)
	d := Compare(base, arm)
	golden(t, "oncache.diff.svg", d.RenderSVG)
	golden(t, "oncache.diff.txt", d.RenderText)
	golden(t, "oncache.diff.folded", d.WriteFolded)
}

// A profile without a sample is drawn too.
func TestEmpty(t *testing.T) {
	p := &Profile{Frequency: 999, Window: 2}
	for _, render := range []func(io.Writer) error{p.RenderSVG, p.RenderText, Compare(p, p).RenderSVG, Compare(p, p).RenderText} {
		var b bytes.Buffer
		if err := render(&b); err != nil || strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
			t.Errorf("%v:\n%s", err, b.String())
		}
	}
}

// Costs are by the work done: at twice the rate the same number of samples is half the cost.
func TestCompare(t *testing.T) {
	base, arm := pair(t)
	d := Compare(base, arm)
	function := func(name string) Change {
		i := slices.IndexFunc(d.Functions, func(c Change) bool { return c.Name == name })
		if i < 0 {
			t.Fatalf("no %s in %+v", name, d.Functions)
		}
		return d.Functions[i]
	}
	// A sample is 1 ms of CPU time; in 2 s there were 20000 and 40000 transactions: 50 ns and 25 ns for each.
	for name, want := range map[string]Change{
		"tcp_sendmsg":                  {Cost: [2]float64{5000, 3250}, Under: [2]float64{12000, 4500}},
		"vxlan_xmit":                   {Cost: [2]float64{4000, 0}, Under: [2]float64{4000, 0}},
		"bpf:oncache_egress":           {Cost: [2]float64{0, 1250}, Under: [2]float64{0, 1250}},
		"net_rx_action" + interruptsOn: {Cost: [2]float64{2000, 1250}, Under: [2]float64{6500, 1750}},
		"schedule":                     {Cost: [2]float64{6000, 3750}, Under: [2]float64{6000, 3750}},
	} {
		got := function(name)
		if got.Cost != want.Cost || got.Under != want.Under || got.Change != want.Cost[1]-want.Cost[0] || got.Uncertain {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	margin := 1.96 * math.Sqrt(100*50*50+130*25*25)
	if got := function("tcp_sendmsg"); math.Abs(got.Margin-margin) > 1e-6 {
		t.Errorf("margin %g, want %g", got.Margin, margin)
	}
	if d.Whole.Samples != [2]int{491, 400} || d.Whole.Cost != [2]float64{24550, 10000} || d.Unit != "ns per transaction" {
		t.Errorf("whole %+v in %s", d.Whole, d.Unit)
	}
	var kinds, functions [2]int
	for side := range 2 {
		for _, c := range d.Kinds {
			kinds[side] += c.Samples[side]
		}
		for _, c := range d.Functions {
			functions[side] += c.Samples[side]
		}
	}
	if kinds != d.Whole.Samples || functions != d.Whole.Samples {
		t.Errorf("kinds have %v, functions %v, all %v", kinds, functions, d.Whole.Samples)
	}
	if got := Compare(base, base).Whole; got.Change != 0 || !got.Uncertain {
		t.Errorf("with itself: %+v", got)
	}
}

// Without transactions cost is by the payload; where one of two was not counted, both are by time.
func TestUnits(t *testing.T) {
	base, arm := pair(t)
	throughput := 1e9
	stream := *base
	stream.Transactions, stream.Throughput = nil, &throughput
	// A sample is 1 ms of CPU time; in 2 s there were 2e6 kB: 0.5 ns for each.
	if u := stream.Unit(); u.Name != "ns per kB of payload" || math.Abs(u.Of-0.5) > 1e-9 {
		t.Errorf("%+v", u)
	}
	if d := Compare(&stream, arm); d.Unit != "µs in each second" || math.Abs(d.Whole.Cost[ofArm]-400*500) > 1e-6 {
		t.Errorf("%s: %+v", d.Unit, d.Whole)
	}
	stream.Throughput = nil
	if doubts := stream.Doubt(); !strings.Contains(strings.Join(doubts, "\n"), "the work done was not counted") {
		t.Errorf("%q", doubts)
	}
}

func TestDoubt(t *testing.T) {
	base, _ := pair(t)
	base.Sampled = []Sampled{{Side: "client", CPUs: []int{0, 1}, Window: 2, Samples: 3500, Unresolved: 400}, {Side: "server", CPUs: []int{2}, Window: 2, Samples: 2000, Throttled: 1}}
	text := strings.Join(base.Doubt(), "\n")
	for _, want := range []string{"client: 3500 samples of 4000 that were due", "client: 11 % of the samples", "server: 0 samples found no room, and the kernel stopped sampling 1 times", "others' processes took CPU time, 2 %"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "\n") + 1; n != 4 {
		t.Errorf("%d doubts:\n%s", n, text)
	}
}

// On CPUs of their own both hosts have all that their agents saw; on one CPU nothing counts twice.
func TestJoin(t *testing.T) {
	frames := []string{"netperf", "send", Idle, Others, "ksoftirqd", "netserver"}
	client := Recording{Side: "client", CPUs: []int{0}, Frames: frames, Samples: 100, Stacks: []Counted{
		{OwnerHost, []int{0, 1}, 30}, {OwnerKernel, []int{2}, 20}, {OwnerKernel, []int{4}, 5}, {OwnerOther, []int{3}, 45}}}
	server := Recording{Side: "server", CPUs: []int{1}, Frames: frames, Stacks: []Counted{
		{OwnerHost, []int{5, 99, -1}, 40}, {OwnerKernel, []int{2}, 20}, {OwnerKernel, []int{4}, 5}, {OwnerOther, []int{3}, 35}}}
	folded := func(list []Stack) string {
		var b bytes.Buffer
		if err := WriteFolded(&b, list); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	list, sampled := Join(client, server)
	if got, want := folded(list), "client;[idle] 20\nclient;[others] 45\nclient;ksoftirqd 5\nclient;netperf;send 30\nserver;[idle] 20\nserver;[others] 35\nserver;ksoftirqd 5\nserver;netserver 40\n"; got != want {
		t.Errorf("apart:\n%s", got)
	}
	if len(sampled) != 2 || sampled[0].Samples != 100 || sampled[1].Side != "server" {
		t.Errorf("%+v", sampled)
	}
	server.CPUs = []int{0}
	list, _ = Join(client, server)
	if got, want := folded(list), "client;netperf;send 30\nmachine;[idle] 20\nmachine;[others] 5\nmachine;ksoftirqd 5\nserver;netserver 40\n"; got != want {
		t.Errorf("shared:\n%s", got)
	}
}

func TestKinds(t *testing.T) {
	for name, want := range map[string]Kind{
		"send": KindUser, "[libc.so.6]": KindUser, "tcp_sendmsg_locked_[k]": KindTransport, "udp_sendmsg_[k]": KindTransport, "inet_sendmsg_[k]": KindTransport,
		"__ip_queue_xmit_[k]": KindIP, "fib_table_lookup_[k]": KindIP, "nf_conntrack_in_[k]": KindNetfilter, "nft_do_chain_[k]": KindNetfilter,
		"vxlan_xmit_[k]": KindTunnel, "br_handle_frame_[k]": KindTunnel, "udp_tunnel_xmit_skb_[k]": KindTunnel, "veth_xmit_[k]": KindDriver, "macvlan_start_xmit_[k]": KindDriver,
		"virtnet_poll_[k]": KindDriver, "bpf:oncache_egress": KindBPF, "tcx_run_[k]": KindBPF, "lookup_nulls_elem_raw_[k]": KindBPF, "bpf_skb_adjust_room_[k]": KindBPF, "__netif_receive_skb_core_[k]": KindCore,
		"process_backlog_[k]": KindCore, "__dev_queue_xmit_[k]": KindCore, "net_rx_action_[k]": KindCore, "kmem_cache_alloc_[k]": KindMemory, "_copy_to_iter_[k]": KindMemory,
		"__schedule_[k]": KindScheduler, "try_to_wake_up_[k]": KindScheduler, "hrtimer_interrupt_[k]": KindScheduler, "do_syscall_64_[k]": KindEntry, "handle_softirqs_[k]": KindEntry,
		"asm_sysvec_apic_timer_interrupt_[k]": KindEntry, "ext4_write_[k]": KindOther,
	} {
		if got := KindOf(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestParseFolded(t *testing.T) {
	list, err := ParseFolded(strings.NewReader("# a comment\n\na;b 2\n a;b 3 \nc 0\nd e;f 1\n"))
	if err != nil || fmt.Sprint(list) != "[{[a b] 5} {[c] 0} {[d e f] 1}]" {
		t.Errorf("%v %v", list, err)
	}
	for text, want := range map[string]string{
		"a;b\n":                            `line 1: "a;b": want frames with semicolons, a blank and a number`,
		"a;b 1\na;b x\n":                   `line 2: count "x": want a whole number from 0 to 2147483647`,
		"a;b -1\n":                         `line 1: count "-1"`,
		"a;b 2147483648":                   `line 1: count "2147483648"`,
		"a;b 1.5\n":                        `line 1: count "1.5"`,
		strings.Repeat("a", longestLine+1): "folded stacks: ",
	} {
		if _, err := ParseFolded(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

// FuzzFolded: what was read is written, and read again as the same.
func FuzzFolded(f *testing.F) {
	for _, name := range []string{"overlay", "oncache"} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".folded"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("a;;b 1\n;\x00c\xff 2\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseFolded(bytes.NewReader(b))
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := WriteFolded(&first, list); err != nil {
			t.Fatal(err)
		}
		again, err := ParseFolded(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatalf("%v:\n%s", err, first.Bytes())
		}
		if err := WriteFolded(&second, again); err != nil || !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%v: was\n%s\nis\n%s", err, first.Bytes(), second.Bytes())
		}
		var whole int
		for _, s := range list {
			whole += s.Count
		}
		root := &node{}
		root.add(list, ofArm, 1)
		work, apart := (&Profile{Stacks: list}).Apart()
		for _, n := range apart {
			work += n
		}
		if work != whole {
			t.Errorf("%d of %d samples", work, whole)
		}
	})
}
