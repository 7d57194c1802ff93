// SPDX-License-Identifier: Apache-2.0

package workloads

import (
	"fmt"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/names"
)

// Kinds of flows as suites call them.
const (
	kindLasting   = "lasting"
	kindDatagrams = "datagrams"
	kindConnects  = "connects"
	kindByClient  = "by_client"
)

var flowKinds = []string{kindLasting, kindDatagrams, kindConnects, kindByClient}

const (
	mostFileFlows = 10_000
	mostFileBytes = 1 << 30
)

// flowError is what is wrong with one field of a program's flows.
type flowError struct {
	field string
	err   error
}

func (e *flowError) Error() string { return "flows: " + e.field + ": " + e.err.Error() }
func (e *flowError) Unwrap() error { return e.err }

// flows are what the suite says of them, with parameters filled in.
func (p Program) flows(params econbench.Params) (f econbench.Flows, err error) {
	d := p.def.Flows
	f = econbench.Flows{ServerPort: uint16(p.def.Port)}
	largest := int64(mostFileBytes)
	switch d.Kind {
	case kindLasting:
	case kindByClient:
		f.ByClient = true
	case kindDatagrams:
		f.Kind, largest = econbench.DatagramFlows, mostDatagram // of one that needs no fragments
	case kindConnects:
		f.Kind = econbench.ConnectFlows
	default:
		return f, &flowError{"kind", names.Unknown("kind of flows", d.Kind, flowKinds)}
	}
	for _, n := range []struct {
		field, text string
		to          *int
		least, most int64
	}{
		{"count", d.Count, &f.Count, 1, mostFileFlows},
		{"request", d.Request, &f.RequestBytes, 1, largest},
		{"response", d.Response, &f.ResponseBytes, 1, largest},
		{"message", d.Message, &f.MessageBytes, 1, largest},
	} {
		if n.text == "" && n.field != "count" {
			continue
		}
		if *n.to, err = flowNumber(n.text, params, n.least, n.most); err != nil {
			return f, &flowError{n.field, err}
		}
	}
	return f, fitting(d)
}

// flowNumber reads a number, or that of the parameter that is named in braces.
func flowNumber(text string, params econbench.Params, least, most int64) (int, error) {
	value, err := expand(text, params)
	if err != nil {
		return 0, err
	}
	n, ok := wholeNumber(value)
	if !ok || n < least || n > most {
		from := ""
		if value != text {
			from = fmt.Sprintf(" (%s)", text)
		}
		return 0, fmt.Errorf("%q%s: want a whole number from %d to %d, or a parameter as in \"{size}\"", shorten(value), from, least, most)
	}
	return int(n), nil
}

// fitting says what a kind of flows lacks, or has and can't.
func fitting(d econbench.ProgramFlows) error {
	given := map[string]bool{"request": d.Request != "", "response": d.Response != "", "message": d.Message != ""}
	need := func(why string, fields ...string) error {
		for _, f := range fields {
			if !given[f] {
				return &flowError{f, fmt.Errorf("is not there: %s need %s, in bytes", why, strings.Join(fields, " and "))}
			}
		}
		return nil
	}
	refuse := func(why string, fields ...string) error {
		for _, f := range fields {
			if given[f] {
				return &flowError{f, fmt.Errorf("does not go with %s", why)}
			}
		}
		return nil
	}
	switch {
	case d.Kind == kindByClient:
		return refuse("transactions that the client counts", "request", "response", "message")
	case d.Kind == kindConnects:
		if err := need("connections that come and go", "request", "response"); err != nil {
			return err
		}
		return refuse("connections", "message")
	case d.Kind == kindDatagrams && given["message"]:
		return refuse("message: a datagram is either answered or not", "request", "response")
	case d.Kind == kindDatagrams:
		return need("datagrams that are answered", "request", "response")
	case !given["request"]:
		return refuse("flows without requests", "response", "message")
	}
	return refuse("connections", "message")
}
