// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expected outputs in testdata/script")

// TestScripts runs the program as a user does who never gets as far as measuring. None of it needs root or an engine.
func TestScripts(t *testing.T) {
	build(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", built.dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			env.Setenv("ECONBENCH_LAB", filepath.Join(env.WorkDir, "lab"))
			env.Setenv("ECONBENCH_STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "none"))
			env.Setenv("DOCKER_CERT_PATH", "")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"refuses": refuses, "leaves": leaves, "cuts": cuts, "measured": measured, "nights": makeNights, "exits": exits, "night": night},
	})
}

// refuses runs the program and checks that it fails as bad input has to: exit code 1 (or CODE), nothing on standard output, one
// line on standard error with all the texts in it that stand after "==", nothing made.
//
//	refuses [CODE] ARG… == TEXT…
func refuses(ts *testscript.TestScript, neg bool, args []string) {
	var texts []string
	for i, a := range args {
		if a == "==" {
			args, texts = args[:i], args[i+1:]
			break
		}
	}
	if neg || len(texts) == 0 {
		ts.Fatalf("usage: refuses [CODE] ARG… == TEXT…")
	}
	status := "exit status 1"
	if _, err := strconv.Atoi(args[0]); err == nil {
		status, args = "exit status "+args[0], args[1:]
	}
	before := tree(ts)
	if err := ts.Exec("econbench", args...); err == nil || err.Error() != status {
		ts.Fatalf("%q: %v, want %s", args, err, status)
	}
	stdout, stderr := ts.ReadFile("stdout"), ts.ReadFile("stderr")
	if stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "econbench: ") {
		ts.Fatalf("%q: want one line that begins with econbench:", args)
	}
	for _, text := range texts {
		if !strings.Contains(stderr, text) {
			ts.Fatalf("%q: want %q in %q", args, text, stderr)
		}
	}
	if after := tree(ts); after != before {
		ts.Fatalf("%q: made something: %s, was %s", args, after, before)
	}
}

// cuts takes the last byte off a file: a script's files end with a newline, which what was cut short has not.
//
//	cuts FILE|PATTERN
func cuts(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cuts FILE|PATTERN")
	}
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s: found %q, want one file", args[0], found)
	}
	info, err := os.Stat(found[0])
	ts.Check(err)
	ts.Check(os.Truncate(found[0], info.Size()-1))
}

// tree lists what is in the script's folder.
func tree(ts *testscript.TestScript) (list string) {
	err := filepath.WalkDir(ts.Getenv("WORK"), func(path string, _ os.DirEntry, err error) error {
		list += path + " "
		return err
	})
	ts.Check(err)
	return list
}
