// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	engineDeadline = 30 * time.Second // from exec to the first answer
	pingDeadline   = 2 * time.Second
	pollEvery      = 10 * time.Millisecond
	logTailBytes   = 16 << 10
	logTailLines   = 3
	engineLog      = "dockerd.log"
)

// engineArgs is dockerd's command line, as the host sees its paths.
func engineArgs(cfg initConfig) []string {
	return []string{
		cfg.Engine,
		"--config-file=" + hostDir + "/daemon.json",
		"--data-root=" + dataDir,
		"--exec-root=/run/docker",
		"--pidfile=/run/docker.pid",
		"--host=unix://" + hostDir + "/docker.sock",
		"--bridge=none",
		"--default-address-pool=base=" + cfg.Pool + ",size=24",
		"--cgroup-parent=/" + filepath.Join(cfg.Place.Cgroup, cfg.Host),
		"--exec-opt=native.cgroupdriver=cgroupfs",
		"--storage-driver=" + cfg.Storage,
		"--mtu=" + strconv.Itoa(cfg.MTU),
		"--userland-proxy=false",
		"--log-level=info",
	}
}

// startEngine forks dockerd; the reaper waits for it. (os/exec would wait for it by pid, in the reaper's way.)
func startEngine(cfg initConfig) (pid int, err error) {
	if err := os.WriteFile(hostDir+"/daemon.json", []byte("{}\n"), 0o644); err != nil {
		return 0, fmt.Errorf("engine %s: %w", cfg.Host, err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, fmt.Errorf("engine %s: %w", cfg.Host, err)
	}
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(hostDir, engineLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, fmt.Errorf("engine %s: %w", cfg.Host, err)
	}
	defer log.Close()
	pid, err = syscall.ForkExec(cfg.Engine, engineArgs(cfg), &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=" + cfg.Path, "HOME=/root", "LANG=C.UTF-8"},
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("engine %s: start %s: %w", cfg.Host, cfg.Engine, err)
	}
	return pid, nil
}

// awaitEngine polls until the engine answers, then gives its socket the owner asked for.
func awaitEngine(ctx context.Context, cfg initConfig, died <-chan unix.WaitStatus) error {
	const socket = hostDir + "/docker.sock"
	deadline := time.NewTimer(engineDeadline)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case status := <-died:
			return engineDied(cfg, status)
		case <-deadline.C:
			return fmt.Errorf("engine %s: no answer within %v; its log: %s", cfg.Host, engineDeadline, logTail(hostLog()))
		case <-tick.C:
		}
		if ping(ctx, socket) == nil {
			break
		}
	}
	if err := errors.Join(os.Chown(socket, 0, cfg.SocketGID), os.Chmod(socket, cfg.SocketMode)); err != nil {
		return fmt.Errorf("engine %s: socket's owner: %w", cfg.Host, err)
	}
	return nil
}

func hostLog() string { return filepath.Join(hostDir, engineLog) }

func engineDied(cfg initConfig, ws unix.WaitStatus) error {
	how := fmt.Sprintf("exit status %d", ws.ExitStatus())
	if ws.Signaled() {
		how = "killed by " + unix.SignalName(ws.Signal())
	}
	return fmt.Errorf("engine %s: dockerd ended (%s); its log: %s", cfg.Host, how, logTail(hostLog()))
}

// ping asks the engine whether it is ready: GET /_ping, Engine API since 1.0.
func ping(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, pingDeadline)
	defer cancel()
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ping %s: %s", socket, resp.Status)
	}
	return nil
}

// logTail returns the last telling lines of an engine's log, joined by " | ".
func logTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > logTailBytes {
		_, _ = f.Seek(-logTailBytes, io.SeekEnd)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return tellingLines(string(b))
}

// isNoise knows errors that an engine in a network namespace logs and does well without: sysctls that only the
// machine's own namespace has, IPVS (service addresses, not used here), and a bridge default of no consequence.
func isNoise(line string) bool {
	for _, s := range []string{"gc_thresh", "default_pvid", "bridge default vlan", "net.ipv4.vs."} {
		if strings.Contains(line, s) {
			return true
		}
	}
	return false
}

// tellingLines prefers errors and lines that are not log records, such as "failed to start daemon: …" or a Go panic,
// over the rest. Harmless noise is left out.
func tellingLines(log string) string {
	var telling, other []string
	for line := range strings.Lines(log) {
		line = strings.TrimSpace(line)
		isRecord := strings.HasPrefix(line, "time=")
		isError := strings.Contains(line, "level=error") || strings.Contains(line, "level=fatal")
		switch {
		case line == "" || isNoise(line):
		case !isRecord || isError:
			telling = append(telling, line)
		default:
			other = append(other, line)
		}
	}
	if len(telling) == 0 {
		telling = other
	}
	if len(telling) == 0 {
		return "(empty)"
	}
	return strings.Join(telling[max(0, len(telling)-logTailLines):], " | ")
}
