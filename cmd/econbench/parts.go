// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/collectors"
	"github.com/econbench/econbench/fastpath"
	"github.com/econbench/econbench/topologies"
	"github.com/econbench/econbench/workloads"
)

// parts are all that plans can be made of.
func parts() engine.Parts {
	return engine.Parts{
		Topologies: topologies.All(),
		Fastpaths:  fastpath.All(),
		Workloads:  workloads.All(),
		Collectors: collectors.All(),
	}
}
