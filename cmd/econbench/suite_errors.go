// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

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

// suiteError puts the parser's error on one line that begins with file:line:column, in the words of who wrote the file.
func suiteError(place string, body []byte, err error) error {
	var bad yaml.Error
	if !errors.As(err, &bad) || bad.GetToken() == nil || bad.GetToken().Position == nil {
		return fmt.Errorf("suite %s: %s", place, oneLine(err.Error()))
	}
	at, message := bad.GetToken().Position, oneLine(bad.GetMessage())
	var kind *yaml.TypeError
	var key *yaml.UnknownFieldError
	var node *yaml.UnexpectedNodeTypeError
	switch {
	case errors.As(err, &kind):
		message = fmt.Sprintf("found %q, want %s", bad.GetToken().Value, inWords(kind.DstType))
	case errors.As(err, &key):
		message = names.Unknown("key", bad.GetToken().Value, suiteKeys()).Error()
	case errors.As(err, &node):
		message = fmt.Sprintf("found a %s, want a %s", strings.ToLower(node.Actual.YAMLName()), strings.ToLower(node.Expected.YAMLName()))
	case tabbed(body, at.Line):
		message = "a tab in the indentation: YAML takes spaces only"
	}
	return fmt.Errorf("suite %s:%d:%d: %s", place, at.Line, at.Column, message)
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

// suiteKeys are the keys that a suite may have at its top.
func suiteKeys() (keys []string) {
	for f := range reflect.TypeFor[suiteFile]().Fields() {
		keys = append(keys, f.Tag.Get("yaml"))
	}
	return keys
}

// inWords says what a Go type looks like in a file.
func inWords(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list, as in [a, b]"
	}
	return "keys with values, as in {name: tcp_rr}"
}
