// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// TestMain runs the tests and takes away what they shared, whatever became of them; in a container it is whoami.
func TestMain(m *testing.M) {
	if name := os.Getenv(whoamiEnv); name != "" {
		if err := whoamiMain(name, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "whoami:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(runAll(m))
}

// built is the program as it is shipped, built once; and the lab that tests share.
var built struct {
	once sync.Once
	dir  string
	err  error

	labOnce sync.Once
	labErr  error
}

func runAll(m *testing.M) int {
	code := m.Run()
	if built.dir == "" {
		return code
	}
	if _, err := os.Stat(sharedLab()); err == nil {
		if out, err := shipped("lab", "down").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "take down the shared lab: %v\n%s", err, out)
			code = 1
		}
		for _, left := range leftOf(sharedLab()) {
			fmt.Fprintln(os.Stderr, "left by the shared lab:", left)
			code = 1
		}
	}
	if err := os.RemoveAll(built.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// sharedLab is where the lab that tests share lives: short, for a socket's path has 108 bytes.
func sharedLab() string { return filepath.Join(built.dir, "lab") }

// shipped is the program as users get it, run on the shared lab, with a store of calibrations that is the tests' own.
func shipped(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(built.dir, "econbench"), args...)
	cmd.Env = append(os.Environ(), "ECONBENCH_LAB="+sharedLab(), "ECONBENCH_STATE="+filepath.Join(built.dir, "state"))
	return cmd
}

// needProgram builds the program, or skips naming what end-to-end tests lack. CI has to have all of it.
func needProgram(t *testing.T) {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("CI") == "true" {
		skip = t.Fatalf
	}
	if testing.Short() {
		t.Skip("end to end: not with -short")
	}
	if os.Getuid() != 0 {
		skip("end to end: needs root for an emulated lab, this is uid %d", os.Getuid())
	}
	for _, name := range []string{"dockerd", "containerd", "runc", "iptables"} {
		if _, err := exec.LookPath(name); err != nil {
			skip("end to end: %v (Debian, Ubuntu: docker.io, iptables)", err)
		}
	}
	build(t)
}

// build builds the program once, as it is shipped.
func build(t *testing.T) {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "eb"); built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", filepath.Join(built.dir, "econbench"), ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build: %w: %s", err, out)
		}
		built.err = orElse(built.err, os.Chmod(built.dir, 0o755)) // strangers run it too
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
}

func orElse(first, second error) error {
	if first != nil {
		return first
	}
	return second
}
