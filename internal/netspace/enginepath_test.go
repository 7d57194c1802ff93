// SPDX-License-Identifier: Apache-2.0

package netspace

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// A root that was right is tried before all processes are asked for their names again, and no longer than it is an engine's.
func TestUnderRoots(t *testing.T) {
	proc := t.TempDir()
	process := func(pid, comm string) {
		if err := errors.Join(os.MkdirAll(filepath.Join(proc, pid), 0o755), os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	process("1", "systemd")
	process("40", "dockerd")
	process("41", "containerd")
	process("50", "dockerd")
	right, tried := "50", []string(nil)
	look := func() string {
		t.Helper()
		tried = nil
		found, err := underRoots(proc, func(root string) (string, error) {
			pid := filepath.Base(filepath.Dir(root))
			tried = append(tried, pid)
			if pid != right {
				return "", errors.New("not there")
			}
			return pid, nil
		})
		if err != nil {
			return err.Error()
		}
		return found
	}
	for _, step := range []struct {
		what, right string
		change      func()
		found       string
		tried       []string
	}{
		{"never seen", "50", nil, "50", []string{"1", "40", "50"}},
		{"remembered", "50", nil, "50", []string{"1", "50"}},
		{"another one's", "40", nil, "40", []string{"1", "50", "40"}},
		{"the host's", "1", nil, "1", []string{"1"}},
		{"its number is another program's by now", "40", func() { process("40", "bash"); process("60", "dockerd") },
			"under " + proc + "/1/root: not there; under " + proc + "/50/root: not there; under " + proc + "/60/root: not there", []string{"1", "50", "60"}},
	} {
		if step.change != nil {
			step.change()
		}
		right = step.right
		if found := look(); found != step.found || !slices.Equal(tried, step.tried) {
			t.Errorf("%s: %q, tried %q; want %q, tried %q", step.what, found, tried, step.found, step.tried)
		}
	}
}

// TestAbsent tells a namespace that no engine has from one that could not be looked for.
func TestAbsent(t *testing.T) {
	for _, c := range []struct {
		said   []error
		absent bool
	}{
		{[]error{fs.ErrNotExist}, true},
		{[]error{fs.ErrPermission}, false},
		{[]error{fs.ErrPermission, fs.ErrNotExist}, true}, // process 1's root is not to be looked into, and the engine's has none
		{[]error{errors.New("mount lost"), fs.ErrNotExist}, false},
		{[]error{fs.ErrNotExist, fs.ErrPermission}, false},
	} {
		proc := t.TempDir()
		for i := range c.said {
			dir := filepath.Join(proc, strconv.Itoa(i+1))
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "comm"), []byte("dockerd\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		i := 0
		_, err := underRoots(proc, func(string) (string, error) { i++; return "", c.said[i-1] })
		if i != len(c.said) || errors.Is(err, fs.ErrNotExist) != c.absent {
			t.Errorf("%v: after %d of %d tries %v", c.said, i, len(c.said), err)
		}
	}
}
