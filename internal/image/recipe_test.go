// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLookup(t *testing.T) {
	for _, want := range Recipes() {
		got, err := Lookup(want.Name)
		check(t, err)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("recipe %s (-want +got):\n%s", want.Name, d)
		}
		if _, err := layout(want, Platform{Arch: "amd64"}); err != nil {
			t.Error(err)
		}
	}
	if _, err := Lookup("tool"); err == nil || err.Error() != `unknown image recipe "tool": did you mean "tools"? allowed: tools, postgres` {
		t.Errorf("found error %v", err)
	}
}

// TestRef: whatever changes the image's contents by our doing changes its name.
func TestRef(t *testing.T) {
	p := Platform{Distribution: "debian", Suite: "trixie", Arch: "amd64"}
	ref := Tools().Ref(p)
	if !regexp.MustCompile(`^econbench/tools:[0-9a-f]{12}$`).MatchString(ref) {
		t.Errorf("found reference %q", ref)
	}
	if again := Tools().Ref(p); again != ref {
		t.Errorf("found %s, then %s", ref, again)
	}
	other := Tools()
	other.Without = other.Without[1:]
	arm := p
	arm.Arch = "arm64"
	if other.Ref(p) == ref || Tools().Ref(arm) == ref {
		t.Errorf("another recipe or platform has the same reference %s", ref)
	}
}

// TestDockerfile: docker/Dockerfile has the recipe's packages and settings.
func TestDockerfile(t *testing.T) {
	text, err := os.ReadFile("../../docker/Dockerfile")
	check(t, err)
	_, list, ok := strings.Cut(string(text), "--no-install-recommends \\\n")
	list, _, ok2 := strings.Cut(list, "&&")
	if !ok || !ok2 {
		t.Fatal("docker/Dockerfile: found no list of packages between --no-install-recommends and &&")
	}
	got := strings.Fields(strings.ReplaceAll(list, "\\", ""))
	want := slices.Clone(Tools().Packages)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("packages of docker/Dockerfile (-recipe +file):\n%s", d)
	}
	for _, change := range ImportChanges() {
		if !strings.Contains(string(text), "\n"+change+"\n") {
			t.Errorf("docker/Dockerfile lacks the line %q", change)
		}
	}
	if p := distributions[0]; !strings.Contains(string(text), "\nFROM "+p.id+":"+p.suite+"-slim\n") {
		t.Errorf("docker/Dockerfile is not made from %s %s", p.id, p.suite)
	}
}
