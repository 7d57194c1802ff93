// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"os"
	"testing"
)

func TestTmp(t *testing.T) {
	os.MkdirAll("/tmp/page", 0o755)
	if err := os.WriteFile("/tmp/page/page.html", []byte(render(t, HTML{}.In(pageFolder(t)), pageRun(12))), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, run := range goldens() {
		os.WriteFile("/tmp/page/"+name+".html", []byte(render(t, HTML{}, run)), 0o644)
	}
	files, err := Plots(pageRun(12))
	if err != nil {
		t.Fatal(err)
	}
	os.MkdirAll("/tmp/page/plots", 0o755)
	for _, f := range files {
		os.WriteFile("/tmp/page/plots/"+f.Name, f.Data, 0o644)
	}
}
