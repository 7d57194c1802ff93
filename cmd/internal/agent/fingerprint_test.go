// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strings"
	"testing"

	"github.com/econbench/econbench/internal/agentproto"
)

// The agent tells the host's facts and its own; a device that is not there is a doubt and no error.
func TestFacts(t *testing.T) {
	a := &agent{opt: Options{Version: "1.2", Objects: map[string]string{"oncache": "0123"}}}
	r, err := a.facts(t.Context(), agentproto.FactsArgs{Device: "no-such-dev"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"econbench.version": "1.2", "bpf.oncache": "0123"} {
		if r.Fingerprint[name] != want {
			t.Errorf("fact %s is %q, want %q", name, r.Fingerprint[name], want)
		}
	}
	if r.Fingerprint["kernel.release"] == "" || !strings.Contains(strings.Join(r.Doubts, "\n"), "no-such-dev") {
		t.Errorf("fingerprint %v, doubts %q", r.Fingerprint, r.Doubts)
	}
}
