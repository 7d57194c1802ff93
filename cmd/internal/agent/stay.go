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

// answer tells the status to whoever connects, until the listener is closed.
func answer(listener net.Listener, attached econbench.Attached, s agentproto.StayStatus) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		now := s
		status, err := attached.Status()
		if err == nil {
			now.Detail, err = json.Marshal(status)
		}
		if err != nil {
			now.Error = err.Error()
		}
		_ = conn.SetDeadline(time.Now().Add(statusTimeout))
		_ = json.NewEncoder(conn).Encode(now) // whoever asked is gone: no loss
		_ = conn.Close()
	}
}

// Ask copies the status of the agent that stays behind a socket to out.
func Ask(ctx context.Context, socket string, out io.Writer) error {
	d := net.Dialer{Timeout: statusTimeout}
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer conn.Close()
	_, err = io.Copy(out, conn)
	return err
}
