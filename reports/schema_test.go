// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/rundir"
)

// The JSON Schemas in docs/schema are made from the types that are written, by `go test ./reports -run Schema -update`, so that they can't drift from
// them. What makes them is here and no library: those that do it (invopop/jsonschema) take a pointer for the type that it points to, and
// null, "not collected", is what our contract hinges on.

// schemas are the files and what they are of.
var schemas = []struct {
	file, title string
	of          reflect.Type
	version     int
}{
	{"report.schema.json", "What `econbench report -f json` writes", reflect.TypeFor[Summary](), SummarySchema},
	{"comparison.schema.json", "What `econbench compare -f json` writes", reflect.TypeFor[Comparison](), ComparisonSchema},
	{"gate.schema.json", "gate.json of a run directory, and what `econbench compare --gate SHARE -f json` writes", reflect.TypeFor[Gate](), GateSchema},
	{"history.schema.json", "What `econbench history -f json` writes", reflect.TypeFor[History](), HistorySchema},
	{"run.schema.json", "run.json of a run directory", reflect.TypeFor[econbench.Run](), econbench.Schema},
	{"trial.schema.json", "A line of trials.jsonl of a run directory", reflect.TypeFor[econbench.Trial](), econbench.Schema},
	{"calibration.schema.json", "An object that `econbench calibrate -f json` writes, and a file of the store", reflect.TypeFor[Calibration](), CalibrationSchema},
}

// words are all values of types that are one of a few words.
var words = map[reflect.Type][]string{
	reflect.TypeFor[Verdict]():             {"better", "worse", "~", "inconclusive", "none"},
	reflect.TypeFor[econbench.Better]():    {"higher", "lower", ""},
	reflect.TypeFor[econbench.Status]():    {"running", "complete", "interrupted", "failed"},
	reflect.TypeFor[econbench.Placement](): {"split", "shared"},
	reflect.TypeFor[econbench.Wire]():      {"default", "mtu-frames"},
	reflect.TypeFor[econbench.CPUMethod](): {"stat", "exact"},
	reflect.TypeFor[Reached]():             {"yes", "no", "unclear"},
	reflect.TypeFor[GateVerdict]():         {"passed", "unmeasured", "suspect", "incomparable", "regressed"},
	reflect.TypeFor[Carrier]():             {"ratio", "absolute"},
}

// texts are types that are written as text.
var texts = []reflect.Type{reflect.TypeFor[econbench.Arm](), reflect.TypeFor[Note]()}

// orNull are lists and objects that are null where there is nothing to list. All others are there, if empty.
var orNull = map[string]string{
	"Trial.metrics":             "of a trial that failed before anything was to be collected",
	"Trial.hosts":               "of a trial that failed before its window",
	"Run.hosts":                 "the run failed before it looked at them",
	"Resumption.hosts":          "nothing was left to measure",
	"CalibratedWorkload.plants": "the pool has none",
}

// schemaMaker makes a schema; structs go to $defs.
type schemaMaker struct {
	comments map[string]string // by "Type.Field", and "Type" for the type itself
	defs     map[string]any
}

func (m *schemaMaker) of(typ reflect.Type) map[string]any {
	if w, ok := words[typ]; ok {
		return map[string]any{"enum": w}
	}
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case slices.Contains(texts, typ):
		return map[string]any{"type": "string"}
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return map[string]any{"anyOf": []any{m.of(typ.Elem()), map[string]any{"type": "null"}}}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": m.of(typ.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": m.of(typ.Elem())}
	case reflect.Struct:
		if _, made := m.defs[typ.Name()]; !made {
			m.defs[typ.Name()] = nil // for types that contain themselves
			m.defs[typ.Name()] = m.object(typ)
		}
		return map[string]any{"$ref": "#/$defs/" + typ.Name()}
	}
	panic(fmt.Sprintf("no schema for %s", typ))
}

// object is a struct: no other fields than these, so that one that is added must come here.
func (m *schemaMaker) object(typ reflect.Type) map[string]any {
	properties, required := make(map[string]any), []string{}
	m.fields(typ, properties, &required)
	slices.Sort(required)
	o := map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	if text := m.comments[typ.Name()]; text != "" {
		o["description"] = text
	}
	return o
}

func (m *schemaMaker) fields(typ reflect.Type, properties map[string]any, required *[]string) {
	var embedded []reflect.Type
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			embedded = append(embedded, f.Type)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			panic(fmt.Sprintf("%s.%s has no name in JSON", typ, f.Name))
		}
		if _, shadowed := properties[name]; shadowed {
			continue
		}
		s := m.of(f.Type)
		if _, null := orNull[typ.Name()+"."+name]; null {
			s = map[string]any{"anyOf": []any{s, map[string]any{"type": "null"}}}
		}
		if text := m.comments[typ.Name()+"."+f.Name]; text != "" {
			s["description"] = text
		}
		properties[name] = s
		if !strings.Contains(options, "omitempty") {
			*required = append(*required, name)
		}
	}
	for _, e := range embedded { // its fields stand behind those that shadow them
		m.fields(e, properties, required)
	}
}

// commentsIn are the comments of all structs of the packages and of their fields, which are the schemas' descriptions.
func commentsIn(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	comments := make(map[string]string)
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				d, ok := n.(*ast.GenDecl)
				if !ok || d.Tok != token.TYPE {
					return true
				}
				for _, spec := range d.Specs {
					describe(comments, spec.(*ast.TypeSpec), d.Doc)
				}
				return false
			})
		}
	}
	return comments
}

func describe(comments map[string]string, spec *ast.TypeSpec, doc *ast.CommentGroup) {
	s, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	oneLine := func(g *ast.CommentGroup) string { return strings.Join(strings.Fields(g.Text()), " ") }
	comments[spec.Name.Name] = oneLine(doc)
	for _, f := range s.Fields.List {
		text := oneLine(f.Comment)
		if text == "" {
			text = oneLine(f.Doc)
		}
		for _, name := range f.Names {
			comments[spec.Name.Name+"."+name.Name] = text
		}
	}
}

// makeSchema writes the schema of a type.
func makeSchema(t *testing.T, comments map[string]string, title string, typ reflect.Type, version int) []byte {
	t.Helper()
	m := schemaMaker{comments, make(map[string]any)}
	top := m.object(typ)
	top["$schema"], top["title"] = "https://json-schema.org/draft/2020-12/schema", title
	top["properties"].(map[string]any)["schema"] = map[string]any{"const": version, "description": "version of this format"}
	delete(m.defs, typ.Name())
	if len(m.defs) > 0 {
		top["$defs"] = m.defs
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(top); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compileSchema reads a file of docs/schema.
func compileSchema(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	s, err := c.Compile(filepath.Join("..", "docs", "schema", file))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, what, text string) {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// TestSchemaFiles: the files are those of the types.
func TestSchemaFiles(t *testing.T) {
	comments := commentsIn(t, "..", ".")
	for _, s := range schemas {
		got := makeSchema(t, comments, s.title, s.of, s.version)
		path := filepath.Join("..", "docs", "schema", s.file)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not of the type any more, -file +type (go test ./reports -run Schema -update rewrites):\n%s", s.file, diff)
		}
	}
}

// TestSchemaOfOutputs holds what is really written against the schemas: of every golden run and of bad ones, from disk.
func TestSchemaOfOutputs(t *testing.T) {
	report, comparison := compileSchema(t, "report.schema.json"), compileSchema(t, "comparison.schema.json")
	runFile, trialLine := compileSchema(t, "run.schema.json"), compileSchema(t, "trial.schema.json")
	runs := goldens()
	for name, run := range badRuns(t) {
		if !slices.Contains([]string{"nothing", "strange names", "no workload", "unplanned cells"}, name) { // no plan that a run can have
			runs[name] = run
		}
	}
	for name, run := range runs {
		validate(t, report, name, render(t, JSON{}, run))
		dir := filepath.Join(t.TempDir(), "run")
		run.Hosts = map[string]econbench.HostFacts{econbench.ClientHost: {}}
		d, err := rundir.Create(dir, run)
		if err != nil {
			t.Fatal(err)
		}
		for _, tr := range run.Trials {
			if err := d.Append(tr); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		validate(t, runFile, name, readText(t, filepath.Join(dir, rundir.RunFile)))
		for _, line := range strings.Split(strings.TrimSpace(readText(t, filepath.Join(dir, rundir.TrialsFile))), "\n") {
			if line != "" {
				validate(t, trialLine, name, line)
			}
		}
	}
	calibration := compileSchema(t, "calibration.schema.json")
	bare := poolRun(30, 0.02, 0.03)
	bare.Plan.Arms = slices.DeleteFunc(bare.Plan.Arms, func(a econbench.Arm) bool { return a.Setting != "" })
	for name, pool := range map[string]*econbench.Run{"plants": poolRun(30, 0.02, 0.03), "no plants": bare} {
		c, err := Calibrate(pool, CalibrationOptions{Minutes: []float64{1}, Runs: 20, Pools: 5})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := c.RenderJSON(&b); err != nil {
			t.Fatal(err)
		}
		validate(t, calibration, name, b.String())
	}
	for name, c := range comparisons(t) {
		validate(t, comparison, name, renderComparison(t, c, "json"))
	}
	gate := compileSchema(t, "gate.schema.json")
	for name, g := range gates(t) {
		var b bytes.Buffer
		if err := g.Render(&b, "json"); err != nil {
			t.Fatal(err)
		}
		validate(t, gate, name, b.String())
	}
	history := compileSchema(t, "history.schema.json")
	young := nightly(1, 3, 0.01, flat)
	failEarly(young[2])
	for name, h := range map[string]*History{"all": historyWith(t), "young": historyOf(t, young, HistoryOptions{}), "regressed": historyOf(t, nightly(2, 40, 0.004, steps(map[int]float64{25: 0.9})), HistoryOptions{})} {
		validate(t, history, name, renderHistory(t, h, "json"))
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSchemaKnowsAllFields: values of the types with all fields set, and with none that can be left out.
func TestSchemaKnowsAllFields(t *testing.T) {
	for _, s := range schemas {
		schema := compileSchema(t, s.file)
		for _, whole := range []bool{true, false} {
			v := reflect.New(s.of).Elem()
			fill(v, whole)
			v.FieldByName("Schema").SetInt(int64(s.version))
			b, err := json.Marshal(v.Interface())
			if err != nil {
				t.Fatal(err)
			}
			validate(t, schema, fmt.Sprint(s.file, " whole: ", whole), string(b))
		}
	}
}

// fill sets all fields; if not whole, what is a pointer or may be left out stays what it is.
func fill(v reflect.Value, whole bool) {
	if w, ok := words[v.Type()]; ok {
		v.SetString(w[0])
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)))
		return
	case v.Type() == reflect.TypeFor[econbench.Arm]():
		v.Set(reflect.ValueOf(econbench.Arm{Topology: "overlay", Fastpath: "handicap", Setting: "1us", Copy: 2}))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if whole {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), whole)
		}
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint64:
		v.SetUint(1<<64 - 1)
	case reflect.Float64:
		v.SetFloat(0.25)
	case reflect.String:
		v.SetString("text")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), whole)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		e := reflect.New(v.Type().Elem()).Elem()
		fill(e, whole)
		v.SetMapIndex(reflect.ValueOf("key").Convert(v.Type().Key()), e)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && (whole || !strings.Contains(f.Tag.Get("json"), "omitempty")) && f.Tag.Get("json") != "-" {
				fill(v.Field(i), whole)
			}
		}
	}
}

// TestSchemaRefuses: a schema that takes everything would pass all that is above.
func TestSchemaRefuses(t *testing.T) {
	schema := compileSchema(t, "report.schema.json")
	good := render(t, JSON{}, sampleRun(6))
	for what, change := range map[string][2]string{
		"unknown field":          {`"lab": "emulated"`, `"lab": "emulated", "laboratory": 1`},
		"unknown field of cell":  {`"workload": "tcp_rr",`, `"workload": "tcp_rr", "extra": null,`},
		"missing field":          {`"lab": "emulated",`, ``},
		"newer schema":           {`"schema": 1`, `"schema": 2`},
		"number as text":         {`"blocks": 6`, `"blocks": "6"`},
		"verdict that is none":   {`"verdict": "inconclusive"`, `"verdict": "slower"`},
		"direction that is none": {`"better": "higher"`, `"better": "up"`},
		"null for a list":        {`"warnings": []`, `"warnings": null`},
		"no time":                {`"started": "2026-01-02T03:04:05Z"`, `"started": "yesterday"`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(bad))
		if err != nil || bad == good {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if schema.Validate(v) == nil {
			t.Errorf("%s is valid", what)
		}
	}
}
