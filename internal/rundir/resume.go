// SPDX-License-Identifier: Apache-2.0

package rundir

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/econbench/econbench"
)

var (
	// ErrComplete is wrapped by Resume's error when every planned trial was attempted.
	ErrComplete = errors.New("run is complete")
	// ErrHeld is wrapped by an error when another process is writing the run.
	ErrHeld = errors.New("run is still going on")
)

// Resume opens a run that ended early, to go on from its last whole trial. It returns what is recorded. Nothing is changed
// before the first Update, Append or Finish: until then Close leaves the folder as it was.
func Resume(dir string) (*Dir, *econbench.Run, error) {
	if err := resumable(dir); err != nil { // before anything is opened for writing
		return nil, nil, err
	}
	path := filepath.Join(dir, TrialsFile)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("resume %s: %w", path, bare(err))
	}
	if err = lock(f); err != nil {
		err = fmt.Errorf("resume %s: %w", dir, err)
	} else {
		err = resumable(dir) // it may have ended since we looked
	}
	var l *loader
	if err == nil {
		l, err = readAll(dir)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	d := &Dir{path: dir, run: *l.run, trials: &trialLog{path: path, file: f, size: l.size, torn: l.torn, open: l.open}}
	d.run.Trials, d.run.Extra, d.run.Superseded, d.run.Warnings = nil, nil, nil, nil
	return d, l.run, nil
}

// resumable says whether there is a run that is not complete.
func resumable(dir string) error {
	run, err := loadRun(dir)
	if err == nil && run.Status == econbench.StatusComplete {
		err = fmt.Errorf("resume %s: %w: nothing is left to measure; want one that was interrupted, failed or killed", dir, ErrComplete)
	}
	return err
}

// lock makes this process the only writer for as long as the file is open. flock's lock belongs to the open file, which
// no child inherits (O_CLOEXEC), so that it ends with the process.
func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return fmt.Errorf("%w: another process writes %s", ErrHeld, f.Name())
		case err != nil:
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		default:
			return nil
		}
	}
}

// settle decides which trials count where a block was measured in several parts of a run. The part that has most of the
// block counts, of equals the later one: trials of one block are compared with each other, which those before and after a
// break are not fit for, and a second attempt that was cut short is no reason to give up a better first one.
//
// Trials beyond the plan's blocks are set apart from those that reports are about: of such blocks there are some because of what the
// planned ones said, and only for the cells of which they said it.
func settle(run *econbench.Run) {
	dropped := supersede(run)
	if slices.ContainsFunc(run.Trials, func(t econbench.Trial) bool { return t.Extra }) {
		all := run.Trials
		run.Trials = nil
		for _, t := range all {
			if t.Extra {
				run.Extra = append(run.Extra, t)
			} else {
				run.Trials = append(run.Trials, t)
			}
		}
	}
	for _, r := range run.Resumed {
		run.Warnings = append(run.Warnings, fmt.Sprintf("resumed at %s: blocks before and after it share no conditions but those in run.json",
			r.Started.UTC().Format(time.RFC3339)))
	}
	for _, block := range slices.Sorted(maps.Keys(dropped)) {
		run.Warnings = append(run.Warnings, fmt.Sprintf("block %d was broken off and measured anew: trials of the lesser attempt that count nowhere: %d",
			block, dropped[block]))
	}
}

// supersede moves the trials that do not count to Superseded and says how many there are, by block.
func supersede(run *econbench.Run) (dropped map[int]int) {
	if len(run.Trials) == 0 || !slices.ContainsFunc(run.Trials, func(t econbench.Trial) bool { return t.Part != run.Trials[0].Part }) {
		return nil // nearly every run; it may have a million trials
	}
	count := map[int]map[int]int{} // by block and part
	for _, t := range run.Trials {
		if count[t.Block] == nil {
			count[t.Block] = map[int]int{}
		}
		count[t.Block][t.Part]++
	}
	chosen := map[int]int{}
	for block, parts := range count {
		chosen[block] = slices.MaxFunc(slices.Sorted(maps.Keys(parts)), func(a, b int) int {
			if parts[a] != parts[b] {
				return parts[a] - parts[b]
			}
			return a - b
		})
	}
	dropped = map[int]int{}
	trials := run.Trials
	run.Trials = nil
	for _, t := range trials {
		if t.Part == chosen[t.Block] {
			run.Trials = append(run.Trials, t)
			continue
		}
		run.Superseded = append(run.Superseded, t)
		dropped[t.Block]++
	}
	return dropped
}
