// SPDX-License-Identifier: Apache-2.0

// Package rundir keeps a run on disk: run.json, trials.jsonl and logs/ in one folder. It imports the root package and
// internal/wholefile. It promises that what was measured stays readable: run.json is replaced as a whole, a trial is one line
// that is written at once and synced, and a line that was cut short never spoils the ones before or after it.
//
// One process at a time writes a run: it holds a lock on trials.jsonl, which ends with it, whatever killed it. What was
// interrupted, failed or was killed can be taken up again; nothing that is recorded is ever taken back.
//
// It does not judge numbers and never deletes a run.
// Field by field the files are described in docs/formats.md.
package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/wholefile"
)

// Names of what lies in a run directory.
const (
	RunFile     = "run.json"
	TrialsFile  = "trials.jsonl"
	LogsFolder  = "logs"
	PageFile    = "report.html" // made of the others, as plots are
	PlotsFolder = "plots"
)

// GateFile is what a gate came to, beside the record.
const GateFile = "gate.json"

// ErrTaken is wrapped by Create's error when the folder holds a run, or anything else, already.
var ErrTaken = errors.New("folder is taken")

// Dir is a run directory that is being written. Its methods may be called from several goroutines.
type Dir struct {
	path string

	mu     sync.Mutex
	run    econbench.Run
	trials *trialLog
}

// Create makes the folder, with its parents, and writes run.json and an empty trials.jsonl into it. An existing folder is
// taken only when it is empty.
func Create(dir string, run *econbench.Run) (*Dir, error) {
	made, err := claimFolder(dir)
	if err != nil {
		return nil, err
	}
	d, err := open(dir, *run)
	if err != nil && made {
		os.Remove(dir) // only when nothing is in it; the parents may be of use to the next attempt
	}
	return d, err
}

// claimFolder makes dir or finds it empty. made says that the folder itself is new.
func claimFolder(dir string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, fmt.Errorf("create run directory %s: %w", dir, err)
	}
	err = os.Mkdir(dir, 0o755)
	if err == nil {
		return true, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, fmt.Errorf("create run directory %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("create run directory %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.Name() == RunFile || e.Name() == TrialsFile {
			return false, fmt.Errorf("create run directory %s: %w: it holds a run already (%s); want a new or empty folder",
				dir, ErrTaken, e.Name())
		}
	}
	if len(entries) > 0 {
		return false, fmt.Errorf("create run directory %s: %w: found %s; want a new or empty folder",
			dir, ErrTaken, namesOf(entries))
	}
	return false, nil
}

// open starts writing into an empty folder.
func open(dir string, run econbench.Run) (*Dir, error) {
	path := filepath.Join(dir, TrialsFile)
	// O_EXCL, and before run.json: of two controllers that found the folder empty only one gets further.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create run directory %s: %w: another run began in it just now", dir, ErrTaken)
	}
	if err != nil {
		return nil, fmt.Errorf("create run directory %s: %w", dir, err)
	}
	run.Schema, run.Trials, run.Extra, run.Superseded, run.Warnings = econbench.Schema, nil, nil, nil, nil
	d := &Dir{path: dir, run: run, trials: &trialLog{path: path, file: f}}
	if err = lock(f); err != nil {
		err = fmt.Errorf("create run directory %s: %w", dir, err)
	} else {
		err = d.writeRun()
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return d, nil
}

// Path is the folder, as it was given to Create.
func (d *Dir) Path() string { return d.path }

// Append adds a trial to trials.jsonl and returns once it is on the disk. Schema, run and part are filled in. Numbers that JSON
// cannot carry are recorded as not collected, with a warning on the trial.
func (d *Dir) Append(t econbench.Trial) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.Schema, t.Run, t.Part = econbench.Schema, d.run.ID, len(d.run.Resumed)
	return d.trials.append(finite(t))
}

// Update changes run.json: what was found out about the hosts, say.
func (d *Dir) Update(change func(*econbench.Run)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.run)
	return d.writeRun()
}

// Replan writes the plan anew.
func (d *Dir) Replan(p econbench.Plan) error {
	return d.Update(func(r *econbench.Run) { r.Plan = p })
}

// WriteFile writes a file of the run directory beside the record, as a whole.
func (d *Dir) WriteFile(name string, body []byte) error {
	path := filepath.Join(d.path, name)
	if err := wholefile.Write(path, body); err != nil {
		return fmt.Errorf("write %s: %w", path, bare(err))
	}
	return nil
}

// Finish records how the run ended and closes trials.jsonl. cause is nil unless something went wrong.
func (d *Dir) Finish(status econbench.Status, cause error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.run.Finished, d.run.Status, d.run.Error = &now, status, ""
	if cause != nil {
		d.run.Error = cause.Error()
	}
	return errors.Join(d.trials.close(), d.writeRun())
}

// Close lets go of a run without a word on how it ended: both files stay as they are.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trials.release()
}

func (d *Dir) writeRun() error {
	path := filepath.Join(d.path, RunFile)
	b, err := json.MarshalIndent(d.run, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := wholefile.Write(path, append(b, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, bare(err))
	}
	return nil
}

// bare takes operation and path off an error whose message names the path already.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// namesOf lists a few names, for an error.
func namesOf(entries []fs.DirEntry) string {
	const most = 3
	var names []string
	for i, e := range entries {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(entries)-most))
			break
		}
		names = append(names, fmt.Sprintf("%q", e.Name()))
	}
	return strings.Join(names, ", ")
}
