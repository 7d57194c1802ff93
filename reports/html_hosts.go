// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/econbench/econbench"
)

// hostsSection is what was measured on.
type hostsSection struct {
	Roles  []string
	Facts  htmlTable // names, addresses and what was changed for the run
	Differ htmlTable // facts in which the hosts differ
	All    htmlTable
	Count  int
	Same   string // said where nothing differs
	Parts  []hostPart
}

// hostPart is a part of a resumed run.
type hostPart struct {
	Head  string
	Text  string
	Table *htmlTable
}

// hostsOf tells of the hosts, or says nothing where none is recorded.
func hostsOf(run *econbench.Run) *hostsSection {
	if len(run.Hosts) == 0 {
		return nil
	}
	h := &hostsSection{Roles: rolesOf(run.Hosts)}
	h.Facts = plainFacts(run.Hosts, h.Roles)
	prints := make([]econbench.Fingerprint, len(h.Roles))
	names := make(map[string]bool)
	for i, role := range h.Roles {
		prints[i] = run.Hosts[role].Named()
		for name := range prints[i] {
			names[name] = true
		}
	}
	h.Count = len(names)
	head := []htmlCell{{Text: "fact", Left: true}}
	for _, role := range h.Roles {
		head = append(head, htmlCell{Text: clean(role), Left: true})
	}
	h.All = htmlTable{Caption: "Fingerprints: all facts; ≠ marks those in which the hosts differ", Head: head}
	h.Differ = htmlTable{Caption: "Facts in which the hosts differ", Head: append(slices.Clone(head), htmlCell{Text: "what a difference means", Left: true})}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row, differs := factRow(name, prints)
		h.All.Rows = append(h.All.Rows, row)
		if differs {
			h.Differ.Rows = append(h.Differ.Rows, append(slices.Clone(row), htmlCell{Text: classText(econbench.ClassOf(name)), Left: true}))
		}
	}
	switch {
	case len(h.Roles) > 1 && len(h.Differ.Rows) == 0:
		h.Same = "The hosts differ in no fact."
	case len(h.Roles) == 1:
		h.Same = "One host alone is recorded."
	}
	h.Parts = partsOf(run)
	return h
}

// rolesOf are the hosts' roles, sorted: client before server.
func rolesOf(hosts map[string]econbench.HostFacts) []string { return slices.Sorted(maps.Keys(hosts)) }

func factRow(name string, prints []econbench.Fingerprint) (row []htmlCell, differs bool) {
	values := make([]string, len(prints))
	for i, p := range prints {
		v, told := p[name]
		values[i] = clean(v)
		if !told {
			values[i] = "–"
		}
		differs = differs || values[i] != values[0]
	}
	label := htmlCell{Text: clean(name), Left: true}
	if !differs {
		return []htmlCell{label, {Text: values[0], Left: true, Span: len(values)}}, false
	}
	label.Text += " ≠"
	label.Class = "differs"
	row = []htmlCell{label}
	for _, v := range values {
		row = append(row, htmlCell{Text: v, Left: true, Class: "differs"})
	}
	return row, true
}

func classText(c econbench.Class) string {
	switch c {
	case econbench.ClassMachine:
		return "another machine: it may move figures"
	case econbench.ClassSubject:
		return "another thing is measured, or measures"
	}
	return "none by itself"
}

// plainFacts are those that are no part of a fingerprint.
func plainFacts(hosts map[string]econbench.HostFacts, roles []string) htmlTable {
	t := htmlTable{Caption: "The hosts", Head: []htmlCell{{Text: "", Left: true}}}
	for _, role := range roles {
		t.Head = append(t.Head, htmlCell{Text: clean(role), Left: true})
	}
	for _, f := range []struct {
		name string
		of   func(econbench.HostFacts) string
	}{
		{"host name", func(h econbench.HostFacts) string { return h.Hostname }},
		{"kernel", func(h econbench.HostFacts) string { return h.Kernel }},
		{"CPU", func(h econbench.HostFacts) string { return h.CPUModel }},
		{"CPUs of this run", func(h econbench.HostFacts) string {
			own := strings.ReplaceAll(strings.Trim(fmt.Sprint(h.CPUs), "[]"), " ", ", ")
			if own == "" || len(h.OnlineCPUs) == 0 {
				return own
			}
			return fmt.Sprintf("%s; %d are online", own, len(h.OnlineCPUs))
		}},
		{"engine", func(h econbench.HostFacts) string { return h.Engine }},
		{"wire", func(h econbench.HostFacts) string {
			mtu := ""
			if h.MTU > 0 {
				mtu = fmt.Sprintf("MTU %d", h.MTU)
			}
			return strings.Join(nonEmpty([]string{h.WireDevice, h.WireDriver, h.Underlay, mtu}), ", ")
		}},
		{"changed for the run", func(h econbench.HostFacts) string { return strings.Join(tuningsOf(h), "; ") }},
	} {
		row := []htmlCell{{Text: f.name, Left: true}}
		for _, role := range roles {
			v := clean(f.of(hosts[role]))
			if strings.TrimSpace(v) == "" {
				v = "–"
			}
			row = append(row, htmlCell{Text: v, Left: true})
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// inContainer is where a change was made that each client and each server container has anew with every build of the topologies.
var inContainer = regexp.MustCompile(` \(process \d+\)$|congestion-control to \S+ `)

// tuningsOf are the kinds of changes, those that were made again and again in the containers but once.
func tuningsOf(h econbench.HostFacts) (kinds []string) {
	for _, t := range h.Tunings {
		if strings.HasSuffix(t, ")") {
			t = inContainer.ReplaceAllStringFunc(t, func(part string) string {
				if strings.HasPrefix(part, " (") {
					return " in the containers"
				}
				return "congestion-control "
			})
		}
		if !slices.Contains(kinds, t) {
			kinds = append(kinds, t)
		}
	}
	return kinds
}

// partsOf tells of each time that the run was taken up again, and what was no longer as in the first part.
func partsOf(run *econbench.Run) (parts []hostPart) {
	for i, r := range run.Resumed {
		p := hostPart{
			Head: fmt.Sprintf("Part %d, taken up again %s", i+2, showTime(r.Started)),
			Text: fmt.Sprintf("The part before it ended as %q%s. econbench %s.", clean(string(r.Before.Status)), after(clean(r.Before.Error)), clean(r.Version)),
		}
		t := htmlTable{Caption: "What was no longer as in the first part", Head: []htmlCell{{Text: "fact", Left: true}, {Text: "first part", Left: true}, {Text: "then", Left: true}, {Text: "what it means", Left: true}}}
		for _, role := range rolesOf(r.Hosts) {
			was, known := run.Hosts[role]
			if !known {
				continue
			}
			for _, d := range r.Hosts[role].Differences(was, econbench.ClassMachine, econbench.ClassSubject, econbench.ClassIncidental) {
				t.Rows = append(t.Rows, []htmlCell{{Text: clean(d.Fact + " of " + role), Left: true}, {Text: orDash(d.Was), Left: true}, {Text: orDash(d.Now), Left: true}, {Text: classText(d.Class), Left: true}})
			}
			if a, b := was.BootID, r.Hosts[role].BootID; a != b {
				t.Rows = append(t.Rows, []htmlCell{{Text: clean("boot of " + role), Left: true}, {Text: orDash(a), Left: true}, {Text: orDash(b), Left: true}, {Text: classText(econbench.ClassIncidental), Left: true}})
			}
		}
		switch {
		case r.Hosts == nil:
			p.Text += " Nothing was left to measure."
		case len(t.Rows) == 0:
			p.Text += " The hosts were as before, in every fact."
		default:
			p.Table = &t
		}
		parts = append(parts, p)
	}
	return parts
}

func after(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func orDash(s string) string {
	if s = clean(s); strings.TrimSpace(s) == "" {
		return "–"
	}
	return s
}

func showTime(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
