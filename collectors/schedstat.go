// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench"
)

// Schedstat is what the scheduler did to the workload's tasks: run_time and run_delay in s, timeslices in 1, summed over
// all tasks of the endpoint containers' cgroups, from /proc/PID/task/TID/schedstat (CONFIG_SCHED_INFO; no switch needed).
// A running task's run time is as old as the last tick. Tasks that end within the window take their last stretch with
// them; tasks_gone says how many did.
type Schedstat struct{}

var _ econbench.Collector = Schedstat{}

func (Schedstat) Name() string { return "schedstat" }
func (Schedstat) Help() string {
	return "time that the workload's tasks ran and waited for a CPU (/proc/PID/task/TID/schedstat)"
}

func (Schedstat) Samples(w econbench.Window) (samples []econbench.Sample, warnings []string) {
	client, server := hosts(w)
	clientDelay, ok := client.rate("schedstat", "run_delay")
	serverDelay, also := server.rate("schedstat", "run_delay")
	if ok && also {
		samples = append(samples, econbench.Sample{Metric: "run_delay", Value: clientDelay + serverDelay})
	}
	for _, h := range []host{client, server} {
		if gone := h.Counters["schedstat"]["tasks_gone"]; gone > 0 {
			warnings = append(warnings, fmt.Sprintf("schedstat: %s: %.0f tasks ended within the window; run_delay lacks their last stretch", h.name, gone))
		}
	}
	return samples, warnings
}

type schedstatReader struct{ proc string }

func (schedstatReader) Name() string { return "schedstat" }

// Open notes the processes that cannot belong to a container of the scope's, those older than the first of them, so that a read need not
// look at every process of a big machine.
func (r schedstatReader) Open(s econbench.Scope) (econbench.Reading, error) {
	fs, err := procfs.NewFS(r.proc)
	if err != nil {
		return nil, fmt.Errorf("schedstat: %w", err)
	}
	reading := &schedstatReading{proc: r.proc, older: map[string]bool{}, tasks: map[string]*task{}}
	first := uint64(math.MaxUint64)
	for _, pid := range s.PIDs() {
		cgroup, err := os.ReadFile(filepath.Join(r.proc, strconv.Itoa(pid), "cgroup"))
		if err != nil {
			return nil, fmt.Errorf("schedstat: cgroup of the container: %w", err)
		}
		start, err := startOf(fs, pid)
		if err != nil {
			return nil, fmt.Errorf("schedstat: process %d: %w", pid, err)
		}
		reading.cgroups, first = append(reading.cgroups, cgroup), min(first, start)
	}
	procs, err := fs.AllProcs()
	if err != nil {
		return nil, fmt.Errorf("schedstat: %w", err)
	}
	for _, p := range procs {
		if start, err := startOf(fs, p.PID); err == nil && start < first {
			reading.older[strconv.Itoa(p.PID)] = true
		}
	}
	return reading, nil
}

// startOf is a process's start in clock ticks since boot.
func startOf(fs procfs.FS, pid int) (uint64, error) {
	p, err := fs.Proc(pid)
	if err != nil {
		return 0, err
	}
	stat, err := p.Stat()
	return stat.Starttime, err
}

// task is a task as it was last seen. IDs are reused: a task whose figures fell is another one.
type task struct {
	schedstat
	alive bool
}

// schedstat is the three numbers of the file: ns, ns, 1.
type schedstat struct{ run, delay, slices uint64 }

type schedstatReading struct {
	proc    string
	cgroups [][]byte        // /proc/PID/cgroup, v1 and v2 lines alike, of each container's processes
	older   map[string]bool // processes older than the containers, by PID
	tasks   map[string]*task
	ended   schedstat // of tasks that are gone
	gone    int
}

func (r *schedstatReading) Close() error { return nil }

// Read sums over every task ever seen, so that the sums only grow.
func (r *schedstatReading) Read() (econbench.Counters, error) {
	for _, t := range r.tasks {
		t.alive = false
	}
	pids, err := numbersIn(r.proc)
	if err != nil {
		return nil, fmt.Errorf("schedstat: %w", err)
	}
	for _, pid := range pids {
		if r.older[pid] {
			continue
		}
		if err := r.readProcess(pid); err != nil && !vanished(err) {
			return nil, fmt.Errorf("schedstat: %w", err)
		}
	}
	sum := r.ended
	for id, t := range r.tasks {
		sum.add(t.schedstat)
		if !t.alive {
			r.end(id)
		}
	}
	return econbench.Counters{
		"run_time":   float64(sum.run) / 1e9,
		"run_delay":  float64(sum.delay) / 1e9,
		"timeslices": float64(sum.slices),
		"tasks_gone": float64(r.gone),
	}, nil
}

// readProcess reads the tasks of a process if it is one of the containers'.
func (r *schedstatReading) readProcess(pid string) error {
	dir := filepath.Join(r.proc, pid)
	cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil || !slices.ContainsFunc(r.cgroups, func(c []byte) bool { return bytes.Equal(c, cgroup) }) {
		return err
	}
	tids, err := numbersIn(filepath.Join(dir, "task"))
	if err != nil {
		return err
	}
	for _, tid := range tids {
		name := filepath.Join(dir, "task", tid, "schedstat")
		b, err := os.ReadFile(name)
		if vanished(err) {
			continue
		}
		if err != nil {
			return err
		}
		now, err := parseSchedstat(b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if t := r.tasks[tid]; t != nil && (now.run < t.run || now.delay < t.delay || now.slices < t.slices) {
			r.end(tid)
		}
		r.tasks[tid] = &task{now, true}
	}
	return nil
}

// end keeps a task's figures after its end.
func (r *schedstatReading) end(tid string) {
	r.ended.add(r.tasks[tid].schedstat)
	r.gone++
	delete(r.tasks, tid)
}

func (s *schedstat) add(t schedstat) {
	s.run += t.run
	s.delay += t.delay
	s.slices += t.slices
}

// parseSchedstat reads "RUN DELAY SLICES" (Documentation/scheduler/sched-stats.rst).
func parseSchedstat(b []byte) (s schedstat, err error) {
	fields := strings.Fields(string(b))
	if len(fields) != 3 {
		return s, fmt.Errorf("line %q: want three numbers", strings.TrimSpace(string(b)))
	}
	for i, to := range []*uint64{&s.run, &s.delay, &s.slices} {
		if *to, err = strconv.ParseUint(fields[i], 10, 64); err != nil {
			return schedstat{}, fmt.Errorf("line %q: %w", strings.TrimSpace(string(b)), err)
		}
	}
	return s, nil
}

// numbersIn lists the entries of a folder that are numbers: processes or tasks.
func numbersIn(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	numbers := names[:0]
	for _, n := range names {
		if strings.Trim(n, "0123456789") == "" {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// vanished says whether a process or task ended between being listed and being read.
func vanished(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) }
