// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
)

// pageGate is what a gate came to, as it was judged when the run was over.
type pageGate struct {
	Line   string
	Table  *htmlTable // nil: there are no cells
	Lines  []string
	Legend string
}

// gateOf is what the gate of a run came to, with the banner that says so; nil of both where the run has no gate.
func (h HTML) gateOf(run *econbench.Run) (*pageGate, *banner) {
	if run.Against == nil || run.Against.Gate == 0 {
		return nil, nil
	}
	g, err := h.recordedGate(run)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &banner{"doubt", "What the gate came to is not known.", fmt.Sprintf("The run was to be held against run %s, and %s is not beside it.",
			clean(run.Against.Run), rundir.GateFile)}
	case err != nil:
		return nil, &banner{"doubt", "What the gate came to can't be read.", sentences(clean(fmt.Sprintf("%s: %v", rundir.GateFile, err)))}
	}
	p := &pageGate{Line: upper(g.Headline()), Lines: append(append(g.Lines(), g.passedLines()...), g.notes()...), Legend: g.legend()}
	if len(g.Cells) > 0 {
		t := columnsTable("Primary metrics beside those of run "+clean(g.Old.Run), g.columns())
		p.Table = &t
	}
	b := &banner{"doubt", "The gate could not be judged.", sentences(g.Headline())}
	switch {
	case g.Failed():
		*b = banner{"bad", "The gate failed.", sentences(g.Headline() + "; regressed: " + strings.Join(g.Regressions(), ", "))}
	case g.Measured() && g.Verdict == GatePassed:
		*b = banner{"good", "The gate passed.", sentences(g.Headline())}
	}
	return p, b
}

// recordedGate reads gate.json, which has to be this run's.
func (h HTML) recordedGate(run *econbench.Run) (*Gate, error) {
	if h.folder == nil {
		return nil, fs.ErrNotExist
	}
	content, err := readSmall(h.folder, rundir.GateFile)
	if err != nil {
		return nil, err
	}
	g, err := ReadGate(content)
	if err != nil {
		return nil, err
	}
	if g.New.Run != run.ID || g.Old.Run != run.Against.Run {
		return nil, fmt.Errorf("it is about run %s against %s, and this is run %s against %s", g.New.Run, g.Old.Run, run.ID, run.Against.Run)
	}
	return g, nil
}
