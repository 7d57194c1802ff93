// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/econbench/econbench"
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
	Internal          bool                `yaml:"internal"`
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

// loadSuite reads an embedded suite by name, or a file if the name has a slash or ends in .yaml or .yml.
func loadSuite(name string) (econbench.Plan, error) {
	var body []byte
	var err error
	place := name
	if strings.ContainsRune(name, '/') || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
		if body, err = os.ReadFile(name); err != nil {
			return econbench.Plan{}, fmt.Errorf("suite: %w", err)
		}
	} else if body, err = embedded.ReadFile("suites/" + name + ".yaml"); err != nil {
		return econbench.Plan{}, fmt.Errorf("%w (or the path of a .yaml file)", names.Unknown("suite", name, suiteNames()))
	}
	return parseSuite(place, body)
}

// parseSuite reads a suite; place names it in errors.
func parseSuite(place string, body []byte) (p econbench.Plan, err error) {
	f := suiteFile{
		Blocks: 10, Duration: span(1500 * time.Millisecond), Warmup: span(250 * time.Millisecond), RebuildEvery: 5,
		Placement: string(econbench.Split), Wire: string(econbench.WireDefault), CongestionControl: "cubic",
	}
	if err := yaml.UnmarshalWithOptions(body, &f, yaml.Strict()); err != nil {
		return p, suiteError(place, body, err)
	}
	p = econbench.Plan{
		Suite: place, Blocks: f.Blocks, Duration: econbench.SecondsOf(time.Duration(f.Duration)), Warmup: econbench.SecondsOf(time.Duration(f.Warmup)),
		RebuildEvery: f.RebuildEvery, Placement: econbench.Placement(f.Placement), Wire: econbench.Wire(f.Wire),
		CongestionControl: f.CongestionControl, Internal: f.Internal,
	}
	if p.Arms, err = parseArms(f.Arms); err != nil {
		return p, fmt.Errorf("suite %s: %w", place, err)
	}
	if f.Baseline != "" {
		if p.Baseline, err = econbench.ParseArm(f.Baseline); err != nil {
			return p, fmt.Errorf("suite %s: baseline: %w", place, err)
		}
	}
	for i, w := range f.Workloads {
		params := econbench.Params{}
		for k, v := range w {
			if k != "name" {
				params[k] = v
			}
		}
		if w["name"] == "" {
			return p, fmt.Errorf("suite %s: workload %d: has no name", place, i+1)
		}
		p.Workloads = append(p.Workloads, econbench.PlannedWorkload{Name: w["name"], Params: params})
	}
	return p, nil
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
