// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/econbench/econbench/internal/netspace"
)

// Applied is what one call of Apply did.
type Applied struct {
	Done []string // one line a tuning: "sysctl net.ipv4.tcp_no_metrics_save 0 → 1"

	journal *Journal
	steps   []*step
}

// Apply makes the changes in order. When one fails, or ctx ends, those already made are undone and the error says both.
func (j *Journal) Apply(ctx context.Context, tunings []Tuning) (*Applied, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil, fmt.Errorf("journal: %w", fs.ErrClosed)
	}
	for _, t := range tunings {
		if err := t.check(); err != nil {
			return nil, err
		}
	}
	a := &Applied{journal: j}
	for _, t := range tunings {
		line, err := "", context.Cause(ctx)
		if err == nil {
			line, err = j.apply(a, t)
		}
		if err != nil {
			return nil, errors.Join(err, j.undo(a.steps))
		}
		a.Done = append(a.Done, line)
	}
	return a, nil
}

// Undo puts back what Apply changed, last change first. What cannot be put back now is tried again by the next call; a
// value that somebody else changed since is left alone and told once (ErrChanged).
func (a *Applied) Undo() error {
	a.journal.mu.Lock()
	defer a.journal.mu.Unlock()
	if a.journal.file == nil {
		return nil // Close has undone it
	}
	return a.journal.undo(a.steps)
}

// apply makes one tuning's changes: read, journal, write.
func (j *Journal) apply(a *Applied, t Tuning) (string, error) {
	if hold, line, err := j.hold(t); hold != nil || err != nil {
		if err == nil {
			j.stand(a, &step{hold: hold})
		}
		return line, err
	}
	changes, err := j.plan(t)
	if err != nil {
		return "", err
	}
	var records []record
	var steps []*step
	for _, c := range changes {
		s := &step{change: c}
		if c.pid == 0 {
			j.lastID++
			s.id = j.lastID
			records = append(records, record{Op: opDo, ID: s.id, Change: c})
		}
		steps = append(steps, s)
	}
	if err := j.log(records...); err != nil {
		return "", err
	}
	j.stand(a, steps...)
	for _, c := range changes {
		if err := j.at(c, c.apply); err != nil {
			return "", errors.Join(err, j.at(c, c.revert))
		}
	}
	if t.Kind == KindDormant && len(changes) > 0 {
		if err := j.at(changes[0], checkDormant); err != nil {
			return "", err
		}
	}
	return done(t, changes), nil
}

// hold makes a tuning that a file descriptor holds; nil of the kinds that none does.
func (j *Journal) hold(t Tuning) (hold io.Closer, line string, err error) {
	switch t.Kind {
	case KindDMALatency:
		hold, err = holdDMALatency("/dev", "/proc/misc")
		line = "dma-latency held at 0 µs"
	case KindNoTrack:
		hold, err = j.holdNoTrack(t)
		line = fmt.Sprintf("notrack: packets from and to %s are not tracked", t.Destination)
	default:
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	return hold, line, nil
}

func (j *Journal) stand(a *Applied, steps ...*step) {
	a.steps = append(a.steps, steps...)
	j.standing = append(j.standing, steps...)
}

// plan finds the values that a tuning changes and what they are now.
func (j *Journal) plan(t Tuning) ([]*change, error) {
	ns, id, pid := j.ns, j.netns, 0
	if t.PID != 0 {
		other, otherID, err := netspace.OfProcess(t.PID)
		if netspace.ProcessGone(err) {
			return nil, fmt.Errorf("%s: process %d: no such process", t.Kind, t.PID)
		} else if err != nil {
			return nil, fmt.Errorf("%s: process %d (CAP_SYS_PTRACE): %w", t.Kind, t.PID, err)
		}
		defer other.Close()
		if otherID != id { // a container in the host's namespace tunes the host: journaled as such
			ns, id, pid = other, otherID, t.PID
		}
	}
	find := map[Kind]func(Tuning) ([]*change, error){
		KindSysctl: sysctlChange, KindRPS: rpsChanges, KindCongestionControl: routeChange, KindOffloads: offloadChanges,
		KindDormant: dormantChanges,
	}[t.Kind]
	var changes []*change
	err := netspace.In(ns, func() (err error) {
		changes, err = find(t)
		return err
	})
	for _, c := range changes {
		c.pid = pid
		if c.Kind != KindSysctl || strings.HasPrefix(c.Name, "net/") {
			c.Netns = &id
		}
	}
	return changes, err
}

// at runs f in the network namespace of a change.
func (j *Journal) at(c *change, f func() error) error {
	if c.Space != "" {
		return c.inSpace(f)
	}
	if c.pid == 0 {
		return netspace.In(j.ns, f)
	}
	ns, id, err := netspace.OfProcess(c.pid)
	if netspace.ProcessGone(err) || (err == nil && id != *c.Netns) {
		err = fmt.Errorf("%s: process %d: %w", c.subject(), c.pid, errGone)
	}
	if ns.IsOpen() {
		defer ns.Close()
	}
	if err != nil {
		return err
	}
	return netspace.In(ns, f)
}

func (j *Journal) undoChange(c *change) (outcome string, err error) {
	err = j.at(c, func() (err error) {
		outcome, err = c.undo()
		return err
	})
	if errors.Is(err, errGone) {
		return c.subject() + ": gone, nothing to put back", nil
	}
	return outcome, err
}

// undo puts steps back, last first, as far as they stand.
func (j *Journal) undo(steps []*step) error {
	var errs []error
	var settled []uint64
	for _, s := range slices.Backward(steps) {
		i := slices.Index(j.standing, s)
		if i < 0 {
			continue
		}
		err := j.undoStep(s, j.standing[i+1:])
		if err != nil {
			errs = append(errs, err)
		}
		if err != nil && !errors.Is(err, ErrChanged) && s.hold == nil {
			continue // stands, to be tried again
		}
		j.standing = slices.Delete(j.standing, i, i+1)
		if s.id != 0 {
			settled = append(settled, s.id)
		}
	}
	return errors.Join(append(errs, j.settle(settled))...)
}

// undoStep puts a step back. If a later one changed the same value again, the value stays and the later step inherits
// what to put back.
func (j *Journal) undoStep(s *step, later []*step) error {
	if s.hold != nil {
		return s.hold.Close()
	}
	for _, l := range later {
		if l.change == nil || l.change.target() != s.change.target() {
			continue
		}
		heir := *l.change
		heir.Before = s.change.Before
		if l.id != 0 {
			if err := j.log(record{Op: opDo, ID: l.id, Change: &heir}, record{Op: opUndone, ID: s.id}); err != nil {
				return err
			}
		}
		l.change = &heir
		return nil
	}
	_, err := j.undoChange(s.change)
	return err
}

// done writes what a tuning did on one line.
func done(t Tuning, changes []*change) string {
	var parts []string
	for _, c := range changes {
		part := c.step(c.Before, c.After)
		if c.Device != "" || c.Kind == KindDormant {
			part = c.Name + " " + part
		}
		parts = append(parts, part)
	}
	var line string
	switch {
	case t.Kind == KindDormant && len(changes) == 0:
		line = "nft-dormant: no rules in effect"
	case t.Kind == KindDormant:
		line = "nft-dormant " + strings.Join(parts, ", ")
	case len(changes) == 0:
		line = fmt.Sprintf("%s %s nothing to change", t.Kind, t.Device)
	case t.Device != "":
		line = fmt.Sprintf("%s %s %s", t.Kind, t.Device, strings.Join(parts, ", "))
	default:
		line = changes[0].subject() + " " + parts[0]
	}
	if t.PID != 0 {
		line += fmt.Sprintf(" (process %d)", t.PID)
	}
	return line
}
