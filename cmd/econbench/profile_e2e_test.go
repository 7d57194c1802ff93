// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench/internal/profile"
)

// TestRunProfiles: behind its blocks a run profiles each cell; the overlay's stacks have its tunnel in them and the host's do not;
// pictures and tables can be made again from what is left.
func TestRunProfiles(t *testing.T) {
	t.Parallel()
	p := start(t, ownLab(t), "run", "--arm", "host,overlay", "--workload", "tcp_rr", "--blocks", "1", "--duration", "500ms", "--profile")
	p.want(0)
	allValid(t, p.run(), 2) // a profile is no trial
	found, err := filepath.Glob(filepath.Join(p.dir, "econbench-runs", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%q %v", found, err)
	}
	text := p.stdout.String()
	for _, want := range []string{"profile: host · tcp_rr", "profile: overlay against host · tcp_rr", "ns per transaction", "tunnel, bridge", "functions whose own time changed most"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	dir := filepath.Join(found[0], "profiles")
	for arm, tunnel := range map[string]bool{"host": false, "overlay": true} {
		stem := filepath.Join(dir, "tcp_rr-clients=1_flows=1_request=1_response=1-"+arm)
		b, err := os.ReadFile(stem + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var told profile.Profile
		if err := json.Unmarshal(b, &told); err != nil {
			t.Fatal(err)
		}
		if told.Transactions == nil || *told.Transactions <= 0 || told.Window < 2 || len(told.Sampled) != 2 || told.Sampled[0].Samples < 100 {
			t.Errorf("%s: %s", arm, b)
		}
		folded, err := os.ReadFile(stem + ".folded")
		if err != nil {
			t.Fatal(err)
		}
		for frames, want := range map[string]bool{"\nclient;netperf;": true, "\nserver;netserver;": true, ";vxlan_xmit_[k]": tunnel, "tcp_sendmsg_[k]": true} {
			if strings.Contains("\n"+string(folded), frames) != want {
				t.Errorf("%s: %q in stacks: %v, want %v", arm, frames, !want, want)
			}
		}
		extensions := []string{".svg"}
		if arm != "host" {
			extensions = append(extensions, ".diff.svg", ".diff.folded", ".diff.txt")
		}
		for _, extension := range extensions {
			if empty(stem + extension) {
				t.Errorf("%s%s is empty", stem, extension)
			}
		}
	}
	diff := filepath.Join(dir, "tcp_rr-clients=1_flows=1_request=1_response=1-overlay.diff.svg")
	before, err := os.ReadFile(diff)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(diff); err != nil {
		t.Fatal(err)
	}
	start(t, "", "profile", "--from", found[0]).want(0)
	if after, err := os.ReadFile(diff); err != nil || string(after) != string(before) {
		t.Errorf("%v: a picture that was made again is another one", err)
	}
}
