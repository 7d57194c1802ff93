// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"testing"
	"time"
)

// TestEnoughIsEnough: a load that is told to end before its time says what it did until then, which the server's own count is held against
// all the same; one that is told before it begins is an error.
func TestEnoughIsEnough(t *testing.T) {
	for _, rate := range []float64{0, 2000} {
		ctx, tell := context.WithCancel(t.Context())
		begun := time.Now()
		f := &web{answer: func(n int, _ bool) string {
			if n >= 100 && time.Since(begun) > time.Second/4 { // some slices
				tell()
			}
			return okBody
		}}
		o := httpOptions(t, f)
		o.Duration, o.Rate = time.Minute, rate
		r, err := Run(ctx, o)
		if err != nil {
			t.Fatalf("rate %v: %v", rate, err)
		}
		if r.Elapsed <= 0 || r.Elapsed >= 60 || r.Answered < 100 {
			t.Errorf("rate %v: %d answers in %v s, want 100 or more in less than 60", rate, r.Answered, r.Elapsed)
		}
		if _, err := r.Within(time.Unix(0, r.Start), time.Duration(r.Elapsed*float64(time.Second))); err != nil {
			t.Errorf("rate %v: the whole of it: %v", rate, err)
		}
		if _, err := Run(ctx, o); err == nil {
			t.Errorf("rate %v: told before it began, and no error", rate)
		}
	}
}
