// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"fmt"
	"strconv"
)

// mostHeader is how long a response's header may be, B.
const mostHeader = 8 << 10

// httpSession speaks HTTP/1.1, as much of it as a server of plain files needs: GET, and answers with a Content-Length. An answer with
// another status or length is a request that went wrong; one that can't be followed, chunks among them, is the run's end.
type httpSession struct {
	requests [][]byte
	at       int
	body     int    // B that an answer must have
	close    bool   // a connection for each request
	left     int    // of the body that is under way; -1: the header is
	bad      string // of the answer under way
}

// newHTTP asks for the paths in turn, each connection from another one on.
func newHTTP(o Options, turn int) *httpSession {
	s := &httpSession{body: o.Body, close: o.PerReq, left: -1}
	for _, path := range o.Paths {
		s.requests = append(s.requests, HTTPRequest(o.Server.String(), path, o.PerReq))
	}
	s.at = turn % len(s.requests)
	return s
}

// HTTPRequest is what is sent to ask a server for a path.
func HTTPRequest(server, path string, closes bool) []byte {
	request := "GET " + path + " HTTP/1.1\r\nHost: " + server + "\r\n"
	if closes {
		request += "Connection: close\r\n"
	}
	return []byte(request + "\r\n")
}

func (h *httpSession) reset() { h.left, h.bad = -1, "" }

func (h *httpSession) next(b []byte) []byte {
	b = append(b, h.requests[h.at]...)
	h.at = (h.at + 1) % len(h.requests)
	return b
}

func (h *httpSession) read(b []byte) (n int, a answer, err error) {
	if h.left < 0 {
		end := bytes.Index(b, []byte("\r\n\r\n"))
		switch {
		case end < 0 && len(b) > mostHeader:
			return 0, a, fmt.Errorf("http: header of more than %d bytes: %s", mostHeader, quote(b))
		case end < 0 && !bytes.HasPrefix(b, []byte("HTTP/1.1 ")[:min(len(b), 9)]):
			return 0, a, fmt.Errorf("http: answer %s: want HTTP/1.1", quote(b))
		case end < 0:
			return 0, a, nil
		}
		if err := h.header(b[:end]); err != nil {
			return 0, a, err
		}
		n = end + 4
	}
	take := min(h.left, len(b)-n)
	n += take
	if h.left -= take; h.left > 0 {
		return n, a, nil
	}
	a = answer{done: true, bad: h.bad}
	h.reset()
	return n, a, nil
}

// header reads an answer's status line and header, without the empty line behind it.
func (h *httpSession) header(b []byte) error {
	line, fields, _ := bytes.Cut(b, crlf)
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return fmt.Errorf("http: answer %s: want HTTP/1.1 and a status", quote(line))
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil || status < 200 || status > 599 {
		return fmt.Errorf("http: answer %s: want a status of 200 to 599", quote(line))
	}
	length := -1
	for len(fields) > 0 {
		var field []byte
		field, fields, _ = bytes.Cut(fields, crlf)
		name, value, ok := bytes.Cut(field, []byte(":"))
		if !ok {
			return fmt.Errorf("http: field %s: want NAME: VALUE", quote(field))
		}
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			continue
		}
		if length >= 0 {
			return fmt.Errorf("http: two lengths, the second one %s", quote(field))
		}
		if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 || length > 1<<30 {
			return fmt.Errorf("http: field %s: want bytes from 0 to %d", quote(field), 1<<30)
		}
	}
	switch {
	case length < 0:
		return fmt.Errorf("http: answer %s without a Content-Length", quote(line))
	case status != 200:
		h.bad = fmt.Sprintf("http: answer %s", quote(line))
	case length != h.body:
		h.bad = fmt.Sprintf("http: answer of %d bytes, want %d", length, h.body)
	}
	h.left = length
	return nil
}
