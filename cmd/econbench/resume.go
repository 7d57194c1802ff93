// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/rundir"
	"github.com/econbench/econbench/reports"
)

// besideResume are the flags that change nothing about what is measured.
var besideResume = []string{"hosts", "underlay", "tls-dir", "cache-dir", "baseline-run", "profile", "dry-run", "quiet"}

// exitRefused is the exit code of a run that can't be gone on with, however often that is tried: by this econbench, on these hosts. Whoever
// tries every night has to know it from hosts that are not up yet.
const exitRefused = 3

// refusal is an error that trying again does not help against.
type refusal struct{ error }

// Unwrap is what it says.
func (r refusal) Unwrap() error { return r.error }

// goOn takes a run up again that ended early.
func (f *runFlags) goOn(cmd *cobra.Command) error {
	err := f.takeUpAgain(cmd)
	if r := (refusal{}); errors.As(err, &r) {
		return exitError{exitRefused, err}
	}
	return err
}

func (f *runFlags) takeUpAgain(cmd *cobra.Command) (err error) {
	if f.resume == "" {
		return fmt.Errorf("flag --resume: want the directory of a run, got none")
	}
	why := fmt.Sprintf("does not go with --resume: the run in %s has its plan", f.resume)
	if err := onlyBeside(cmd, "resume", besideResume, why); err != nil {
		return err
	}
	if err := f.checkHosts(); err != nil {
		return err
	}
	dir, was, err := rundir.Resume(f.resume)
	switch {
	case errors.Is(err, rundir.ErrNoRun), errors.Is(err, rundir.ErrHeld), errors.Is(err, rundir.ErrComplete):
		return err
	case err != nil:
		return refusal{err}
	}
	j := &job{dir: dir, plan: was.Plan, label: partLabel(was.ID), was: was}
	if j.done, err = f.resumable(was); err == nil {
		j.ref, err = f.against.again(cmd, was)
	}
	if err != nil {
		return errors.Join(err, dir.Close())
	}
	if f.dryRun {
		return errors.Join(f.printRest(cmd.OutOrStdout(), j), dir.Close())
	}
	return f.carryOut(cmd, j)
}

// onlyBeside refuses all flags but some, beside one that stands for them. One that it doesn't know is refused too.
func onlyBeside(cmd *cobra.Command, flag string, allowed []string, why string) (err error) {
	cmd.Flags().Visit(func(fl *pflag.Flag) {
		if err == nil && fl.Name != flag && !slices.Contains(allowed, fl.Name) {
			err = fmt.Errorf("flag --%s: %s; allowed beside it: --%s", fl.Name, why, strings.Join(allowed, ", --"))
		}
	})
	return err
}

// partLabel is what a resumed run's things are called on engines: not as its other parts' were, so that what those left
// is known to be a dead run's and swept.
func partLabel(run string) string {
	b := make([]byte, 2)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return run + "-" + hex.EncodeToString(b)
}

// resumable finds what stands against going on with a run as far as can be known without engines, and what is left of it.
func (f *runFlags) resumable(was *econbench.Run) (d engine.Done, err error) {
	fail := func(format string, args ...any) (engine.Done, error) {
		return d, refusal{fmt.Errorf("resume %s: "+format, append([]any{f.resume}, args...)...)}
	}
	if now := versionString(); now != was.Version {
		return fail("econbench is %q, was %q: trials of two versions are not one run", now, was.Version)
	}
	if _, err := resolve(was.Plan); err != nil {
		return fail("its plan: %w", err)
	}
	if d, err = engine.DoneBy(was); err != nil {
		return fail("%w", err)
	}
	switch given := len(f.hosts) > 0; { // what to type is no refusal
	case was.Lab == "real" && !given && !f.dryRun:
		return d, fmt.Errorf("resume %s: it began on hosts that were given: want them again, by --hosts", f.resume)
	case was.Lab == "emulated" && given:
		return d, fmt.Errorf("resume %s: hosts %q: it began on an emulated lab: want no --hosts", f.resume, strings.Join(f.hosts, ","))
	}
	return d, nil
}

// printRest shows what would be measured yet.
func (f *runFlags) printRest(w io.Writer, j *job) error {
	planned, whole := j.tally().Planned, j.done.Valid+j.done.Invalid
	rest := j.plan
	rest.Blocks -= len(j.done.Blocks)
	var x engine.Extra // not known before the planned blocks are whole
	if planned == whole {
		var err error
		if _, x, err = j.suspects(); err != nil {
			return err
		}
	}
	takes := partsOf(j.plan).Estimate(rest) + partsOf(j.plan).EstimateExtra(j.plan, x)
	fmt.Fprintf(w, "run %s: %d of %d trials are measured, %d are left, about %v on a lab that is up\n", j.was.ID, whole, planned,
		planned-whole+(x.Blocks-len(x.Done.Blocks))*len(x.Cells), takes.Round(time.Second))
	for _, block := range slices.Concat(j.done.Broken, x.Done.Broken) {
		fmt.Fprintf(w, "block %d was broken off: it is measured anew\n", block)
	}
	j.ref.print(w, j.plan)
	if x.Blocks > 0 {
		fmt.Fprintf(w, "%d of %d extra blocks are measured\n", len(x.Done.Blocks), x.Blocks)
	}
	return printPlan(w, j.plan, j.done)
}

// sameLab holds what is there to measure on against what a run began on: only then do its trials belong together.
func sameLab(was *econbench.Run, s *session) error {
	if was.Hosts == nil {
		return nil // it had not got that far
	}
	return sameHosts(was, econbench.Run{Lab: s.kind, Image: s.lab.ImageDigest(), Hosts: s.facts()})
}

func sameHosts(was *econbench.Run, now econbench.Run) error {
	var differ []string
	for _, d := range []econbench.Difference{{Fact: "lab", Was: was.Lab, Now: now.Lab}, {Fact: "image", Was: was.Image, Now: now.Image}} {
		if d.Was != d.Now {
			differ = append(differ, d.String())
		}
	}
	for _, role := range []string{econbench.ClientHost, econbench.ServerHost} {
		for _, d := range now.Hosts[role].Differences(was.Hosts[role], econbench.ClassMachine, econbench.ClassSubject) {
			differ = append(differ, role+": "+d.String())
		}
	}
	if len(differ) > 0 {
		return refusal{fmt.Errorf("resume run %s: not what it began on: %s", was.ID, strings.Join(differ, "; "))}
	}
	return nil
}

// takeUp records that a run is taken up again, and how the part before ended.
func takeUp(r *econbench.Run, now time.Time) {
	r.Resumed = append(r.Resumed, econbench.Resumption{
		Started: now, Version: versionString(), Command: os.Args,
		Before: econbench.Ending{Status: r.Status, Finished: r.Finished, Error: r.Error},
	})
	r.Status, r.Finished, r.Error = econbench.StatusRunning, nil, ""
}

// resumeCommand is what the user types to go on with a run, hosts included.
func (f *runFlags) resumeCommand(dir string) string {
	line := "econbench run --resume " + reports.ShellWord(dir)
	for _, given := range []struct{ flag, value string }{
		{"hosts", strings.Join(f.hosts, ",")}, {"underlay", strings.Join(f.underlay, ",")}, {"tls-dir", f.tlsDir}, {"cache-dir", f.cacheDir},
	} {
		if given.value != "" {
			line += " --" + given.flag + " " + reports.ShellWord(given.value)
		}
	}
	return line
}
