// SPDX-License-Identifier: Apache-2.0

package agentproto

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// conversation joins a client and an agent with the given operations. served gets what Serve returned.
func conversation(t *testing.T, handlers map[string]Handler) (c *Client, served chan error) {
	t.Helper()
	here, there := net.Pipe()
	served = make(chan error, 1)
	go func() {
		served <- Serve(t.Context(), there, there, handlers)
		_ = there.Close()
	}()
	c = NewClient("h", here)
	t.Cleanup(func() { _ = c.Close() })
	return c, served
}

// agentSide is a client whose agent is the test itself.
func agentSide(t *testing.T) (*Client, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	c := NewClient("h", here)
	t.Cleanup(func() { _ = c.Close(); _ = there.Close() })
	return c, there
}

func TestAnswersInAnyOrder(t *testing.T) {
	second := make(chan struct{})
	c, _ := conversation(t, map[string]Handler{
		"first": Handle(func(ctx context.Context, n int) (int, error) {
			<-second // answers only after the second has been answered
			return n + 1, nil
		}),
		"second": Handle(func(context.Context, any) (string, error) { return "two", nil }),
	})
	got := make(chan int)
	go func() {
		n := 0
		if err := c.Call(t.Context(), "first", 41, &n); err != nil {
			t.Error(err)
		}
		got <- n
	}()
	var s string
	if err := c.Call(t.Context(), "second", nil, &s); err != nil || s != "two" {
		t.Errorf("second: %q %v", s, err)
	}
	close(second)
	if n := <-got; n != 42 {
		t.Errorf("first: %d, want 42", n)
	}
}

func TestErrorsOfHandlers(t *testing.T) {
	c, _ := conversation(t, map[string]Handler{
		"fail":  Handle(func(context.Context, any) (any, error) { return nil, errors.New("no such device") }),
		"panic": Handle(func(context.Context, any) (any, error) { panic("index out of range") }),
		"int":   Handle(func(_ context.Context, n int) (int, error) { return n, nil }),
		"odd":   Handle(func(context.Context, any) (any, error) { return make(chan int), nil }),
	})
	for op, want := range map[string]string{
		"fail": "agent on h: fail: no such device", "panic": "agent on h: panic: panic: index out of range",
		"nope": `agent on h: nope: operation "nope" is not known`, "int": `agent on h: int: arguments "\"x\"": `, "odd": "agent on h: odd: json: ",
	} {
		err := c.Call(t.Context(), op, "x", nil)
		var remote *RemoteError
		if !errors.As(err, &remote) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", op, err, want)
		}
	}
	if err := c.Call(t.Context(), OpPing, nil, nil); err != nil {
		t.Errorf("after all that: %v", err)
	}
	var wrong []string
	if err := c.Call(t.Context(), "int", 1, &wrong); err == nil || !strings.Contains(err.Error(), `answer "1"`) {
		t.Errorf("an answer of another type: %v", err)
	}
}

func TestCancel(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	c, _ := conversation(t, map[string]Handler{"wait": Handle(func(ctx context.Context, _ any) (any, error) {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})})
	why := errors.New("the user went home")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-began; cancel(why) }()
	if err := c.Call(ctx, "wait", nil, nil); !errors.Is(err, why) {
		t.Errorf("call: %v, want %v", err, why)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("handler: %v, want it cancelled", err)
	}
	if err := c.Call(t.Context(), OpPing, nil, nil); err != nil {
		t.Errorf("after a cancelled call: %v", err)
	}
}

// Exit is answered when no other handler runs any more, and ends the conversation.
func TestExit(t *testing.T) {
	began, over := make(chan struct{}), false
	c, served := conversation(t, map[string]Handler{
		"wait": Handle(func(ctx context.Context, _ any) (any, error) {
			close(began)
			<-ctx.Done()
			over = true
			return nil, nil
		}),
		OpExit: Handle(func(context.Context, any) (any, error) {
			if !over {
				t.Error("exit while a handler runs")
			}
			return nil, nil
		}),
	})
	go func() { _ = c.Call(t.Context(), "wait", nil, nil) }() // its answer may be lost to the end
	<-began
	if err := c.Call(t.Context(), OpExit, nil, nil); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Errorf("served: %v", err)
	}
	if err := c.Call(t.Context(), OpPing, nil, nil); !errors.Is(err, ErrGone) {
		t.Errorf("afterwards: %v, want ErrGone", err)
	}
}

// What an agent says that is no answer, or says it in another version, loses it for good.
func TestAgentThatBabbles(t *testing.T) {
	for said, want := range map[string]string{
		"Segmentation fault\n":        `it said "Segmentation fault"`,
		`{"v":99,"id":1}` + "\n":      "it speaks version 99 of the messages, want 1",
		"":                            "its output ended: killed, or its engine died",
		`{"v":1,"id":1,"reply":` + "": "it said", // torn
	} {
		c, agent := agentSide(t)
		go func() {
			_, _ = bufio.NewReader(agent).ReadString('\n')
			_, _ = io.WriteString(agent, said)
			_ = agent.Close()
		}()
		err := c.Call(t.Context(), "x", nil, nil)
		if !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "x: agent on h: agent is gone: ") {
			t.Errorf("said %q: %v, want %s", said, err, want)
		}
		if !errors.Is(c.Err(), ErrGone) {
			t.Errorf("said %q: client says %v", said, c.Err())
		}
	}
}

// Answers that nobody waits for, and empty lines, are no reason to give an agent up.
func TestStrayAnswers(t *testing.T) {
	c, agent := agentSide(t)
	go func() {
		line, _ := bufio.NewReader(agent).ReadString('\n')
		var r Request
		_ = json.Unmarshal([]byte(line), &r) // a bad one gets an answer that does not fit
		answer, _ := json.Marshal(Response{Version: Version, ID: r.ID, Reply: json.RawMessage("7")})
		_, _ = io.WriteString(agent, "\n"+`{"v":1,"id":4711,"reply":"?"}`+"\n \n"+string(answer)+"\n")
	}()
	n := 0
	if err := c.Call(t.Context(), "x", nil, &n); err != nil || n != 7 {
		t.Errorf("%d %v, want 7", n, err)
	}
}

func TestVersionOfRequest(t *testing.T) {
	here, there := net.Pipe()
	go func() { _ = Serve(t.Context(), there, there, nil); _ = there.Close() }()
	t.Cleanup(func() { _ = here.Close() })
	if _, err := io.WriteString(here, `{"v":99,"id":5,"op":"ping"}`+"\n"); err != nil {
		t.Fatal(err)
	}
	var r Response
	if err := json.NewDecoder(here).Decode(&r); err != nil || r.ID != 5 || r.Error != "message version 99, this agent speaks 1" {
		t.Errorf("%+v %v", r, err)
	}
}

func TestServeEnds(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		`{"v":1,"id":1,"op":"ping"}`: "",
		"nonsense\n":                 `request "nonsense": invalid character`,
		`{"v":"one"}`:                `request "{\"v\":\"one\"}": json: cannot unmarshal`,
	} {
		err := Serve(t.Context(), strings.NewReader(in), io.Discard, nil)
		if (err == nil) != (want == "") || (err != nil && !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

// A controller that is silent without an end-of-file is dead after the deadline, and one that pings is not.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		begin := time.Now()
		err := Serve(context.Background(), there, io.Discard, map[string]Handler{})
		if !errors.Is(err, ErrSilence) || time.Since(begin) != HeartbeatDeadline {
			t.Errorf("%v after %v, want %v after %v", err, time.Since(begin), ErrSilence, HeartbeatDeadline)
		}
		_ = there.Close()
	})
	synctest.Test(t, func(t *testing.T) {
		c, served := bubbled()
		time.Sleep(10 * HeartbeatDeadline)
		if err := c.Call(context.Background(), OpPing, nil, nil); err != nil {
			t.Errorf("a conversation without calls: %v", err)
		}
		_ = c.Close()
		if err := <-served; err != nil {
			t.Errorf("served: %v", err)
		}
	})
}

// bubbled is conversation inside a synctest bubble.
func bubbled() (*Client, chan error) {
	here, there := net.Pipe()
	served := make(chan error, 1)
	go func() {
		served <- Serve(context.Background(), there, there, nil)
		_ = there.Close()
	}()
	return NewClient("h", here), served
}

// An agent that is silent without an end-of-file is given up after the deadline, with those who wait.
func TestSilentAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, there) }() // hears all, answers nothing
		c := NewClient("h", here)
		begin := time.Now()
		err := c.Call(context.Background(), "x", nil, nil)
		if took := time.Since(begin); !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "silent for") || took > HeartbeatDeadline+2*HeartbeatEvery {
			t.Errorf("%v after %v", err, took)
		}
		_ = there.Close()
		synctest.Wait()
	})
}

func FuzzRequests(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "{}\n", `{"v":1,"id":1,"op":"ping"}` + "\n", `{"v":1,"id":1,"op":"echo","args":[1,{"a":null}]}` + "\n",
		`{"v":1,"id":1,"op":"echo","cancel":true}` + "\n", `{"v":1,"id":2,"op":"exit"}` + "\n", "\x00\xff", `{"v":1e99}`,
		`{"id":1,"op":"echo"}` + "\n" + `{"v":1,"id":1,"op":"echo"}` + "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, agent := io.Pipe()
		answers := make(chan error, 1)
		go func() {
			lines := bufio.NewScanner(out)
			lines.Buffer(nil, 64<<20)
			for lines.Scan() {
				var r Response
				if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.Version != Version {
					answers <- errors.New("answer " + lines.Text())
					_ = out.Close()
					return
				}
			}
			answers <- lines.Err()
		}()
		echo := func(_ context.Context, args json.RawMessage) (any, error) { return args, nil }
		_ = Serve(t.Context(), strings.NewReader(string(in)), agent, map[string]Handler{"echo": echo, OpExit: echo}) // any error will do
		_ = agent.Close()
		if err := <-answers; err != nil {
			t.Error(err)
		}
	})
}

// TestServeEndsBesideAStuckWriter: a killed engine leaves a pipe that nobody reads; the agent must get to its undoing.
func TestServeEndsBesideAStuckWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, ask := io.Pipe()
		nobody, out := io.Pipe()
		ended := make(chan error)
		go func() { ended <- Serve(t.Context(), in, out, nil) }()
		line, err := json.Marshal(Request{Version: Version, ID: 1, Op: OpPing})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ask.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
		ask.Close()
		start := time.Now()
		if err := <-ended; err != nil || time.Since(start) > 2*settleTimeout {
			t.Errorf("error %v after %v", err, time.Since(start))
		}
		nobody.Close() // lets the stuck handler go
		synctest.Wait()
	})
}
