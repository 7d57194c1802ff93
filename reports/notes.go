// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"regexp"
	"strings"
)

// Note is a doubt, or a reason why trials do not count, said once for all trials that share it.
type Note struct {
	Text    string
	Invalid bool // the trials do not count
	Trials  int  // how many trials; 0 when it is not about trials
	Differ  bool // some of them have other figures than Text
}

// String is the note on one line, as it stands in JSON.
func (n Note) String() string {
	s := n.Text
	if n.Invalid {
		s = "invalid: " + s
	}
	if n.Trials > 0 {
		s += " (" + n.count() + ")"
	}
	return s
}

func (n Note) count() string {
	s := counted(n.Trials, "trial")
	if n.Differ {
		s += ", figures differ"
	}
	return s
}

// MarshalText makes a note a string in JSON.
func (n Note) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// notes collects notes in the order in which they first come up.
type notes struct {
	list  []Note
	index map[noteKey]int
}

type noteKey struct {
	pattern string
	invalid bool
}

func (n Note) key() noteKey { return noteKey{figures.ReplaceAllString(n.Text, "#"), n.Invalid} }

var figures = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// add merges n with one that says the same but for its figures: "steal 2.3%" in forty trials is one doubt.
func (ns *notes) add(n Note) {
	key := n.key()
	if at, ok := ns.index[key]; ok {
		old := &ns.list[at]
		old.Trials += n.Trials
		old.Differ = old.Differ || n.Differ || old.Text != n.Text
		return
	}
	if ns.index == nil {
		ns.index = make(map[noteKey]int)
	}
	ns.index[key] = len(ns.list)
	ns.list = append(ns.list, n)
}

// notesOf merges the notes of all cells, and of the run unless they are to be about invalid trials, into lines that say
// which cells they are about.
func notesOf(s *Summary, invalid bool) []string {
	var all notes
	where := make(map[int][]string)
	add := func(n Note, place string) {
		if n.Invalid != invalid {
			return
		}
		all.add(n)
		at := all.index[n.key()]
		where[at] = append(where[at], place)
	}
	for _, n := range s.Warnings {
		add(n, "")
	}
	for _, c := range s.Cells {
		for _, n := range c.Warnings {
			add(n, c.Arm.String()+" "+c.Workload)
		}
	}
	var lines []string
	for i, n := range all.list {
		places := nonEmpty(where[i])
		if len(places) > 4 {
			places = []string{counted(len(places), "cell")}
		}
		line := n.Text
		if n.Trials > 0 {
			places = append(places, n.count())
		} else if n.Differ {
			places = append(places, "figures differ")
		}
		if len(places) > 0 {
			line += " (" + strings.Join(places, ", ") + ")"
		}
		lines = append(lines, clean(line))
	}
	return lines
}
