// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"

	"github.com/econbench/econbench"
)

// paced is what workloads with a rate have in common; 0 is a closed loop.
type paced struct{}

// rateName is the parameter's name in all of them.
const rateName = "rate"

// rateParam is a rate, 1/s, or a share of the slowest arm's: see econbench.Paced.
func rateParam() param {
	number := param{name: rateName, min: 0, max: 10_000_000}
	return param{name: rateName, text: "0", read: func(s string) (string, error) {
		if digits, ok := strings.CutSuffix(s, "%"); ok {
			if n, err := strconv.Atoi(digits); err == nil && n >= 1 && n <= 100 {
				return strconv.Itoa(n) + "%", nil
			}
		}
		if n, err := number.parse(s); err == nil {
			return strconv.FormatInt(n, 10), nil
		}
		return "", fmt.Errorf("%q: %s, or 1%% to 100%% of what the slowest arm does in a closed loop", s, number.allowed())
	}}
}

// Share reads a rate that was given as a share.
func (paced) Share(p econbench.Params) (share float64, closed econbench.Params, ok bool) {
	digits, ok := strings.CutSuffix(p[rateName], "%")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil {
		return 0, nil, false
	}
	closed = maps.Clone(p)
	closed[rateName] = "0"
	return float64(n) / 100, closed, true
}

// At puts a number in the share's place. It is a whole one, and no closed loop.
func (paced) At(p econbench.Params, rate float64) econbench.Params {
	p = maps.Clone(p)
	p[rateName] = strconv.FormatFloat(max(1, math.Round(rate)), 'f', 0, 64)
	return p
}
