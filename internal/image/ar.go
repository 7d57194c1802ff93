// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	arMagic  = "!<arch>\n"
	arHeader = 60 // bytes: name 16, mtime 12, uid 6, gid 6, mode 8, size 10, "`\n"
)

// arReader reads the members of an archive in ar format, as deb(5) uses it.
type arReader struct {
	r    io.Reader
	left int64 // of the current member, padding included
}

func newArReader(r io.Reader) (*arReader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, fmt.Errorf("read ar magic: %w", noEOF(err))
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("found %q, allowed: ar archive beginning with %q", magic, arMagic)
	}
	return &arReader{r: r}, nil
}

// next goes to the next member and returns its name, size and contents, which
// are good until the next call. It returns io.EOF after the last.
func (a *arReader) next() (name string, body io.Reader, err error) {
	if n, err := io.CopyN(io.Discard, a.r, a.left); err != nil && (n != a.left-1 || a.left%2 != 0) {
		// the last member's padding byte may be missing
		return "", nil, fmt.Errorf("read ar member: %w", noEOF(err))
	}
	var h [arHeader]byte
	switch _, err := io.ReadFull(a.r, h[:]); {
	case errors.Is(err, io.EOF):
		return "", nil, io.EOF
	case err != nil:
		return "", nil, fmt.Errorf("read ar header: %w", err)
	case string(h[58:]) != "`\n":
		return "", nil, fmt.Errorf("found ar header ending in %q", h[58:])
	}
	field := strings.TrimRight(string(h[48:58]), " ")
	size, err := strconv.ParseInt(field, 10, 64)
	if err != nil || size < 0 {
		return "", nil, fmt.Errorf("found ar member of size %q", field)
	}
	a.left = size + size%2
	name = strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	return name, &arMember{a, size}, nil
}

// arMember is the contents of a member; its end before its size is an error.
type arMember struct {
	a    *arReader
	left int64
}

func (m *arMember) Read(p []byte) (int, error) {
	if m.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > m.left {
		p = p[:m.left]
	}
	n, err := m.a.r.Read(p)
	m.left -= int64(n)
	m.a.left -= int64(n)
	if m.left > 0 {
		err = noEOF(err)
	}
	return n, err
}

// noEOF turns the end of input where there should be more into an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
