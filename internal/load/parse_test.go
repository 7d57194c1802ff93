// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// testdata/h2load-1.52.log is the beginning of a log of h2load's, untouched.
func TestReadH2load(t *testing.T) {
	b, err := os.ReadFile("testdata/h2load-1.52.log")
	if err != nil {
		t.Fatal(err)
	}
	r, err := readH2load(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Within(time.Unix(0, r.Start), time.Duration(r.Elapsed*1e9)/sliceLength*sliceLength)
	if err != nil || r.Answered != 60 || r.Errors != 0 || c.Answered == 0 || c.Answered > 60 {
		t.Errorf("%v: %+v, %d within", err, r, c.Answered)
	}
	for _, test := range []struct{ text, want string }{
		{"", "h2load-log: no request"},
		{"1795733402853846\t200\t6897\n1 200 1\n", `h2load-log: line 2: "1 200 1": want START STATUS TIME, in whole µs`},
		{"1795733402853846\t200\t-2\n", `h2load-log: line 1: "1795733402853846\t200\t-2": want START STATUS TIME, in whole µs`},
		{"1\t200\t1\n1795733402853846\t200\t6897\n", "h2load-log: requests over "},
	} {
		if _, err := readH2load(strings.NewReader(test.text)); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%q: got %v, want %s", test.text, err, test.want)
		}
	}
	r, err = readH2load(strings.NewReader("1795733402853846\t200\t100\n1795733402853900\t503\t100\n1795733402853900\t200\t-1\n"))
	if err != nil || r.Answered != 1 || r.Errors != 2 || r.FirstError != "a request that failed: \"1795733402853900\\t200\\t-1\"" && r.FirstError != "status 503" {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestReadStatus(t *testing.T) {
	good := "Active connections: 1 \nserver accepts handled requests\n 11 11 9500 \nReading: 0 Writing: 1 Waiting: 0 \n" // nginx 1.22's
	if n, err := readStatus(good); err != nil || n != 9500 {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", good[:60], strings.Replace(good, "9500", "-1", 1), strings.Replace(good, " 11", "", 1)} {
		if _, err := readStatus(bad); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func statsFrom(text string) (served, error) {
	c := control{in: bufio.NewReader(strings.NewReader(text))}
	return readStats(c.line)
}

func TestReadStats(t *testing.T) {
	good := "STAT pid 7\r\nSTAT version 1.6.18\r\nSTAT cmd_get 5\r\nSTAT cmd_set 2\r\nSTAT get_hits 4\r\nSTAT evictions 1\r\nEND\r\n"
	if s, err := statsFrom(good); err != nil || s != (served{gets: 5, sets: 2, hits: 4, evictions: 1}) {
		t.Errorf("%+v, %v", s, err)
	}
	for text, want := range map[string]string{
		"":                                   "stats: read: EOF",
		"END\r\n":                            "stats: no ",
		"STAT cmd_get x\r\n":                 `stats: line "STAT cmd_get x", want a whole number`,
		"ERROR\r\n":                          `stats: line "ERROR", want STAT NAME VALUE`,
		"STAT cmd_get 1\n":                   "without CR",
		strings.Repeat("STAT a b\r\n", 1001): "stats: more than 1000 lines",
	} {
		if _, err := statsFrom(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
	}
}

// drain reads foreign bytes with a session as a connection would, in pieces: it must end, and never take more than there is.
func drain(t *testing.T, s session, b []byte, piece int) {
	var requests []byte
	for range 4 {
		requests = s.next(requests)
	}
	done := 0
	for at, have := 0, min(piece, len(b)); done < 4; {
		n, a, err := s.read(b[at:have])
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %v", err)
			}
			return
		}
		if n < 0 || n > have-at {
			t.Fatalf("took %d of %d bytes", n, have-at)
		}
		at += n
		if a.done {
			done++
		}
		if n == 0 && !a.done || at == have {
			if have == len(b) {
				return
			}
			have = min(have+piece, len(b))
		}
	}
}

func FuzzMemcached(f *testing.F) {
	f.Add([]byte("VALUE 0-kk 0 6\r\nabcdef\r\nEND\r\nSTORED\r\n"), 3)
	f.Add([]byte("END\r\nEND\r\nEND\r\nEND\r\n"), 1)
	f.Add([]byte("SERVER_ERROR out of memory storing object\r\n"), 100)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		o := Options{Keys: 1, GetShare: 1, KeySize: Fixed(4), Value: Fixed(6)}
		var sent [2]int
		drain(t, newMemcached(newKeyspace(o), newChooser(o, 0), &sent), b, max(1, piece%1000))
	})
}

func FuzzHTTP(f *testing.F) {
	f.Add([]byte(okBody+okBody), 7)
	f.Add([]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), 100)
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"), 100)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		drain(t, newHTTP(Options{Paths: []string{"/"}, Body: 5}, 0), b, max(1, piece%1000))
	})
}

func FuzzControl(f *testing.F) {
	f.Add("STAT cmd_get 5\r\nSTAT cmd_set 2\r\nSTAT get_hits 4\r\nSTAT evictions 1\r\nEND\r\n")
	f.Add("Active connections: 1 \nserver accepts handled requests\n 11 11 9500 \n")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := statsFrom(text)
		_, err2 := readStatus(text)
		for _, err := range []error{err, err2} {
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %v", err)
			}
		}
	})
}

func FuzzH2load(f *testing.F) {
	f.Add("1795733402853846\t200\t6897\n1795733402856954\t200\t-1\n")
	f.Add("1\t200\t1\n7200000001\t200\t1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "\n") > 50 { // each slice between its requests takes its time
			return
		}
		r, err := readH2load(strings.NewReader(text))
		if err == nil && len(r.Slices) < 4000 {
			checkReport(t, r)
		}
	})
}

// checkReport: a report that was made is one that can be read.
func checkReport(t *testing.T, r *Report) {
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ReadReport(b)
	if err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	if back.Answered != r.Answered || len(back.Slices) != len(r.Slices) {
		t.Errorf("got %+v, want %+v", back, r)
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(`{"load":1,"threads":1,"start":5,"slice_length":0.025,"elapsed":1,"answered":1,"slices":[{"start":5,"answered":1,"latency":"HISTFAAAABl4nJNpmSzMwMDAxAABzFCaEUoz2X+AsAACKQHW"}]}`))
	f.Add([]byte(`{"load":1,"threads":1,"slice_length":1e-300,"elapsed":1,"slices":[{"start":-9223372036854775808}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadReport(b)
		if err != nil {
			return
		}
		c, err := r.Within(time.Unix(0, r.Start), time.Duration(min(r.Elapsed, 1000)*1e9))
		if err == nil && (c.Seconds <= 0 || c.Answered < 0) {
			t.Errorf("cut %+v", c)
		}
	})
}
