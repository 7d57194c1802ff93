// SPDX-License-Identifier: Apache-2.0

package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"github.com/econbench/econbench"
)

// file is the part of *os.File that trialLog needs, so that a test can run out of space.
type file interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// trialLog appends whole lines to trials.jsonl.
type trialLog struct {
	path string
	file file
	size int64 // of the whole lines, B
	torn bool  // there may be something behind size
	open bool  // the last whole line lacks its newline
}

// append writes one line with one write and syncs it. When that fails the file is cut back to its last whole line: at
// once, or, should that fail too, before the next line is written.
func (l *trialLog) append(t econbench.Trial) error {
	if l.file == nil {
		return fmt.Errorf("append trial to %s: run is finished", l.path)
	}
	line, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("append trial to %s: %w", l.path, err)
	}
	line = append(line, '\n')
	if l.open {
		line = append([]byte{'\n'}, line...)
	}
	if l.torn {
		if err := l.cut(); err != nil {
			return fmt.Errorf("append trial to %s: cut a torn line off: %w", l.path, bare(err))
		}
	}
	n, err := l.file.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.torn = true
		l.cut() // if it fails, torn stays set
		return fmt.Errorf("append trial to %s: %w", l.path, bare(err))
	}
	l.size, l.open = l.size+int64(len(line)), false
	return nil
}

func (l *trialLog) cut() error {
	if err := l.file.Truncate(l.size); err != nil {
		return err
	}
	l.torn = false
	return nil
}

// close leaves whole lines alone behind.
func (l *trialLog) close() error {
	if l.file == nil {
		return nil
	}
	var err error
	if l.torn {
		err = l.cut()
	}
	if err != nil {
		err = fmt.Errorf("close %s: %w", l.path, bare(err))
	}
	return errors.Join(err, l.release())
}

// release closes the file as it is, and gives up its lock with it.
func (l *trialLog) release() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	if err != nil {
		err = fmt.Errorf("close %s: %w", l.path, bare(err))
	}
	l.file = nil
	return err
}

// finite returns the trial with every number that JSON cannot carry (NaN, ±Inf) taken out, and a warning for each. The
// argument's maps are left alone.
func finite(t econbench.Trial) econbench.Trial {
	t.Warnings = slices.Clone(t.Warnings)
	warn := func(format string, args ...any) { t.Warnings = append(t.Warnings, fmt.Sprintf(format, args...)) }

	metrics := make(map[string]*float64, len(t.Metrics))
	for _, name := range slices.Sorted(maps.Keys(t.Metrics)) {
		v := t.Metrics[name]
		if v != nil && !isFinite(*v) {
			warn("%s was %v: recorded as not collected", name, *v)
			v = nil
		}
		metrics[name] = v
	}
	t.Metrics = metrics

	hosts := make(map[string]econbench.HostWindow, len(t.Hosts))
	for _, host := range slices.Sorted(maps.Keys(t.Hosts)) {
		w := t.Hosts[host]
		w.Counters = finiteCounters(host, w.Counters, warn)
		w.Seconds = finiteSeconds("window of "+host, w.Seconds, warn)
		hosts[host] = w
	}
	t.Hosts = hosts

	t.Elapsed = finiteSeconds("elapsed", t.Elapsed, warn)
	if p := t.Proof; p != nil && !(isFinite(p.PayloadToServer) && isFinite(p.PayloadToClient)) {
		warn("path proof's payload was %v and %v: proof not recorded", p.PayloadToServer, p.PayloadToClient)
		t.Proof = nil
	}
	return t
}

func finiteCounters(host string, in map[string]econbench.Counters, warn func(string, ...any)) map[string]econbench.Counters {
	out := make(map[string]econbench.Counters, len(in))
	for _, collector := range slices.Sorted(maps.Keys(in)) {
		counters := make(econbench.Counters, len(in[collector]))
		for _, name := range slices.Sorted(maps.Keys(in[collector])) {
			v := in[collector][name]
			if !isFinite(v) {
				warn("counter %s of %s on %s was %v: left out", name, collector, host, v)
				continue
			}
			counters[name] = v
		}
		out[collector] = counters
	}
	return out
}

func finiteSeconds(what string, s econbench.Seconds, warn func(string, ...any)) econbench.Seconds {
	if isFinite(float64(s)) {
		return s
	}
	warn("%s was %v s: recorded as 0", what, float64(s))
	return 0
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
