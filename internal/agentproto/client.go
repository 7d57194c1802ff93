// SPDX-License-Identifier: Apache-2.0

package agentproto

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// ErrGone says that the agent can't be talked to any more.
var ErrGone = errors.New("agent is gone")

// Client is the controller's end.
type Client struct {
	host string
	conn io.ReadWriteCloser
	stop chan struct{}

	writing sync.Mutex
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan Response
	heard   time.Time
	gone    error
}

// NewClient talks to the agent of a host over its attached streams. It starts the heartbeat.
func NewClient(host string, conn io.ReadWriteCloser) *Client {
	c := &Client{host: host, conn: conn, stop: make(chan struct{}), waiting: map[uint64]chan Response{}, heard: time.Now()}
	go c.read()
	go c.beat()
	return c
}

// Call does one operation. A context that ends cancels the operation in the agent too.
func (c *Client) Call(ctx context.Context, op string, args, reply any) error {
	body, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("agent on %s: %s: %w", c.host, op, err)
	}
	answer := make(chan Response, 1)
	id, err := c.expect(answer)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	defer c.forget(id)
	if err := c.write(Request{Version: Version, ID: id, Op: op, Args: body}); err != nil {
		return fmt.Errorf("agent on %s: %s: %w", c.host, op, err)
	}
	select {
	case r, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", op, c.Err())
		case r.Error != "":
			return &RemoteError{Host: c.host, Op: op, Message: r.Error}
		case reply == nil:
			return nil
		}
		if err := json.Unmarshal(r.Reply, reply); err != nil {
			return fmt.Errorf("agent on %s: %s: answer %.80q: %w", c.host, op, r.Reply, err)
		}
		return nil
	case <-ctx.Done():
		_ = c.write(Request{Version: Version, ID: id, Op: op, Cancel: true}) // best effort: the deadline is what ends the call
		return fmt.Errorf("agent on %s: %s: %w", c.host, op, context.Cause(ctx))
	}
}

// Err says why the agent is gone; nil while it is not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// Close ends the conversation. The agent reads end-of-file, undoes what stands and exits.
func (c *Client) Close() error {
	c.lose(errors.New("conversation closed"))
	return c.conn.Close()
}

func (c *Client) expect(answer chan Response) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != nil {
		return 0, c.gone
	}
	c.next++
	c.waiting[c.next] = answer
	return c.next, nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *Client) write(r Request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		c.lose(err)
		return c.Err()
	}
	return nil
}

// read hands answers to those who wait for them, until the stream ends.
func (c *Client) read() {
	lines := bufio.NewScanner(c.conn)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var r Response
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			c.lose(fmt.Errorf("it said %.80q: %w", lines.Bytes(), err))
			return
		}
		if r.Version != Version {
			c.lose(fmt.Errorf("it speaks version %d of the messages, want %d", r.Version, Version))
			return
		}
		c.mu.Lock()
		c.heard = time.Now()
		answer := c.waiting[r.ID]
		delete(c.waiting, r.ID)
		c.mu.Unlock()
		if answer != nil {
			answer <- r
		}
	}
	err := lines.Err()
	if err == nil {
		err = errors.New("its output ended: killed, or its engine died")
	}
	c.lose(err)
}

// beat tells the agent that somebody is there, and notices an agent that is silent.
func (c *Client) beat() {
	tick := time.NewTicker(HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		silent := time.Since(c.heard)
		c.mu.Unlock()
		if silent > HeartbeatDeadline {
			c.lose(fmt.Errorf("silent for %.0f s", silent.Seconds()))
			_ = c.conn.Close()
			return
		}
		go c.write(Request{Version: Version, Op: OpPing}) //nolint:errcheck // a write that fails loses the client by itself
	}
}

// lose fails everyone who waits, now and later.
func (c *Client) lose(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != nil {
		return
	}
	c.gone = fmt.Errorf("agent on %s: %w: %w", c.host, ErrGone, why)
	close(c.stop)
	for id, answer := range c.waiting {
		close(answer)
		delete(c.waiting, id)
	}
}
