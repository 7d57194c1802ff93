// SPDX-License-Identifier: Apache-2.0

package rundir

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

var (
	// ErrNoRun is wrapped by Load's error when there is no run in the folder.
	ErrNoRun = errors.New("no run there")
	// ErrSchema is wrapped by Load's error when the run was written with a schema this package does not read.
	ErrSchema = errors.New("schema not known")
)

// maxWarnings is how many broken lines are named one by one.
const maxWarnings = 20

// Load reads a run directory. What is broken in trials.jsonl is left out and named in Run.Warnings, with file and line;
// the rest is kept. A run without trials is a run.
func Load(dir string) (*econbench.Run, error) {
	l, err := readAll(dir)
	if err != nil {
		return nil, err
	}
	return l.run, nil
}

// readAll is Load that also tells how trials.jsonl ends.
func readAll(dir string) (*loader, error) {
	run, err := loadRun(dir)
	if err != nil {
		return nil, err
	}
	l := &loader{path: filepath.Join(dir, TrialsFile), run: run}
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		run.Warnings = append(run.Warnings, l.path+": missing: the run has no trials")
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", l.path, bare(err))
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		l.all = info.Size()
	}
	if err := l.read(f); err != nil {
		return nil, err
	}
	settle(run)
	return l, nil
}

func loadRun(dir string) (*econbench.Run, error) {
	path := filepath.Join(dir, RunFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, explain(dir, path, err)
	}
	// The schema is looked at alone first: a newer one may have given the other fields new types.
	var version struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("read %s: %w", place(path, b, err), err)
	}
	switch {
	case version.Schema == nil:
		return nil, fmt.Errorf("read %s: %w: no schema in it; want %d, as `econbench run` writes it", path, ErrSchema, econbench.Schema)
	case *version.Schema > econbench.Schema:
		return nil, fmt.Errorf("read %s: %w: schema %d is newer than %d, the newest that this econbench reads",
			path, ErrSchema, *version.Schema, econbench.Schema)
	case *version.Schema < 1:
		return nil, fmt.Errorf("read %s: %w: schema %d is older than 1, the oldest that this econbench reads", path, ErrSchema, *version.Schema)
	}
	run := new(econbench.Run)
	if err := json.Unmarshal(b, run); err != nil {
		return nil, fmt.Errorf("read %s: %w", place(path, b, err), err)
	}
	return run, nil
}

// explain says why run.json could not be read, in terms of the folder that the user named.
func explain(dir, path string, cause error) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("run directory %s: %w: it does not exist", dir, ErrNoRun)
	case err != nil:
		return fmt.Errorf("run directory %s: %w", dir, bare(err))
	case !info.IsDir():
		return fmt.Errorf("run directory %s: %w: it is a file; want the folder that holds %s", dir, ErrNoRun, RunFile)
	case !errors.Is(cause, fs.ErrNotExist):
		return fmt.Errorf("read %s: %w", path, bare(cause))
	}
	found := "nothing"
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		found = namesOf(entries)
	}
	return fmt.Errorf("run directory %s: %w: found %s; want %s, as `econbench run` writes it", dir, ErrNoRun, found, RunFile)
}

// place is path:line for an error of encoding/json that knows an offset, else path.
func place(path string, b []byte, err error) string {
	offset := int64(-1)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = e.Offset
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		offset = e.Offset
	}
	if offset < 0 || offset > int64(len(b)) {
		return path
	}
	return fmt.Sprintf("%s:%d", path, 1+bytes.Count(b[:offset], []byte("\n")))
}

// loader reads the lines of trials.jsonl into a run.
type loader struct {
	path   string
	run    *econbench.Run
	broken int

	all  int64 // size of the file, B
	size int64 // of the whole lines, B
	torn bool  // something stands behind them
	open bool  // the last of them lacks its newline
}

func (l *loader) read(f io.Reader) error {
	r := bufio.NewReaderSize(f, 1<<20)
	for number := 1; ; number++ {
		line, err := r.ReadBytes('\n')
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return fmt.Errorf("read %s: %w", l.path, bare(err))
		}
		l.torn = last && len(line) > 0
		if len(bytes.TrimSpace(line)) > 0 {
			if err := l.line(number, line, last); err != nil {
				return err
			}
		}
		if !l.torn {
			l.size += int64(len(line))
		}
		if last {
			break
		}
	}
	if more := l.broken - maxWarnings; more > 0 {
		l.run.Warnings = append(l.run.Warnings, fmt.Sprintf("%s: %d more broken lines, left out", l.path, more))
	}
	return nil
}

// line takes one line in. unended says that it lacks its newline: it is torn, unless it is whole all the same.
func (l *loader) line(number int, line []byte, unended bool) error {
	var t econbench.Trial
	err := json.Unmarshal(line, &t)
	if err == nil && unended {
		l.torn, l.open = false, true
	}
	switch {
	case err == nil && t.Schema > econbench.Schema:
		return fmt.Errorf("read %s:%d: %w: schema %d is newer than %d, the newest that this econbench reads",
			l.path, number, ErrSchema, t.Schema, econbench.Schema)
	case err != nil && unended:
		l.run.Warnings = append(l.run.Warnings,
			fmt.Sprintf("%s:%d: last line is torn, its trial is lost: %s", l.path, number, quote(line)))
	case err != nil:
		l.leaveOut(number, "%v: %s", plainer(line, err), quote(line))
	case t.Workload == "" || t.Arm.Topology == "":
		l.leaveOut(number, "no arm or no workload in it: %s", quote(line))
	case t.Schema < 1:
		l.leaveOut(number, "no schema in it, or one older than 1: %s", quote(line))
	case t.Run != l.run.ID:
		l.leaveOut(number, "trial is of run %q, not of %q", t.Run, l.run.ID)
	default:
		l.makeRoom(len(line))
		l.run.Trials = append(l.run.Trials, t)
	}
	return nil
}

// makeRoom grows the list of trials to what the rest of the file will hold if its lines are like those before: a million
// trials are not copied from list to list.
func (l *loader) makeRoom(line int) {
	n := len(l.run.Trials)
	if n < cap(l.run.Trials) || n < 100 {
		return
	}
	mean := max(1, (l.size+int64(line))/int64(n+1))
	l.run.Trials = slices.Grow(l.run.Trials, int(max(0, l.all-l.size)/mean)+1)
}

// plainer names what other programs write for numbers that JSON has not, and numbers that no float64 can be.
func plainer(line []byte, err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && e.Type.Kind() == reflect.Float64 && strings.HasPrefix(e.Value, "number ") {
		return fmt.Errorf("%s of %s is out of range", e.Value, e.Field)
	}
	e, ok := errors.AsType[*json.SyntaxError](err)
	if !ok || e.Offset < 1 || e.Offset > int64(len(line)) {
		return err
	}
	at := bytes.TrimPrefix(line[max(0, e.Offset-2):], []byte(":")) // the offset is behind the first letter, or the second of "-I"
	for _, word := range []string{"NaN", "Infinity", "-Infinity", "Inf", "-Inf"} {
		if bytes.HasPrefix(bytes.TrimLeft(at, " "), []byte(word)) {
			return fmt.Errorf("%s is not a number in JSON", word)
		}
	}
	return err
}

func (l *loader) leaveOut(number int, format string, args ...any) {
	if l.broken++; l.broken <= maxWarnings {
		l.run.Warnings = append(l.run.Warnings, fmt.Sprintf("%s:%d: left out: ", l.path, number)+fmt.Sprintf(format, args...))
	}
}

// quote shows the beginning of a broken line.
func quote(line []byte) string {
	const most = 40
	line = bytes.TrimRight(line, "\r\n")
	if len(line) <= most {
		return fmt.Sprintf("%q", line)
	}
	return fmt.Sprintf("%q…", line[:most])
}
