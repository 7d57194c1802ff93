// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	stateSchema = 1
	stateFile   = "lab.json"
	lockFile    = "lock"
)

// Phases of an emulated lab, as found in State.Phase.
const (
	PhaseNone     = "none"     // no lab and no record of one
	PhaseStarting = "starting" // Up is at work
	PhaseUp       = "up"       // both engines answer
	PhaseDead     = "dead"     // a record is there, no process is: Clean removes it
)

// State is what lab.json records about an emulated lab, and what Status returns.
type State struct {
	Schema  int       `json:"schema"`
	ID      string    `json:"id"`
	Phase   string    `json:"phase"`
	Live    bool      `json:"live"`    // found by Status, not recorded: the lock is held
	Holder  string    `json:"holder"`  // id of the run it was made for, or "kept"
	Keep    bool      `json:"keep"`    // outlives its controller
	Version string    `json:"version"` // of the econbench that made it
	Created time.Time `json:"created"`
	// Controller is the process that called Up; it may be gone when Keep is set.
	Controller Process     `json:"controller"`
	Wire       Wire        `json:"wire"`
	Hosts      []HostState `json:"hosts"`
	Warnings   []string    `json:"warnings"`
	// Remains are paths that a dead lab left; found by Status, not recorded.
	Remains []string `json:"remains,omitempty"`
}

// Wire is the link between the two hosts: a veth pair, one end in each.
type Wire struct {
	Device string `json:"device"` // the same name in both namespaces
	MTU    int    `json:"mtu"`    // bytes
}

// HostState is one emulated host.
type HostState struct {
	Name     string  `json:"name"`     // "a" or "b"
	Hostname string  `json:"hostname"` // in its UTS namespace
	Address  string  `json:"address"`  // on the wire, with prefix length
	Socket   string  `json:"socket"`   // unix:// URL of the engine
	Log      string  `json:"log"`      // the engine's
	Data     string  `json:"data"`     // the engine's data-root
	Init     Process `json:"init"`     // pid 1 of the host's PID namespace, as seen from outside
}

// Process names a process in a way that survives the reuse of its pid.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // field 22 of /proc/PID/stat, clock ticks since boot
}

// processOf reads the identity of a running process; see proc(5).
func processOf(pid int) (Process, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	start, state, err := parseStat(string(b))
	if err != nil {
		return Process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	if state == "Z" || state == "X" {
		return Process{}, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	return Process{PID: pid, Start: start}, nil
}

// parseStat takes start time and state from a line of /proc/PID/stat. The command in parentheses may hold anything,
// parentheses and blanks too, so fields are counted from the last closing one.
func parseStat(line string) (start uint64, state string, err error) {
	i := strings.LastIndexByte(line, ')')
	if i < 0 {
		return 0, "", fmt.Errorf("stat line %q: no command", line)
	}
	f := strings.Fields(line[i+1:])
	if len(f) < 20 {
		return 0, "", fmt.Errorf("stat line %q: %d fields after the command, want 20 or more", line, len(f))
	}
	start, err = strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("stat line %q: start time: %w", line, err)
	}
	return start, f[0], nil
}

// alive tells whether this very process, not a later one with its pid, still runs.
func (p Process) alive() bool {
	if p.PID <= 0 {
		return false
	}
	q, err := processOf(p.PID)
	return err == nil && q == p
}

// place is where one lab lives. All names follow from it, so that remains can be removed without any record of them.
type place struct {
	Root   string `json:"root"`   // sockets, logs, record and lock
	Data   string `json:"data"`   // the engines' data-roots
	Cgroup string `json:"cgroup"` // name below the root of every cgroup hierarchy
}

func newPlace(root, data string) place {
	p := place{Root: filepath.Clean(root), Data: filepath.Clean(data), Cgroup: "econbench-lab"}
	if p.Root != DefaultRoot {
		sum := sha256.Sum256([]byte(p.Root))
		p.Cgroup += "-" + hex.EncodeToString(sum[:4])
	}
	return p
}

func (p place) host(name string) string     { return filepath.Join(p.Root, name) }
func (p place) hostData(name string) string { return filepath.Join(p.Data, name) }
func (p place) socket(name string) string   { return filepath.Join(p.Root, name, "docker.sock") }

var errNoRecord = errors.New("no lab recorded")

// readState reads lab.json; errNoRecord when there is none.
func readState(root string) (State, error) {
	path := filepath.Join(root, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, errNoRecord
	}
	if err != nil {
		return State{}, fmt.Errorf("lab record: %w", err)
	}
	s, err := parseState(b)
	if err != nil {
		return State{}, fmt.Errorf("lab record %s: %w", path, err)
	}
	return s, nil
}

func parseState(b []byte) (State, error) {
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("%w in %.80q", err, b)
	}
	if s.Schema != stateSchema {
		return State{}, fmt.Errorf("schema is %d, this econbench knows %d", s.Schema, stateSchema)
	}
	return s, nil
}

// writeState replaces lab.json in one step, so that no reader sees half of it.
func writeState(root string, s State) error {
	s.Schema, s.Live, s.Remains = stateSchema, false, nil
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("lab record: %w", err)
	}
	path := filepath.Join(root, stateFile)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("lab record: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("lab record: %w", err)
	}
	return nil
}
