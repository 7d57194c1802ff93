// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// all is the one list of formats. The first is the default.
var all = []econbench.Report{
	Text{},
	Markdown{},
	CSV{},
	JSON{},
	HTML{},
	Benchfmt{},
	OpenMetrics{},
	JUnit{},
	GitHub{},
	GitHubBenchmark{Better: econbench.Higher},
	GitHubBenchmark{Better: econbench.Lower},
}

// All lists the formats, the default first.
func All() []econbench.Report { return append([]econbench.Report(nil), all...) }

// Named finds a format by name.
func Named(name string) (econbench.Report, error) {
	var known []string
	for _, r := range all {
		if r.Name() == name {
			return r, nil
		}
		known = append(known, r.Name())
	}
	return nil, names.Unknown("report format", name, known)
}
