// SPDX-License-Identifier: Apache-2.0

package topologies

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
)

// fakeLab counts what stands on it and fails at a step that tests choose.
type fakeLab struct {
	steps  []string // in order; what is taken and what is given back
	failAt string   // a step that fails
	made   int
	others []string // containers that are not ours
}

func (l *fakeLab) Client() econbench.Host { return fakeHost{l, econbench.ClientHost} }
func (l *fakeLab) Server() econbench.Host { return fakeHost{l, econbench.ServerHost} }

func (l *fakeLab) step(format string, args ...any) error {
	s := fmt.Sprintf(format, args...)
	l.steps = append(l.steps, s)
	if s == l.failAt {
		return errors.New("refused")
	}
	return nil
}

type fakeHost struct {
	lab  *fakeLab
	name string
}

func (h fakeHost) Name() string           { return h.name }
func (h fakeHost) Agent() econbench.Agent { return h }
func (h fakeHost) Note([]string)          {}

func (h fakeHost) Facts() econbench.HostFacts {
	return econbench.HostFacts{Underlay: "198.18.0.1", WireDevice: "wire0", MTU: 1500}
}

func (h fakeHost) StartContainer(_ context.Context, s econbench.ContainerSpec) (econbench.Container, error) {
	what := "container " + s.Name
	return fakeThing{h.lab, what}, h.lab.step("+%s", what)
}

func (h fakeHost) CreateOverlay(_ context.Context, s econbench.OverlaySpec) (econbench.Overlay, error) {
	what := "network " + s.Name
	return fakeThing{h.lab, what}, h.lab.step("+%s", what)
}

func (h fakeHost) OtherContainers(context.Context) ([]string, error) { return h.lab.others, nil }

// Call takes a tuning, gives it back, names devices, and answers for the path.
func (h fakeHost) Call(_ context.Context, op string, args, reply any) error {
	switch op {
	case agentproto.OpTune, agentproto.OpTunnel:
		h.lab.made++
		reply.(*agentproto.TuneReply).Handle = h.lab.made
		return h.lab.step("+tuning %d", h.lab.made)
	case agentproto.OpUntune:
		return h.lab.step("-tuning %d", args.(agentproto.UntuneArgs).Handle)
	case agentproto.OpDevices:
		body, _ := json.Marshal(args)
		return json.Unmarshal(body, reply)
	case agentproto.OpReach:
		return h.lab.step("reach")
	}
	return fmt.Errorf("operation %s: not in this test", op)
}

type fakeThing struct {
	lab  *fakeLab
	what string
}

func (t fakeThing) ID() string                  { return "0123456789abcdef" }
func (t fakeThing) Name() string                { return t.what }
func (t fakeThing) PID() int                    { return 7 }
func (t fakeThing) Addr() netip.Addr            { return netip.MustParseAddr("198.19.0.2") }
func (t fakeThing) Sandboxes() string           { return "/run/docker/netns" }
func (t fakeThing) Close(context.Context) error { return t.lab.step("-%s", t.what) }

func (t fakeThing) Start(context.Context, ...string) (econbench.Process, error) {
	return nil, errors.New("not in this test")
}

var options = econbench.BuildOptions{Run: "r", Build: 3, CongestionControl: "cubic"}

// optionsOf are those of a build, with the topology below it on the lab where there is one, whose steps are forgotten.
func optionsOf(t *testing.T, topology econbench.Topology, lab *fakeLab) econbench.BuildOptions {
	t.Helper()
	o := options
	if b, ok := topology.(econbench.Based); ok {
		i := slices.IndexFunc(All(), func(t econbench.Topology) bool { return t.Name() == b.Base() })
		if i < 0 {
			t.Fatalf("%s: based on %q: no such topology", topology.Name(), b.Base())
		}
		base, err := All()[i].Build(t.Context(), lab, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Base, lab.steps = base, nil
	}
	return o
}

// Whatever step of a build fails, all that was taken before is given back, newest first; likewise on Close.
func TestWhatIsTakenIsGivenBack(t *testing.T) {
	for _, topology := range All() {
		whole := &fakeLab{}
		options := optionsOf(t, topology, whole)
		tb, err := topology.Build(t.Context(), whole, options)
		if err != nil {
			t.Fatalf("%s: %v", topology.Name(), err)
		}
		build := slices.Clone(whole.steps)
		if err := errors.Join(tb.Close(t.Context()), tb.Close(t.Context())); err != nil {
			t.Errorf("%s: close: %v", topology.Name(), err)
		}
		balanced(t, topology.Name(), "", whole.steps)
		for _, fail := range build {
			lab := &fakeLab{}
			options := optionsOf(t, topology, lab)
			lab.failAt = fail
			if _, err := topology.Build(t.Context(), lab, options); err == nil || !strings.Contains(err.Error(), "topology "+topology.Name()+": ") {
				t.Errorf("%s: %s failed: error %v", topology.Name(), fail, err)
			}
			balanced(t, topology.Name(), fail, lab.steps)
		}
	}
}

// balanced checks that what was taken is given back once, in reverse order; the step that failed took nothing, or was tried once.
func balanced(t *testing.T, topology, failed string, steps []string) {
	t.Helper()
	var standing []string
	for _, s := range steps {
		switch what := s[1:]; {
		case s == "reach" || s == failed && s[0] == '+':
		case s[0] == '+':
			standing = append(standing, what)
		case len(standing) == 0 || standing[len(standing)-1] != what:
			t.Fatalf("%s, %q failed: %s given back while %v stand", topology, failed, what, standing)
		default:
			standing = standing[:len(standing)-1]
		}
	}
	if len(standing) > 0 {
		t.Errorf("%s, %q failed: left: %v", topology, failed, standing)
	}
}

// Names carry the run and the build, so that nothing of two builds can meet; devices are where Docker puts them.
func TestNamesAndDevices(t *testing.T) {
	lab := &fakeLab{}
	tb, err := Overlay{}.Build(t.Context(), lab, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range lab.steps {
		if (strings.Contains(s, "container") || strings.Contains(s, "network")) && !strings.Contains(s, "econbench-r-3-") {
			t.Errorf("%s: its name lacks run or build", s)
		}
	}
	want := []econbench.Device{{Role: RoleWire, Name: "wire0"}, {Role: RoleVXLAN, Netns: "/run/docker/netns/1-0123456789", Kind: "vxlan"}}
	for _, host := range []string{econbench.ClientHost, econbench.ServerHost} {
		if got := tb.Path().Devices[host]; !slices.Equal(got, want) {
			t.Errorf("%s: devices %+v, want %+v", host, got, want)
		}
	}
}

// Activating takes rules on both hosts and gives them back; with others' containers on an engine nothing is taken.
func TestHostBareIsActivated(t *testing.T) {
	lab := &fakeLab{}
	options := optionsOf(t, HostBare{}, lab)
	tb, err := HostBare{}.Build(t.Context(), lab, options)
	if err != nil {
		t.Fatal(err)
	}
	lab.steps = nil
	activated, err := tb.(econbench.Activated).Activate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := activated.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if len(lab.steps) != 4 {
		t.Errorf("steps %q, want a tuning on each host and its end", lab.steps)
	}
	balanced(t, "host-bare", "", lab.steps)
	taken := slices.Clone(lab.steps[:2])
	for _, fail := range taken {
		lab.made, lab.steps, lab.failAt = lab.made-2, nil, fail
		if _, err := tb.(econbench.Activated).Activate(t.Context()); err == nil {
			t.Errorf("%s failed: no error", fail)
		}
		balanced(t, "host-bare", fail, lab.steps)
		lab.made = lab.made - len(lab.steps)/2 + 2
	}
	lab.steps, lab.failAt, lab.others = nil, "", []string{"web", "db"}
	_, err = tb.(econbench.Activated).Activate(t.Context())
	if err == nil || !strings.Contains(err.Error(), "client: its engine runs containers that are not econbench's") || !strings.Contains(err.Error(), "web, db") {
		t.Errorf("others' containers: error %v", err)
	}
	if _, err := (HostBare{}).Build(t.Context(), lab, options); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("built beside others' containers: error %v, want one line", err)
	}
}

// The proof of either kind of host wants what its name says to have been in effect.
func TestProofOfRules(t *testing.T) {
	window := func(client, server string) econbench.Window {
		note := func(text string) econbench.HostWindow {
			if text == "unknown" {
				return econbench.HostWindow{}
			}
			return econbench.HostWindow{Notes: map[string]string{econbench.NoteNetfilter: text}}
		}
		return econbench.Window{Client: note(client), Server: note(server)}
	}
	for _, c := range []struct {
		client, server string
		host, bare     int // failures
	}{
		{"ip filter, ip nat", "ip filter, ip nat", 0, 2},
		{"ip econbench", "ip econbench", 2, 0},
		{"ip econbench", "ip econbench, ip filter", 2, 1},
		{"ip econbench", "", 1, 1},
		{"unknown", "ip econbench", 1, 1},
		{"", "", 0, 2},
	} {
		w := window(c.client, c.server)
		if got := (rulesInEffect{}).Prove(w); len(got) != c.host {
			t.Errorf("%q, %q: host fails with %q, want %d", c.client, c.server, got, c.host)
		}
		if got := (noRules{}).Prove(w); len(got) != c.bare {
			t.Errorf("%q, %q: host-bare fails with %q, want %d", c.client, c.server, got, c.bare)
		}
	}
}

// TestSeveralClients: as many containers on the client's host as asked for, the first of them the testbed's client; all are given back.
func TestSeveralClients(t *testing.T) {
	for _, topology := range All() {
		lab := &fakeLab{}
		o := optionsOf(t, topology, lab)
		if o.Clients = 3; o.Base != nil {
			o.Base = crowd{o.Base}
		}
		tb, err := topology.Build(t.Context(), lab, o)
		if err != nil {
			t.Fatalf("%s: %v", topology.Name(), err)
		}
		clients := econbench.ClientsOf(tb)
		if len(clients) != 3 || clients[0] != tb.Client() {
			t.Errorf("%s: %d clients, want 3", topology.Name(), len(clients))
		}
		names := map[string]bool{}
		for _, c := range clients {
			if c.Host.Name() != econbench.ClientHost || !c.Addr.IsValid() {
				t.Errorf("%s: client on %s at %s", topology.Name(), c.Host.Name(), c.Addr)
			}
			names[c.Container.(fakeThing).what] = true
		}
		reached := 0
		for _, s := range lab.steps {
			if s == "reach" {
				reached++
			}
		}
		if len(names) != 3 && o.Base == nil || reached != 3 {
			t.Errorf("%s: %d containers, %d of them reach the server, want 3", topology.Name(), len(names), reached)
		}
		if err := tb.Close(t.Context()); err != nil {
			t.Error(err)
		}
		balanced(t, topology.Name(), "", lab.steps)
	}
}

// crowd is a testbed with two more clients.
type crowd struct{ econbench.Testbed }

func (c crowd) Clients() []econbench.Endpoint {
	return []econbench.Endpoint{c.Client(), c.Client(), c.Client()}
}
