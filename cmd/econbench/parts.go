// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/collectors"
	"github.com/econbench/econbench/fastpath"
	"github.com/econbench/econbench/internal/tracer"
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

// objects are all BPF objects in this program by name, each as the first 12 hexadecimal digits of its SHA-256: what is measured
// with can change without econbench's version.
func objects() map[string]string {
	digests := map[string]string{}
	for _, some := range []map[string][]byte{fastpath.Objects(), collectors.Objects(), tracer.Objects()} {
		for name, object := range some {
			sum := sha256.Sum256(object)
			digests[name] = hex.EncodeToString(sum[:])[:12]
		}
	}
	return digests
}
