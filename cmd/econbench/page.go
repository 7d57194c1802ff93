// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/internal/wholefile"
	"github.com/econbench/econbench/reports"
)

// renderRun writes a run in a format; one that shows what else lies in the run's directory gets to see it.
func renderRun(w io.Writer, report econbench.Report, r *econbench.Run, dir string) error {
	if f, ok := report.(reports.InFolder); ok {
		report = f.In(os.DirFS(dir))
	}
	return report.Render(w, r)
}

// leavePage leaves report.html and plots/ in a run directory. paged: the former is there, whatever became of the latter.
func leavePage(dir string) (paged bool, err error) {
	r, err := rundir.Load(dir)
	if err != nil {
		return false, fmt.Errorf("page: %w", err)
	}
	addRulers(r, func(string) {}) // said at the beginning
	var body bytes.Buffer
	if err := renderRun(&body, reports.HTML{}, r, dir); err != nil {
		return false, fmt.Errorf("page: %w", err)
	}
	if err := wholefile.Write(filepath.Join(dir, rundir.PageFile), body.Bytes()); err != nil {
		return false, fmt.Errorf("page: %w", err)
	}
	return true, leavePlots(r, filepath.Join(dir, rundir.PlotsFolder))
}

// leavePlots leaves all plots of a run in a folder, which is made.
func leavePlots(r *econbench.Run, dir string) error {
	plots, err := reports.Plots(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("plots: %w", err)
	}
	for _, p := range plots {
		if err := wholefile.Write(filepath.Join(dir, p.Name), p.Data); err != nil {
			return fmt.Errorf("plots: %w", err)
		}
	}
	return nil
}

// tellPage leaves the page of a run that was measured. That it can't be is a warning and, as with profiles, exit code 1: what was recorded
// stays, and a job that publishes pages must not find an old one and take it for tonight's.
func tellPage(stderr io.Writer, dir string) (paged bool, err error) {
	paged, err = leavePage(dir)
	switch {
	case err != nil && paged:
		fmt.Fprintf(stderr, "econbench: warning: not all plots; what was measured is recorded, and they are made again by: econbench report %s --plots FOLDER\n", dir)
	case err != nil:
		fmt.Fprintf(stderr, "econbench: warning: no page; what was measured is recorded, and it is made again by: econbench report %s -f html -o FILE\n", dir)
	}
	return paged, err
}
