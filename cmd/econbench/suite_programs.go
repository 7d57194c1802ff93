// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/image"
	"github.com/econbench/econbench/internal/names"
	"github.com/econbench/econbench/workloads"
)

// word is text in a suite that may have placeholders. A number is its text; {name} without quotes would be YAML's own braces.
type word string

var _ yaml.NodeUnmarshaler = (*word)(nil)

// UnmarshalYAML takes scalars as they are written.
func (w *word) UnmarshalYAML(n ast.Node) error {
	switch n := bare(n).(type) {
	case *ast.StringNode:
		*w = word(n.Value)
	case *ast.LiteralNode:
		*w = word(n.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		*w = word(n.GetToken().Value)
	default:
		return &yaml.SyntaxError{Token: n.GetToken(), Message: `want text: braces stand in quotes, as in "{port}", and so does what is empty`}
	}
	return nil
}

// programFile is a workload that a suite defines, as it is written. Its meaning: docs/programs.md.
type programFile struct {
	Name    string          `yaml:"name"`
	Help    string          `yaml:"help"`
	Image   string          `yaml:"image"`
	Server  []word          `yaml:"server"`
	Client  []word          `yaml:"client"`
	Exit    []int           `yaml:"exit"`
	Params  map[string]word `yaml:"params"`
	Port    int             `yaml:"port"`
	Ready   readyFile       `yaml:"ready"`
	Flows   flowsFile       `yaml:"flows"`
	Covered *coverageFile   `yaml:"coverage"`
	Metrics []metricFile    `yaml:"metrics"`
	Primary string          `yaml:"primary"`
}

type readyFile struct {
	Listens string `yaml:"listens"`
	Line    string `yaml:"line"`
}

type flowsFile struct {
	Kind     string `yaml:"kind"`
	Count    word   `yaml:"count"`
	Request  word   `yaml:"request"`
	Response word   `yaml:"response"`
	Message  word   `yaml:"message"`
}

type coverageFile struct {
	ToServer float64 `yaml:"to_server"`
	ToClient float64 `yaml:"to_client"`
}

type metricFile struct {
	Name   string   `yaml:"name"`
	Regexp string   `yaml:"regexp"`
	JSON   string   `yaml:"json"`
	CSV    *csvFile `yaml:"csv"`
	Scale  *float64 `yaml:"scale"`
	Unit   word     `yaml:"unit"` // "1" is one
	Better string   `yaml:"better"`
	Help   string   `yaml:"help"`
}

type csvFile struct {
	Column word `yaml:"column"`
	Row    word `yaml:"row"`
}

// program is what the plan has of it.
func (f programFile) program() econbench.Program {
	p := econbench.Program{
		Name: f.Name, Help: oneLine(f.Help), Image: f.Image, Server: wordsOf(f.Server), Client: wordsOf(f.Client), Exit: f.Exit, Params: econbench.Params{},
		Port: f.Port, Ready: econbench.Readiness(f.Ready), Primary: f.Primary, Metrics: []econbench.ProgramMetric{},
		Flows: econbench.ProgramFlows{Kind: f.Flows.Kind, Count: string(f.Flows.Count), Request: string(f.Flows.Request),
			Response: string(f.Flows.Response), Message: string(f.Flows.Message)},
	}
	if p.Image == image.Tools().Name {
		p.Image = ""
	}
	if p.Flows.Count == "" {
		p.Flows.Count = "1"
	}
	if f.Covered != nil {
		covered := econbench.Coverage(*f.Covered)
		p.Covered = &covered
	}
	for name, value := range f.Params {
		p.Params[name] = string(value)
	}
	for _, m := range f.Metrics {
		one := econbench.ProgramMetric{Name: m.Name, Regexp: m.Regexp, JSON: m.JSON, Scale: 1, Unit: string(m.Unit), Better: m.Better, Help: oneLine(m.Help)}
		if m.CSV != nil {
			one.CSV = &econbench.CSVCell{Column: string(m.CSV.Column), Row: string(m.CSV.Row)}
		}
		if m.Scale != nil {
			one.Scale = *m.Scale
		}
		p.Metrics = append(p.Metrics, one)
	}
	return p
}

func wordsOf(list []word) (words []string) {
	for _, w := range list {
		words = append(words, string(w))
	}
	return words
}

// checkPrograms lists what is wrong with the workloads that a plan defines.
func checkPrograms(p econbench.Plan) (wrong []*engine.PlanError) {
	for _, e := range workloads.CheckPrograms(p.Programs) {
		at := engine.Place{Key: "programs", Item: e.Item, Field: e.Field, Under: e.Under}
		wrong = append(wrong, &engine.PlanError{Place: at, Err: e.Err})
	}
	var recipes []string
	for _, r := range image.Recipes() {
		recipes = append(recipes, r.Name)
	}
	for i, def := range p.Programs {
		if _, err := image.Lookup(def.Image); def.Image != "" && err != nil {
			at := engine.Place{Key: "programs", Item: i + 1, Field: "image"}
			wrong = append(wrong, &engine.PlanError{Place: at, Err: fmt.Errorf("program %s: %w", def.Name, names.Unknown("image", def.Image, recipes))})
		}
	}
	return wrong
}
