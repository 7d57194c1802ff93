// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/profile"
	"github.com/econbench/econbench/internal/trace"
)

// TestFormatsDocumented fails when a field of what is stored or reported is not in docs/formats.md.
func TestFormatsDocumented(t *testing.T) {
	b, err := os.ReadFile("../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	seen := make(map[reflect.Type]bool)
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(typ.Elem())
			return
		case reflect.Struct:
		default:
			return
		}
		if seen[typ] || typ == reflect.TypeFor[time.Time]() || typ == reflect.TypeFor[econbench.Arm]() || typ == reflect.TypeFor[Note]() {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.IsExported() && name != "" && name != "-" && !strings.Contains(page, "`"+name+"`") {
				t.Errorf("field `%s` of %s is not in docs/formats.md", name, typ)
			}
			if f.IsExported() && name != "-" {
				walk(f.Type)
			}
		}
	}
	walk(reflect.TypeFor[econbench.Run]())
	walk(reflect.TypeFor[econbench.Trial]())
	walk(reflect.TypeFor[Summary]())
	walk(reflect.TypeFor[Comparison]())
	walk(reflect.TypeFor[Gate]())
	walk(reflect.TypeFor[Calibration]())
	walk(reflect.TypeFor[History]())
	walk(reflect.TypeFor[trace.Picture]())
	walk(reflect.TypeFor[trace.Record]())
	walk(reflect.TypeFor[profile.Profile]())
	for _, m := range econbench.Metrics() {
		if !strings.Contains(page, "`"+m.Name+"`") {
			t.Errorf("metric `%s` is not in docs/formats.md", m.Name)
		}
	}
	for _, r := range All() {
		if !strings.Contains(page, "- `"+r.Name()+"`:") {
			t.Errorf("format `%s` is not in docs/formats.md", r.Name())
		}
	}
}
