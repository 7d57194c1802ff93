// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/names"
)

//go:embed suites/*.yaml
var embedded embed.FS

// suiteFile is a suite as it is written: what a plan needs, all of it optional.
type suiteFile struct {
	Arms              []string            `yaml:"arms"`
	Baseline          string              `yaml:"baseline"`
	Workloads         []map[string]string `yaml:"workloads"` // name, and parameters by their names
	Blocks            int                 `yaml:"blocks"`
	Duration          span                `yaml:"duration"`
	Warmup            span                `yaml:"warmup"`
	RebuildEvery      int                 `yaml:"rebuild_every"`
	Placement         string              `yaml:"placement"`
	Wire              string              `yaml:"wire"`
	CongestionControl string              `yaml:"congestion_control"`
	CPU               string              `yaml:"cpu"`
	Histograms        bool                `yaml:"histograms"`
	Internal          bool                `yaml:"internal"`
	Programs          []programFile       `yaml:"programs"`
	Published         []publishedFile     `yaml:"published"`
}

// suiteNames lists the embedded suites.
func suiteNames() []string {
	var list []string
	files, _ := fs.Glob(embedded, "suites/*.yaml") // the pattern is sound
	for _, f := range files {
		list = append(list, strings.TrimSuffix(path.Base(f), ".yaml"))
	}
	return list
}

// suite is one that was read.
type suite struct {
	place string         // how errors name it
	plan  econbench.Plan // what it plans; the seed is not its business
	text  []byte
	tree  *ast.File
	wrong []*engine.PlanError
	gaps  bool // an arm in it is none: no flag makes up for that
}

// suiteText finds an embedded suite by name, or a file if the name has a slash or ends in .yaml or .yml.
func suiteText(name string) ([]byte, error) {
	if strings.ContainsRune(name, '/') || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
		body, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("suite: %w", err)
		}
		return body, nil
	}
	body, err := embedded.ReadFile("suites/" + name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("%w (or the path of a .yaml file)", names.Unknown("suite", name, suiteNames()))
	}
	return body, nil
}

// loadSuite reads a suite as YAML. What it says may be wrong all the same: see errors.
func loadSuite(name string) (*suite, error) {
	body, err := suiteText(name)
	if err != nil {
		return nil, err
	}
	return parseSuite(name, body)
}

// parseSuite reads a suite; place names it in errors.
func parseSuite(place string, body []byte) (*suite, error) {
	f := suiteFile{
		Blocks: 10, Duration: span(1500 * time.Millisecond), Warmup: span(250 * time.Millisecond), RebuildEvery: 5,
		Placement: string(econbench.Split), Wire: string(econbench.WireDefault), CongestionControl: "cubic",
		CPU: string(econbench.CPUStat),
	}
	tree, err := parser.ParseBytes(body, 0)
	if err == nil && len(tree.Docs) > 0 && tree.Docs[0].Body != nil { // nothing at all would be read as zeros
		err = yaml.UnmarshalWithOptions(body, &f, yaml.Strict())
	}
	if err != nil {
		return nil, suiteError(place, body, err)
	}
	s := &suite{place: place, text: body, tree: tree}
	s.plan = econbench.Plan{
		Suite: place, Blocks: f.Blocks, Duration: econbench.SecondsOf(time.Duration(f.Duration)), Warmup: econbench.SecondsOf(time.Duration(f.Warmup)),
		RebuildEvery: f.RebuildEvery, Placement: econbench.Placement(f.Placement), Wire: econbench.Wire(f.Wire),
		CongestionControl: f.CongestionControl, CPU: econbench.CPUMethod(f.CPU), Histograms: f.Histograms, Internal: f.Internal,
	}
	for _, w := range f.Workloads {
		params := maps.Clone(w)
		delete(params, "name")
		s.plan.Workloads = append(s.plan.Workloads, econbench.PlannedWorkload{Name: w["name"], Params: params})
	}
	for _, def := range f.Programs {
		s.plan.Programs = append(s.plan.Programs, def.program())
	}
	s.check(append(s.readArms(f), s.readPublished(f.Published)...))
	return s, nil
}

// readArms takes arms and baseline in. What can't be read leaves a gap, so that the places of the others stay.
func (s *suite) readArms(f suiteFile) (wrong []*engine.PlanError) {
	read := func(at engine.Place, text string) (a econbench.Arm) {
		a, err := econbench.ParseArm(text)
		if err != nil {
			wrong = append(wrong, &engine.PlanError{Place: at, Err: err})
		}
		return a
	}
	for i, text := range f.Arms {
		s.plan.Arms = append(s.plan.Arms, read(engine.Place{Key: "arms", Item: i + 1}, text))
	}
	switch {
	case f.Baseline != "":
		s.plan.Baseline = read(engine.Place{Key: "baseline"}, f.Baseline)
	case len(s.plan.Arms) > 0:
		s.plan.Baseline = s.plan.Arms[0]
	}
	return wrong
}

// check lists what is wrong with the suite: what could not be read, then what the parts don't know.
func (s *suite) check(unread []*engine.PlanError) {
	said := map[engine.Place]bool{}
	for _, e := range unread {
		said[e.Place] = true
		said[engine.Place{Key: "baseline"}] = true // one of the gaps may have been the baseline
	}
	s.wrong, s.gaps = unread, len(unread) > 0
	_, known := check(s.plan)
	for _, e := range known {
		if !said[e.Place] {
			s.wrong = append(s.wrong, e)
		}
	}
}

func parseArms(list []string) (arms []econbench.Arm, err error) {
	for _, s := range list {
		a, err := econbench.ParseArm(s)
		if err != nil {
			return nil, err
		}
		arms = append(arms, a)
	}
	return arms, nil
}
