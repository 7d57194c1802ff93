// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/econbench/econbench/internal/rundir"
)

// TestTellPage: what could not be left is named, and a page that is there is not denied.
func TestTellPage(t *testing.T) {
	for name, c := range map[string]struct {
		block        string // what is in the way
		paged        bool
		warns, fails string
	}{
		"all there":       {"", true, "", ""},
		"no plots":        {rundir.PlotsFolder, true, "warning: not all plots; ", "plots: "},
		"no page":         {rundir.PageFile, false, "warning: no page; ", "page: "},
		"nothing to read": {"none", false, "warning: no page; ", "page: "},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			if err := writeNight(folder, 1, "6.1.0", 0.6, false, true, rand.New(rand.NewPCG(1, 1))); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(folder, "20260101-020000-0001")
			var err error
			switch c.block {
			case rundir.PlotsFolder:
				err = os.WriteFile(filepath.Join(dir, c.block), nil, 0o644)
			case rundir.PageFile:
				err = os.MkdirAll(filepath.Join(dir, c.block, "x"), 0o755)
			case "none":
				err = os.Remove(filepath.Join(dir, rundir.RunFile))
			}
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			paged, err := tellPage(&stderr, dir)
			if paged != c.paged || (err != nil) != (c.fails != "") || err != nil && !strings.HasPrefix(err.Error(), c.fails) || !strings.Contains(stderr.String(), c.warns) || c.warns == "" && stderr.Len() > 0 {
				t.Errorf("paged %t, %v, %q", paged, err, stderr.String())
			}
			if _, err := os.ReadFile(filepath.Join(dir, rundir.PageFile)); (err == nil) != c.paged {
				t.Errorf("the page: %v", err)
			}
		})
	}
}
