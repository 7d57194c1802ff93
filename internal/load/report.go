// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Version is that of the document. A reader refuses others: both ends are one program.
const Version = 1

// Report is what a run of the generator says. Times are seconds.
type Report struct {
	Version     int      `json:"load"`
	Tool        string   `json:"tool,omitempty"` // whose log it was made of; its CPU time is not known then. "": the generator's own
	Open        bool     `json:"open"`           // an open loop
	Threads     int      `json:"threads"`
	Start       int64    `json:"start"` // of the first slice, ns since 1970
	SliceLength float64  `json:"slice_length"`
	Elapsed     float64  `json:"elapsed"` // from Start until the last request was due or sent; later slices hold late answers
	Answered    int      `json:"answered"`
	Errors      int      `json:"errors"`
	Gets        int      `json:"gets"`
	Sets        int      `json:"sets"`
	Hits        int      `json:"hits"`
	FirstError  string   `json:"first_error,omitempty"` // what was wrong with the first of Errors
	CPUUser     float64  `json:"cpu_user"`              // of the process, from Start until the last answer
	CPUSystem   float64  `json:"cpu_system"`
	Warnings    []string `json:"warnings,omitempty"`
	Slices      []Slice  `json:"slices"`
}

// Slice is what happened within one slice, of all threads: answers by when they came, requests by when they were due.
type Slice struct {
	Start     int64   `json:"start"` // ns since 1970
	Answered  int     `json:"answered"`
	Errors    int     `json:"errors"`
	Due       int     `json:"due"`      // in an open loop
	Beyond    int     `json:"beyond"`   // of Answered, slower than a histogram holds
	Late      int     `json:"late"`     // requests sent later than a histogram holds
	CPUUser   float64 `json:"cpu_user"` // of the process, in its own code
	CPUSystem float64 `json:"cpu_sys"`  // in the kernel, on its behalf
	Latency   string  `json:"latency"`  // hdrhistogram V2, compressed, base64; ns; "": no value
	Lag       string  `json:"lag"`      // likewise: how late requests were sent whose connection was free
}

// ReadReport reads the whole output of a run that succeeded.
func ReadReport(b []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("load report: %w", err)
	}
	switch {
	case r.Version != Version:
		return nil, fmt.Errorf("load report: version %d, want %d", r.Version, Version)
	case !(r.SliceLength > 0 && r.SliceLength <= 1) || len(r.Slices) == 0 || len(r.Slices) > 1e6:
		return nil, fmt.Errorf("load report: %d slices of %g s: want some, of up to a second", len(r.Slices), r.SliceLength)
	case !(r.Elapsed > 0 && r.Elapsed < 1e6) || r.Answered < 0 || r.Errors < 0 || r.Threads < 1:
		return nil, fmt.Errorf("load report: %d answers and %d errors in %g s by %d threads: want numbers", r.Answered, r.Errors, r.Elapsed, r.Threads)
	}
	for i, s := range r.Slices {
		if s.Answered < 0 || s.Errors < 0 || s.Due < 0 || s.Beyond < 0 || s.Late < 0 || !(s.CPUUser >= 0 && s.CPUSystem >= 0) {
			return nil, fmt.Errorf("load report: slice %d: a number below 0", i)
		}
		if i > 0 && s.Start <= r.Slices[i-1].Start {
			return nil, fmt.Errorf("load report: slice %d: begins before the one before it", i)
		}
	}
	return &r, nil
}

// Cut is what happened in some slices of a report. Times are seconds.
type Cut struct {
	Seconds           float64 // of the slices
	Answered, Errors  int
	Due, Beyond, Late int
	CPUUser, CPUSys   float64
	Latency, Lag      *hdrhistogram.Histogram // ns
}

// Within cuts those slices out that lie wholly in a window. An error says that there are none, or that a histogram can't be read.
func (r *Report) Within(start time.Time, length time.Duration) (c Cut, err error) {
	from, to := start.UnixNano(), start.Add(length).UnixNano()
	if end := r.Start + int64(r.Elapsed*1e9); from < r.Start || to > end {
		return c, fmt.Errorf("load report: the window of %v begins %v after the load and ends %v before the load's end: want neither below 0",
			length, time.Duration(from-r.Start), time.Duration(end-to))
	}
	each := int64(math.Round(r.SliceLength * 1e9))
	c.Latency, c.Lag = newHistogram(), newHistogram()
	for i, s := range r.Slices {
		if s.Start < from || s.Start+each > to {
			continue
		}
		c.Seconds += r.SliceLength
		c.Answered += s.Answered
		c.Errors += s.Errors
		c.Due += s.Due
		c.Beyond += s.Beyond
		c.Late += s.Late
		c.CPUUser += s.CPUUser
		c.CPUSys += s.CPUSystem
		for _, h := range []struct {
			to   *hdrhistogram.Histogram
			text string
		}{{c.Latency, s.Latency}, {c.Lag, s.Lag}} {
			if err := merge(h.to, h.text); err != nil {
				return c, fmt.Errorf("load report: slice %d: %w", i, err)
			}
		}
	}
	if c.Seconds == 0 {
		return c, fmt.Errorf("load report: none of %d slices of %g s lies in the window of %v from %s on, the first begins %s",
			len(r.Slices), r.SliceLength, length, start.Format(time.RFC3339Nano), time.Unix(0, r.Slices[0].Start).Format(time.RFC3339Nano))
	}
	if n := c.Latency.TotalCount(); n != int64(c.Answered-c.Beyond) {
		return c, fmt.Errorf("load report: histograms hold %d latencies of %d answers, %d of them beyond their range", n, c.Answered, c.Beyond)
	}
	return c, nil
}

// merge adds an encoded histogram.
func merge(to *hdrhistogram.Histogram, text string) error {
	if text == "" {
		return nil
	}
	h, err := hdrhistogram.Decode([]byte(text))
	if err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	if dropped := to.Merge(h); dropped != 0 {
		return fmt.Errorf("histogram: %d values beyond %v", dropped, longest)
	}
	return nil
}

// encode writes cells as a histogram.
func encode(all ...sparse) (string, error) {
	h := newHistogram()
	for _, s := range all {
		for _, c := range s {
			if err := h.RecordValues(valueOf(int(c.cell)), int64(c.count)); err != nil {
				return "", fmt.Errorf("histogram: %w", err)
			}
		}
	}
	if h.TotalCount() == 0 {
		return "", nil
	}
	text, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	return string(text), err
}

// joinSlices joins the threads' slices.
func joinSlices(recorders []*recorder, start time.Time, origin usage) (list []Slice, err error) {
	for i := range recorders[0].done {
		s := Slice{Start: start.Add(time.Duration(i) * sliceLength).UnixNano()}
		var latency, lag []sparse
		for _, r := range recorders {
			d := r.done[i]
			s.Answered += d.answered
			s.Errors += d.errors
			s.Due += d.due
			s.Beyond += d.beyond
			s.Late += d.lateBeyond
			latency, lag = append(latency, d.latency), append(lag, d.lag)
		}
		cpu := recorders[0].done[i].cpu
		s.CPUUser, s.CPUSystem = max(0, cpu.user-origin.user), max(0, cpu.system-origin.system)
		origin = cpu
		if s.Latency, err = encode(latency...); err != nil {
			return nil, err
		}
		if s.Lag, err = encode(lag...); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}
