// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// H2loadLog is Main's word for a log of h2load's (--log-file), which it turns into a report where it lies: a line for each request would be
// megabytes.
const H2loadLog = "h2load-log"

// mostH2Seconds bounds a log's run, s.
const mostH2Seconds = 2 * 3600

// h2Request is a line of it.
type h2Request struct {
	start time.Duration // since 1970
	took  time.Duration
	bad   string
}

// reportH2load reads a log's file.
func reportH2load(args []string) (*Report, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("%s: want a file, got %q", H2loadLog, args)
	}
	f, err := os.Open(args[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", H2loadLog, err)
	}
	defer f.Close()
	return readH2load(f)
}

// readH2load makes a report of a log. Lines stand in the order of the requests' ends.
func readH2load(in io.Reader) (*Report, error) {
	var all []h2Request
	first, last := time.Duration(math.MaxInt64), time.Duration(0)
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		q, err := readH2Line(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", H2loadLog, n, err)
		}
		first, last = min(first, q.start), max(last, q.start+q.took)
		all = append(all, q)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", H2loadLog, err)
	}
	if len(all) == 0 {
		return nil, errors.New(H2loadLog + ": no request")
	}
	if length := last - first; length > mostH2Seconds*time.Second {
		return nil, fmt.Errorf("%s: requests over %v: want %d s at most", H2loadLog, length, mostH2Seconds)
	}
	return reportOf(all, first, last)
}

func reportOf(all []h2Request, first, last time.Duration) (*Report, error) {
	count := int((last-first)/sliceLength) + 1
	bySlice := make([][]h2Request, count)
	for _, q := range all {
		i := int((q.start + q.took - first) / sliceLength)
		bySlice[i] = append(bySlice[i], q)
	}
	r := &Report{Version: Version, Tool: "h2load", Threads: 1, Start: int64(first), SliceLength: sliceLength.Seconds(), Elapsed: max(last-first, 1).Seconds()}
	t := newTally()
	for i, requests := range bySlice {
		s := Slice{Start: int64(first + time.Duration(i)*sliceLength)}
		for _, q := range requests {
			if q.bad != "" {
				s.Errors++
				if r.FirstError == "" {
					r.FirstError = q.bad
				}
				continue
			}
			s.Answered++
			t.add(q.took)
		}
		var cells sparse
		var err error
		cells, s.Beyond = t.take()
		if s.Latency, err = encode(cells); err != nil {
			return nil, err
		}
		r.Answered += s.Answered
		r.Errors += s.Errors
		r.Slices = append(r.Slices, s)
	}
	return r, nil
}

// readH2Line reads one request: µs since 1970, status, µs that it took, which is -1 for one that failed.
func readH2Line(line string) (q h2Request, err error) {
	bad := fmt.Errorf("%s: want START STATUS TIME, in whole µs", quote([]byte(line)))
	fields := strings.Split(line, "\t")
	if len(fields) != 3 {
		return q, bad
	}
	start, err := strconv.ParseInt(fields[0], 10, 64)
	status, err2 := strconv.Atoi(fields[1])
	took, err3 := strconv.ParseInt(fields[2], 10, 64)
	if errors.Join(err, err2, err3) != nil || start < 0 || start > math.MaxInt64/4000 || took < -1 || took > mostH2Seconds*1e6 {
		return q, bad
	}
	q = h2Request{start: time.Duration(start) * time.Microsecond, took: time.Duration(max(took, 0)) * time.Microsecond}
	switch {
	case took < 0:
		q.bad = "a request that failed: " + quote([]byte(line))
	case status != 200:
		q.bad = fmt.Sprintf("status %d", status)
	}
	return q, nil
}
