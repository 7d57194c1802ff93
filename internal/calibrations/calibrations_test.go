// SPDX-License-Identifier: Apache-2.0

package calibrations

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func contents(s Store, machine string) (all, leftOut []string) {
	leftOut = s.Each(machine, func(b []byte) error {
		if string(b) == "torn" {
			return errors.New("it is torn")
		}
		all = append(all, string(b))
		return nil
	})
	return all, leftOut
}

func TestStore(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "not", "yet")}
	if all, leftOut := contents(s, "m1"); all != nil || leftOut != nil {
		t.Fatalf("a store that does not exist: %q %q, want nothing and no word", all, leftOut)
	}
	for _, c := range []struct{ machine, pool, content string }{
		{"m1", "p2", "b"}, {"m1", "p1", "old"}, {"m1", "p1", "a"}, {"m2", "p1", "of another machine"},
	} {
		path, err := s.Put(c.machine, c.pool, []byte(c.content))
		if want := filepath.Join(s.Dir, c.machine, c.pool+".json"); err != nil || path != want {
			t.Fatalf("%s %v, want %s", path, err, want)
		}
	}
	if all, leftOut := contents(s, "m1"); !slices.Equal(all, []string{"a", "b"}) || leftOut != nil {
		t.Errorf("%q %q, want a and b", all, leftOut)
	}
}

// TestLeftOut: whatever lies in the store, the rest is read, and each file that is not has a line with its path.
func TestLeftOut(t *testing.T) {
	s := Store{t.TempDir()}
	if _, err := s.Put("m1", "p1", []byte("a")); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(s.Dir, "m1", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("p2.json", "torn")
	write(".p3.json.123", "half") // is being written
	write("README", "notes")
	write("p4.json", strings.Repeat(" ", largest+1))
	if err := errors.Join(os.Mkdir(filepath.Join(s.Dir, "m1", "p5.json"), 0o755),
		os.Symlink("/dev/zero", filepath.Join(s.Dir, "m1", "p6.json"))); err != nil {
		t.Fatal(err)
	}
	all, leftOut := contents(s, "m1")
	if !slices.Equal(all, []string{"a"}) {
		t.Errorf("%q, want a", all)
	}
	want := map[string]string{"README": "want a file named *.json", "p2.json": "it is torn", "p4.json": "more than 4 MiB", "p5.json": "want a file", "p6.json": "want a file"}
	if len(leftOut) != len(want) {
		t.Errorf("%d lines, want %d: %q", len(leftOut), len(want), leftOut)
	}
	for i, name := range slices.Sorted(maps.Keys(want)) {
		if i < len(leftOut) && !(strings.HasPrefix(leftOut[i], "calibration "+filepath.Join(s.Dir, "m1", name)+": left out: ") && strings.Contains(leftOut[i], want[name])) {
			t.Errorf("%q, want %s: %s", leftOut[i], name, want[name])
		}
	}
}

// TestNames: a key or an id that a file made up does not lead out of the store.
func TestNames(t *testing.T) {
	s := Store{t.TempDir()}
	for _, name := range []string{"", ".", "..", "../m2", "a/b", ".hidden", "a\nb", strings.Repeat("a", 201)} {
		for _, pair := range [][2]string{{name, "p1"}, {"m1", name}} {
			if path, err := s.Put(pair[0], pair[1], nil); err == nil {
				t.Errorf("%q: stored at %s", name, path)
			}
		}
		if all, leftOut := contents(s, name); all != nil || leftOut != nil {
			t.Errorf("%q: %q %q", name, all, leftOut)
		}
	}
	if _, err := (Store{"/dev/null"}).Put("m1", "p1", nil); err == nil || !strings.Contains(err.Error(), "/dev/null") {
		t.Errorf("%v, want an error that names the folder", err)
	}
}

func TestStateDir(t *testing.T) {
	for _, c := range []struct {
		uid  int
		env  map[string]string
		want string
	}{
		{0, map[string]string{"ECONBENCH_STATE": "/s", "HOME": "/root"}, "/s"},
		{0, map[string]string{"HOME": "/root", "XDG_STATE_HOME": "/x"}, "/var/lib/econbench"},
		{7, map[string]string{"HOME": "/h", "XDG_STATE_HOME": "/x"}, "/x/econbench"},
		{7, map[string]string{"HOME": "/h", "XDG_STATE_HOME": "x"}, "/h/.local/state/econbench"},
		{7, map[string]string{"HOME": "/h"}, "/h/.local/state/econbench"},
		{7, nil, ""},
	} {
		got, err := stateDir(c.uid, func(name string) string { return c.env[name] })
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("uid %d, %v: %q %v, want %q", c.uid, c.env, got, err, c.want)
		}
	}
}
