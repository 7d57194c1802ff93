// SPDX-License-Identifier: Apache-2.0

// Package doctor looks at a machine and says what econbench can and can't do on it: what was found, what it costs that
// something is missing, and how to get it.
//
// It changes nothing. What a kernel can do is tried in a network namespace that is thrown away, and engines are only
// asked who they are. It repairs nothing either: it names the command that does.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Status is how a check came out.
type Status string

const (
	OK      Status = "ok"      // there, or of no concern
	Warn    Status = "warn"    // works, but read what it costs
	Missing Status = "missing" // not there; fatal only when the result is required
)

// Result is what one check found.
type Result struct {
	Group    string `json:"group"`
	Name     string `json:"name"`
	Status   Status `json:"status"`
	Found    string `json:"found"`
	Required bool   `json:"required"`       // `econbench run` fails without it
	Cost     string `json:"cost,omitempty"` // what does not work, or not well, as it is
	Fix      string `json:"fix,omitempty"`  // how to change that
}

// Options say what to look at; the zero value looks at this machine for an emulated lab.
type Options struct {
	Hosts    []string // engines of a real lab: they are looked at in place of what only an emulated lab needs
	TLSDir   string   // for tcp:// hosts
	CacheDir string   // of images; "": the default
}

// check looks at one thing and gives one result, or one for each of a kind.
type check func(context.Context, *machine) []Result

// group is a heading with its checks.
type group struct {
	name     string
	emulated bool // matters only to an emulated lab
	checks   []check
}

// groups are all checks, in the order they are printed.
var groups = []group{
	{"rights", true, []check{checkUser, checkCapabilities, checkBounding}},
	{"kernel", true, []check{
		checkRelease, checkDevices, checkQdiscs, checkTCX, checkNoTrack, checkBTF, checkJIT, checkOverlayfs, checkCgroups, checkCongestion,
	}},
	{"cpu", true, []check{checkCPUs, checkIdle, checkLatencyDevice, checkSteal, checkMitigations}},
	{"programs", true, []check{checkPrograms}},
	{"room", true, []check{checkLabDisk, checkMemory}},
	{"lab", true, []check{checkLab, checkSystemEngine}},
	{"image", false, []check{checkImage, checkKeyring, checkMirror, checkCacheDisk}},
	{"hosts", false, []check{checkSSH, checkHosts}},
}

// Examine runs the checks, one after the other.
func Examine(ctx context.Context, o Options) []Result {
	return examine(ctx, thisMachine(o))
}

func examine(ctx context.Context, m *machine) []Result {
	var all []Result
	for _, g := range groups {
		if g.emulated && len(m.options.Hosts) > 0 {
			continue
		}
		for _, c := range g.checks {
			for _, r := range c(ctx, m) {
				r.Group, r.Found = g.name, strings.ReplaceAll(r.Found, "\n", "; ") // joined errors have a line each
				all = append(all, r)
			}
		}
	}
	return all
}

// ErrNotReady says that a run cannot work.
var ErrNotReady = errors.New("econbench run can't work here")

// Ready is nil when `econbench run` can work, else ErrNotReady with what is missing.
func Ready(all []Result) error {
	var lacking []string
	for _, r := range all {
		if r.Required && r.Status == Missing {
			lacking = append(lacking, r.Name)
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	return fmt.Errorf("%w: missing: %s", ErrNotReady, strings.Join(lacking, ", "))
}

// Constructors, so that a check reads as its decision.

func ok(name, found string) []Result { return []Result{{Name: name, Status: OK, Found: found}} }

func warn(name, found, cost, fix string) []Result {
	return []Result{{Name: name, Status: Warn, Found: found, Cost: cost, Fix: fix}}
}

func missing(name, found, cost, fix string) []Result {
	return []Result{{Name: name, Status: Missing, Found: found, Cost: cost, Fix: fix}}
}

// required marks results that a run cannot do without.
func required(list []Result) []Result {
	for i := range list {
		list[i].Required = true
	}
	return list
}
