// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/agentproto"
	"github.com/econbench/econbench/internal/tune"
)

// StatusSocket is where an agent that stays answers, in its own container.
const StatusSocket = "/run/econbench.sock"

// statusTimeout bounds the answer to one question.
const statusTimeout = 5 * time.Second

// Stay attaches one fast path, as the first line of in asks for (agentproto.AttachArgs), says on out whether it did
// (agentproto.StayReply, a line), and keeps it until ctx ends: nobody's heartbeat is waited for. It answers whoever connects to
// the socket with agentproto.StayStatus.
func Stay(ctx context.Context, in io.Reader, out io.Writer, socket string, opt Options) (err error) {
	tell := func(failed error) error {
		r := agentproto.StayReply{}
		if failed != nil {
			r.Error = failed.Error()
		}
		return errors.Join(failed, json.NewEncoder(out).Encode(r))
	}
	var args agentproto.AttachArgs
	line, err := bufio.NewReader(in).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &args)
	}
	if err != nil {
		return tell(fmt.Errorf("what to attach: %w", err))
	}
	journal, undone, err := tune.OpenJournal(opt.JournalDir)
	if err != nil {
		return tell(fmt.Errorf("open journal: %w", err))
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	attached, err := attachBy(ctx, opt.Drivers(journal), args)
	if err != nil {
		return tell(err)
	}
	defer func() { err = errors.Join(err, attached.Close()) }()
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return tell(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return tell(err)
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()
	if err := tell(nil); err != nil {
		return err
	}
	answer(listener, attached, agentproto.StayStatus{Version: opt.Version, Fastpath: args.Fastpath, Since: time.Now().UTC(), Undone: undone})
	return nil
}

// answer answers whoever connects, one after the other, until the listener is closed.
func answer(listener net.Listener, attached econbench.Attached, s agentproto.StayStatus) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_ = conn.SetDeadline(time.Now().Add(statusTimeout))
		var request agentproto.StayRequest
		now := s
		err = json.NewDecoder(conn).Decode(&request)
		if err == nil {
			now.Detail, err = obey(attached, request)
		}
		if err != nil {
			now.Error = err.Error()
		}
		_ = json.NewEncoder(conn).Encode(now) // whoever asked is gone: no loss
		_ = conn.Close()
	}
}

// obey does what is ordered, if anything, and tells how things stand then.
func obey(attached econbench.Attached, request agentproto.StayRequest) (json.RawMessage, error) {
	if order := request.Order; order != "" {
		c, ok := attached.(econbench.Commanded)
		if !ok {
			return nil, fmt.Errorf("order %q: the fast path takes none", order)
		}
		if err := c.Obey(order); err != nil {
			return nil, err
		}
	}
	tell := attached.Status
	if i, ok := attached.(econbench.Itemized); ok && request.Items {
		tell = i.Items
	}
	status, err := tell()
	if err != nil {
		return nil, err
	}
	return json.Marshal(status)
}

// Ask sends a request to the agent that stays behind a socket and copies its answer to out.
func Ask(ctx context.Context, socket string, request agentproto.StayRequest, out io.Writer) error {
	d := net.Dialer{Timeout: statusTimeout}
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	_, err = io.Copy(out, conn)
	return err
}
