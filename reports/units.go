// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"fmt"
	"math"
	"strconv"

	"golang.org/x/perf/benchunit"

	"github.com/econbench/econbench"
)

// missing stands where there is no number.
const missing = "n/a"

// scale says how a metric is shown: its base-unit value times factor, with an SI prefix, in unit.
type scale struct {
	factor float64
	unit   string
	prefix bool
}

// scaleOf chooses by metric and base unit. Rates of payload are in decimal bits, as links are sold; CPU per byte is per
// decimal GB, the natural size for what takes a few hundred milliseconds.
func scaleOf(metric, unit string) scale {
	switch {
	case unit == "B/s":
		return scale{8, "bit/s", true}
	case metric == "cpu_per_byte":
		return scale{1e9, "s/GB", true}
	case unit == "1/s":
		return scale{1, "/s", true}
	case unit == "s":
		return scale{1, "s", true}
	case unit == "cores":
		return scale{1, "", false}
	case metric == "steal", metric == "hit_ratio", metric == "coverage":
		return scale{100, "%", false}
	case unit == "1":
		return scale{1, "", false}
	}
	return scale{1, unit, false}
}

// show is a metric's value in human units with three significant digits: "34.2 Gbit/s", "56.9 k/s", "16.0 µs".
func show(metric, unit string, v *float64) string {
	if v == nil {
		return missing
	}
	s := scaleOf(metric, unit)
	x := *v * s.factor
	switch {
	case !isFinite(x):
		return fmt.Sprintf("%.3g %s", *v, unit)
	case s.unit == "%":
		return plain(x) + "%"
	case !s.prefix && s.unit == "":
		return plain(x)
	case !s.prefix:
		return plain(x) + " " + s.unit
	}
	if a := math.Abs(x); a != 0 && (a < 1e-9 || a >= 1e15) {
		return fmt.Sprintf("%.3g %s", x, s.unit)
	}
	sc := benchunit.CommonScale([]float64{x}, benchunit.Decimal)
	n := strconv.FormatFloat(x/sc.Factor, 'f', max(0, sc.Prec-1), 64) // three digits; benchunit has four
	return n + " " + sc.Prefix + s.unit
}

// plain is a number without a prefix, with about three significant digits.
func plain(x float64) string {
	switch a := math.Abs(x); {
	case x == 0:
		return "0"
	case a >= 1e4 || a < 1e-3:
		return fmt.Sprintf("%.3g", x)
	case a >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// showSpread is half an interval's width relative to its median; "±?" with too few blocks for an interval.
func showSpread(spread *float64) string {
	switch {
	case spread == nil:
		return "±?"
	case *spread >= 9.995:
		return "±>999%"
	case *spread >= 0.0995:
		return fmt.Sprintf("±%.0f%%", 100**spread)
	}
	return fmt.Sprintf("±%.1f%%", 100**spread)
}

// showRatio is a ratio with its interval: "0.55× [0.54, 0.57]". A third decimal is shown when the interval is narrow enough
// to give it a meaning.
func showRatio(r *Ratio) string {
	if r == nil {
		return ""
	}
	if r.Median == nil {
		return missing
	}
	digits := 2
	if halfWidth(r.Low, r.High, r.Median) < 0.02 {
		digits = 3
	}
	s := factor(*r.Median, digits) + "×"
	if r.Low != nil && r.High != nil {
		s += " [" + factor(*r.Low, digits) + ", " + factor(*r.High, digits) + "]"
	}
	return s
}

func factor(v float64, digits int) string {
	if a := math.Abs(v); a >= 100 || a < 0.01 {
		return fmt.Sprintf("%.2g", v)
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// showShortRatio stands in brackets behind the value of a metric that is described, not judged.
func showShortRatio(r *Ratio) string {
	switch {
	case r == nil || r.Median == nil:
		return ""
	case r.Verdict == VerdictSame:
		return " (~)"
	case r.Verdict == VerdictInconclusive && r.Reason != undirected:
		return " (?)"
	}
	return " (" + factor(*r.Median, 2) + "×)"
}

// showSeconds is a planned length: "2 s", "500 ms".
func showSeconds(s econbench.Seconds) string { return s.Duration().String() }
