// SPDX-License-Identifier: Apache-2.0

package econbench

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The table of facts in docs/formats.md and the classes are one and the same.
func TestFactsDocumented(t *testing.T) {
	b, err := os.ReadFile("docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(b), "\n### The fingerprint of a host\n")
	if !found {
		t.Fatal("docs/formats.md has no section on the fingerprint")
	}
	section, _, _ = strings.Cut(section, "\n### ")
	documented := map[string]Class{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\x60.*?) \| ?(\w*) ?\|`).FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			if _, twice := documented[name[1]]; twice {
				t.Errorf("fact %s is documented twice", name[1])
			}
			documented[name[1]] = Class(row[2])
		}
	}
	if _, told := documented[lowerPrefix]; !told {
		t.Errorf("facts %sN are not documented", lowerPrefix)
	}
	delete(documented, lowerPrefix)
	for name, class := range classes {
		if documented[name] != class {
			t.Errorf("fact %s is of class %q, docs/formats.md says %q", name, class, documented[name])
		}
		delete(documented, name)
	}
	for name := range documented {
		t.Errorf("fact %s is documented, but nobody knows it", name)
	}
}
