// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"time"
)

const (
	dialTimeout   = 10 * time.Second
	headerTimeout = 20 * time.Second
	stallTimeout  = 20 * time.Second // without a byte
	attempts      = 3                // per file
	retryPause    = 500 * time.Millisecond
)

// errStalled ends a transfer that yields nothing for stallTimeout.
var errStalled = fmt.Errorf("transfer stalled for %s", stallTimeout)

// statusError is an answer other than 200.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("found status %d %s, allowed: 200", e.code, http.StatusText(e.code))
}

// fetcher reads files of one mirror.
type fetcher struct {
	client *http.Client
	base   *url.URL
	pause  time.Duration // between attempts, growing
}

func newFetcher(base *url.URL, proxies map[string]string) *fetcher {
	t := &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			switch p := proxies[r.URL.Scheme]; p {
			case "":
				return http.ProxyFromEnvironment(r)
			case "DIRECT":
				return nil, nil
			default:
				return url.Parse(p)
			}
		},
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: headerTimeout,
		MaxIdleConnsPerHost:   downloads,
		DisableCompression:    true,
	}
	t.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return &fetcher{client: &http.Client{Transport: t}, base: base, pause: retryPause}
}

// get reads the mirror's file rel, trying again after failures that may pass.
// use gets the file from its start each time; its error counts as the file's.
func (f *fetcher) get(ctx context.Context, rel string, use func(io.Reader) error) error {
	u := *f.base
	u.Path = path.Join(f.base.Path, rel)
	var err error
	for try := range attempts {
		if try > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(f.pause << (try - 1)):
			}
		}
		if err = f.once(ctx, u.String(), use); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !mayPass(err) {
			break
		}
	}
	// The address of a *url.Error may hold a password; ours is redacted.
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("fetch %s: %w", u.Redacted(), err)
}

// mayPass reports whether another attempt may help.
func mayPass(err error) bool {
	var status *statusError
	var local *cacheError
	switch {
	case errors.As(err, &status):
		return status.code >= 500 || status.code == http.StatusTooManyRequests || status.code == http.StatusRequestTimeout
	case errors.As(err, &local):
		return false
	}
	return true
}

// once makes a single attempt.
func (f *fetcher) once(ctx context.Context, address string, use func(io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &statusError{resp.StatusCode}
	}
	stall := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	defer stall.Stop()
	err = use(readerFunc(func(p []byte) (int, error) {
		n, err := resp.Body.Read(p)
		stall.Reset(stallTimeout)
		return n, err
	}))
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// small reads a file whole, of at most limit bytes.
func (f *fetcher) small(ctx context.Context, rel string, limit int64) (text []byte, err error) {
	err = f.get(ctx, rel, func(r io.Reader) (err error) {
		text, err = io.ReadAll(io.LimitReader(r, limit+1))
		if err == nil && int64(len(text)) > limit {
			err = fmt.Errorf("found more than %d bytes", limit)
		}
		return err
	})
	return text, err
}

// blob returns the path in the cache of the file rel, fetching it unless it is
// there. moved counts the bytes that become available.
func (f *fetcher) blob(ctx context.Context, c cache, rel string, want content, moved func(int)) (file string, err error) {
	if file, ok := c.find(want); ok {
		moved(int(want.Size))
		return file, nil
	}
	done := 0
	err = f.get(ctx, rel, func(r io.Reader) (err error) {
		moved(-done) // of a failed attempt
		done = 0
		file, err = c.put(want, readerFunc(func(p []byte) (int, error) {
			n, err := r.Read(p)
			done += n
			moved(n)
			return n, err
		}))
		return err
	})
	return file, err
}
