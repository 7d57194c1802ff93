// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path"
	"reflect"
	"regexp"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/econbench/econbench/reports"
)

// acknowledgedFile lists changes that are known, as `history --acknowledged` reads them.
type acknowledgedFile struct {
	Changes []acknowledgedChange `yaml:"changes"`
}

// acknowledgedChange is one of them.
type acknowledgedChange struct {
	Night     string `yaml:"night"` // a run's id, or a date
	Workload  string `yaml:"workload"`
	Params    string `yaml:"params"`
	Arm       string `yaml:"arm"`
	Metric    string `yaml:"metric"`
	Tolerance *int   `yaml:"tolerance"` // nights
	Reason    string `yaml:"reason"`
	Link      string `yaml:"link"`
}

const (
	// defaultTolerance: with more nights a change turns out to lie a night off in 7 % of changes of 4 σ and 5 σ, and no further.
	defaultTolerance = 2
	// mostTolerance: who accepts a month of nights accepts whatever comes.
	mostTolerance = 14
)

// loadAcknowledged reads the file. All that is wrong with it is one line of file:line:column.
func loadAcknowledged(name string) ([]reports.Acknowledgement, error) {
	body, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("acknowledged changes: %w", err)
	}
	return parseAcknowledged(name, body)
}

func parseAcknowledged(name string, body []byte) (list []reports.Acknowledgement, err error) {
	var f acknowledgedFile
	tree, err := parser.ParseBytes(body, 0)
	if err == nil && len(tree.Docs) > 0 && tree.Docs[0].Body != nil {
		err = yaml.UnmarshalWithOptions(body, &f, yaml.Strict())
	}
	if err != nil {
		return nil, yamlError("acknowledged changes", reflect.TypeFor[acknowledgedFile](), name, body, err)
	}
	for i, c := range f.Changes {
		at := startOf(below(tree.Docs[0].Body, fmt.Sprintf("changes.%d", i+1)))
		if field, why := c.wrong(); why != "" {
			where := at
			if e := entryOf(below(tree.Docs[0].Body, fmt.Sprintf("changes.%d", i+1)), field); e != nil {
				where = startOf(ast.Node(e.Value))
			}
			return nil, fmt.Errorf("acknowledged changes %s:%d:%d: %s", name, where.Line, where.Column, why)
		}
		a := reports.Acknowledgement{
			Place: fmt.Sprintf("%s:%d", name, at.Line), Night: c.Night, Workload: c.Workload, Params: c.Params, Arm: c.Arm, Metric: c.Metric,
			Tolerance: defaultTolerance, Reason: c.Reason, Link: c.Link,
		}
		if c.Tolerance != nil {
			a.Tolerance = *c.Tolerance
		}
		list = append(list, a)
	}
	return list, nil
}

// likeDate is what is meant to be a date.
var likeDate = regexp.MustCompile(`^[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}$`)

// wrong is the first field with something wrong in it, and what.
func (c acknowledgedChange) wrong() (field, why string) {
	if c.Night == "" {
		return "night", "no night: want a date, as in 2026-01-22, or a run's id, where the new level begins"
	}
	if _, err := time.Parse(time.DateOnly, c.Night); err != nil && likeDate.MatchString(c.Night) {
		return "night", fmt.Sprintf("found %q, want a date, as in 2026-01-22, or a run's id", c.Night)
	}
	if c.Reason == "" {
		return "reason", "no reason: want a word on why the change is accepted"
	}
	if t := c.Tolerance; t != nil && (*t < 0 || *t > mostTolerance) {
		return "tolerance", fmt.Sprintf("found %d, want 0 to %d nights", *t, mostTolerance)
	}
	for _, p := range []struct{ field, pattern string }{{"workload", c.Workload}, {"params", c.Params}, {"arm", c.Arm}, {"metric", c.Metric}} {
		if _, err := path.Match(p.pattern, ""); err != nil {
			return p.field, fmt.Sprintf("found %q, want a pattern, as in tcp_* or [ab]?", p.pattern)
		}
	}
	return "", ""
}
