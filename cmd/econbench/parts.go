// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"

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

// objects are the digests of all BPF objects in this program, by name.
func objects() map[string]string {
	all := map[string]string{}
	for _, some := range []map[string]string{fastpath.Objects(), collectors.Objects()} {
		maps.Copy(all, some)
	}
	return all
}
