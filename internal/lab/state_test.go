// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestStateRoundTrip(t *testing.T) {
	root := t.TempDir()
	if _, err := readState(root); !errors.Is(err, errNoRecord) {
		t.Errorf("no file: %v, want errNoRecord", err)
	}
	want := State{ID: "x", Phase: PhaseUp, Holder: "run 7", Created: time.Unix(1, 0).UTC(), Hosts: []HostState{{Name: "a"}}}
	if err := writeState(root, want); err != nil {
		t.Fatal(err)
	}
	got, err := readState(root)
	if err != nil || got.ID != want.ID || got.Schema != stateSchema || !got.Created.Equal(want.Created) || len(got.Hosts) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestBrokenState(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "unexpected end",
		`{"schema":1,"hosts":[{`: "unexpected end",
		`{"schema":2}`:           "schema is 2, this econbench knows 1",
		`[]`:                     "cannot unmarshal",
		"\x00\x00":               "invalid character",
	} {
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, stateFile), []byte(in), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readState(root)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), stateFile) {
			t.Errorf("%q: %v, want %q and the file's name", in, err, want)
		}
		// What cannot be read is no hindrance to cleaning.
		o := Options{Root: root}
		if removed, err := Clean(t.Context(), o); err != nil || !slices.Contains(removed, root) {
			t.Errorf("%q: clean removed %q, %v", in, removed, err)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"schema":1,"hosts":[{"name":"a","init":{"pid":1,"start":2}}]}`))
	f.Add([]byte(`{"schema":"1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseState(b); err == nil && s.Schema != stateSchema {
			t.Errorf("took schema %d", s.Schema)
		}
	})
}

func TestProcessIdentity(t *testing.T) {
	self, err := processOf(os.Getpid())
	if err != nil || !self.alive() {
		t.Fatalf("self: %+v, %v", self, err)
	}
	if (Process{PID: self.PID, Start: self.Start + 1}).alive() {
		t.Error("a later process with the same pid passes for the earlier")
	}
	if (Process{}).alive() {
		t.Error("no process is alive")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, err := processOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if p.alive() {
		t.Error("alive after its end")
	}
}

func TestParseStat(t *testing.T) {
	tail := " S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0"
	start, state, err := parseStat("12 (a) b (c)" + tail)
	if err != nil || start != 4711 || state != "S" {
		t.Errorf("got %d, %q, %v", start, state, err)
	}
	for _, bad := range []string{"", "12 (x", "12 (x) S 1", "12 (x) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 x 0"} {
		if _, _, err := parseStat(bad); err == nil {
			t.Errorf("%q: taken", bad)
		}
	}
}

func TestLock(t *testing.T) {
	root := filepath.Join(t.TempDir(), "lab")
	if held, err := lockHeld(root); held || err != nil {
		t.Errorf("no file: %v, %v", held, err)
	}
	f, err := takeLock(root)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := lockHeld(root); !held || err != nil {
		t.Errorf("held: %v, %v", held, err)
	}
	if _, err := takeLock(root); !errors.Is(err, errLocked) {
		t.Errorf("second: %v, want errLocked", err)
	}
	f.Close()
	if held, err := lockHeld(root); held || err != nil {
		t.Errorf("let go: %v, %v", held, err)
	}
}

func TestCgroupMounts(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want []string
	}{
		"v2": {"31 23 0:28 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", []string{"/sys/fs/cgroup"}},
		"hybrid": {"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n" +
			"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
			"33 31 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
			"34 31 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified"}},
		"broken": {"31\n - \n31 23 0:28 / - cgroup\n", nil},
	} {
		if got := cgroupMounts(strings.NewReader(tt.in)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestPlaceNames(t *testing.T) {
	if got := newPlace(DefaultRoot+"/", DefaultDataRoot).Cgroup; got != "econbench-lab" {
		t.Errorf("default: %s", got)
	}
	if a, b := newPlace("/x", "/y").Cgroup, newPlace("/z", "/y").Cgroup; a == b {
		t.Errorf("two roots share cgroup %s", a)
	}
}
