// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/hostfacts"
	"github.com/econbench/econbench/internal/image"
)

// facts are what the host is, and what this program and the image around it bring. What can't be read is a doubt.
func (a *agent) facts(_ context.Context, args agentproto.FactsArgs) (r agentproto.FactsReply, err error) {
	r.Fingerprint, r.Doubts = hostfacts.Fingerprint(args.Device)
	r.Fingerprint["econbench.version"] = a.opt.Version
	for name, digest := range a.opt.Objects {
		r.Fingerprint["bpf."+name] = digest
	}
	tools, err := image.Installed("/")
	if err != nil {
		r.Doubts = append(r.Doubts, fmt.Sprintf("fingerprint: tools: %v", err))
	}
	for name, version := range tools {
		r.Fingerprint["tools."+name] = version
	}
	return r, nil
}
