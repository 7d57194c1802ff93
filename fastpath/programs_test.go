// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// TestBailsAreTheHeaders holds the names of counters against the enum that the programs count by: a reason that is added in one
// place alone would move all that come after it.
func TestBailsAreTheHeaders(t *testing.T) {
	header, err := os.ReadFile("bpf/lib/account.h")
	if err != nil {
		t.Fatal(err)
	}
	_, enum, found := strings.Cut(string(header), "enum bail {")
	enum, _, closed := strings.Cut(enum, "BAILS")
	if !found || !closed {
		t.Fatal("no enum bail that ends with BAILS in account.h")
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^\s*BAIL_([A-Z]+),`).FindAllStringSubmatch(enum, -1) {
		names = append(names, strings.ToLower(m[1]))
	}
	if !slices.Equal(names, bails[:]) {
		t.Errorf("reasons are %q in account.h, %q here", names, bails)
	}
}

// TestVerifierRefusal is one line; the log is the agent's standard error.
func TestVerifierRefusal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: CAP_BPF and CAP_NET_ADMIN are needed to load programs")
	}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = write
	bad := &ebpf.CollectionSpec{Maps: map[string]*ebpf.MapSpec{}, Programs: map[string]*ebpf.ProgramSpec{
		"bad": {Name: "bad", Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Return()}}, // R0 was never set
	}}
	_, err = loadPrograms(bad, nil, nil, "bad")
	os.Stderr = stderr
	write.Close()
	log := make([]byte, 64<<10)
	n, _ := read.Read(log)
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "verifier refused a program of bad (its log") {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(string(log[:n]), "R0 !read_ok") {
		t.Errorf("log:\n%s", log[:n])
	}
}

func TestMissingHelper(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: CAP_BPF is needed to probe for helpers")
	}
	if err := checkHelpers(overlayNeeds); err != nil {
		t.Errorf("what the program's own kernels have: %v", err)
	}
	// A helper of cgroup programs, which no kernel gives to tc.
	err := checkHelpers([]helperNeed{{asm.FnGetRetval, "99.1"}})
	if err == nil || !strings.Contains(err.Error(), "kernel has no helper") || !strings.Contains(err.Error(), "Linux 99.1 or newer is needed") {
		t.Errorf("error %v", err)
	}
}
