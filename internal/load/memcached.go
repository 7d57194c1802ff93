// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// keyspace are all keys, with the size of each one's value, which never changes: a get has one right answer, and the server's memory
// stays as it is. Both follow from the seed.
type keyspace struct {
	keys   [][]byte
	sizes  []int32
	values []byte // the longest value; every other one is its beginning
}

func newKeyspace(o Options) *keyspace {
	r := random(o.Seed, ofKeys, 0)
	k := &keyspace{keys: make([][]byte, o.Keys), sizes: make([]int32, o.Keys)}
	longest := 0
	for i := range k.keys {
		k.keys[i] = keyOf(i, o.KeySize.keySize(r))
		size := o.Value.valueSize(r)
		k.sizes[i], longest = int32(size), max(longest, size)
	}
	k.values = make([]byte, longest)
	for i := range k.values {
		k.values[i] = 'a' + byte(i%23) // no line's end in it; a value that is shifted shows
	}
	return k
}

// keyOf is the number in base 36, filled up to the size; keys have to differ, so that a size too small for it gives way.
func keyOf(i, size int) []byte {
	number := strconv.AppendInt(nil, int64(i), 36)
	if pad := size - len(number) - 1; pad >= 0 {
		return append(append(number, '-'), bytes.Repeat([]byte{'k'}, pad)...)
	}
	return number
}

func (k *keyspace) value(i int) []byte { return k.values[:k.sizes[i]] }

// set appends the request that stores a key's value.
func (k *keyspace) set(b []byte, i int) []byte {
	b = append(append(append(b, "set "...), k.keys[i]...), " 0 0 "...)
	b = append(strconv.AppendInt(b, int64(k.sizes[i]), 10), "\r\n"...)
	return append(append(b, k.value(i)...), "\r\n"...)
}

// chooser says which key is asked for next, and whether it is to be read.
type chooser struct {
	random *rand.Rand
	keys   int
	gets   float64
	zipf   *zipf // nil: all alike
}

func newChooser(o Options, thread int) *chooser {
	c := &chooser{random: random(o.Seed, ofRequests, thread), keys: o.Keys, gets: o.GetShare}
	if o.Zipf > 0 {
		c.zipf = newZipf(o.Keys, o.Zipf)
	}
	return c
}

func (c *chooser) next() (key int, get bool) {
	get = c.gets >= 1 || c.gets > 0 && c.random.Float64() < c.gets
	if c.zipf != nil {
		return c.zipf.draw(c.random), get
	}
	return c.random.IntN(c.keys), get
}

// memcached speaks the text protocol. Answers are read strictly: a line that is none of those that may follow is the run's end.
type memcached struct {
	space  *keyspace
	choose *chooser
	sent   *[2]int // sets and gets, of the thread
	under  []asked // requests under way, in order
	left   int     // bytes of a value that are still to come; -1: a line is
}

type asked struct {
	key int
	get bool
}

func newMemcached(space *keyspace, choose *chooser, sent *[2]int) *memcached {
	return &memcached{space: space, choose: choose, sent: sent, left: -1}
}

func (m *memcached) reset() { m.under, m.left = m.under[:0], -1 }

func (m *memcached) next(b []byte) []byte {
	key, get := m.choose.next()
	m.under = append(m.under, asked{key, get})
	if get {
		m.sent[1]++
		return append(append(append(b, "get "...), m.space.keys[key]...), "\r\n"...)
	}
	m.sent[0]++
	return m.space.set(b, key)
}

var (
	crlf   = []byte("\r\n")
	stored = []byte("STORED")
	end    = []byte("END")
	tail   = []byte("\r\nEND\r\n")
)

func (m *memcached) read(b []byte) (n int, a answer, err error) {
	if len(m.under) == 0 {
		return 0, a, fmt.Errorf("memcached: answer to no request: %s", quote(b))
	}
	now := m.under[0]
	if m.left >= 0 {
		return m.readValue(b, now)
	}
	line, size, whole := cutLine(b)
	switch {
	case !whole && len(b) > MostKeySize+100:
		return 0, a, fmt.Errorf("memcached: answer %s: want a line", quote(b))
	case !whole:
		return 0, a, nil
	case !now.get && bytes.Equal(line, stored), now.get && bytes.Equal(line, end):
		m.pop()
		return size, answer{done: true}, nil
	case now.get && bytes.HasPrefix(line, []byte("VALUE ")):
		if err := m.checkHead(line, now); err != nil {
			return 0, a, err
		}
		m.left = int(m.space.sizes[now.key])
		return size, a, nil
	}
	return 0, a, fmt.Errorf("memcached: answer %s to %s of key %q", quote(line), verb(now.get), m.space.keys[now.key])
}

func verb(get bool) string {
	if get {
		return "get"
	}
	return "set"
}

// checkHead holds a value's line, "VALUE key flags bytes", against what was stored.
func (m *memcached) checkHead(line []byte, now asked) error {
	rest, ok := bytes.CutPrefix(line[len("VALUE "):], m.space.keys[now.key])
	if ok {
		rest, ok = bytes.CutPrefix(rest, []byte(" 0 "))
	}
	size, err := strconv.Atoi(string(rest))
	if !ok || err != nil || size != int(m.space.sizes[now.key]) {
		return fmt.Errorf("memcached: answer %s: want VALUE %s 0 %d", quote(line), m.space.keys[now.key], m.space.sizes[now.key])
	}
	return nil
}

// readValue takes a value as it comes in, and what has to stand behind it.
func (m *memcached) readValue(b []byte, now asked) (n int, a answer, err error) {
	if m.left > 0 {
		n = min(m.left, len(b))
		whole := m.space.value(now.key)
		if at := len(whole) - m.left; !bytes.Equal(b[:n], whole[at:at+n]) {
			return 0, a, fmt.Errorf("memcached: value of key %q, from byte %d on: %s: want %s", m.space.keys[now.key], at, quote(b[:n]), quote(whole[at:at+n]))
		}
		if m.left -= n; m.left > 0 {
			return n, a, nil
		}
		b = b[n:]
	}
	if len(b) < len(tail) && bytes.HasPrefix(tail, b) {
		return n, a, nil
	}
	if !bytes.HasPrefix(b, tail) {
		return 0, a, fmt.Errorf("memcached: behind the value of key %q: %s: want %s", m.space.keys[now.key], quote(b), quote(tail))
	}
	m.pop()
	return n + len(tail), answer{done: true, hit: true}, nil
}

func (m *memcached) pop() {
	m.under = m.under[:copy(m.under, m.under[1:])] // as many as the pipeline is deep
	m.left = -1
}

// cutLine takes a line off: without its end, and how long it is with it.
func cutLine(b []byte) (line []byte, size int, whole bool) {
	i := bytes.Index(b, crlf)
	if i < 0 {
		return nil, 0, false
	}
	return b[:i], i + len(crlf), true
}

// quote shows the beginning of foreign bytes on one line.
func quote(b []byte) string {
	const most = 120
	if len(b) > most {
		return strconv.Quote(string(b[:most])) + "…"
	}
	return strconv.Quote(string(b))
}
