// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompareVersions(t *testing.T) {
	// in ascending order; see Debian policy 5.6.12
	ascending := []string{
		"~~", "~~a", "~", "0", "0.1", "1.0~beta1~svn1245", "1.0~beta1", "1.0", "1.0-0.1", "1.0-1", "1.0-1+b1", "1.0-1+deb13u1", "1.0-1.1",
		"1.0-2", "1.0-10", "1.0a", "1.0z", "1.0+git", "1.0.", "1.0.1", "1.2.3-1", "1.10", "99999999999999999999999", "100000000000000000000000",
		"1:0", "2:0.1~rc1", "2:0.1",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			if got := sign3(compareVersions(a, b)); got != sign3(i-j) {
				t.Errorf("compare %q with %q: found %d, want %d", a, b, got, sign3(i-j))
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "0:1.0"}, {"1.0", "1.0-0"}, {"1.0", "1.00"}, {"1.0-1", "1.0-01"}, {"", "0"}} {
		if c := compareVersions(same[0], same[1]); c != 0 {
			t.Errorf("compare %q with %q: found %d, want 0", same[0], same[1], c)
		}
	}
}

func sign3(n int) int { return min(1, max(-1, n)) }

// FuzzCompareVersions: the order is total, on any bytes.
func FuzzCompareVersions(f *testing.F) {
	f.Add("1:1.0-1", "1.0~rc1-1", "1.0-1.1")
	f.Add("2.7.0+git20210121.3bc455b+ds-3", "2.7.0-0.1", "2.7.0")
	f.Add("~", "", "-")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		ab, ba := sign3(compareVersions(a, b)), sign3(compareVersions(b, a))
		if ab != -ba || compareVersions(a, a) != 0 {
			t.Errorf("%q, %q: %d one way, %d the other", a, b, ab, ba)
		}
		if bc, ac := sign3(compareVersions(b, c)), sign3(compareVersions(a, c)); ab <= 0 && bc <= 0 && ac > 0 || ab == 0 && bc != ac {
			t.Errorf("%q, %q, %q: %d, %d, but %d", a, b, c, ab, bc, ac)
		}
	})
}

func TestScanStanzas(t *testing.T) {
	text := "# comment\nPackage: a\nDescription: one\n two\n .\n\tthree\n\n\nPACKAGE: b\nEmpty:\n"
	var got []stanza
	check(t, scanStanzas(strings.NewReader(text), nil, func(s stanza) error { got = append(got, s); return nil }))
	want := []stanza{{"package": "a", "description": "one\ntwo\n.\nthree"}, {"package": "b", "empty": ""}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("stanzas (-want +got):\n%s", d)
	}
	for text, want := range map[string]string{
		" x\n":             `line 1: continuation " x" without a field`,
		"A: b\nnonsense\n": `line 2: "nonsense" is not a field`,
		"A: b\na: c\n":     `line 2: field "a" occurs twice`,
		"two words: b\n":   `line 1: "two words: b" is not a field`,
	} {
		err := scanStanzas(strings.NewReader(text), nil, func(stanza) error { return nil })
		if err == nil || err.Error() != want {
			t.Errorf("scan %q: found error %v, want %s", text, err, want)
		}
	}
}

// FuzzScanStanzas: reading only some fields gives the same values.
func FuzzScanStanzas(f *testing.F) {
	f.Add("Package: a\nVersion: 1\n 2\n\nPackage: b\n# x\nDepends: c\n")
	f.Add("A:b\r\n\r\n\tx\n")
	f.Fuzz(func(t *testing.T, text string) {
		var all, some []stanza
		err := scanStanzas(strings.NewReader(text), nil, func(s stanza) error { all = append(all, s); return nil })
		if err != nil {
			return
		}
		check(t, scanStanzas(strings.NewReader(text), indexFields, func(s stanza) error { some = append(some, s); return nil }))
		var want []stanza
		for _, s := range all {
			w := stanza{}
			for k, v := range s {
				if indexFields[k] {
					w[k] = v
				}
			}
			if len(w) > 0 {
				want = append(want, w)
			}
		}
		if d := cmp.Diff(want, some); d != "" {
			t.Errorf("wanted fields (-all +some):\n%s", d)
		}
	})
}

func TestParseRelations(t *testing.T) {
	got, err := parseRelations("libc6 (>= 2.38), a:any | b (<< 1:2~) ,, c(=1)")
	check(t, err)
	want := []alternatives{{{"libc6", ">=", "2.38"}}, {{Name: "a"}, {"b", "<<", "1:2~"}}, {{"c", "=", "1"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("relations (-want +got):\n%s", d)
	}
	for _, bad := range []string{"a (", "a ()", "a (>= )", "a (=> 1)", "a (1)", "| a", "a b", "a (= 1 2)"} {
		if got, err := parseRelations(bad); err == nil {
			t.Errorf("parse %q: found %v, want an error", bad, got)
		}
	}
}

// FuzzParseRelations: what is written again is read as the same.
func FuzzParseRelations(f *testing.F) {
	f.Add("libc6 (>= 2.38), a:any | b (<< 1:2~), c(=1)")
	f.Fuzz(func(t *testing.T, field string) {
		groups, err := parseRelations(field)
		if err != nil {
			return
		}
		texts := make([]string, len(groups))
		for i, g := range groups {
			texts[i] = g.String()
		}
		again, err := parseRelations(strings.Join(texts, ", "))
		check(t, err)
		if d := cmp.Diff(groups, again); d != "" {
			t.Errorf("relations (-first +again):\n%s", d)
		}
	})
}

func TestArReader(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(arMagic)
	member(&b, "one/", []byte("odd"))
	member(&b, "two", []byte("even"))
	whole := b.String()
	read := func(text string) (string, error) {
		a, err := newArReader(strings.NewReader(text))
		if err != nil {
			return "", err
		}
		var got []string
		for {
			name, body, err := a.next()
			if errors.Is(err, io.EOF) {
				return strings.Join(got, " "), nil
			}
			if err != nil {
				return "", err
			}
			text, err := io.ReadAll(body)
			if err != nil {
				return "", err
			}
			got = append(got, name+"="+string(text))
		}
	}
	if got, err := read(whole); got != "one=odd two=even" || err != nil {
		t.Errorf("found %q, %v", got, err)
	}
	for _, bad := range []string{"", "!<arch>", "nonsense", whole[:20], whole[:len(whole)-1], strings.Replace(whole, "`", "'", 1), strings.Replace(whole, "3   ", "-3  ", 1)} {
		if got, err := read(bad); err == nil {
			t.Errorf("read %q: found %q, want an error", bad, got)
		}
	}
}

// FuzzArReader: any bytes end, in members no longer than the input.
func FuzzArReader(f *testing.F) {
	f.Add(makeDeb(fakeDeb{files: nil}))
	f.Add([]byte(arMagic))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := newArReader(bytes.NewReader(text))
		if err != nil {
			return
		}
		for total := int64(0); ; {
			_, body, err := a.next()
			if err != nil {
				return
			}
			n, err := io.Copy(io.Discard, body)
			if total += n; total > int64(len(text)) {
				t.Fatalf("%d bytes of members in %d", total, len(text))
			}
			if err != nil {
				return
			}
		}
	})
}

// FuzzReadEntries: no entry of any tar leaves the image.
func FuzzReadEntries(f *testing.F) {
	for _, d := range newFakeArchive().debs {
		deb := makeDeb(fakeDeb{files: d.files})
		f.Add(deb[len(arMagic)+2*arHeader+4+4+arHeader:])
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := readEntries(bytes.NewReader(text))
		if err != nil {
			return
		}
		m := newMerger(io.Discard)
		for _, e := range entries {
			if strings.HasPrefix(e.Name, "/") || strings.Contains("/"+e.Name+"/", "/../") {
				t.Errorf("entry %q leaves the image", e.Name)
			}
			if m.add("fuzz", e) != nil {
				return
			}
		}
	})
}

func TestParseReleaseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"Date: yesterday\n": `field Date: "yesterday" is not a date`,
		"Date: Sat, 28 Feb 2026 10:00:00 UTC\nValid-Until: x\n":       `field Valid-Until: "x" is not a date`,
		"Date: Sat, 28 Feb 2026 10:00:00 UTC\nSHA256:\n 00 1 x\n":     `field SHA256: x: "00" is not a SHA-256`,
		"Date: Sat, 28 Feb 2026 10:00:00 UTC\nSHA256:\n 00 1 x y\n":   `field SHA256: line "00 1 x y" has 4 words`,
		"Date: Sat, 28 Feb 2026 10:00:00 UTC\n\nDate: another stanza": `more than one paragraph`,
	} {
		if _, err := parseRelease([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parse %q: found error %v, want %s", text, err, want)
		}
	}
}

// FuzzParseRelease: no bytes crash it.
func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(newFakeArchive().release + "SHA256:\n " + strings.Repeat("0", 64) + " 12 main/binary-amd64/Packages.xz\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := parseRelease(text); err == nil && (r == nil || r.Date.IsZero() && len(text) == 0) {
			t.Error("found no release and no error")
		}
	})
}
