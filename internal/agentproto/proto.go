// SPDX-License-Identifier: Apache-2.0

// Package agentproto is the conversation between the controller and the agent of one host: one JSON value a line, over
// the agent container's attached standard streams. The controller asks, the agent answers; answers may come in any
// order. It knows the envelope and the operations' names, not what parts say to each other inside them.
//
// Death is noticed on both sides. The controller sends a ping every HeartbeatEvery; an agent that hears nothing for
// HeartbeatDeadline, or reads end-of-file, undoes all it did and exits. (A killed engine or a cut network gives no
// end-of-file, hence the deadline.)
package agentproto

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/econbench/econbench"
)

// Version of the messages. Controller and agent are one binary in a run, but a fast path's agent may outlive the
// controller that started it: an agent refuses any version but its own, by name.
const Version = 1

const (
	HeartbeatEvery    = time.Second
	HeartbeatDeadline = 10 * time.Second
)

// Operations of an agent.
const (
	OpHello   = "hello"   // HelloArgs → HelloReply
	OpPing    = "ping"    // nil → nil
	OpTune    = "tune"    // []tune.Tuning → TuneReply
	OpTunnel  = "tunnel"  // tunnel.Spec → TuneReply; builds the host's end of a plain VXLAN network
	OpUntune  = "untune"  // UntuneArgs → nil; what tune or tunnel did
	OpWindow  = "window"  // WindowArgs → WindowReply
	OpProbe   = "probe"   // ProbeArgs → nil; whether readers can read on this host
	OpDevices = "devices" // []econbench.Device → []econbench.Device, with names and kinds filled in
	OpReach   = "reach"   // ReachArgs → nil; answers when the address does
	OpListens = "listens" // netip.AddrPort → bool; whether somebody accepts connections there, in the host's namespace
	OpAdopt   = "adopt"   // Adoptee → nil; a container whose first process the agent ends when it ends itself
	OpKill    = "kill"    // Adoptee → nil; one process of a container
	OpSignal  = "signal"  // SignalArgs → nil; the processes of a container that run a program
	OpIdle    = "idle"    // IdleArgs → nil; answers when a server has nobody to serve and listens
	OpAttach  = "attach"  // AttachArgs → AttachReply; a fast path, by its agent's half
	OpAside   = "aside"   // DetachArgs → nil; what is attached stands aside until it is detached
	OpDetach  = "detach"  // DetachArgs → nil
	OpStatus  = "status"  // DetachArgs → what the fast path's agent's half says of itself
	OpTrace   = "trace"   // trace.Order → trace.Started; hooks on a flow's way, which record nothing yet
	OpRecord  = "record"  // trace.RecordArgs → trace.Record; the hooks are off afterwards
	OpProfile = "profile" // profile.Order → profile.Recording; stacks of what CPUs do, for a while
	OpFacts   = "facts"   // FactsArgs → FactsReply; the fingerprint, as the host is at that moment
	OpExit    = "exit"    // nil → nil; undoes everything, answers, ends
)

// Request is a line from the controller.
type Request struct {
	Version int             `json:"v"`
	ID      uint64          `json:"id"`
	Op      string          `json:"op"`
	Args    json.RawMessage `json:"args,omitempty"`
	Cancel  bool            `json:"cancel,omitempty"` // the controller no longer waits for the request of this ID
}

// Response is a line from the agent.
type Response struct {
	Version int             `json:"v"`
	ID      uint64          `json:"id"`
	Error   string          `json:"error,omitempty"`
	Reply   json.RawMessage `json:"reply,omitempty"`
}

// RemoteError is what an agent said against a request.
type RemoteError struct {
	Host, Op, Message string
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("agent on %s: %s: %s", e.Host, e.Op, e.Message)
}

// HelloArgs opens a conversation.
type HelloArgs struct {
	Run  string `json:"run"`
	Name string `json:"name"` // econbench.ClientHost or ServerHost
}

// HelloReply is what the agent knows of its host without being told anything.
type HelloReply struct {
	Version   string              `json:"version"` // of econbench
	Facts     econbench.HostFacts `json:"facts"`
	Addresses []Address           `json:"addresses"` // candidates for the underlay
	Undone    []string            `json:"undone"`    // what a killed agent had left in the journal and is now put back
}

// Address is an IPv4 address of the host that may be its end of the wire.
type Address struct {
	Prefix  string `json:"prefix"` // "198.18.0.1/24"
	Device  string `json:"device"`
	Driver  string `json:"driver"`
	MTU     int    `json:"mtu"`
	Default bool   `json:"default"` // the default route leaves by this device
}

// ReachArgs asks whether an address can be talked to from a process's network namespace.
type ReachArgs struct {
	PID  int        `json:"pid"`
	Addr netip.Addr `json:"addr"`
}

// TuneReply names what was tuned or built, so that it can be put back before the agent's end.
type TuneReply struct {
	Handle int      `json:"handle"`
	Done   []string `json:"done"` // one line each, with the values before and after
}

// UntuneArgs puts back what one call of tune or tunnel did.
type UntuneArgs struct {
	Handle int `json:"handle"`
}

// AttachArgs asks for a fast path.
type AttachArgs struct {
	Fastpath string          `json:"fastpath"`
	Config   json.RawMessage `json:"config"` // between the two halves of the fast path
}

// AttachReply names what was attached, so that it can be read and detached.
type AttachReply struct {
	Handle int `json:"handle"`
}

// DetachArgs name what was attached.
type DetachArgs struct {
	Handle int  `json:"handle"`
	Aside  bool `json:"aside,omitempty"` // what is attached on other hosts stands aside
}

// StayReply is what an agent that stays says once it has attached, or could not.
type StayReply struct {
	Error string `json:"error,omitempty"`
}

// StayRequest is the one line that an agent that stays is asked, or told, and answers with StayStatus.
type StayRequest struct {
	Order econbench.Order `json:"order,omitempty"` // "": only how things stand
	Items bool            `json:"items,omitempty"` // with each flow that is known
}

// StayStatus is what an agent that stays says of itself when asked.
type StayStatus struct {
	Version  string          `json:"version"` // of econbench
	Fastpath string          `json:"fastpath"`
	Since    time.Time       `json:"since"`
	Undone   []string        `json:"undone,omitempty"` // what one before it had left
	Detail   json.RawMessage `json:"detail"`           // of the fast path
	Error    string          `json:"error,omitempty"`
}

// WindowArgs asks for one window of counters. The agent waits until the flows carry payload, lets the warm-up pass, and
// reads at both ends by itself: no message crosses the engine in between.
type WindowArgs struct {
	Scope    econbench.Scope   `json:"scope"`
	Readers  []string          `json:"readers"`
	Midway   []string          `json:"midway,omitempty"` // of these the ones to be read in the middle of the window too
	Appear   econbench.Seconds `json:"appear"`           // deadline for the flows to carry payload
	Warmup   econbench.Seconds `json:"warmup"`
	Duration econbench.Seconds `json:"duration"`
}

// ProbeArgs asks whether readers that a kernel may lack something for can read. They are opened, read once and closed.
type ProbeArgs struct {
	Scope   econbench.Scope `json:"scope"`
	Readers []string        `json:"readers"`
}

// WindowReply is the window and the doubts about it.
type WindowReply struct {
	Window   econbench.HostWindow `json:"window"`
	Warnings []string             `json:"warnings,omitempty"`
}

// FactsArgs ask for the host's fingerprint, once it is as it is going to be measured.
type FactsArgs struct {
	Device string `json:"device"` // the host's end of the wire
}

// FactsReply is the fingerprint and the doubts about it.
type FactsReply struct {
	Fingerprint econbench.Fingerprint `json:"fingerprint"`
	Doubts      []string              `json:"doubts,omitempty"`
}

// Adoptee is a process of a container that econbench made. The agent signals it only while its cgroup still names the
// container, so that a reused PID is safe.
type Adoptee struct {
	PID       int    `json:"pid"`
	Container string `json:"container"` // full id
}

// IdleArgs ask whether so many adjacent TCP ports are listened at in a process's network namespace and have no connection.
type IdleArgs struct {
	PID   int    `json:"pid"`
	Port  uint16 `json:"port"`
	Ports int    `json:"ports"`
}

// SignalArgs ask for a signal to processes of a container.
type SignalArgs struct {
	Adoptee // the container's first process, in whose network namespace it is to become quiet
	econbench.Signal
}
