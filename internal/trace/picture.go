// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/econbench/econbench"
)

// Schema is the version of Picture's JSON.
const Schema = 1

// Picture is the path of one arm, with what one has to know to read it.
type Picture struct {
	Schema    int                 `json:"schema"`
	Version   string              `json:"version"` // of econbench
	Arm       econbench.Arm       `json:"arm"`
	Workload  string              `json:"workload"`
	Params    econbench.Params    `json:"params"`
	Lab       string              `json:"lab"` // "emulated" or "real"
	Kernel    string              `json:"kernel"`
	Placement econbench.Placement `json:"placement"`
	Wire      econbench.Wire      `json:"wire"`
	Rate      *float64            `json:"rate"`       // transactions per s before the tracing; null: not counted
	RateAfter *float64            `json:"rate_after"` // likewise, after it
	Carried   []econbench.Carried `json:"carried"`    // by the fast path, likewise
	Skipped   []Skipped           `json:"skipped"`    // hooks that are not there, on either host
	Path
}

// RateTraced is the rate while the path was recorded; 0: not known.
func (p *Picture) RateTraced() float64 {
	if p.Between <= 0 {
		return 0
	}
	return 1 / float64(p.Between)
}

// Cost is what the tracing takes of each transaction; false where that can't be told: the machine's own noise is larger.
func (p *Picture) Cost() (econbench.Seconds, bool) {
	if p.Rate == nil || p.RateAfter == nil || *p.Rate <= 0 || *p.RateAfter <= 0 || p.Between <= 0 {
		return 0, false
	}
	cost := p.Between - econbench.Seconds((1 / *p.Rate + 1 / *p.RateAfter)/2)
	return cost, cost > 0
}

// Untold are hooks that were not seen, with one reason after them for all that share it.
func (p *Picture) Untold() (lines []string) {
	var whys []string
	names := map[string][]string{}
	for _, s := range p.Skipped {
		if names[s.Why] == nil {
			whys = append(whys, s.Why)
		}
		names[s.Why] = append(names[s.Why], s.Hook)
	}
	for _, why := range whys {
		lines = append(lines, strings.Join(names[why], ", ")+": "+why)
	}
	return lines
}

// RenderJSON writes it for programs.
func (p *Picture) RenderJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(p)
}
