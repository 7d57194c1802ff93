// SPDX-License-Identifier: Apache-2.0

package netspace

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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
