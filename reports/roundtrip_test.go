// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/econbench/econbench/internal/rundir"
)

// TestFromDisk: a run says the same after it has been on disk, to the last digit.
func TestFromDisk(t *testing.T) {
	for name, run := range goldens() {
		dir := filepath.Join(t.TempDir(), name)
		d, err := rundir.Create(dir, run)
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range run.Trials {
			if err := d.Append(tr); err != nil {
				t.Fatal(err)
			}
		}
		loaded, err := rundir.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		loaded.Warnings = append(loaded.Warnings, run.Warnings...) // those of the reader are not recorded
		for _, r := range All() {
			if diff := cmp.Diff(render(t, r, run), render(t, r, loaded)); diff != "" {
				t.Errorf("%s, %s: -memory +disk:\n%s", name, r.Name(), diff)
			}
		}
	}
}
