// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"strings"

	"github.com/econbench/econbench"
)

// Stage is a place on the path, as JSON and pictures have it. Times are medians over the transactions that took the path.
type Stage struct {
	Direction string            `json:"direction"` // Request, Response
	Side      string            `json:"side"`      // econbench.ClientHost, ServerHost
	Namespace string            `json:"namespace"` // "container", "host", "sandbox", or the engine's name of it
	Lane      string            `json:"lane"`      // LaneProgram, LaneStack, or the device or bridge where it happened
	Kind      string            `json:"kind"`      // of that device, "veth"; "" for the first two
	Hook      string            `json:"hook"`      // function or tracepoint; of a fast path's program its name behind "bpf:"
	Detail    string            `json:"detail"`    // netfilter's hook, a program's verdict, the CPU that a packet is queued for
	Bridge    string            `json:"bridge"`    // that passed the packet on from the stage before, where that is no stage of its own
	Tunnelled bool              `json:"tunnelled"` // the packet is within a tunnel's
	Payload   int               `json:"payload"`   // B
	CPU       int               `json:"cpu"`       // of the first transaction of the path
	Softirq   string            `json:"softirq"`   // that it happened in, "NET_RX"; "": in none
	Round     int               `json:"round"`     // number of that softirq's round in the transaction, from 1; 0: in none
	At        econbench.Seconds `json:"at"`        // since the request was sent
	Since     econbench.Seconds `json:"since"`     // the stage before
	Reckoned  bool              `json:"reckoned"`  // from two clocks: half of what one host waited and the other did not hold
}

// Directions of stages.
const (
	Request  = "request"
	Response = "response"
)

// Lanes that are no devices.
const (
	LaneProgram = "program"
	LaneStack   = "TCP/IP"
)

// layer is where in the kernel a hook is.
type layer int

const (
	inProgram layer = iota
	inStack
	inBridge
	inDevice
)

// What hooks are to the path.
const (
	hookRuns      = "sched_switch"
	hookNetfilter = "nf_hook_slow"
	hookBacklog   = "enqueue_to_backlog"
	hookBacklog2  = "netif_rx" // stands in for it
	hookDriver    = "net_dev_start_xmit"
)

var (
	sends    = map[string]bool{"tcp_sendmsg": true, "udp_sendmsg": true, "sys_enter": true}
	receives = map[string]bool{"tcp_recvmsg": true, "udp_recvmsg": true, "sock_recv_length": true}
)

// hook says what a hook is, to people.
type hook struct {
	layer
	text string
}

var hooks = map[string]hook{
	"tcp_sendmsg":            {inProgram, "program sends"},
	"udp_sendmsg":            {inProgram, "program sends"},
	"sys_enter":              {inProgram, "program sends"},
	"sock_recv_length":       {inProgram, "program has read"},
	"sk_data_ready":          {inProgram, "socket wakes its reader"},
	"tcp_probe":              {inStack, "TCP receive"},
	"tcp_recvmsg":            {inProgram, "program has read"},
	"udp_recvmsg":            {inProgram, "program has read"},
	hookRuns:                 {inProgram, "program gets the CPU"},
	"sock_def_readable":      {inProgram, "socket wakes its reader"},
	"__tcp_transmit_skb":     {inStack, "segment"},
	"ip_output":              {inStack, "IP output"},
	hookNetfilter:            {inStack, "netfilter"},
	"ip_rcv":                 {inStack, "IP receive"},
	"ip_forward":             {inStack, "IP forward"},
	"ip_local_deliver":       {inStack, "IP local delivery"},
	"tcp_v4_rcv":             {inStack, "TCP receive"},
	"udp_rcv":                {inStack, "UDP receive"},
	"vxlan_rcv":              {inStack, "VXLAN decapsulation"},
	"br_handle_frame_finish": {inBridge, "bridge looks up the port"},
	"br_dev_queue_push_xmit": {inBridge, "bridge forwards"},
	"__dev_queue_xmit":       {inDevice, "transmit"},
	"net_dev_queue":          {inDevice, "transmit"},
	hookDriver:               {inDevice, "driver"},
	hookBacklog:              {inDevice, "into the backlog"},
	hookBacklog2:             {inDevice, "into the backlog"},
	"gro_cells_receive":      {inDevice, "into the tunnel's queue"},
	"napi_gro_receive_entry": {inDevice, "GRO"},
	"netif_receive_skb":      {inDevice, "receive"},
	"skb_do_redirect":        {inDevice, "redirect"},
}

// Text says what happens at a stage, to people.
func (s Stage) Text() string {
	text := hooks[s.Hook].text
	if program, ok := strings.CutPrefix(s.Hook, ProgramPrefix); ok {
		text = "BPF " + program
	}
	if text == "" {
		text = s.Hook
	}
	if (sends[s.Hook] || receives[s.Hook]) && s.Payload > 0 {
		text += fmt.Sprintf(" %d B", s.Payload)
	}
	if s.Hook == hookDriver && s.Kind != "" {
		text = s.Kind + " driver"
	}
	if s.Detail != "" {
		text += " " + s.Detail
	}
	if s.Bridge != "" {
		text += ", forwarded by " + s.Bridge
	}
	return text
}

// Queues says whether packets wait here until a softirq takes them on.
func (s Stage) Queues() bool { return s.Hook == hookBacklog || s.Hook == hookBacklog2 }

// seen is an event with who saw it.
type seen struct {
	Event
	record *Record
}

func (s seen) hook() string {
	if int(s.Hook) < len(s.record.Hooks) {
		return s.record.Hooks[s.Hook]
	}
	return fmt.Sprintf("hook %d", s.Hook)
}

// stage puts an event into words. Times, rounds and CPUs are those of whole transactions.
func (s seen) stage() Stage {
	st := Stage{Direction: Request, Side: s.record.Side, Hook: s.hook(), Tunnelled: s.Tunnelled != 0, Payload: int(s.Payload), CPU: int(s.CPU)}
	if s.Direction == response {
		st.Direction = Response
	}
	if s.SoftirqSince != 0 {
		st.Softirq = softirqName(s.Softirq)
	}
	ns, device := s.place()
	st.Namespace = ns
	st.Lane, st.Kind = device.Name, device.Kind
	if at, known := hooks[st.Hook]; known {
		switch {
		case at.layer == inProgram:
			st.Lane, st.Kind = LaneProgram, ""
		case device.Master != "" && (at.layer == inBridge || st.Hook == hookNetfilter):
			st.Lane, st.Kind = device.Master, "bridge"
		case at.layer == inStack && !(st.Hook == hookNetfilter && device.Kind == "bridge"): // but br_netfilter's, which is the bridge's
			st.Lane, st.Kind = LaneStack, ""
		}
	}
	if st.Lane == "" {
		st.Lane = LaneStack
	}
	st.Detail = s.detail(st.Hook)
	return st
}

// place is the namespace and the device of an event. One that came after its namespace had been looked at is known by name alone.
func (s seen) place() (ns string, d Device) {
	d = Device{Index: s.Ifindex, Name: s.DeviceName()}
	ns = fmt.Sprintf("net:[%d]", s.Netns)
	for _, n := range s.record.Namespaces {
		if n.Inode != s.Netns {
			continue
		}
		ns = n.Role
		for _, known := range n.Devices {
			if known.Index == s.Ifindex {
				d = known
			}
		}
	}
	return ns, d
}

// detail puts a hook's own number into words.
func (s seen) detail(hook string) string {
	switch {
	case strings.HasPrefix(hook, ProgramPrefix):
		return "→ " + verdict(s.Detail)
	case hook == hookNetfilter:
		return netfilterHook(int(s.Detail>>8), int(s.Detail&0xff))
	case hook == hookBacklog:
		return fmt.Sprintf("of CPU %d", s.Detail)
	}
	return ""
}

// verdict names what a tc program says (include/uapi/linux/bpf.h, pkt_cls.h).
func verdict(v int32) string {
	names := map[int32]string{-1: "next", 0: "pass", 2: "drop", 3: "pass", 7: "redirect"}
	if name, ok := names[v]; ok {
		return name
	}
	return fmt.Sprint(v)
}

// netfilterHook names a hook of netfilter's (include/uapi/linux/netfilter.h).
func netfilterHook(family, hook int) string {
	names := []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	families := map[int]string{1: "", 2: "", 7: "bridge ", 10: "IPv6 "}
	prefix, ok := families[family]
	if !ok || hook < 0 || hook >= len(names) {
		return fmt.Sprintf("family %d hook %d", family, hook)
	}
	return prefix + names[hook]
}

// softirqName is as /proc/softirqs has it.
func softirqName(number uint8) string {
	names := []string{"HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"}
	if int(number) < len(names) {
		return names[number]
	}
	return fmt.Sprintf("softirq %d", number)
}
