// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// web is an HTTP server that can be told to misbehave. It serves data and status on one port.
type web struct {
	requests  atomic.Int64
	asked     atomic.Int64 // of requests, those for anything but the status
	opened    atomic.Int64
	extra     int64                                  // requests that it claims to have had beside
	answer    func(n int, closes bool) (text string) // to the n-th request, from 1 on; nil: the right one; "": it closes
	otherPath atomic.Bool
}

const okBody = "HTTP/1.1 200 OK\r\nServer: fake\r\ncontent-length: 5\r\n\r\nhello"

func (w *web) serve(c net.Conn) {
	w.opened.Add(1)
	in := bufio.NewReader(c)
	for {
		head := ""
		for !strings.HasSuffix(head, "\r\n\r\n") {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			head += line
		}
		w.requests.Add(1)
		closes := strings.Contains(head, "\r\nConnection: close\r\n")
		var text string
		if strings.HasPrefix(head, "GET "+StatusPath+" ") {
			body := fmt.Sprintf("Active connections: 1 \nserver accepts handled requests\n 7 7 %d \nReading: 0 Writing: 1 Waiting: 0 \n", w.requests.Load()+w.extra*w.asked.Load())
			text = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		} else {
			w.otherPath.CompareAndSwap(false, !strings.HasPrefix(head, "GET /a "))
			text = okBody
			if n := int(w.asked.Add(1)); w.answer != nil {
				text = w.answer(n, closes)
			}
		}
		if _, err := io.WriteString(c, text); err != nil || text == "" || closes {
			return
		}
	}
}

func httpOptions(t *testing.T, w *web) Options {
	at := listen(t, w.serve)
	return Options{Protocol: HTTP, Server: at, Control: at, Connections: 3, Threads: 1, Pipeline: 1, Duration: 200 * time.Millisecond,
		Paths: []string{"/a", "/b"}, Body: 5}
}

func TestHTTP(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"kept":               func(*Options) {},
		"kept, open loop":    func(o *Options) { o.Rate = 1000 },
		"connect":            func(o *Options) { o.PerReq = true },
		"connect by ports":   func(o *Options) { o.PerReq, o.LowPort, o.HighPort, o.Threads = true, 20000, 29999, 2 },
		"connect, open loop": func(o *Options) { o.PerReq, o.Rate = true, 300 },
	} {
		t.Run(name, func(t *testing.T) {
			w := &web{}
			o := httpOptions(t, w)
			change(&o)
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Answered == 0 || r.Errors != 0 || len(r.Warnings) != 0 || int(w.asked.Load()) != r.Answered || !w.otherPath.Load() {
				t.Errorf("%d answers, %d errors (%s), %q; the server had %d requests", r.Answered, r.Errors, r.FirstError, r.Warnings, w.asked.Load())
			}
			connections := int64(o.Connections)
			if o.PerReq {
				connections = w.asked.Load()
			}
			if got := w.opened.Load() - 2; got != connections { // status was asked for twice
				t.Errorf("%d connections, want %d", got, connections)
			}
		})
	}
}

// TestHTTPWrongAnswers: an answer that is not what it should be is counted, and in no latency; the run goes on.
func TestHTTPWrongAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		text   string
		perReq bool
		want   string
	}{
		"status":          {"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello", false, `http: answer "HTTP/1.1 404 Not Found"`},
		"length":          {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhel", false, "http: answer of 3 bytes, want 5"},
		"closes, connect": {"", true, "connection closed by the server"},
		"status, connect": {"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", true, `http: answer "HTTP/1.1 500 Oh"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := &web{answer: func(n int, _ bool) string {
				if n%4 == 0 {
					return test.text
				}
				return okBody
			}}
			o := httpOptions(t, w)
			o.PerReq = test.perReq
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if want := int(w.asked.Load()) / 4; r.Errors != want || r.Answered != int(w.asked.Load())-want || r.FirstError != test.want {
				t.Errorf("%d answers, %d errors, the first one %q; %d requests, want %d errors: %q", r.Answered, r.Errors, r.FirstError, w.asked.Load(), want, test.want)
			}
			for i, s := range r.Slices {
				h := newHistogram()
				if err := merge(h, s.Latency); err != nil || int(h.TotalCount()) != s.Answered {
					t.Errorf("slice %d: %v: %d latencies of %d answers", i, err, h.TotalCount(), s.Answered)
				}
			}
		})
	}
}

// TestHTTPMisbehaves: what can't be followed ends the run with an error that quotes it.
func TestHTTPMisbehaves(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"garbage":        {"\x16\x03\x01 this is no HTTP\r\n", `http: answer "\x16\x03\x01`},
		"no length":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "without a Content-Length"},
		"two lengths":    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "two lengths"},
		"no status":      {"HTTP/1.1 OK\r\n\r\n", "want HTTP/1.1 and a status"},
		"endless header": {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", mostHeader+1), "header of more than"},
		"too much":       {okBody + "!", `answer to no request: "!"`},
		"closes":         {"", "connection closed by the server, with 1 requests under way"},
		"closes midway":  {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection", "not answered within"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &web{answer: func(n int, _ bool) string {
				if n == 7 {
					return test.text
				}
				return okBody
			}}
			o := httpOptions(t, w)
			o.Connections, o.Duration = 1, 300*time.Millisecond
			if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestHTTPServersOwnCount(t *testing.T) {
	w := &web{extra: 1}
	r, err := Run(t.Context(), httpOptions(t, w))
	if err != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "another client is at work") {
		t.Errorf("%v, %+v", err, r)
	}
	w = &web{extra: -1}
	if _, err := Run(t.Context(), httpOptions(t, w)); err == nil || !strings.Contains(err.Error(), "did less than it answered") {
		t.Errorf("got %v", err)
	}
}

// TestServerGone: when every connection comes to nothing the run does not go on for ever.
func TestServerGone(t *testing.T) {
	w := &web{answer: func(int, bool) string { return "" }}
	o := httpOptions(t, w)
	o.PerReq, o.Duration = true, 20*time.Second
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "100 connections in a row came to nothing, the last one: connection closed by the server") {
		t.Errorf("got %v", err)
	}
}
