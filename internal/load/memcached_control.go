// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// controlTimeout bounds each step over the control connection.
const controlTimeout = 20 * time.Second

// control is a connection for loading and statistics. It goes to a port of its own, so that whoever watches the data connections' port
// sees the load and nothing else.
type control struct {
	conn net.Conn
	in   *bufio.Reader
}

func openControl(address string) (*control, error) {
	conn, err := net.DialTimeout("tcp4", address, controlTimeout)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	return &control{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}, nil
}

func (c *control) close() { _ = c.conn.Close() }

// fill empties the server and stores every key.
func (c *control) fill(k *keyspace) error {
	if err := c.conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if err := c.ask("flush_all\r\n", "OK"); err != nil {
		return err
	}
	var b []byte
	sent := 0
	for i := range k.keys {
		b = k.set(b, i)
		if len(b) < 32<<10 && i < len(k.keys)-1 { // less than either end's buffers, so that nobody waits for the other to read
			continue
		}
		if _, err := c.conn.Write(b); err != nil {
			return fmt.Errorf("control: store %d keys: %w", len(k.keys), err)
		}
		for ; sent <= i; sent++ {
			line, err := c.line()
			if err != nil {
				return fmt.Errorf("control: store key %q: %w", k.keys[sent], err)
			}
			if line != "STORED" {
				return fmt.Errorf("control: store key %q: answer %s, want STORED", k.keys[sent], quote([]byte(line)))
			}
		}
		b = b[:0]
	}
	return nil
}

func (c *control) ask(request, want string) error {
	if _, err := io.WriteString(c.conn, request); err != nil {
		return fmt.Errorf("control: %s: %w", strings.TrimSpace(request), err)
	}
	line, err := c.line()
	if err == nil && line != want {
		err = fmt.Errorf("answer %s, want %s", quote([]byte(line)), want)
	}
	if err != nil {
		return fmt.Errorf("control: %s: %w", strings.TrimSpace(request), err)
	}
	return nil
}

func (c *control) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	if err != nil {
		return "", fmt.Errorf("read: %w after %s", err, quote(b))
	}
	line, ok := strings.CutSuffix(string(b), "\r\n")
	if !ok {
		return "", fmt.Errorf("read: line %s without CR", quote(b))
	}
	return line, nil
}

// served is what a server counted since it was started.
type served struct{ gets, sets, hits, evictions uint64 }

// stats asks a memcached for them.
func (c *control) stats() (s served, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return s, fmt.Errorf("control: %w", err)
	}
	if _, err := io.WriteString(c.conn, "stats\r\n"); err != nil {
		return s, fmt.Errorf("control: stats: %w", err)
	}
	return readStats(c.line)
}

// readStats reads the lines of memcached's "stats" up to END.
func readStats(next func() (string, error)) (s served, err error) {
	want := map[string]*uint64{"cmd_get": &s.gets, "cmd_set": &s.sets, "get_hits": &s.hits, "evictions": &s.evictions}
	for range 1000 {
		line, err := next()
		if err != nil {
			return s, fmt.Errorf("stats: %w", err)
		}
		if line == "END" {
			for name := range want {
				return s, fmt.Errorf("stats: no %s", name)
			}
			return s, nil
		}
		parts := strings.SplitN(line, " ", 3)
		if len(parts) != 3 || parts[0] != "STAT" {
			return s, fmt.Errorf("stats: line %s, want STAT NAME VALUE", quote([]byte(line)))
		}
		to := want[parts[1]]
		if to == nil {
			continue
		}
		if *to, err = strconv.ParseUint(parts[2], 10, 63); err != nil {
			return s, fmt.Errorf("stats: line %s, want a whole number", quote([]byte(line)))
		}
		delete(want, parts[1])
	}
	return s, fmt.Errorf("stats: more than 1000 lines")
}

// holdAgainst compares what the generator counted with what the server did from one asking to the next. Less than was claimed is an
// error: answers came that the server never gave. More is another client's doing.
func (before served) holdAgainst(after served, gets, sets, hits int) (warnings []string, err error) {
	for _, c := range []struct {
		name          string
		before, after uint64
		own           int
	}{{"cmd_get", before.gets, after.gets, gets}, {"cmd_set", before.sets, after.sets, sets}, {"get_hits", before.hits, after.hits, hits}} {
		switch counted := int64(c.after) - int64(c.before); {
		case counted < int64(c.own):
			return nil, fmt.Errorf("memcached: %s grew by %d, and %d were counted here: the server did less than it answered", c.name, counted, c.own)
		case counted > int64(c.own):
			warnings = append(warnings, fmt.Sprintf("memcached: %s grew by %d, and %d were sent from here: another client is at work", c.name, counted, c.own))
		}
	}
	if misses := gets - hits; misses > 0 {
		warnings = append(warnings, fmt.Sprintf("memcached: %d of %d gets missed, of keys that had been stored; %d evictions", misses, gets, after.evictions-before.evictions))
	}
	return warnings, nil
}
