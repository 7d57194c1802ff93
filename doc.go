// SPDX-License-Identifier: Apache-2.0

// Package econbench holds what every part of the harness agrees on: the data that a run leaves behind (model.go), the
// metrics (metrics.go) and the roles that topologies, workloads, collectors, fast paths and reports play (roles.go).
//
// It imports the standard library alone, knows no part by name, talks to no engine and renders nothing. Everything that
// is stored is in base units (seconds, bytes, 1) and is scaled only where it is shown.
package econbench
