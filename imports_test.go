// SPDX-License-Identifier: Apache-2.0

package econbench_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/econbench/econbench"

// goPackage is what `go list` tells of a package.
type goPackage struct {
	ImportPath                         string
	Standard                           bool
	Module                             *struct{ Path string }
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

// folder is the first element of a package's path within the module; "" for its root and for packages of others.
func folder(path string) string {
	rest, ours := strings.CutPrefix(path, module+"/")
	if !ours {
		return ""
	}
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func isOurs(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }
func within(path, dir string) bool {
	return path == module+"/"+dir || strings.HasPrefix(path, module+"/"+dir+"/")
}

// parts are the folders whose packages never know of each other.
var parts = []string{"workloads", "topologies", "collectors", "fastpath", "reports"}

// rule forbids imports.
type rule struct {
	text   string
	breaks func(importer, imported string) bool
	tests  bool // counts for test files too
}

// rules are the drawing of docs/architecture.md.
var rules = []rule{
	{"the five folders import neither each other nor cmd", func(importer, imported string) bool {
		return isPart(importer) && folder(imported) != folder(importer) && (isPart(imported) || folder(imported) == "cmd")
	}, true},
	{"the five folders reach engines and labs through roles alone", func(importer, imported string) bool {
		return isPart(importer) && isEngine(imported)
	}, true},
	{"internal imports neither the five folders nor cmd", func(importer, imported string) bool {
		return folder(importer) == "internal" && (isPart(imported) || folder(imported) == "cmd")
	}, true},
	{"cmd/internal/engine sees roles, never parts or engines", func(importer, imported string) bool {
		return within(importer, "cmd/internal/engine") && (isPart(imported) || isEngine(imported))
	}, false},
	{"only internal/docker imports the Docker client", func(importer, imported string) bool {
		return !within(importer, "internal/docker") &&
			(strings.HasPrefix(imported, "github.com/docker/docker/") || strings.HasPrefix(imported, "github.com/docker/cli/"))
	}, false},
	{"only cmd/econbench imports internal/calibrations: a report depends on no machine's store", func(importer, imported string) bool {
		return !within(importer, "cmd/econbench") && !within(importer, "internal/calibrations") && within(imported, "internal/calibrations")
	}, true},
	{"only cmd/econbench imports cobra", func(importer, imported string) bool {
		return !within(importer, "cmd/econbench") && strings.HasPrefix(imported, "github.com/spf13/cobra")
	}, true},
}

func isPart(path string) bool { return slices.Contains(parts, folder(path)) }
func isEngine(path string) bool {
	return within(path, "internal/docker") || within(path, "internal/lab")
}

// broken are the rules that an import breaks.
func broken(importer, imported string, test bool) (texts []string) {
	for _, r := range rules {
		if (r.tests || !test) && r.breaks(importer, imported) {
			texts = append(texts, r.text)
		}
	}
	return texts
}

// TestImports holds the imports of all packages against the drawing.
func TestImports(t *testing.T) {
	for _, p := range listPackages(t) {
		if !isOurs(p.ImportPath) {
			continue
		}
		for _, i := range p.Imports {
			for _, text := range broken(p.ImportPath, i, false) {
				t.Errorf("%s imports %s: %s", p.ImportPath, i, text)
			}
		}
		for _, i := range slices.Concat(p.TestImports, p.XTestImports) {
			for _, text := range broken(p.ImportPath, i, true) {
				t.Errorf("tests of %s import %s: %s", p.ImportPath, i, text)
			}
		}
	}
}

// TestRules looks whether the rules bite.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		importer, imported string
		test               bool
		want               int
	}{
		{"workloads", "collectors", false, 1},
		{"workloads", "collectors", true, 1},
		{"fastpath", "fastpath/bpf", false, 0},
		{"fastpath", "cmd/internal/engine", false, 1},
		{"topologies", "internal/agentproto", false, 0},
		{"reports", "internal/lab", false, 1},
		{"reports", "internal/calibrations", false, 1},
		{"cmd/econbench", "internal/calibrations", true, 0},
		{"internal/lab", "internal/docker", false, 0},
		{"internal/lab", "workloads", false, 1},
		{"cmd/internal/engine", "topologies", false, 1},
		{"cmd/internal/engine", "topologies", true, 0},
		{"cmd/internal/agent", "collectors", false, 0},
		{"cmd/econbench", "internal/lab", false, 0},
	} {
		got := broken(module+"/"+c.importer, module+"/"+c.imported, c.test)
		if len(got) != c.want {
			t.Errorf("%s imports %s (test %v): breaks %q, want %d", c.importer, c.imported, c.test, got, c.want)
		}
	}
	for imported, importer := range map[string]string{
		"github.com/docker/docker/client": "internal/lab", "github.com/docker/cli/cli/connhelper": "cmd/econbench", "github.com/spf13/cobra": "reports",
	} {
		if len(broken(module+"/"+importer, imported, false)) != 1 {
			t.Errorf("%s may import %s, it seems", importer, imported)
		}
	}
}

// TestGround looks at all that the root package needs, however indirectly: it must be the standard library's.
func TestGround(t *testing.T) {
	all := listPackages(t)
	standard := map[string]bool{}
	for _, p := range all {
		standard[p.ImportPath] = p.Standard
	}
	i := slices.IndexFunc(all, func(p goPackage) bool { return p.ImportPath == module })
	if i < 0 {
		t.Fatalf("go list does not know %s", module)
	}
	for _, d := range all[i].Deps {
		if !standard[d] {
			t.Errorf("%s needs %s: it may need the standard library alone", module, d)
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Module,Imports,TestImports,XTestImports,Deps", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// sourceFiles are the files of the tree with one of the extensions, hidden folders and those of results left out.
func sourceFiles(t *testing.T, extensions ...string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || strings.HasPrefix(d.Name(), "econbench-runs")) {
			return fs.SkipDir
		}
		if !d.IsDir() && slices.Contains(extensions, filepath.Ext(path)) {
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestLicence wants every source file to say under which licence it is, in its first line.
func TestLicence(t *testing.T) {
	const apache = "SPDX-License-Identifier: Apache-2.0"
	bpf := []string{"SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause", "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"}
	for _, path := range sourceFiles(t, ".go", ".c", ".h") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		line, _, _ := strings.Cut(string(text), "\n")
		found := strings.TrimSpace(strings.Trim(line, "/* "))
		switch {
		case filepath.Ext(path) == ".go" && found == apache:
		case filepath.Ext(path) != ".go" && slices.Contains(bpf, found):
		case strings.HasPrefix(found, "Code generated "): // the tool's first line; its source has the licence
		default:
			t.Errorf("%s: first line is %q, want %q, or %q in C", path, line, "// "+apache, "// "+bpf[0])
		}
	}
}

// longest is how many lines a function may have; about 60 is what we aim at.
const longest = 80

// TestFunctionLength lists functions that have grown beyond what one reads at a glance.
func TestFunctionLength(t *testing.T) {
	fset := token.NewFileSet()
	for _, path := range sourceFiles(t, ".go") {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, d := range file.Decls {
			f, isFunc := d.(*ast.FuncDecl)
			if !isFunc {
				continue
			}
			if lines := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1; lines > longest {
				t.Errorf("%s: function %s has %d lines, want %d or fewer", fset.Position(f.Pos()), f.Name.Name, lines, longest)
			}
		}
	}
}
