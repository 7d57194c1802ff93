// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/econbench/econbench"
)

// TestSabotage takes a part of the fast path away: the run's path proof has to notice each, and its exit code has to say so.
func TestSabotage(t *testing.T) {
	sharedHosts(t)
	for without, want := range map[string][]string{
		econbench.Egress:          {"fast path, egress: saw 0 segments", "fast path, egress: nothing was eligible"},
		econbench.Ingress:         {"fast path, ingress: saw 0 segments", "fast path, ingress: nothing was eligible"},
		econbench.WithoutLearning: {"fast path, egress: carried 0 of ", "fast path, ingress: nothing was eligible"},
	} {
		// Requests large enough for what is on the tunnel to pass the proof's 64 KiB, however slow the machine.
		p := start(t, sharedLab(), tiny("--workload", "tcp_rr", "-p", "tcp_rr.request=1000", "-p", "tcp_rr.response=1000",
			"--arm", "overlay+oncache", "--without", without)...)
		p.want(1).wantError("1 of 1 trials are not valid")
		run := p.run()
		if len(run.Trials) != 1 || run.Trials[0].Valid {
			t.Errorf("without %s: %+v", without, run.Trials)
			continue
		}
		all := strings.Join(run.Trials[0].Invalid, "\n")
		for _, text := range want {
			for _, host := range []string{econbench.ClientHost, econbench.ServerHost} {
				if !strings.Contains(all, "path: "+host+": "+text) {
					t.Errorf("without %s: no %q of the %s's in:\n%s", without, text, host, all)
				}
			}
		}
		if !strings.Contains(all, "vxlan") {
			t.Errorf("without %s: packets on the tunnel were not noticed:\n%s", without, all)
		}
	}
}

// TestHandicap slows a path down, on a topology without an overlay too, and notices when it does not: packets that nobody held up
// look like those that somebody did.
func TestHandicap(t *testing.T) {
	sharedHosts(t)
	p := start(t, sharedLab(), tiny("--workload", "tcp_rr,tcp_stream", "--arm", "host+handicap:2us,overlay+handicap:2us", "--wire", "mtu-frames")...)
	p.want(0)
	for _, trial := range p.run().Trials {
		for role, host := range trial.Hosts {
			c := host.Counters["fastpath"]
			if c["frames"] < 10 || c["turns"] < c["frames"] || c["burnt"] < 1.9e-6*c["frames"] || c["burnt"] > 2.1e-6*c["frames"] {
				t.Errorf("%s, %s: %v", trial.Cell, role, c)
			}
		}
	}
	p = start(t, sharedLab(), tiny("--workload", "tcp_rr", "--arm", "overlay+handicap:2us", "--without", econbench.Egress)...)
	p.want(1).wantError("1 of 1 trials are not valid")
	run := p.run()
	if len(run.Trials) != 1 {
		t.Fatalf("%d trials, want 1", len(run.Trials))
	}
	all := strings.Join(run.Trials[0].Invalid, "\n")
	for _, host := range []string{econbench.ClientHost, econbench.ServerHost} {
		if !strings.Contains(all, "path: "+host+": handicap: held up no frame") {
			t.Errorf("a handicap that was not attached went by on the %s:\n%s", host, all)
		}
	}
}

// TestReplacedInTheMiddle takes the server's container away while its client is measured over the fast path.
func TestReplacedInTheMiddle(t *testing.T) {
	hosts := sharedHosts(t)
	p := start(t, sharedLab(), "run", "--blocks", "1", "--duration", "4s", "--workload", "tcp_rr", "--arm", "overlay+oncache")
	find := func(h *engineHost, name string) (id string) {
		var list []struct {
			ID    string
			Names []string
		}
		if err := h.ask("GET", "/containers/json", nil, &list); err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if strings.HasSuffix(c.Names[0], name) {
				id = c.ID
			}
		}
		return id
	}
	eventually(t, "a client at work", patience, func() bool {
		var client struct{ ExecIDs []string }
		id := find(hosts[0], "overlay-client")
		return id != "" && hosts[0].ask("GET", "/containers/"+id+"/json", nil, &client) == nil && len(client.ExecIDs) > 0
	})
	hosts[1].must(t, "DELETE", "/containers/"+find(hosts[1], "overlay-server")+"?force=1", nil, nil)
	p.want(1).wantError("1 of 1 trials are not valid")
	if run := p.run(); len(run.Trials) != 1 || run.Trials[0].Valid {
		t.Errorf("trials: %+v", run.Trials)
	}
}

// TestHookFilter attaches by netlink filters, as kernels before 6.6 need it.
func TestHookFilter(t *testing.T) {
	sharedHosts(t)
	p := start(t, sharedLab(), tiny("--workload", "tcp_rr", "--arm", "overlay+oncache", "--hook", econbench.HookFilter)...).want(0)
	allValid(t, p.run(), 1)
}
