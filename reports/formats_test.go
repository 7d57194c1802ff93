// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"flag"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/econbench/econbench"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func render(t testing.TB, r econbench.Report, run *econbench.Run) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.Render(&b, run); err != nil {
		t.Fatalf("%s: %v", r.Name(), err)
	}
	return b.String()
}

// goldens are runs that show what a report has to say.
func goldens() map[string]*econbench.Run {
	complete := sampleRun(10)
	complete.Command = []string{"econbench", "run", "--suite", "it's mine.yaml", "--blocks", "10"}

	troubled := sampleRun(8)
	troubled.Status, troubled.Trials = econbench.StatusInterrupted, troubled.Trials[:45]
	troubled.Warnings = []string{"out/trials.jsonl:46: last line is torn, its trial is lost: \"{\\\"sch\""}
	for i := range troubled.Trials {
		tr := &troubled.Trials[i]
		switch {
		case tr.Arm.String() == "overlay" && i%4 == 0:
			tr.Valid, tr.Invalid = false, []string{"path proof: vxlan device on server stayed flat, want at least 3000000000 B"}
		case tr.Arm.String() == "overlay+oncache" && tr.Workload == "tcp_rr":
			tr.Valid, tr.Invalid = false, []string{"hit ratio 0.41 of client is below 0.99"}
		case tr.Block == 2:
			tr.Warnings = []string{"steal was 2." + string(rune('0'+i%10)) + "%: other guests were busy"}
		}
	}

	short := sampleRun(6)
	short.Plan.Workloads, short.Plan.Arms = short.Plan.Workloads[1:], short.Plan.Arms[:2]
	var trials []econbench.Trial
	for _, tr := range short.Trials {
		if tr.Workload == "tcp_rr" && tr.Arm.String() != "overlay+oncache" {
			trials = append(trials, tr)
		}
	}
	short.Trials = trials

	empty := sampleRun(10)
	empty.Status, empty.Trials, empty.Error = econbench.StatusFailed, nil, "engine of server stopped answering: context deadline exceeded"
	return map[string]*econbench.Run{"complete": complete, "troubled": troubled, "six-blocks": short, "empty": empty, "ruled": ruledRun(), "published": publishedRun()}
}

func TestGolden(t *testing.T) {
	for name, run := range goldens() {
		for _, r := range All() {
			if r.Name() == "html" { // nobody reads differences of pages: html_test.go looks for what has to be on them
				continue
			}
			t.Run(name+"/"+r.Name(), func(t *testing.T) {
				golden(t, name+"."+r.Name(), render(t, r, run))
			})
		}
	}
}

func checkWidth(t testing.TB, text string) {
	t.Helper()
	for _, l := range strings.Split(text, "\n") {
		if n := utf8.RuneCountInString(l); n > textWidth {
			t.Errorf("line of %d columns: %s", n, l)
		}
	}
}
