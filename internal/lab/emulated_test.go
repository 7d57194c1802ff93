// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/docker"
)

// controllerCommand makes the test binary a controller that brings a lab up and waits to be killed.
const controllerCommand = "test-controller"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case InitCommand:
			exitWith(InitMain(context.Background(), os.Args[2:]))
		case controllerCommand:
			exitWith(testController(os.Args[2], len(os.Args) > 3))
		}
	}
	// The race detector would hold every lab-init for a second at its end.
	if err := os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0")); err != nil {
		exitWith(err)
	}
	os.Exit(m.Run())
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func testController(root string, keep bool) error {
	e, err := Up(context.Background(), Options{Root: root, Keep: keep, Progress: func(s string) { fmt.Println(s) }})
	if err != nil {
		return err
	}
	if keep {
		return e.Close(context.Background())
	}
	select {}
}

// needEmulated skips, naming what is missing: the right to make namespaces, or an engine. As root with an engine
// nothing is skipped.
func needEmulated(t *testing.T) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("end to end: not with -short")
	}
	if err := checkRights(); err != nil {
		t.Skip(err)
	}
	if err := new(environment).findBinaries(""); err != nil {
		t.Skip(err)
	}
	root, err := os.MkdirTemp("", "lab") // t.TempDir's are too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	before := rootNamespace(t)
	o := Options{Root: filepath.Join(root, "r"), Holder: "test", Version: "test"}
	t.Cleanup(func() {
		if _, err := Clean(context.Background(), o); err != nil {
			t.Error(err)
		}
		nothingLeft(t, o)
		if after := rootNamespace(t); after != before {
			t.Errorf("machine's own network namespace changed:\n%s\nwas\n%s", after, before)
		}
		if err := os.Remove(root); err != nil {
			t.Error(err)
		}
	})
	return o
}

// rootNamespace describes what a lab must not change in the machine's own namespaces.
func rootNamespace(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, dev := range []string{WireDevice, "probe0", "docker_gwbridge", "docker0"} {
		_, err := os.Stat("/sys/class/net/" + dev)
		fmt.Fprintln(&b, dev, err == nil)
	}
	for _, s := range []string{"net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables", "net/ipv6/conf/default/disable_ipv6",
		"net/ipv4/neigh/default/gc_thresh3", "kernel/keys/root_maxkeys", "kernel/hostname"} {
		v, _ := os.ReadFile("/proc/sys/" + s) // not every kernel has all
		fmt.Fprintf(&b, "%s=%s", s, v)
	}
	for _, pattern := range []string{"/etc/docker*", "/etc/docker/*", "/run/docker*", "/run/containerd*", "/run/xtables*", "/var/lib/docker/network/files/*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&b, found)
	}
	rules, _ := exec.Command("iptables-save").Output() // none where there are no rules
	for line := range strings.Lines(string(rules)) {
		if strings.HasPrefix(line, "-A") && (strings.Contains(line, "198.18.") || strings.Contains(line, "198.19.")) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// nothingLeft looks for processes, mounts, namespaces, cgroups and directories of a lab.
func nothingLeft(t *testing.T, o Options) {
	t.Helper()
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if left := o.place().remains(); len(left) > 0 {
		t.Errorf("left on disk: %q", left)
	}
	for _, pid := range append(processesNaming(t, o.Root), processesNaming(t, o.place().Cgroup)...) {
		t.Errorf("left running: %d", pid)
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if strings.Contains(sc.Text(), o.Root) {
			t.Errorf("left mounted: %s", sc.Text())
		}
	}
}

// processesNaming finds processes whose command line has a name: inits have the lab's root, engines its cgroup.
func processesNaming(t *testing.T, name string) []int {
	t.Helper()
	var pids []int
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(e)
		var pid int
		if _, serr := fmt.Sscanf(e, "/proc/%d/", &pid); err != nil || serr != nil || pid == os.Getpid() {
			continue
		}
		if strings.Contains(string(b), name) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestUpAndClose(t *testing.T) {
	o := needEmulated(t)
	ctx := t.Context()
	begin := time.Now()
	e, err := Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up in %v", time.Since(begin))
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	for _, u := range e.Hosts() {
		if err := ping(ctx, strings.TrimPrefix(u, "unix://")); err != nil {
			t.Error(err)
		}
	}
	if _, err := Up(ctx, o); !errors.Is(err, ErrLive) {
		t.Errorf("second Up: %v, want ErrLive", err)
	} else {
		t.Log(err)
	}
	if _, err := Clean(ctx, o); !errors.Is(err, ErrLive) {
		t.Errorf("Clean of a live lab: %v, want ErrLive", err)
	}
	if err := Down(ctx, o); !errors.Is(err, ErrLive) {
		t.Errorf("Down of somebody's lab: %v, want ErrLive", err)
	}
	st, err := Status(ctx, o)
	if err != nil || !st.Live || st.Phase != PhaseUp || st.Holder != "test" {
		t.Errorf("status: %+v, %v", st, err)
	}
	begin = time.Now()
	cancelled, cancel := context.WithCancel(ctx)
	cancel() // as after Ctrl-C
	if err := e.Close(cancelled); err != nil {
		t.Fatal(err)
	}
	t.Logf("down in %v", time.Since(begin))
	if e.Err() != nil {
		t.Errorf("lost: %v", e.Err())
	}
	if err := e.Close(ctx); err != nil {
		t.Errorf("second Close: %v", err)
	}
	nothingLeft(t, o)
}

// TestRestartEngine gives a host another engine, with all that the first one had but its containers, and a lab that goes on.
func TestRestartEngine(t *testing.T) {
	o := needEmulated(t)
	ctx := t.Context()
	o.Keep = true
	kept, err := Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Close(ctx); err != nil { // as another process finds it
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Down(context.Background(), o); err != nil {
			t.Error(err)
		}
	})
	e, err := Current(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	url := e.Hosts()[1]
	id := func() string {
		t.Helper()
		d, err := docker.Dial(ctx, url, "")
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		return d.ID()
	}
	first, engines := id(), processesNaming(t, e.place.Cgroup)
	for range 2 { // the second is told by the same init as the first
		if err := e.RestartEngine(ctx, url); err != nil {
			t.Fatal(err)
		}
	}
	if again := id(); again != first {
		t.Errorf("engine's id is %s, was %s: its data are not what they were", again, first)
	}
	if now := processesNaming(t, e.place.Cgroup); len(now) != len(engines) || slices.Equal(now, engines) {
		t.Errorf("processes %v, were %v: want as many, not the same", now, engines)
	}
	if err := e.RestartEngine(ctx, "unix:///nowhere"); err == nil || !strings.Contains(err.Error(), "none of its") {
		t.Errorf("engine of nowhere: %v", err)
	}
	if st, err := Status(ctx, o); err != nil || !st.Live || st.Phase != PhaseUp {
		t.Errorf("status: %+v, %v", st, err)
	}
}

// TestSystemPlaces has its directories below /run and /var/lib, as by default, which each host hides from itself.
func TestSystemPlaces(t *testing.T) {
	o := needEmulated(t)
	for dir, into := range map[string]*string{"/run": &o.Root, "/var/lib": &o.DataRoot} {
		parent, err := os.MkdirTemp(dir, "econbench-test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(parent); err != nil {
				t.Error(err)
			}
		})
		*into = filepath.Join(parent, "lab")
	}
	e, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(e.State().Hosts[0].Data, "image")); err != nil {
		t.Errorf("data is not where it is said to be: %v", err)
	}
	// The one that is left removes what is behind its covers.
	if err := unix.Kill(e.State().Hosts[0].Init.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-e.Lost()
	eventually(t, "the other host removes all", 5*time.Second, gone(o.Root))
	nothingLeft(t, o)
	if e, err = Up(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLeft(t, o)
}
