// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// param is a parameter of a workload: a whole number, or one of some words.
type param struct {
	name     string
	standard int64 // value when the user gives none
	min, max int64
	bytes    bool     // a size: k, m and g (powers of 1024, as the tools read them) are accepted
	share    bool     // also N%: see econbench.Paced
	words    []string // what it may be, the standard first, if it is no number
}

// fill returns every parameter, sizes in plain bytes, so that equal parameters are equal strings.
func fill(params []param, given econbench.Params) (econbench.Params, error) {
	full := econbench.Params{}
	var known []string
	for _, p := range params {
		full[p.name] = p.usual()
		known = append(known, p.name)
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		i := slices.Index(known, key)
		if i < 0 {
			return nil, names.Unknown("parameter", key, known)
		}
		value, err := params[i].parse(given[key])
		if err != nil {
			return nil, fmt.Errorf("parameter %s: %w", key, err)
		}
		full[key] = value
	}
	return full, nil
}

// usual is the value when the user gives none.
func (p param) usual() string {
	if p.words != nil {
		return p.words[0]
	}
	return strconv.FormatInt(p.standard, 10)
}

// parse reads one value as the user typed it, and writes it as equal ones are written.
func (p param) parse(s string) (string, error) {
	if p.words != nil {
		if !slices.Contains(p.words, s) {
			return "", fmt.Errorf("%q: want %s", s, strings.Join(p.words, " or "))
		}
		return s, nil
	}
	if digits, ok := strings.CutSuffix(strings.TrimSpace(s), "%"); p.share && ok {
		if n, err := strconv.Atoi(digits); err == nil && n >= 1 && n <= 100 {
			return strconv.Itoa(n) + "%", nil
		}
	}
	n, err := p.parseNumber(s)
	return strconv.FormatInt(n, 10), err
}

func (p param) parseNumber(s string) (int64, error) {
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
	want := fmt.Sprintf("want a whole number from %d to %d", p.min, p.max)
	if p.share {
		want += ", or 1% to 100% of what the slowest arm does in a closed loop"
	}
	return want
}

// paced is what workloads with a rate have in common: 0 is a closed loop.
type paced struct{}

// rate is the parameter of all of them.
var rateParam = param{name: "rate", standard: 0, min: 0, max: 10_000_000, share: true}

// Share reads a rate that was given as a share.
func (paced) Share(p econbench.Params) (share float64, closed econbench.Params, ok bool) {
	digits, ok := strings.CutSuffix(p[rateParam.name], "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return 0, nil, false
	}
	closed = maps.Clone(p)
	closed[rateParam.name] = "0"
	return float64(n) / 100, closed, true
}

// At puts a number in the share's place. It is a whole one, and no closed loop.
func (paced) At(p econbench.Params, rate float64) econbench.Params {
	p = maps.Clone(p)
	p[rateParam.name] = strconv.FormatFloat(max(1, math.Round(rate)), 'f', 0, 64)
	return p
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
