// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

func TestHandicapSetting(t *testing.T) {
	for s, want := range map[string]time.Duration{"0s": 0, "0": 0, "30ns": 30, "250ns": 250, "1us": 1000, "2.5µs": 2500, "1ms": 1e6} {
		if d, err := (Handicap{}).time(s); err != nil || d != want {
			t.Errorf("%q: %v, %v, want %v", s, d, err, want)
		}
	}
	const range_ = "want a time per frame from 0s to 1ms in whole nanoseconds, as in 250ns or 1us"
	for s, want := range map[string]string{
		"":       "handicap: has no setting: want a time per frame, as in handicap:250ns",
		"fast":   `handicap "fast": ` + range_,
		"250":    `handicap "250": ` + range_,
		"-1ns":   `handicap "-1ns": ` + range_,
		"0.5ns":  `handicap "0.5ns": ` + range_,
		"1001us": `handicap "1001us": ` + range_,
	} {
		if err := (Handicap{}).CheckSetting(s); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", s, err, want)
		}
	}
}

// heldUp is a window in which a host's wire sent so many frames.
func heldUp(frames, segments, sent float64, each time.Duration) econbench.HostWindow {
	return econbench.HostWindow{Seconds: 1, Reading: 0.01, Counters: map[string]econbench.Counters{
		"devices":  {"wire.tx_packets": sent},
		"fastpath": {"frames": frames, "segments": segments, "burnt": frames * each.Seconds()},
	}}
}

func TestHandicapProof(t *testing.T) {
	const set = 250 * time.Nanosecond
	good := heldUp(10_000, 10_000, 10_000, set)
	for name, c := range map[string]struct {
		set    time.Duration
		window econbench.HostWindow
		want   string // "": holds
	}{
		"all":                                {set, good, ""},
		"as many as may be under way":        {set, heldUp(9_600, 9_600, 10_000, set), ""},
		"super-frames, taken apart behind":   {set, heldUp(300, 10_000, 10_000, set), ""},
		"super-frames, by the device itself": {set, heldUp(300, 10_000, 300, set), ""},
		"a part":                             {set, heldUp(9_000, 9_000, 10_000, set), "handicap: held up 9000 segments, the wire's frames account for at least 9572"},
		"nothing":                            {set, heldUp(0, 0, 10_000, set), "handicap: held up no frame, the wire sent 10000"},
		"nothing of little":                  {set, heldUp(0, 0, 5, set), "handicap: held up no frame, the wire sent 5"},
		"wire not counted":                   {set, econbench.HostWindow{Seconds: 1}, "handicap: the wire's frames were not counted"},
		"a turn too much":                    {30, heldUp(10_000, 10_000, 10_000, 37), ""},
		"too short":                          {set, heldUp(10_000, 10_000, 10_000, 18), "handicap: took 18 ns a frame, want 250"},
		"counts alone":                       {0, heldUp(10_000, 10_000, 10_000, 18), ""},
	} {
		a := &handicapAttachment{time: c.set}
		whole := heldUp(10_000, 10_000, 10_000, max(c.set, 18))
		for host, w := range map[string]econbench.Window{
			econbench.ClientHost: {Client: c.window, Server: whole}, econbench.ServerHost: {Client: whole, Server: c.window},
		} {
			var want []string
			if c.want != "" {
				want = []string{host + ": " + c.want}
			}
			if got := a.Prove(w); !slices.Equal(got, want) {
				t.Errorf("%s, %s: %q, want %q", name, host, got, want)
			}
		}
	}
	if got := (&handicapAttachment{time: 10}).Prove(econbench.Window{Client: heldUp(100, 100, 100, 20), Server: heldUp(100, 100, 100, 15)}); len(got) != 1 ||
		got[0] != "client: handicap: took 20 ns a frame, want 10" {
		t.Errorf("less than the program's own time: %q", got)
	}
}

// needBurn skips where the program can't be loaded for reasons that are no fault of its own.
func needBurn(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: CAP_BPF and CAP_NET_ADMIN are needed to load programs")
	}
	if err := checkHelpers(handicapNeeds); err != nil {
		t.Skip(err)
	}
}

// TestPace finds turns for times between and beyond what was measured, and forgets what was slower than before.
func TestPace(t *testing.T) {
	var p pace
	slow := true
	machine := func(turns uint32) (time.Duration, error) { // 20 ns, 2 ns a turn, 10 ns more from 64 turns on
		took := 20 + 2*time.Duration(turns)
		if turns >= 64 {
			took += 10
		}
		if slow {
			took *= 2
		}
		return took, nil
	}
	if err := p.learn(machine); err != nil {
		t.Fatal(err)
	}
	if turns, each := p.turns(1060); turns != 250 || each != 1060 {
		t.Errorf("1060 ns at half the pace: %d turns in %v, want 250", turns, each)
	}
	slow = false
	for range 2 {
		if err := p.learn(machine); err != nil {
			t.Fatal(err)
		}
		for want, d := range map[uint32]time.Duration{0: 0, 5: 30, 16: 52, 110: 250, 4985: 10_000, 499_985: mostBurnt} {
			if turns, each := p.turns(d); turns != want || d > 0 && each != d {
				t.Errorf("%v: %d turns in %v, want %d", d, turns, each, want)
			}
		}
		if turns, each := p.turns(7); turns != 0 || each != 20 {
			t.Errorf("less than the program's own: %d turns in %v", turns, each)
		}
		slow = true // disturbed from now on
	}
	broken := errors.New("no test runs")
	if err := p.learn(func(uint32) (time.Duration, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

// newBurner is a handicap's program at no hook.
func newBurner(t testing.TB, d time.Duration) *burner {
	t.Helper()
	needBurn(t)
	b := &burner{cfg: handicapConfig{Time: d}, pace: &pace{}}
	t.Cleanup(func() {
		if b.coll != nil {
			b.coll.Close()
		}
	})
	if err := b.load(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *burner) counts(t *testing.T) econbench.Counters {
	t.Helper()
	c, err := b.Read()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestBurn runs the program on packets of all kinds: each goes on as it came, and counts.
func TestBurn(t *testing.T) {
	b := newBurner(t, 250*time.Nanosecond)
	if c := b.counts(t); c["frames"] != 0 || c["turns"] != 0 || c["burnt"] != 0 {
		t.Errorf("counted before the first frame: %v", c)
	}
	if err := b.order(17); err != nil {
		t.Fatal(err)
	}
	want := econbench.Counters{}
	for name, f := range map[string]struct {
		frame []byte
		ctx   skbuff
		segs  float64
	}{
		"TCP":          {plain(protoTCP, true, 100), skbuff{}, 1},
		"UDP":          {plain(protoUDP, true, 0), skbuff{}, 1},
		"encapsulated": {wrapped(plain(protoTCP, true, 1400)), skbuff{}, 1},
		"super-frame":  {wrapped(plain(protoTCP, true, 2800)), skbuff{GSOSize: 1398, GSOSegs: 43}, 43},
		"neither":      {append(bytes.Repeat([]byte{0xff}, 12), 0x88, 0xb5, 1, 2, 3), skbuff{}, 1},
	} {
		out, after := make([]byte, len(f.frame)+256), skbuff{}
		opt := ebpf.RunOptions{Data: f.frame, DataOut: out, Context: f.ctx, ContextOut: &after}
		verdict, err := b.coll.Programs[progBurn].Run(&opt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if verdict != verdictNext || !bytes.Equal(opt.DataOut, f.frame) || after.Mark != f.ctx.Mark || after.GSOSegs != f.ctx.GSOSegs {
			t.Errorf("%s: verdict %#x, %d bytes of %d, or other ones", name, verdict, len(opt.DataOut), len(f.frame))
		}
		want["frames"], want["segments"], want["turns"] = want["frames"]+1, want["segments"]+f.segs, want["turns"]+17
		got := b.counts(t)
		for _, counter := range []string{"frames", "segments", "turns"} {
			if got[counter] != want[counter] {
				t.Errorf("%s: %s %v, want %v", name, counter, got[counter], want[counter])
			}
		}
		if want := got["frames"] * b.each.Seconds(); got["burnt"] < 0.999*want || got["burnt"] > 1.001*want {
			t.Errorf("%s: burnt %v s, want %v", name, got["burnt"], want)
		}
	}
}

// TestOrderRunsOut leaves frames alone whose agent has not been heard of.
func TestOrderRunsOut(t *testing.T) {
	b := newBurner(t, time.Microsecond)
	if err := b.coll.Maps["orders"].Put(uint32(0), handicapOrder{Until: 1, Turns: 100}); err != nil {
		t.Fatal(err)
	}
	if verdict, err := b.coll.Programs[progBurn].Run(&ebpf.RunOptions{Data: plain(protoTCP, true, 10)}); err != nil || verdict != verdictNext {
		t.Errorf("verdict %#x, %v", verdict, err)
	}
	if c := b.counts(t); c["frames"] != 0 || c["turns"] != 0 {
		t.Errorf("still at work: %v", c)
	}
}

// TestTurns makes none for 0s, and more for a longer time, up to the longest: how much more is the machine's business.
func TestTurns(t *testing.T) {
	last := uint32(0)
	for _, d := range []time.Duration{0, 2 * time.Microsecond, 50 * time.Microsecond, mostBurnt} {
		b := newBurner(t, d)
		t.Logf("%v: %d turns, %v a frame", d, b.turns, b.each)
		if d == 0 && b.turns != 0 || d > 0 && b.turns <= last || b.each <= 0 {
			t.Errorf("%v: %d turns, %d for the time before, %v a frame", d, b.turns, last, b.each)
		}
		before := b.counts(t)["turns"]
		if _, err := b.coll.Programs[progBurn].Run(&ebpf.RunOptions{Data: plain(protoTCP, true, 10)}); err != nil {
			t.Fatal(err)
		}
		if made := b.counts(t)["turns"] - before; made != float64(b.turns) {
			t.Errorf("%v: %v turns made, want %d", d, made, b.turns)
		}
		last = b.turns
	}
}

// BenchmarkBurn says how near the time comes to what was set.
func BenchmarkBurn(b *testing.B) {
	for _, d := range []time.Duration{0, 30, 60, 250, 1000, 10_000, 100_000} {
		b.Run(d.String(), func(b *testing.B) {
			p := newBurner(b, d)
			_, took, err := p.coll.Programs[progBurn].Benchmark(plain(protoTCP, true, 10), max(b.N, 2), b.ResetTimer)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took), "burnt-ns/frame")
			b.ReportMetric(float64(p.turns), "turns")
		})
	}
}

// sentBy is how many frames a host's wire has sent.
func sentBy(t *testing.T, host *testHost) (n float64) {
	t.Helper()
	do(t, host.host, func(h *netlink.Handle) error {
		wire, err := h.LinkByName(testWire)
		if err == nil {
			n = float64(wire.Attrs().Statistics.TxPackets)
		}
		return err
	})
	return n
}

// handicapped attaches a handicap to a host until the test ends.
func handicapped(t *testing.T, host *testHost, d time.Duration, opt econbench.AttachOptions) *burner {
	t.Helper()
	needBurn(t)
	b := in(t, host.host, func() (econbench.Attached, error) {
		return attachHandicap(context.Background(), handicapConfig{Wire: testWire, Time: d, AttachOptions: opt}, &pace{})
	}).(*burner)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// TestHandicapOnTheWire holds what it counted against the device: what is taken apart behind the hook, by the wire's own means, is
// one frame of several segments, and nothing is lost of what was sent.
func TestHandicapOnTheWire(t *testing.T) {
	for _, hook := range hooks() {
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, super-frames %v", hook, whole), func(t *testing.T) {
				hosts := twoHosts(t, fastKinds()[0])
				do(t, hosts[0].host, func(*netlink.Handle) error { return offloads(whole) })
				b := handicapped(t, hosts[0], 100*time.Nanosecond, econbench.AttachOptions{Hook: hook})
				before, counted := sentBy(t, hosts[0]), b.counts(t)
				stream(t, hosts[0], hosts[1], 3_000_000, "")
				pingPong(t, hosts[1], hosts[0], 100, 100)
				after, now := b.counts(t), sentBy(t, hosts[0])
				frames, segments := after["frames"]-counted["frames"], after["segments"]-counted["segments"]
				// The wire is quiet but for its own chatter, some of which may come in between two readings.
				if sent := now - before; segments+3 < sent || frames > sent+3 || frames < 100 || segments < 2000 {
					t.Errorf("%.0f frames and %.0f segments, the device sent %.0f", frames, segments, sent)
				}
				if turns := after["turns"] - counted["turns"]; turns != frames*float64(b.turns) || turns == 0 {
					t.Errorf("%.0f turns for %.0f frames, want %d for each", turns, frames, b.turns)
				}
				status, err := b.Status()
				if s := status.(handicapStatus); err != nil || s.Mechanism != hook || s.Wire != testWire || s.Set != 1e-7 || s.Turns != b.turns {
					t.Errorf("status %+v, %v", s, err)
				}
			})
		}
	}
}

// TestHandicapLeftBehind has an agent that was killed: its filter gives way to the next one's, and nothing stays when that goes.
func TestHandicapLeftBehind(t *testing.T) {
	hosts := twoHosts(t, fastKinds()[0])
	opt := econbench.AttachOptions{Hook: econbench.HookFilter}
	killed := handicapped(t, hosts[0], 0, opt)
	next := handicapped(t, hosts[0], 0, opt)
	before := killed.counts(t)["frames"]
	pingPong(t, hosts[0], hosts[1], 50, 100)
	if after := killed.counts(t)["frames"]; after != before || next.counts(t)["frames"] < 50 {
		t.Errorf("the first one counted %v frames more, the next one %v", after-before, next.counts(t)["frames"])
	}
	if err := errors.Join(next.Close(), killed.Close()); err != nil {
		t.Error(err)
	}
	do(t, hosts[0].host, func(h *netlink.Handle) error {
		wire, err := h.LinkByName(testWire)
		if err != nil {
			return err
		}
		left, err := h.FilterList(wire, netlink.HANDLE_MIN_EGRESS)
		if len(left) > 0 {
			t.Errorf("filters %v were left", left)
		}
		return err
	})
}

// TestHandicapRefuses says what is wrong, and leaves nothing.
func TestHandicapRefuses(t *testing.T) {
	needBurn(t)
	hosts := twoHosts(t, fastKinds()[0])
	for want, cfg := range map[string]handicapConfig{
		`wire "eth9"`:            {Wire: "eth9"},
		`unknown hook "xdp"`:     {Wire: testWire, AttachOptions: econbench.AttachOptions{Hook: "xdp"}},
		context.Canceled.Error(): {Wire: testWire},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		if want == context.Canceled.Error() {
			cancel()
		}
		do(t, hosts[0].host, func(*netlink.Handle) error {
			if _, err := attachHandicap(ctx, cfg, &pace{}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %s", err, want)
			}
			return nil
		})
		cancel()
	}
	none := handicapped(t, hosts[0], 0, econbench.AttachOptions{Without: econbench.Egress})
	pingPong(t, hosts[0], hosts[1], 10, 10)
	if c := none.counts(t); c["frames"] != 0 {
		t.Errorf("without its program it counted %v", c)
	}
}

// handicapBed is a testbed whose agents note what they are told.
type handicapBed struct {
	econbench.Testbed
	client, server *notedHost
}

func (b handicapBed) Client() econbench.Endpoint { return econbench.Endpoint{Host: b.client} }
func (b handicapBed) Server() econbench.Endpoint { return econbench.Endpoint{Host: b.server} }

type notedHost struct {
	econbench.Host
	name   string
	refuse error // to attach
	deaf   error // to stand aside
	calls  []string
}

func (h *notedHost) Name() string { return h.name }
func (h *notedHost) Facts() econbench.HostFacts {
	return econbench.HostFacts{WireDevice: "wire-" + h.name}
}
func (h *notedHost) Agent() econbench.Agent { return h }

func (h *notedHost) Call(_ context.Context, op string, args, reply any) error {
	body, err := json.Marshal(args)
	h.calls = append(h.calls, op+" "+string(body))
	if op == agentproto.OpAttach {
		reply.(*agentproto.AttachReply).Handle = 40 + len(h.name)
		return errors.Join(err, h.refuse)
	}
	if op == agentproto.OpAside {
		return errors.Join(err, h.deaf)
	}
	return err
}

func TestHandicapOnBothHosts(t *testing.T) {
	bed := handicapBed{client: &notedHost{name: econbench.ClientHost}, server: &notedHost{name: "other"}}
	opt := econbench.AttachOptions{Setting: "1us", Hook: econbench.HookFilter}
	a, err := Handicap{}.Attach(context.Background(), bed, opt)
	if err != nil {
		t.Fatal(err)
	}
	p := a.(econbench.Prover)
	if p.Handle(econbench.ClientHost) != 46 || p.Handle("other") != 45 || p.Handle("third") != 0 {
		t.Errorf("handles %d, %d, %d", p.Handle(econbench.ClientHost), p.Handle("other"), p.Handle("third"))
	}
	if _, carries := a.(econbench.Carrier); carries {
		t.Error("it carries no packets")
	}
	if err := a.Close(context.Background()); err != nil {
		t.Error(err)
	}
	for host, handle := range map[*notedHost]int{bed.client: 46, bed.server: 45} {
		want := []string{
			fmt.Sprintf(`attach {"fastpath":"handicap","config":{"wire":"wire-%s","time":1000,"hook":"filter"}}`, host.name),
			fmt.Sprintf(`aside {"handle":%d}`, handle),
			fmt.Sprintf(`detach {"handle":%d,"aside":true}`, handle),
		}
		if !slices.Equal(host.calls, want) {
			t.Errorf("%s was told %q, want %q", host.name, host.calls, want)
		}
	}
	if a, err = (Handicap{}).Attach(context.Background(), bed, opt); err != nil {
		t.Fatal(err)
	}
	bed.server.deaf = agentproto.ErrGone
	if err := a.Close(context.Background()); err != nil {
		t.Error(err)
	}
	for host, handle := range map[*notedHost]int{bed.client: 46, bed.server: 45} { // each by itself
		if last := host.calls[len(host.calls)-1]; last != fmt.Sprintf(`detach {"handle":%d}`, handle) {
			t.Errorf("%s was told %q in the end", host.name, last)
		}
	}
	bed.client.calls, bed.server.refuse = nil, errors.New("no helper")
	if _, err := (Handicap{}).Attach(context.Background(), bed, opt); !errors.Is(err, bed.server.refuse) || len(bed.client.calls) != 2 {
		t.Errorf("error %v; the client was told %q, want it detached again", err, bed.client.calls)
	}
}
