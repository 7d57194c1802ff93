// SPDX-License-Identifier: Apache-2.0

package collectors

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// numbers are what a file tells of a task; those that it does not have are 0.
type numbers [3]uint64

func (n *numbers) add(m numbers) {
	for i := range n {
		n[i] += m[i]
	}
}

// fell says whether any number is lower than it was.
func (n numbers) fell(was numbers) bool {
	for i := range n {
		if n[i] < was[i] {
			return true
		}
	}
	return false
}

// task is a task as it was last seen. IDs are reused: a task whose figures fell is another one.
type task struct {
	numbers
	alive bool
}

// tasks adds up what one file under /proc/PID/task/TID says of all tasks of a container's cgroup.
type tasks struct {
	proc, file string
	parse      func([]byte) (numbers, error)

	procs  string          // cgroup.procs of the container's cgroup; "": processes are looked through for it
	cgroup []byte          // /proc/PID/cgroup, v1 and v2 lines alike, of the container's processes
	older  map[string]bool // processes older than the container, by PID
	seen   map[string]*task
	ended  numbers // of tasks that are gone
	gone   int
}

// openTasks takes the list of processes that the container's cgroup has. Without one (a host that does not show its cgroups)
// every process is asked for its cgroup: 500 of them took 4 ms of each read. Those that are older than the container can't belong
// to it, so that they are noted once and left out.
func openTasks(proc string, pid int, file string, parse func([]byte) (numbers, error)) (t *tasks, err error) {
	t = &tasks{proc: proc, file: file, parse: parse, seen: map[string]*task{}}
	if t.cgroup, err = os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup")); err != nil {
		return nil, fmt.Errorf("cgroup of the container: %w", err)
	}
	if dirs, err := cgroupOf(proc, pid); err == nil {
		for _, dir := range []string{dirs.unified, dirs.cpuacct} {
			name := filepath.Join(dir, "cgroup.procs")
			if pids, err := os.ReadFile(name); dir != "" && err == nil && hasLine(pids, strconv.Itoa(pid)) {
				t.procs = name
				return t, nil
			}
		}
	}
	return t, t.noteOlder(pid)
}

func hasLine(b []byte, line string) bool {
	for l := range bytes.Lines(b) {
		if string(bytes.TrimSpace(l)) == line {
			return true
		}
	}
	return false
}

func (t *tasks) noteOlder(pid int) error {
	fs, err := procfs.NewFS(t.proc)
	if err != nil {
		return err
	}
	first, err := startOf(fs, pid)
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	procs, err := fs.AllProcs()
	if err != nil {
		return err
	}
	t.older = map[string]bool{}
	for _, p := range procs {
		if start, err := startOf(fs, p.PID); err == nil && start < first {
			t.older[strconv.Itoa(p.PID)] = true
		}
	}
	return nil
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

// Close is here for all readings made of it.
func (t *tasks) Close() error { return nil }

// sum adds up over every task ever seen, so that the sums only grow.
func (t *tasks) sum() (sum numbers, err error) {
	for _, one := range t.seen {
		one.alive = false
	}
	pids, err := t.processes()
	if err != nil {
		return sum, err
	}
	for _, pid := range pids {
		if err := t.readProcess(pid); err != nil && !vanished(err) {
			return sum, err
		}
	}
	sum = t.ended
	for id, one := range t.seen {
		sum.add(one.numbers)
		if !one.alive {
			t.end(id)
		}
	}
	return sum, nil
}

// processes lists those of the container, or all that may be.
func (t *tasks) processes() ([]string, error) {
	if t.procs != "" {
		b, err := os.ReadFile(t.procs)
		return strings.Fields(string(b)), err
	}
	all, err := numbersIn(t.proc)
	if err != nil {
		return nil, err
	}
	pids := all[:0]
	for _, pid := range all {
		if t.older[pid] {
			continue
		}
		cgroup, err := os.ReadFile(filepath.Join(t.proc, pid, "cgroup"))
		if err != nil && !vanished(err) {
			return nil, err
		}
		if err == nil && bytes.Equal(cgroup, t.cgroup) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// readProcess reads the tasks of a process.
func (t *tasks) readProcess(pid string) error {
	dir := filepath.Join(t.proc, pid, "task")
	tids, err := numbersIn(dir)
	if err != nil {
		return err
	}
	for _, tid := range tids {
		name := filepath.Join(dir, tid, t.file)
		b, err := os.ReadFile(name)
		if vanished(err) {
			continue
		}
		if err != nil {
			return err
		}
		now, err := t.parse(b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if was := t.seen[tid]; was != nil && now.fell(was.numbers) {
			t.end(tid)
		}
		t.seen[tid] = &task{now, true}
	}
	return nil
}

// end keeps a task's figures after its end.
func (t *tasks) end(tid string) {
	t.ended.add(t.seen[tid].numbers)
	t.gone++
	delete(t.seen, tid)
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
