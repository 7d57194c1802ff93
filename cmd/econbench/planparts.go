// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/econbench/econbench"
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/workloads"
)

// partsOf are all parts and the workloads that a plan brings along.
func partsOf(p econbench.Plan) engine.Parts {
	all := parts()
	all.Workloads = append(all.Workloads, workloads.Programs(p)...)
	return all
}

// check completes a plan as far as it is sound, and lists all that is wrong with it. What is wrong with a workload that the plan
// defines comes first, and what else does not fit about that workload is left out: it may follow from it.
func check(p econbench.Plan) (econbench.Plan, []*engine.PlanError) {
	parts := partsOf(p)
	wrong := checkPrograms(p)
	broken := map[string]bool{}
	for _, e := range wrong {
		broken[p.Programs[e.Item-1].Name] = true
	}
	full, more := parts.Check(p)
	for _, e := range append(more, checkPublished(parts, p)...) {
		of := ""
		switch {
		case e.Key == "workloads" && e.Item > 0:
			of = p.Workloads[e.Item-1].Name
		case e.Key == "published":
			of = p.Published[e.Item-1].Workload
		}
		if !broken[of] {
			wrong = append(wrong, e)
		}
	}
	return full, wrong
}

// resolve is check for those who want the first error.
func resolve(p econbench.Plan) (econbench.Plan, error) {
	p, wrong := check(p)
	if len(wrong) > 0 {
		return p, wrong[0]
	}
	return p, nil
}
