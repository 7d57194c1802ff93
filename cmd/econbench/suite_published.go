// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/names"
)

// gain is a published change, as a ratio: 1.18, or as papers say it: +18%.
type gain float64

var _ yaml.NodeUnmarshaler = (*gain)(nil)

// UnmarshalYAML reads a ratio, or a percentage with its sign.
func (g *gain) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	percent, isPercent := strings.CutSuffix(text, "%")
	if isPercent {
		percent = strings.Replace(strings.TrimSpace(percent), "−", "-", 1)
		isPercent = strings.HasPrefix(percent, "+") || strings.HasPrefix(percent, "-")
		text = percent
	}
	v, err := strconv.ParseFloat(text, 64)
	if isPercent {
		v = math.Round((1+v/100)*1e9) / 1e9 // 1.18 and not 1.1800000000000002
	}
	if err != nil || !(v > 0) || math.IsInf(v, 0) || strings.HasSuffix(n.GetToken().Value, "%") != isPercent {
		return &yaml.SyntaxError{Token: n.GetToken(), Message: fmt.Sprintf("found %q, want a ratio above 0, as in 1.18, or a change with its sign, as in +18%% or -29%%", n.GetToken().Value)}
	}
	*g = gain(v)
	return nil
}

// publishedFile is a published figure as a suite has it.
type publishedFile struct {
	Workload string           `yaml:"workload"`
	Params   econbench.Params `yaml:"params"`
	Metric   string           `yaml:"metric"`
	Arm      string           `yaml:"arm"`
	Against  string           `yaml:"against"`
	Gain     gain             `yaml:"gain"`
	UpTo     gain             `yaml:"up_to"`
	Source   string           `yaml:"source"`
}

// readPublished takes the published figures in.
func (s *suite) readPublished(list []publishedFile) (wrong []*engine.PlanError) {
	for i, f := range list {
		read := func(field, text string) (a econbench.Arm) {
			a, err := econbench.ParseArm(text)
			if err != nil {
				wrong = append(wrong, publishedError(i, field, err))
			}
			return a
		}
		if f.Against == "" {
			f.Against = "overlay"
		}
		s.plan.Published = append(s.plan.Published, econbench.PublishedFigure{
			Workload: f.Workload, Params: f.Params, Metric: f.Metric, Arm: read("arm", f.Arm), Against: read("against", f.Against),
			Gain: float64(f.Gain), UpTo: float64(f.UpTo), Source: oneLine(f.Source),
		})
	}
	return wrong
}

func publishedError(i int, field string, err error) *engine.PlanError {
	return &engine.PlanError{Place: engine.Place{Key: "published", Item: i + 1, Field: field}, Err: fmt.Errorf("published figure %d: %w", i+1, err)}
}

// checkPublished lists what is wrong with a plan's published figures. They may be of arms and workloads that the plan does not have: what
// flags leave out is not measured, and that is said.
func checkPublished(parts engine.Parts, p econbench.Plan) (wrong []*engine.PlanError) {
	var known []string
	for _, w := range parts.Workloads {
		known = append(known, w.Name())
	}
	for i, f := range p.Published {
		add := func(field, format string, args ...any) {
			wrong = append(wrong, publishedError(i, field, fmt.Errorf(format, args...)))
		}
		for _, side := range []struct {
			field string
			arm   econbench.Arm
		}{{"arm", f.Arm}, {"against", f.Against}} {
			if err := parts.CheckArm(side.arm); err != nil && side.arm.Topology != "" {
				add(side.field, "arm %q: %w", side.arm, err)
			}
		}
		at := slices.Index(known, f.Workload)
		if at < 0 {
			add("workload", "%w", names.Unknown("workload", f.Workload, known))
		} else if _, err := parts.Workloads[at].Params(f.Params); err != nil {
			add("params", "workload %s: %w", f.Workload, err)
		}
		switch m, ok := p.Metric(f.Metric); {
		case !ok:
			add("metric", "%w", names.Unknown("metric", f.Metric, metricNames(p)))
		case m.Better == econbench.Neither:
			add("metric", "metric %s: neither way is better, so that no gap could be closed; per unit of work it has one: cpu_per_…", f.Metric)
		}
		if !(f.Gain > 0) {
			add("gain", "no gain: want the ratio arm / against, as in 1.18, or the change, as in +18%%")
		}
		if f.UpTo != 0 && (f.Gain-1)*(f.UpTo-1) <= 0 {
			add("up_to", "up_to %v: want it on the side of 1 that gain %v is on", f.UpTo, f.Gain)
		}
		if f.Source == "" {
			add("", "no source: want paper, and table or figure")
		}
	}
	return wrong
}

// metricNames lists all metrics that a plan's trials may have.
func metricNames(p econbench.Plan) (list []string) {
	for _, m := range slices.Concat(econbench.Metrics(), p.OwnMetrics()) {
		list = append(list, m.Name)
	}
	return list
}
