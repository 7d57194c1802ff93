// SPDX-License-Identifier: Apache-2.0

package econbench

import "testing"

func TestParseArm(t *testing.T) {
	for text, want := range map[string]Arm{
		"host":                     {"host", NoFastpath, "", 0},
		"overlay+oncache":          {"overlay", "oncache", "", 0},
		"overlay+handicap:250ns":   {"overlay", "handicap", "250ns", 0},
		"overlay#2":                {"overlay", NoFastpath, "", 2},
		"overlay+handicap:1µs#12":  {"overlay", "handicap", "1µs", 12},
		"overlay+handicap:a:b=c,d": {"overlay", "handicap", "a:b=c,d", 0},
	} {
		got, err := ParseArm(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %+v, written %q, %v; want %+v", text, got, got, err, want)
		}
	}
	if a, err := ParseArm("overlay+none"); err != nil || a.String() != "overlay" {
		t.Errorf("overlay+none: %v, %v", a, err)
	}
	for _, bad := range []string{"", "+", "a+", "+b", "a+b+c", "a:1", "a+b:", "a#", "a#1", "a#0", "a#02", "a#x", "a#100", "a#2#3", "#2"} {
		if got, err := ParseArm(bad); err == nil {
			t.Errorf("%q: %+v, want an error", bad, got)
		}
	}
}

func TestHalves(t *testing.T) {
	w := HostWindow{Seconds: 2, Counters: map[string]Counters{"work": {"n": 100, "late": 3}, "other": {"x": 1}},
		Early: &EarlyWindow{Seconds: 0.5, Counters: map[string]Counters{"work": {"n": 10}}}}
	early, late, ok := w.Halves()
	if !ok || early.Seconds != 0.5 || early.Counters["work"]["n"] != 10 || late.Seconds != 1.5 || late.Counters["work"]["n"] != 90 ||
		late.Counters["work"]["late"] != 3 || late.Counters["other"] != nil {
		t.Errorf("%v: %+v, %+v", ok, early, late)
	}
	for name, w := range map[string]HostWindow{"not read midway": {Seconds: 2}, "midway at the end": {Seconds: 2, Early: &EarlyWindow{Seconds: 2}}} {
		if _, _, ok := w.Halves(); ok {
			t.Errorf("%s: has halves", name)
		}
	}
}
