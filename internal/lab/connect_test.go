// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/docker"
)

func TestPlaceCPUs(t *testing.T) {
	for _, c := range []struct {
		name      string
		placement econbench.Placement
		oneKernel bool
		a, b      []int
		forA      []int
		forB      []int
		err       string
	}{
		{"two halves", econbench.Split, true, []int{0, 1}, []int{0, 1}, []int{0}, []int{1}, ""},
		{"the odd one is the server's", econbench.Split, true, []int{0, 2, 5}, []int{0, 2, 5}, []int{0}, []int{2, 5}, ""},
		{"one CPU", econbench.Split, true, []int{3}, []int{3}, nil, nil, `placement "split": this machine has 1 CPU, want 2 or more; allowed is "shared"`},
		{"shared", econbench.Shared, true, []int{2, 3}, []int{2, 3}, []int{2}, []int{2}, ""},
		{"shared on one CPU", econbench.Shared, true, []int{0}, []int{0}, []int{0}, []int{0}, ""},
		{"two machines", econbench.Split, false, []int{0}, []int{0, 1, 2}, []int{0}, []int{0, 1, 2}, ""},
		{"two machines, shared", econbench.Shared, false, []int{0}, []int{0}, nil, nil, `placement "shared": the hosts are two machines and cannot share a CPU; allowed is "split"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			forA, forB, err := placeCPUs(c.placement, c.oneKernel, c.a, c.b)
			if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if !slices.Equal(forA, c.forA) || !slices.Equal(forB, c.forB) {
				t.Errorf("%v and %v, want %v and %v", forA, forB, c.forA, c.forB)
			}
		})
	}
}

// lan is an address of a host, as its agent tells it. The default route leaves by a device that ends in "!".
func lan(list ...string) (all []agentproto.Address) {
	for _, s := range list {
		prefix, device, _ := strings.Cut(s, " ")
		name, isDefault := strings.CutSuffix(device, "!")
		all = append(all, agentproto.Address{Prefix: prefix, Device: name, MTU: 1500, Default: isDefault})
	}
	return all
}

// labOf is a lab of two hosts with these addresses.
func labOf(a, b []agentproto.Address) *Lab {
	l := &Lab{}
	for i, list := range [][]agentproto.Address{a, b} {
		l.hosts[i] = &Host{lab: l, engine: new(docker.Engine), hello: agentproto.HelloReply{Addresses: list}}
	}
	return l
}

func TestChooseUnderlay(t *testing.T) {
	for _, c := range []struct {
		name  string
		given [2]string
		a, b  []agentproto.Address
		want  [2]string // "address device"
		err   string
	}{
		{name: "one pair faces each other", a: lan("10.0.0.1/24 eth0!", "192.168.7.1/30 ib0"), b: lan("10.1.0.1/24 eth0!", "192.168.7.2/30 ib1"),
			want: [2]string{"192.168.7.1 ib0", "192.168.7.2 ib1"}},
		{name: "two pairs: the user must say", a: lan("10.0.0.1/24 eth0!", "10.9.0.1/24 eth1"), b: lan("10.9.0.2/24 eth1", "10.0.0.2/24 eth0!"),
			err: "no single pair of addresses faces each other"},
		{name: "no pair: the default routes'", a: lan("10.0.0.1/24 eth0!"), b: lan("10.1.0.1/24 eth0!"),
			want: [2]string{"10.0.0.1 eth0", "10.1.0.1 eth0"}},
		{name: "the same address twice faces nobody", a: lan("172.17.0.1/16 docker0"), b: lan("172.17.0.1/16 docker0"),
			err: "no single pair of addresses faces each other (172.17.0.1/16 on docker0; 172.17.0.1/16 on docker0): give --underlay ADDR,ADDR"},
		{name: "the same default address twice", a: lan("10.0.0.1/24 eth0!"), b: lan("10.0.0.1/24 eth0!"), err: "give --underlay"},
		{name: "no addresses", err: "(none; none): give --underlay"},
		{name: "given", given: [2]string{"10.9.0.1", "10.9.0.2"}, a: lan("10.0.0.1/24 eth0!", "10.9.0.1/24 eth1"), b: lan("10.9.0.2/24 eth1", "10.0.0.2/24 eth0!"),
			want: [2]string{"10.9.0.1 eth1", "10.9.0.2 eth1"}},
		{name: "given one that nobody has", given: [2]string{"10.9.0.1", "10.9.0.3"}, a: lan("10.9.0.1/24 eth1"), b: lan("10.9.0.2/24 eth1"),
			err: "address 10.9.0.3 is on none of its devices, which have 10.9.0.2/24 on eth1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := labOf(c.a, c.b)
			for i, s := range c.given {
				if s != "" {
					l.opt.Underlay[i] = netip.MustParseAddr(s)
				}
			}
			err := l.chooseUnderlay()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, h := range l.hosts {
				if got := h.prefix.Addr().String() + " " + h.facts.WireDevice; got != c.want[i] || h.facts.Underlay != h.prefix.Addr().String() || h.facts.MTU != 1500 {
					t.Errorf("host %d: %s (%+v), want %s", i, got, h.facts, c.want[i])
				}
			}
		})
	}
}

func TestFacing(t *testing.T) {
	l := labOf(lan("10.0.0.1/24 eth0"), lan("10.1.0.1/24 eth0!", "10.0.0.2/24 eth1"))
	if err := l.hosts[0].useUnderlay("10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	if err := l.hosts[1].facing(l.hosts[0]); err != nil || l.hosts[1].facts.WireDevice != "eth1" {
		t.Errorf("%s %v, want eth1, which is in the same network", l.hosts[1].facts.WireDevice, err)
	}
	l.hosts[1].hello.Addresses = lan("10.1.0.1/24 eth0!")
	if err := l.hosts[1].facing(l.hosts[0]); err != nil || l.hosts[1].facts.WireDevice != "eth0" {
		t.Errorf("%s %v, want eth0, by which the default route leaves", l.hosts[1].facts.WireDevice, err)
	}
	l.hosts[1].hello.Addresses = lan("10.1.0.1/24 eth0")
	if err := l.hosts[1].facing(l.hosts[0]); err == nil || !strings.Contains(err.Error(), "no address towards 10.0.0.1/24: it has 10.1.0.1/24 on eth0") {
		t.Errorf("%v", err)
	}
}
