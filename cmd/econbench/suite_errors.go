// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/econbench/econbench/cmd/internal/engine"
	"github.com/econbench/econbench/internal/names"
)

// span is a time in a suite: "1.3s". The parser's own reading of durations says neither where nor what is allowed.
type span time.Duration

var _ yaml.NodeUnmarshaler = (*span)(nil)

// UnmarshalYAML reads what time.ParseDuration does.
func (s *span) UnmarshalYAML(n ast.Node) error {
	d, err := time.ParseDuration(n.GetToken().Value)
	if err != nil || n.Type() != ast.StringType {
		return &yaml.SyntaxError{Token: n.GetToken(), Message: fmt.Sprintf("found %q, want a time with its unit, as in 1.3s or 400ms", n.GetToken().Value)}
	}
	*s = span(d)
	return nil
}

// suiteError is yamlError of a suite.
func suiteError(place string, body []byte, err error) error {
	return yamlError("suite", reflect.TypeFor[suiteFile](), place, body, err)
}

// yamlError puts the parser's error on one line that begins with file:line:column, in the words of who wrote the file. kindOfFile is what
// the file is, and root what it is read into.
func yamlError(kindOfFile string, root reflect.Type, place string, body []byte, err error) error {
	var bad yaml.Error
	if !errors.As(err, &bad) || bad.GetToken() == nil || bad.GetToken().Position == nil {
		return fmt.Errorf("%s %s: %s", kindOfFile, place, oneLine(err.Error()))
	}
	at, message := bad.GetToken().Position, oneLine(bad.GetMessage())
	var kind *yaml.TypeError
	var key *yaml.UnknownFieldError
	var node *yaml.UnexpectedNodeTypeError
	switch {
	case errors.As(err, &kind):
		message = fmt.Sprintf("found %q, want %s", bad.GetToken().Value, inWords(kind.DstType))
	case errors.As(err, &key):
		message = names.Unknown("key", bad.GetToken().Value, yamlKeys(root, keysTo(body, at))).Error()
	case errors.As(err, &node):
		message = fmt.Sprintf("found a %s, want a %s", strings.ToLower(node.Actual.YAMLName()), strings.ToLower(node.Expected.YAMLName()))
	case tabbed(body, at.Line):
		message = "a tab in the indentation: YAML takes spaces only"
	}
	return fmt.Errorf("%s %s:%d:%d: %s", kindOfFile, place, at.Line, at.Column, message)
}

// errors are all that is wrong with the suite, each on a line that begins with file:line:column, in the file's order.
func (s *suite) errors() []error {
	wrong := slices.Clone(s.wrong)
	slices.SortStableFunc(wrong, func(a, b *engine.PlanError) int {
		x, y := s.position(a.Place), s.position(b.Place)
		return cmp.Or(cmp.Compare(x.Line, y.Line), cmp.Compare(x.Column, y.Column))
	})
	list := make([]error, len(wrong))
	for i, e := range wrong {
		list[i] = s.placed(e)
	}
	return list
}

// blame gives an error of a plan its place in the suite, if the suite has it whatever the flags say.
func (s *suite) blame(err error) error {
	for _, e := range s.wrong {
		if e.Error() == err.Error() {
			return s.placed(e)
		}
	}
	return err
}

func (s *suite) placed(e *engine.PlanError) error {
	at := s.position(e.Place)
	return fmt.Errorf("suite %s:%d:%d: %w", s.place, at.Line, at.Column, e)
}

// position is where the text says what stands at a place of the plan; where it says nothing about it, as far on the way
// there as it goes.
func (s *suite) position(at engine.Place) token.Position {
	start := token.Position{Line: 1, Column: 1}
	if len(s.tree.Docs) == 0 || s.tree.Docs[0].Body == nil {
		return start
	}
	entry := entryOf(s.tree.Docs[0].Body, at.Key)
	if entry == nil {
		return start
	}
	node := entry.Value
	if list, ok := bare(node).(*ast.SequenceNode); ok && at.Item > 0 && at.Item <= len(list.Values) {
		node = list.Values[at.Item-1]
	}
	if field := entryOf(node, at.Field); field != nil {
		node = field.Value
		if at.Name {
			node = field.Key
		}
	}
	return startOf(below(node, at.Under))
}

// below follows a path, names and numbers of items with dots, as far as it goes.
func below(n ast.Node, path string) ast.Node {
	for path != "" {
		var step string
		step, path, _ = strings.Cut(path, ".")
		if list, ok := bare(n).(*ast.SequenceNode); ok {
			i, err := strconv.Atoi(step)
			if err != nil || i < 1 || i > len(list.Values) {
				return n
			}
			n = list.Values[i-1]
			continue
		}
		entry := entryOf(n, step)
		if entry == nil {
			return n
		}
		n = entry.Value
	}
	return n
}

// entryOf is a mapping's entry of that name, nil if it has none or is no mapping.
func entryOf(n ast.Node, name string) *ast.MappingValueNode {
	m, ok := bare(n).(ast.MapNode)
	if !ok {
		return nil
	}
	for i := m.MapRange(); i.Next(); {
		if i.Key().GetToken().Value == name {
			return i.KeyValue()
		}
	}
	return nil
}

// bare is a node without its anchor and its tag.
func bare(n ast.Node) ast.Node {
	for {
		switch outer := n.(type) {
		case *ast.AnchorNode:
			n = outer.Value
		case *ast.TagNode:
			n = outer.Value
		default:
			return n
		}
	}
}

// startOf is where a node begins. A block mapping's own token is the colon behind its first key.
func startOf(n ast.Node) token.Position {
	if m, ok := n.(ast.MapNode); ok {
		flow, isFlow := n.(*ast.MappingNode)
		if i := m.MapRange(); !(isFlow && flow.IsFlowStyle) && i.Next() {
			return *i.Key().GetToken().Position
		}
	}
	return *n.GetToken().Position
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// tabbed says whether a line, counted from 1, begins with white space that has a tab in it.
func tabbed(body []byte, line int) bool {
	lines := bytes.Split(body, []byte("\n"))
	if line < 1 || line > len(lines) {
		return false
	}
	text := lines[line-1]
	return bytes.ContainsRune(text[:len(text)-len(bytes.TrimLeft(text, " \t"))], '\t')
}

// yamlKeys are the keys that a file may have below those keys.
func yamlKeys(t reflect.Type, path []string) (keys []string) {
	for _, step := range path {
		for f := range t.Fields() {
			if f.Tag.Get("yaml") == step {
				t = f.Type
				break
			}
		}
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct {
			return nil
		}
	}
	for f := range t.Fields() {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

// keysTo are the keys of mappings that lead to the one with a key at that place.
func keysTo(body []byte, at *token.Position) (path []string) {
	tree, err := parser.ParseBytes(body, 0)
	if err != nil || len(tree.Docs) == 0 {
		return nil
	}
	path, _ = keysIn(tree.Docs[0].Body, at)
	return path
}

func keysIn(n ast.Node, at *token.Position) (path []string, found bool) {
	if list, ok := bare(n).(*ast.SequenceNode); ok {
		for _, item := range list.Values {
			if path, found = keysIn(item, at); found {
				return path, true
			}
		}
	}
	m, ok := bare(n).(ast.MapNode)
	if !ok {
		return nil, false
	}
	for i := m.MapRange(); i.Next(); {
		key := i.Key().GetToken()
		if key.Position.Line == at.Line && key.Position.Column == at.Column {
			return nil, true
		}
		if path, found = keysIn(i.Value(), at); found {
			return append([]string{key.Value}, path...), true
		}
	}
	return nil, false
}

// inWords says what a Go type looks like in a file.
func inWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list, as in [a, b]"
	}
	return "keys with values, as in {name: tcp_rr}"
}
