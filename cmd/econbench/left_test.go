// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// eventually polls until done says so; what is waited for follows within moments or never.
func eventually(t *testing.T, what string, limit time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s: not within %v", what, limit)
			return
		}
	}
}

// cgroupOf is the name of a lab's cgroup, as docs/lab.md says.
func cgroupOf(root string) string {
	sum := sha256.Sum256([]byte(root))
	return "econbench-lab-" + hex.EncodeToString(sum[:4])
}

// leftOf lists what there is of a lab: processes, mounts, cgroups, directories. Namespaces and devices live and die with
// the processes.
func leftOf(root string) (left []string) {
	for _, pid := range processesOf(root) {
		cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline") // gone by now: as good as empty
		left = append(left, fmt.Sprintf("process %s: %.80q", pid, strings.ReplaceAll(string(cmdline), "\x00", " ")))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		left = append(left, err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, root+"/") || strings.Contains(line, root+" ") {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	for _, pattern := range []string{root, "/sys/fs/cgroup/" + cgroupOf(root), "/sys/fs/cgroup/*/" + cgroupOf(root)} {
		found, _ := filepath.Glob(pattern) // the patterns are sound
		left = append(left, found...)
	}
	return left
}

// processesOf finds the processes that name a lab's root, or that are in its cgroup: inits, engines and whatever runs in
// containers.
func processesOf(root string) (pids []string) {
	all, _ := filepath.Glob("/proc/[0-9]*") // the pattern is sound
	for _, dir := range all {
		cmdline, _ := os.ReadFile(dir + "/cmdline") // ended since: not there
		groups, _ := os.ReadFile(dir + "/cgroup")
		self := filepath.Base(dir) == fmt.Sprint(os.Getpid())
		if !self && (strings.Contains(string(cmdline), root) || strings.Contains(string(groups), cgroupOf(root))) {
			pids = append(pids, filepath.Base(dir))
		}
	}
	return pids
}

// links are the network devices of the machine's own namespace.
func links(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for _, e := range entries {
		names += e.Name() + " "
	}
	return names
}
