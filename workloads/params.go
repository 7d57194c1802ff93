// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// param is a parameter of a workload: a whole number, unless it has a way to read it.
type param struct {
	name     string
	standard int64 // value when the user gives none
	min, max int64
	bytes    bool                         // a size: k, m and g (powers of 1024, as the tools read them) are accepted
	text     string                       // value when the user gives none, of what is read otherwise
	read     func(string) (string, error) // writes equal values equally, or says what is allowed
}

// fill returns every parameter, sizes in plain bytes, so that equal parameters are equal strings.
func fill(params []param, given econbench.Params) (econbench.Params, error) {
	full := econbench.Params{}
	var known []string
	for _, p := range params {
		full[p.name] = strconv.FormatInt(p.standard, 10)
		if p.read != nil {
			full[p.name] = p.text
		}
		known = append(known, p.name)
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		i := slices.Index(known, key)
		if i < 0 {
			return nil, names.Unknown("parameter", key, known)
		}
		var err error
		if full[key], err = params[i].write(given[key]); err != nil {
			return nil, fmt.Errorf("parameter %s: %w", key, err)
		}
	}
	return full, nil
}

// choiceParam is one of some words.
func choiceParam(name string, words ...string) param {
	return param{name: name, text: words[0], read: func(s string) (string, error) {
		for _, w := range words {
			if s == w {
				return s, nil
			}
		}
		return "", fmt.Errorf("%q: want one of %s", s, strings.Join(words, ", "))
	}}
}

// write reads a value as the user typed it, and writes it as it is stored.
func (p param) write(given string) (string, error) {
	if p.read != nil {
		return p.read(strings.TrimSpace(given))
	}
	value, err := p.parse(given)
	return strconv.FormatInt(value, 10), err
}

// parse reads one number as the user typed it.
func (p param) parse(s string) (int64, error) {
	digits, factor := strings.ToLower(strings.TrimSpace(s)), int64(1)
	if p.bytes {
		digits, factor = cutUnit(digits)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < p.min || n > p.max/factor || n*factor < p.min {
		return 0, fmt.Errorf("%q: %s", s, p.allowed())
	}
	return n * factor, nil
}

func (p param) allowed() string {
	if p.bytes {
		return fmt.Sprintf("want bytes from %d to %d, as in 128 or 16k", p.min, p.max)
	}
	return fmt.Sprintf("want a whole number from %d to %d", p.min, p.max)
}

// cutUnit takes a size's suffix off: b, k, m or g, the last three also as kb or kib.
func cutUnit(s string) (digits string, factor int64) {
	if short, ok := strings.CutSuffix(s, "ib"); ok {
		s = short
	} else {
		s = strings.TrimSuffix(s, "b")
	}
	for unit, f := range map[string]int64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30} {
		if d, ok := strings.CutSuffix(s, unit); ok {
			return strings.TrimSpace(d), f
		}
	}
	return strings.TrimSpace(s), 1
}

// number reads a parameter that fill has written.
func number(p econbench.Params, name string) (int, error) {
	n, err := strconv.Atoi(p[name])
	if err != nil {
		return 0, fmt.Errorf("parameter %s: %q is no number; were the parameters filled in?", name, p[name])
	}
	return n, nil
}

// numbers reads several parameters that fill has written.
func numbers(p econbench.Params, names ...string) ([]int, error) {
	all := make([]int, len(names))
	for i, name := range names {
		var err error
		if all[i], err = number(p, name); err != nil {
			return nil, err
		}
	}
	return all, nil
}
