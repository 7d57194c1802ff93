// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstall installs as a package's build does, into a folder of its own.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("make", "-s", "-C", "../..", "install", "BIN="+filepath.Join(dir, "built"), "DESTDIR="+dir, "PREFIX=/usr", "VERSION=v9.9")
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1000000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for file, want := range map[string]string{
		"usr/share/man/man1/econbench-run.1":                   `"Sep 2001" "econbench v9.9"`,
		"usr/share/bash-completion/completions/econbench":      "__start_econbench",
		"usr/share/zsh/site-functions/_econbench":              "#compdef econbench",
		"usr/share/fish/vendor_completions.d/econbench.fish":   "complete -c econbench",
		"usr/share/man/man1/econbench-completion-powershell.1": "powershell",
	} {
		body, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v, want %q in it", file, err, want)
		}
	}
	if out, err := exec.Command(filepath.Join(dir, "usr/bin/econbench"), "version").Output(); err != nil || !strings.HasPrefix(string(out), "econbench v9.9\n") {
		t.Errorf("%s %v", out, err)
	}
}
