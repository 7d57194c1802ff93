// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/econbench/econbench"
)

// JSON is the summary for programs, in base units. Its fields are a contract: docs/formats.md.
type JSON struct{}

var _ econbench.Report = JSON{}

func (JSON) Name() string { return "json" }
func (JSON) Help() string {
	return "medians, intervals, ratios and verdicts for programs, in base units"
}

// Render writes one JSON object.
func (JSON) Render(w io.Writer, run *econbench.Run) error {
	s, err := Summarise(run)
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return fmt.Errorf("render json: %w", err)
	}
	return nil
}
