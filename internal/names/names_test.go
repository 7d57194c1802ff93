// SPDX-License-Identifier: Apache-2.0

package names

import "testing"

func TestUnknown(t *testing.T) {
	allowed := []string{"host", "overlay"}
	for got, want := range map[string]string{
		"ovrlay": `unknown arm "ovrlay": did you mean "overlay"? allowed: host, overlay`,
		"HOST":   `unknown arm "HOST": did you mean "host"? allowed: host, overlay`,
		"ov":     `unknown arm "ov": did you mean "overlay"? allowed: host, overlay`,
		"x":      `unknown arm "x": allowed: host, overlay`,
		"":       `unknown arm "": allowed: host, overlay`,
	} {
		if err := Unknown("arm", got, allowed); err.Error() != want {
			t.Errorf("Unknown(%q) = %v\nwant %s", got, err, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}} {
		if d := distance(c.a, c.b); d != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, d, c.want)
		}
	}
}
