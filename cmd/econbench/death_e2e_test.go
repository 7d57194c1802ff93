// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
)

// long makes a run that goes on until something happens to it.
func long(args ...string) []string {
	return append([]string{"run", "--blocks", "200", "--duration", "600ms", "--warmup", "100ms", "--workload", "tcp_rr"}, args...)
}

// TestKilledWithItsLab kills a run with SIGKILL at its different moments: the lab dies with it, nothing is left, and the
// next run works.
func TestKilledWithItsLab(t *testing.T) {
	t.Parallel()
	root := ownLab(t)
	before := links(t)
	for _, m := range []struct {
		said string
		args []string
	}{
		{"starting hosts", long()},
		{"starting engines", long()},
		{"loading image", long()},
		{"making a swarm", long()},
		{"building topology overlay", long("--arm", "overlay")},
		{"trial 1/", long("--arm", "host")},
		{"taking everything down", tiny("--arm", "host", "--workload", "tcp_rr")},
	} {
		t.Run(m.said, func(t *testing.T) {
			p := start(t, root, m.args...)
			p.until(m.said)
			p.signal(syscall.SIGKILL)
			p.want(-1)
			eventually(t, "processes gone", 10*time.Second, func() bool { return len(processesOf(root)) == 0 })
			start(t, root, "clean").want(0)
			cleanUp(t, root)
			if after := links(t); after != before {
				t.Errorf("devices %s, were %s", after, before)
			}
		})
	}
	t.Run("next run", func(t *testing.T) {
		allValid(t, start(t, root, tiny("--arm", "host", "--workload", "tcp_rr")...).want(0).run(), 1)
	})
}

// TestKilledOnKeptLab kills a run inside a trial, on engines that live on: its agents undo and end, its containers end,
// and what only a controller can remove is removed by clean, or by the next run.
func TestKilledOnKeptLab(t *testing.T) {
	for name, args := range map[string][]string{"clean": {"clean"}, "next run": tiny("--workload", "tcp_rr", "--arm", "overlay")} {
		t.Run(name, func(t *testing.T) {
			hosts := sharedHosts(t)
			before := snapshots(t, hosts)
			p := start(t, sharedLab(), long("--wire", "mtu-frames")...)
			p.until("trial 1/")
			during := snapshots(t, hosts)
			for _, what := range []string{"offloads", "rps", "routes", "sysctl", "containers", "swarm"} {
				if during[0][what] == before[0][what] {
					t.Errorf("%s are as before inside a trial: this test sees nothing", what)
				}
			}
			p.signal(syscall.SIGKILL)
			p.want(-1)
			settled(t, hosts, before, "networks", "swarm", "nodes", "volumes") // those only a controller removes
			p = start(t, sharedLab(), args...).want(0)
			for _, what := range []string{"-overlay on ", "membership of a swarm on ", "a dead run's swarm on "} {
				if !strings.Contains(p.said(), what) {
					t.Errorf("not told that %q was removed:\n%s", what, p.said())
				}
			}
		})
	}
}

// TestInterrupted refuses others while a run is on, and stops it as Ctrl-C does.
func TestInterrupted(t *testing.T) {
	hosts := sharedHosts(t)
	p := start(t, sharedLab(), long("--arm", "host")...)
	p.until("trial 1/")
	start(t, sharedLab(), tiny()...).want(1).wantError(hosts[0].url[:len(hosts[0].url)-len("a/docker.sock")], "engine is in use by run")
	start(t, sharedLab(), tiny(hostsFlag(hosts[1], hosts[0]))...).want(1).wantError("engine is in use by run")
	start(t, sharedLab(), "lab", "down").want(1).wantError("in use by run")
	start(t, sharedLab(), "clean").want(1).wantError("in use by run")
	p.interrupt()
	p.want(1)
	if errs := p.errors(); len(errs) != 2 || !strings.Contains(errs[0], "again to stop at once") || errs[1] != "interrupted" {
		t.Errorf("said %q", errs)
	}
	if !strings.Contains(p.stdout.String(), "tcp_rr") || !strings.Contains(p.stdout.String(), "interrupted") {
		t.Errorf("table:\n%s", p.stdout.String())
	}
	run := p.run()
	if want := "to measure the rest: econbench run --resume econbench-runs/" + run.ID + "\n"; !strings.Contains(p.said(), want) {
		t.Errorf("not told %q:\n%s", want, p.said())
	}
	if run.Status != econbench.StatusInterrupted || len(run.Trials) == 0 || run.Finished == nil {
		t.Errorf("status %s, %d trials, finished %v", run.Status, len(run.Trials), run.Finished)
	}
}

// TestAgentKilled kills the agent of one host: the run ends, names it, keeps what it has; clean undoes by the journal.
func TestAgentKilled(t *testing.T) {
	hosts := sharedHosts(t)
	p := start(t, sharedLab(), long("--arm", "host")...)
	p.until("trial 1/")
	hosts[1].must(t, "POST", "/containers/"+agentContainer+"/kill", nil, nil)
	p.want(1).wantError("agent on "+hosts[1].url, "agent is gone")
	wantKept(t, p)
	start(t, sharedLab(), "clean").want(0).until("put back what a dead run had left")
}

const agentContainer = "econbench-agent"

// wantKept checks that a run that failed kept its trials and says why it failed.
func wantKept(t *testing.T, p *program) {
	t.Helper()
	run := p.run()
	if run.Status != econbench.StatusFailed || run.Error == "" || len(run.Trials) == 0 || !run.Trials[0].Valid {
		t.Errorf("status %s, error %q, %d trials", run.Status, run.Error, len(run.Trials))
	}
	if !strings.Contains(p.stdout.String(), "tcp_rr") {
		t.Errorf("no table of what was measured:\n%s", p.stdout.String())
	}
}

// TestContainerRemoved removes an endpoint by hand: that trial does not count, the others do.
func TestContainerRemoved(t *testing.T) {
	hosts := sharedHosts(t)
	p := start(t, sharedLab(), tiny("--blocks", "4", "--arm", "host", "--workload", "tcp_rr")...)
	p.until("trial 1/")
	var list []struct{ ID, Names any }
	hosts[1].must(t, "GET", `/containers/json?filters={"label":["econbench.role=endpoint"]}`, nil, &list)
	if len(list) != 1 {
		t.Fatalf("endpoints: %v, want one", list)
	}
	hosts[1].must(t, "DELETE", "/containers/"+list[0].ID.(string)+"?force=1", nil, nil)
	p.want(1).wantError("of 4 trials are not valid")
	run := p.run()
	bad := 0
	for _, tr := range run.Trials {
		if !tr.Valid {
			bad++
		}
	}
	if last := run.Trials[len(run.Trials)-1]; len(run.Trials) != 4 || bad == 0 || bad > 2 || !last.Valid || last.Build == 0 {
		t.Errorf("%d trials, %d of them not valid; last: valid %v, build %d\n%s", len(run.Trials), bad, last.Valid, last.Build, p.said())
	}
}

// engineProcess is the dockerd of a lab's first host: a child of the host's first process.
func engineProcess(t *testing.T, root string) int {
	t.Helper()
	init := hostsOf(t, root)[0].init
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range all {
		body, _ := os.ReadFile(stat) // ended since: not it
		var pid, parent int
		var state string
		if n, _ := fmt.Sscanf(string(body), "%d (dockerd) %s %d", &pid, &state, &parent); n == 3 && parent == init {
			return pid
		}
	}
	t.Fatalf("no dockerd below process %d", init)
	return 0
}

// TestEngineKilled kills an engine inside a trial.
func TestEngineKilled(t *testing.T) {
	t.Parallel()
	root := ownLab(t)
	p := start(t, root, long("--arm", "host")...)
	p.until("trial 1/")
	if err := unix.Kill(engineProcess(t, root), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.want(1).wantError("emulated lab: host a: ", "dockerd ended")
	wantKept(t, p)
}

// TestEngineSilent stops an engine inside a trial: it does not answer any more, and gives no end-of-file.
func TestEngineSilent(t *testing.T) {
	t.Parallel()
	root := ownLab(t)
	p := start(t, root, long("--arm", "host")...)
	p.until("trial 1/")
	stopped, begin := engineProcess(t, root), time.Now()
	if err := unix.Kill(stopped, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.want(1)
	t.Logf("ended %.0f s later:\n%s", time.Since(begin).Seconds(), p.said())
	if errs := strings.Join(p.errors(), "\n"); !strings.Contains(errs, root+"/a/docker.sock") {
		t.Errorf("errors %q: want the engine named", errs)
	}
	wantKept(t, p)
}

// TestDiskFull fills the file system of the run directory between two trials.
func TestDiskFull(t *testing.T) {
	sharedHosts(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	out := filepath.Join(dir, "run")
	p := start(t, sharedLab(), long("--arm", "host", "--out", out)...)
	p.until("trial 1/")
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	p.want(1)
	if errs := strings.Join(p.errors(), "\n"); !strings.Contains(errs, "no space left on device") || !strings.Contains(errs, out) {
		t.Errorf("errors %q: want the reason and the place", errs)
	}
	if err := fill.Close(); err != nil {
		t.Error(err)
	}
	run, err := rundir.Load(out)
	if err != nil || len(run.Trials) == 0 {
		t.Fatalf("what was measured: %+v, %v", run, err)
	}
	report := startCommand(t, shipped("report", out)).want(0)
	if !strings.Contains(report.stdout.String(), "tcp_rr") {
		t.Errorf("report:\n%s", report.stdout.String())
	}
}

// TestStoppedAtOnce presses Ctrl-C twice: the program says how to clean up and is gone, and its lab with it.
func TestStoppedAtOnce(t *testing.T) {
	t.Parallel()
	root := ownLab(t)
	p := start(t, root, long("--arm", "host")...)
	p.until("trial 1/")
	p.interrupt()
	p.until("again to stop at once")
	p.interrupt()
	p.want(1)
	if errs := p.errors(); len(errs) == 0 || errs[len(errs)-1] != "stopped at once: `econbench clean` removes what is left" {
		t.Errorf("said %q", errs)
	}
	if run := p.run(); len(run.Trials) == 0 || run.Status != econbench.StatusRunning {
		t.Errorf("%d trials, status %s", len(run.Trials), run.Status)
	}
	eventually(t, "processes gone", 10*time.Second, func() bool { return len(processesOf(root)) == 0 })
	start(t, root, "clean").want(0)
}
