// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench/internal/names"
)

// Placeholders that are no parameters.
const (
	wordServer  = "server"  // the server's address
	wordPort    = "port"    // the server's port
	wordSeconds = "seconds" // whole ones, that the client has to run for
	bySeconds   = "*" + wordSeconds
)

// expand puts values in the place of a word's {NAME}s; {{ and }} are braces.
func expand(word string, values map[string]string) (string, error) {
	var b strings.Builder
	for rest := word; rest != ""; {
		switch i := strings.IndexAny(rest, "{}"); {
		case i < 0:
			b.WriteString(rest)
			rest = ""
		case strings.HasPrefix(rest[i:], "{{"), strings.HasPrefix(rest[i:], "}}"):
			b.WriteString(rest[:i+1])
			rest = rest[i+2:]
		case rest[i] == '}':
			return "", fmt.Errorf("%q: a } that closes nothing: }} is a brace", shorten(word))
		default:
			name, after, closed := strings.Cut(rest[i+1:], "}")
			if !closed {
				return "", fmt.Errorf("%q: a { that is not closed: {{ is a brace", shorten(word))
			}
			value, err := valueOf(name, values)
			if err != nil {
				return "", err
			}
			b.WriteString(rest[:i] + value)
			rest = after
		}
	}
	return b.String(), nil
}

// valueOf is what stands for a placeholder.
func valueOf(name string, values map[string]string) (string, error) {
	factor, multiplied := strings.CutSuffix(name, bySeconds)
	if value, ok := values[factor]; ok && !multiplied {
		return value, nil
	}
	value, ok := values[factor]
	seconds, timed := values[wordSeconds]
	if !ok || multiplied && !timed {
		return "", fmt.Errorf("%w; {{ is a brace", names.Unknown("placeholder", name, placeholders(values)))
	}
	a, err := strconv.ParseInt(value, 10, 64)
	if err != nil || a < 0 {
		return "", fmt.Errorf("placeholder {%s}: %s is %q: want a whole number", name, factor, shorten(value))
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || n < 1 || a > math.MaxInt64/n {
		return "", fmt.Errorf("placeholder {%s}: %s times %s s is too much", name, value, seconds)
	}
	return strconv.FormatInt(a*n, 10), nil
}

// placeholders lists what a word may have.
func placeholders(values map[string]string) []string {
	list := []string{wordServer, wordPort}
	if _, timed := values[wordSeconds]; timed {
		list = append(list, wordSeconds)
	}
	var params []string
	for name := range values {
		if !reserved(name) {
			params = append(params, name)
		}
	}
	slices.Sort(params)
	return append(list, params...)
}

// reserved says whether a parameter can't have that name, as a placeholder or a key of suites has it.
func reserved(name string) bool {
	return slices.Contains([]string{wordServer, wordPort, wordSeconds, "name"}, name)
}

// expandAll expands a command line.
func expandAll(words []string, values map[string]string) ([]string, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("no command line")
	}
	argv := make([]string, len(words))
	for i, word := range words {
		var err error
		if argv[i], err = expand(word, values); err != nil {
			return nil, err
		}
	}
	return argv, nil
}
