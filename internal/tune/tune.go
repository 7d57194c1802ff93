// SPDX-License-Identifier: Apache-2.0

// Package tune changes a host for the length of a run and puts back exactly what it found: sysctls, receive packet
// steering, congestion control by route, device offloads, the CPUs' wake-up latency, and whether nftables' rules are in effect.
//
// Tunings are plain values that the controller sends and the agent applies. Whatever is not held by a file descriptor
// is written to a journal before it is done (journal.go), so that the next agent on the host undoes what a killed one
// left. A value that somebody else changed in between is left alone, and that is said.
//
// In a container (--network host --pid host) it needs CAP_NET_ADMIN, CAP_SYS_ADMIN (enter namespaces, mount sysfs),
// CAP_SYS_PTRACE (namespaces of other processes) and CAP_MKNOD, the device rule "c 10:* rwm", and systempaths=unconfined
// for a writable /proc/sys. Found with Docker 20.10 by leaving out one after the other; the default seccomp profile lets
// it work. The default AppArmor profile forbids mounts and should be off (not tried: no AppArmor on that machine).
//
// It decides nothing (which device, which CPUs: the caller's), loads no module and starts no process.
package tune

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// Kind says what a tuning changes.
type Kind string

// The kinds of tuning.
const (
	KindSysctl            Kind = "sysctl"             // PID, Key, Value
	KindRPS               Kind = "rps"                // PID, Device, CPUs
	KindCongestionControl Kind = "congestion-control" // PID, Destination, Algorithm
	KindOffloads          Kind = "offloads"           // PID, Device, Features
	KindDMALatency        Kind = "dma-latency"        // nothing
	KindDormant           Kind = "nft-dormant"        // PID
	KindNoTrack           Kind = "notrack"            // PID, Destination
)

// Kinds lists every kind, in the order they are documented.
func Kinds() []Kind {
	return []Kind{KindSysctl, KindRPS, KindCongestionControl, KindOffloads, KindDMALatency, KindDormant, KindNoTrack}
}

// Tuning is one change. Kind says which of the other fields count; they are checked when it is applied.
type Tuning struct {
	Kind Kind `json:"kind"`
	// PID names a process in whose network namespace the change is made. 0 is the agent's own.
	PID int `json:"pid,omitempty"`

	Key   string `json:"key,omitempty"`   // "net.ipv4.tcp_no_metrics_save" or "net/ipv4/tcp_no_metrics_save"
	Value string `json:"value,omitempty"` // as it would be written to the file

	Device string `json:"device,omitempty"`
	CPUs   []int  `json:"cpus,omitempty"` // that all receive queues of Device steer packets to

	Destination netip.Addr `json:"destination,omitzero"` // IPv4 address that connections go to, or of a peer
	Algorithm   string     `json:"algorithm,omitempty"`  // congestion control of those connections

	// Features are states by ethtool's feature names. A name must exist and be changeable. A pattern (as path.Match
	// takes it: "tx-*-segmentation") covers what the device has of it and can change.
	Features map[string]bool `json:"features,omitempty"`
}

// Sysctl sets a kernel parameter in the network namespace of pid.
func Sysctl(pid int, key, value string) Tuning {
	return Tuning{Kind: KindSysctl, PID: pid, Key: key, Value: value}
}

// RPS makes all receive queues of a device steer packets to the given CPUs.
func RPS(device string, cpus ...int) Tuning {
	return Tuning{Kind: KindRPS, Device: device, CPUs: cpus}
}

// CongestionControl makes connections from pid's network namespace to destination use an algorithm. An accepted
// connection looks its peer up as well, so each end wants a tuning of its own.
func CongestionControl(pid int, destination netip.Addr, algorithm string) Tuning {
	return Tuning{Kind: KindCongestionControl, PID: pid, Destination: destination, Algorithm: algorithm}
}

// DMALatency keeps CPUs out of idle states that take time to leave.
func DMALatency() Tuning { return Tuning{Kind: KindDMALatency} }

// Dormant takes all nftables' rules that IPv4 packets meet in the network namespace of pid out of effect, iptables-nft's included.
func Dormant(pid int) Tuning { return Tuning{Kind: KindDormant, PID: pid} }

// NoTrack keeps packets from and to a peer, in the network namespace of pid, from being tracked as connections.
func NoTrack(pid int, peer netip.Addr) Tuning {
	return Tuning{Kind: KindNoTrack, PID: pid, Destination: peer}
}

// check finds what is wrong with a tuning without looking at the host.
func (t Tuning) check() error {
	if t.PID < 0 {
		return fmt.Errorf("tuning %s: process %d: want 0 (the agent's own network namespace) or a process id", t.Kind, t.PID)
	}
	switch t.Kind {
	case KindSysctl:
		return t.checkSysctl()
	case KindRPS:
		if len(t.CPUs) == 0 {
			return fmt.Errorf("rps of %q: no CPUs given", t.Device)
		}
		return checkDevice(t.Kind, t.Device)
	case KindCongestionControl:
		return t.checkCongestionControl()
	case KindOffloads:
		return t.checkOffloads()
	case KindNoTrack:
		if !t.Destination.Is4() {
			return fmt.Errorf("notrack: peer %q: want an IPv4 address", t.Destination)
		}
		return nil
	case KindDMALatency, KindDormant:
		return nil
	}
	return fmt.Errorf("tuning of kind %q: unknown; allowed: %s", t.Kind, join(Kinds()))
}

func (t Tuning) checkSysctl() error {
	file, err := sysctlFile(t.Key)
	if err != nil {
		return err
	}
	if t.PID != 0 && !strings.HasPrefix(file, "net/") {
		return fmt.Errorf("sysctl %s: process %d given; only keys under net belong to a network namespace", t.Key, t.PID)
	}
	if strings.ContainsAny(t.Value, "\n\x00") {
		return fmt.Errorf("sysctl %s: value %q: want one line", t.Key, t.Value)
	}
	return nil
}

func (t Tuning) checkCongestionControl() error {
	if !t.Destination.Is4() {
		return fmt.Errorf("congestion control: destination %q: want an IPv4 address", t.Destination)
	}
	// TCP_CA_NAME_MAX is 16, include/net/tcp.h.
	if t.Algorithm == "" || len(t.Algorithm) > 15 || strings.ContainsAny(t.Algorithm, " \t\n\x00/") {
		return fmt.Errorf("congestion control to %s: algorithm %q: want a name of 1 to 15 characters", t.Destination, t.Algorithm)
	}
	return nil
}

func (t Tuning) checkOffloads() error {
	if len(t.Features) == 0 {
		return fmt.Errorf("offloads of %q: no features given", t.Device)
	}
	for name := range t.Features {
		if _, err := path.Match(name, ""); err != nil {
			return fmt.Errorf("offloads of %q: feature pattern %q: %w", t.Device, name, err)
		}
	}
	return checkDevice(t.Kind, t.Device)
}

// checkDevice allows what dev_valid_name (net/core/dev.c) does.
func checkDevice(kind Kind, device string) error {
	if device == "" || len(device) > 15 || device == "." || device == ".." || strings.ContainsAny(device, "/: \t\n\x00") {
		return fmt.Errorf("%s: device %q: want the name of a network device", kind, device)
	}
	return nil
}

// join lists allowed values in an error.
func join[S ~string](values []S) string {
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = string(v)
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
