// SPDX-License-Identifier: Apache-2.0

// Package trace makes pictures of the way that one request and its response take: which network namespaces, devices, hooks and
// softirqs they pass, and the time between them. It has what agents record (Record), turns it into the path that most
// transactions took (Follow), and draws that as text and as SVG.
//
// It is pure: events in, picture out. Recording them is package tracer's, in the hosts.
package trace

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
)

// Order asks an agent to trace one flow through its host.
type Order struct {
	Side      string   `json:"side"` // econbench.ClientHost or ServerHost
	Flow      Flow     `json:"flow"`
	PID       int      `json:"pid"`       // first process of the endpoint's container
	Netns     []string `json:"netns"`     // paths, in the engine's mount namespace, of further namespaces on the way
	Sandboxes string   `json:"sandboxes"` // folder, likewise, where the engine keeps its namespaces
	Events    int      `json:"events"`    // so many are kept; what comes after them is not
}

// Flow is what is traced. A fast path may put the hosts' addresses in the place of the endpoints' on the wire.
type Flow struct {
	Datagrams  bool       `json:"datagrams"` // UDP; else TCP
	Client     netip.Addr `json:"client"`
	Server     netip.Addr `json:"server"`
	ServerPort uint16     `json:"server_port"`
	ClientHost netip.Addr `json:"client_host"`
	ServerHost netip.Addr `json:"server_host"`
}

// Started says what an agent's hooks are attached to. Nothing is recorded yet.
type Started struct {
	Handle  int       `json:"handle"`
	Skipped []Skipped `json:"skipped,omitempty"`
}

// Skipped is a hook that is not there.
type Skipped struct {
	Hook string `json:"hook"`
	Why  string `json:"why"`
}

// RecordArgs ask for what passes the hooks from then on. They are off afterwards.
type RecordArgs struct {
	Handle   int     `json:"handle"`
	Duration float64 `json:"duration"` // s
}

// Record is what one agent saw.
type Record struct {
	Side       string      `json:"side"`
	Hooks      []string    `json:"hooks"` // by the number that events have
	Namespaces []Namespace `json:"namespaces"`
	Events     Events      `json:"events"`
	Lost       int         `json:"lost"` // events that there was no room for
	Programs   []Program   `json:"programs,omitempty"`
}

// Program is a BPF program on a device of the host.
type Program struct {
	Side      string  `json:"side,omitempty"`
	Namespace string  `json:"namespace"`
	Device    string  `json:"device"`
	Hook      string  `json:"hook"` // "ingress", "egress"
	Name      string  `json:"name"`
	Runs      float64 `json:"runs"`    // for each transaction
	Seconds   float64 `json:"seconds"` // that a run takes
}

// Namespace is a network namespace of the host.
type Namespace struct {
	Inode   uint32   `json:"inode"`
	Role    string   `json:"role"` // RoleHost, RoleContainer, RoleSandbox, or the name that the engine gave it
	Devices []Device `json:"devices"`
}

// Roles of namespaces.
const (
	RoleHost      = "host"
	RoleContainer = "container"
	RoleSandbox   = "sandbox"
)

// Device is a network device.
type Device struct {
	Index  uint32 `json:"index"`
	Name   string `json:"name"`
	Kind   string `json:"kind"`             // "veth", "bridge", "vxlan"
	Master string `json:"master,omitempty"` // the bridge that it is a port of
}

// Event is one stage that the flow's packets or data passed. Its size is the same for every agent.
type Event struct {
	At           uint64 // ns of the host's monotonic clock
	SoftirqSince uint64 // likewise, of the softirq that it happened in; 0: in none
	SKB          uint64
	Netns        uint32
	Ifindex      uint32
	Payload      uint32
	Detail       int32
	Hook         uint16
	CPU          uint16
	Direction    uint8
	Tunnelled    uint8
	Softirq      uint8
	_            uint8
	Device       [16]byte
}

// ProgramPrefix begins the names of hooks that are programs of fast paths; the rest is the program's.
const ProgramPrefix = "bpf:"

// Directions of events.
const (
	request  = 0
	response = 1
)

// DeviceName is the device's name, "" where the stage has none.
func (e Event) DeviceName() string {
	name, _, _ := bytes.Cut(e.Device[:], []byte{0})
	return string(name)
}

// Events cross the process border as one string: compressed, in base64.
type Events []Event

// MarshalJSON packs them.
func (list Events) MarshalJSON() ([]byte, error) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := binary.Write(w, binary.LittleEndian, []Event(list)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(packed.Bytes()))
}

// mostEvents is far more than any order asks for.
const mostEvents = 1 << 22

// UnmarshalJSON unpacks them.
func (list *Events) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	size := binary.Size(Event{})
	body, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(packed)), int64(mostEvents*size)))
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	if len(body)%size != 0 {
		return fmt.Errorf("events: %d bytes: want a multiple of %d", len(body), size)
	}
	*list = make(Events, len(body)/size)
	return binary.Read(bytes.NewReader(body), binary.LittleEndian, []Event(*list))
}
