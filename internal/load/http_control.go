// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// StatusPath is where a server's own count of requests is asked for: nginx's stub_status.
const StatusPath = "/status"

// mostStatus is how long the answer may be, B.
const mostStatus = 4 << 10

// requestsOf asks a server how many requests it has had since its start, this one included.
func requestsOf(ctx context.Context, server string) (n uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server+StatusPath, nil)
	if err != nil {
		return 0, fmt.Errorf("status: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy, whatever the environment says
	answer, err := client.Do(request)
	if err != nil {
		return 0, fmt.Errorf("status: %w", err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, mostStatus))
	if err != nil {
		return 0, fmt.Errorf("status: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status: answer %s", quote([]byte(answer.Status)))
	}
	return readStatus(string(b))
}

// readStatus reads stub_status: behind a line of names stand connections accepted, connections handled and requests.
func readStatus(s string) (requests uint64, err error) {
	_, rest, ok := strings.Cut(s, "server accepts handled requests\n")
	line, _, _ := strings.Cut(rest, "\n")
	numbers := strings.Fields(line)
	if !ok || len(numbers) != 3 {
		return 0, fmt.Errorf("status: %s: want connections accepted, handled, and requests", quote([]byte(s)))
	}
	if requests, err = strconv.ParseUint(numbers[2], 10, 63); err != nil {
		return 0, fmt.Errorf("status: requests %s: want a whole number", quote([]byte(numbers[2])))
	}
	return requests, nil
}

// runHTTP puts the load on, and holds what it counted against the server's own count.
func (o Options) runHTTP(ctx context.Context) (r *Report, err error) {
	var before, after uint64
	counted := o.Control.IsValid()
	if counted {
		if before, err = requestsOf(ctx, o.Control.String()); err != nil {
			return nil, err
		}
	}
	if r, _, err = o.drive(ctx, func(thread, index int, _ *[2]int) session { return newHTTP(o, thread+index) }); err != nil || !counted {
		return r, err
	}
	if after, err = requestsOf(context.WithoutCancel(ctx), o.Control.String()); err != nil {
		return nil, err
	}
	r.Warnings, err = holdRequests(int64(after)-int64(before)-1, r.Answered, r.Errors) // the last asking is among them
	return r, err
}

// holdRequests compares a server's count with answers that came and requests that went wrong, which it may have seen or not.
func holdRequests(served int64, answered, wrong int) (warnings []string, err error) {
	switch {
	case served < int64(answered):
		return nil, fmt.Errorf("http: the server had %d requests, and %d answers were counted here: it did less than it answered", served, answered)
	case served > int64(answered+wrong):
		warnings = append(warnings, fmt.Sprintf("http: the server had %d requests, and %d were sent from here: another client is at work", served, answered+wrong))
	}
	return warnings, nil
}
