// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
)

// gateFolder has the gate.json of a run against an old one.
func gateFolder(t testing.TB, new *econbench.Run) fstest.MapFS {
	t.Helper()
	var b bytes.Buffer
	if err := gateOf(t, gateRun("old", 1, 10, 0, nil), new, 0.05).Render(&b, "json"); err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{rundir.GateFile: &fstest.MapFile{Data: b.Bytes(), Mode: 0o644}}
}

// TestPageGate: what a gate came to stands among the first things of a page, and nothing is called good that is not known to be.
func TestPageGate(t *testing.T) {
	text := func(s string) fstest.MapFS { return fstest.MapFS{rundir.GateFile: &fstest.MapFile{Data: []byte(s)}} }
	lost := gateRun("new", 2, 10, 10, slower(0.08, 0.08))
	ungated := gateRun("new", 2, 10, 0, nil)
	ungated.Against.Gate = 0
	for name, c := range map[string]struct {
		run    *econbench.Run
		folder fstest.MapFS
		class  string
		says   string
		good   bool // the run is called good
	}{
		"passed":       {gateRun("new", 2, 10, 0, nil), gateFolder(t, gateRun("new", 2, 10, 0, nil)), "good", "The gate passed.", true},
		"regressed":    {lost, gateFolder(t, lost), "bad", "The gate failed. Gate 5% against run old: regressed", false},
		"suspect":      {gateRun("new", 2, 10, 0, slower(0.08, 0)), gateFolder(t, gateRun("new", 2, 10, 0, slower(0.08, 0))), "doubt", "The gate could not be judged.", false},
		"no judgement": {lost, fstest.MapFS{}, "doubt", "What the gate came to is not known. The run was to be held against run old", false},
		"no folder":    {lost, nil, "doubt", "What the gate came to is not known.", false},
		"torn":         {lost, text(`{"schema": 1,`), "doubt", "What the gate came to can't be read. Gate.json: unexpected end", false},
		"newer":        {lost, text(`{"schema": 2}`), "doubt", "no gate of schema 1", false},
		"another's":    {lost, text(`{"schema": 1, "verdict": "passed", "new": {"run": "other"}}`), "doubt", "it is about run other", false},
		"no gate":      {ungated, text(`{"schema": 1}`), "good", "The run is complete.", true},
	} {
		t.Run(name, func(t *testing.T) {
			format := HTML{}
			if c.folder != nil {
				format.folder = c.folder
			}
			page := render(t, format, c.run)
			checkPage(t, page)
			found, good, section := false, false, ""
			for _, n := range elements(t, page) {
				class, _ := attribute(n, "class")
				if id, _ := attribute(n, "id"); id == "gate" {
					section = said(n)
				}
				if words, isBanner := strings.CutPrefix(class, "banner "); isBanner {
					found = found || words == c.class && strings.Contains(said(n), c.says)
					good = good || strings.Contains(said(n), "The run is complete.")
				}
			}
			if !found || good != c.good {
				t.Errorf("%s banner with %q: %t; called good: %t", c.class, c.says, found, good)
			}
			if name == "regressed" && (!strings.Contains(section, "confirmed by 10 extra blocks") || !strings.Contains(section, "in extra blocks")) {
				t.Errorf("section: %q", section)
			}
		})
	}
}
