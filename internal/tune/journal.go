// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
)

// ErrBusy says that another agent has the journal. Two would undo each other's work.
var ErrBusy = errors.New("in use by another agent")

// Versions of records. A journal with a newer one is left untouched, so a record has the version that first knew of its kind.
const (
	journalVersion = 2 // the newest
	spaceVersion   = 2 // what is changed in a container's namespace
)

const (
	opDo     = "do"     // is about to be changed; a later one with the same id replaces it
	opUndone = "undone" // needs nothing any more
)

// record is a line of the journal.
type record struct {
	Version int     `json:"v"`
	Op      string  `json:"op"`
	ID      uint64  `json:"id"`
	Boot    string  `json:"boot,omitempty"`
	Change  *change `json:"change,omitempty"`
}

// Journal applies tunings and knows what has to be undone, even by the next process. Its methods may be called from
// several goroutines.
//
// It is a file of JSON lines, synced before the change that a line announces. It grows at the end and is emptied once
// nothing stands. It holds what concerns the agent's own host; a container's namespace dies with the container.
type Journal struct {
	mu       sync.Mutex
	file     *os.File
	size     int64 // of the file up to the last whole line
	ns       netns.NsHandle
	netns    netspace.ID
	boot     string
	lastID   uint64
	standing []*step // in the order they were applied
}

// step is what was done and stands.
type step struct {
	id     uint64  // in the journal; 0: not there
	change *change // nil: held by a file descriptor
	hold   io.Closer
}

// OpenJournal opens the journal in dir, which outlives the agent, and undoes what an agent that was killed left in the
// network namespace of the calling thread since the last boot. It tells what it did and what it left alone, one line
// each. What could not be undone stays in the journal.
func OpenJournal(dir string) (j *Journal, undone []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "tune.journal"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("journal: %w", err)
	}
	j = &Journal{file: file, ns: netns.None()}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.release())
			j = nil
		}
	}()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return j, nil, fmt.Errorf("journal %s: %w", file.Name(), ErrBusy)
	} else if err != nil {
		return j, nil, fmt.Errorf("journal %s: lock: %w", file.Name(), err)
	}
	if j.boot, err = bootID(); err != nil {
		return j, nil, err
	}
	if j.ns, j.netns, err = netspace.Own(); err != nil {
		return j, nil, err
	}
	undone, err = j.recover(dir)
	return j, undone, err
}

// recover reads what the last agent left and undoes it, last change first.
func (j *Journal) recover(dir string) ([]string, error) {
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(j.file)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", j.file.Name(), err)
	}
	parsed, err := parseJournal(content)
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", j.file.Name(), err)
	}
	j.size, j.lastID = parsed.size, parsed.lastID
	if int64(len(content)) > j.size { // torn while it was written, so what it announced was not done
		if err := j.file.Truncate(j.size); err != nil {
			return nil, fmt.Errorf("journal %s: cut torn line: %w", j.file.Name(), err)
		}
	}
	said := parsed.doubts
	var settled []uint64
	for _, r := range slices.Backward(parsed.pending) {
		line, err := j.undoRecord(r)
		if err != nil && !errors.Is(err, ErrChanged) {
			j.standing = slices.Insert(j.standing, 0, &step{id: r.ID, change: r.Change})
			line = err.Error() + "; kept in the journal"
		} else {
			settled = append(settled, r.ID)
			if err != nil {
				line = err.Error()
			}
		}
		said = append(said, line)
	}
	return said, j.settle(settled)
}

func (j *Journal) undoRecord(r record) (string, error) {
	switch c := r.Change; {
	case r.Boot != j.boot:
		return c.subject() + ": from before the host's restart, nothing to put back", nil
	case c.Netns != nil && *c.Netns != j.netns && c.Space == "":
		return c.subject() + ": of another network namespace, left alone", nil
	default:
		return j.undoChange(c)
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// log appends records and makes sure that they are on the disk.
func (j *Journal) log(records ...record) error {
	if len(records) == 0 {
		return nil
	}
	var b bytes.Buffer
	for _, r := range records {
		if r.Version, r.Boot = 1, j.boot; r.Change != nil && r.Change.Space != "" {
			r.Version = spaceVersion
		}
		if err := json.NewEncoder(&b).Encode(r); err != nil {
			return fmt.Errorf("journal %s: %w", j.file.Name(), err)
		}
	}
	_, err := j.file.Write(b.Bytes())
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil { // a full disk: leave no half line for the next record to be glued to
		return errors.Join(fmt.Errorf("journal %s: %w", j.file.Name(), err), j.file.Truncate(j.size))
	}
	j.size += int64(b.Len())
	return nil
}

// settle notes that changes need nothing any more, and empties the journal when none is left that does.
func (j *Journal) settle(ids []uint64) error {
	if !slices.ContainsFunc(j.standing, func(s *step) bool { return s.id != 0 }) {
		if j.size == 0 {
			return nil
		}
		if err := errors.Join(j.file.Truncate(0), j.file.Sync()); err != nil {
			return fmt.Errorf("journal %s: %w", j.file.Name(), err)
		}
		j.size = 0
		return nil
	}
	var records []record
	for _, id := range ids {
		records = append(records, record{Op: opUndone, ID: id})
	}
	return j.log(records...)
}

// Close undoes all that still stands, last change first, and lets the journal go.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	return errors.Join(j.undo(slices.Clone(j.standing)), j.release())
}

func (j *Journal) release() error {
	err := j.file.Close() // the lock with it
	j.file = nil
	if j.ns.IsOpen() {
		err = errors.Join(err, j.ns.Close())
	}
	return err
}

// parsedJournal is what a journal says.
type parsedJournal struct {
	pending []record // to be undone, in the order they were done
	size    int64    // up to the end of the last whole line
	lastID  uint64
	doubts  []string
}

// parseJournal reads a journal that may end in the middle of a line. A whole line that makes no sense is passed over and
// said; one of a newer version is an error, as nothing may be dropped that is not understood.
func parseJournal(content []byte) (parsedJournal, error) {
	var p parsedJournal
	end := bytes.LastIndexByte(content, '\n') + 1
	p.size = int64(end)
	for n, line := range bytes.Split(content[:end], []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			p.doubts = append(p.doubts, fmt.Sprintf("journal line %d: %.80q passed over: %v", n+1, line, err))
			continue
		}
		if r.Version > journalVersion {
			return p, fmt.Errorf("line %d: version %d: written by a newer econbench; this one knows up to %d", n+1, r.Version, journalVersion)
		}
		if err := p.take(r); err != nil {
			p.doubts = append(p.doubts, fmt.Sprintf("journal line %d: %.80q passed over: %v", n+1, line, err))
		}
	}
	return p, nil
}

// take adds a record to what is pending.
func (p *parsedJournal) take(r record) error {
	i := slices.IndexFunc(p.pending, func(q record) bool { return q.ID == r.ID })
	switch {
	case r.ID == 0:
		return errors.New("id 0: want one from 1 up")
	case r.Op == opUndone && i >= 0:
		p.pending = slices.Delete(p.pending, i, i+1)
	case r.Op == opUndone: // of a record that was passed over
	case r.Op != opDo:
		return fmt.Errorf("op %q: want %s or %s", r.Op, opDo, opUndone)
	case r.Change == nil:
		return errors.New("no change given")
	case r.Change.check() != nil:
		return r.Change.check()
	case i >= 0:
		p.pending[i] = r
	default:
		p.pending = append(p.pending, r)
	}
	p.lastID = max(p.lastID, r.ID)
	return nil
}
