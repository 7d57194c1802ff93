// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/econbench/econbench"
)

// Addresses of the emulated hosts on their wire.
var wireAddrs = [2]string{"198.18.0.1", "198.18.0.2"}

// hostsFlag gives two engines by their sockets, as a user with machines of their own gives them.
func hostsFlag(client, server *engineHost) string { return "--hosts=" + client.url + "," + server.url }

// makeSwarm makes a host a swarm of one, for the length of the test.
func makeSwarm(t *testing.T, hosts [2]*engineHost, i int) {
	t.Helper()
	hosts[i].must(t, "POST", "/swarm/init", map[string]any{
		"ListenAddr": wireAddrs[i] + ":2377", "AdvertiseAddr": wireAddrs[i], "DataPathAddr": wireAddrs[i],
		"DefaultAddrPool": []string{"198.19.0.0/17"}, "SubnetSize": 24,
	}, new(string))
	t.Cleanup(func() { leaveSwarm(t, hosts[i]) })
}

func leaveSwarm(t *testing.T, h *engineHost) {
	t.Helper()
	if err := h.ask("POST", "/swarm/leave?force=1", nil, nil); err != nil {
		t.Error(err)
	}
}

// joinSwarm makes a host a worker of the other's swarm.
func joinSwarm(t *testing.T, hosts [2]*engineHost, i int) {
	t.Helper()
	var swarm struct{ JoinTokens struct{ Worker string } }
	hosts[1-i].must(t, "GET", "/swarm", nil, &swarm)
	hosts[i].must(t, "POST", "/swarm/join", map[string]any{
		"ListenAddr": wireAddrs[i] + ":2377", "AdvertiseAddr": wireAddrs[i], "DataPathAddr": wireAddrs[i],
		"RemoteAddrs": []string{wireAddrs[1-i] + ":2377"}, "JoinToken": swarm.JoinTokens.Worker,
	}, nil)
	t.Cleanup(func() { leaveSwarm(t, hosts[i]) })
	eventually(t, "the swarm's ingress network on "+hosts[i].url, patience, func() bool {
		return hosts[i].ask("GET", "/networks/ingress", nil, nil) == nil
	})
}

// TestHostsWithoutSwarm takes two engines that are in no swarm, in the order that makes the lab's second host the client.
func TestHostsWithoutSwarm(t *testing.T) {
	hosts := sharedHosts(t)
	p := start(t, sharedLab(), tiny("--arm", "overlay", "--workload", "tcp_rr", hostsFlag(hosts[1], hosts[0]))...).want(0)
	run := p.run()
	allValid(t, run, 1)
	if run.Lab != "real" || run.Hosts[econbench.ClientHost].Underlay != wireAddrs[1] {
		t.Errorf("lab %q, client at %s, want real and %s", run.Lab, run.Hosts[econbench.ClientHost].Underlay, wireAddrs[1])
	}
}

// TestHostsInSwarm uses a swarm that is there, managed by the server, and leaves it and what is in it alone.
func TestHostsInSwarm(t *testing.T) {
	hosts := sharedHosts(t)
	makeSwarm(t, hosts, 1)
	joinSwarm(t, hosts, 0)
	hosts[1].must(t, "POST", "/networks/create", map[string]any{"Name": "others", "Driver": "overlay", "Attachable": true}, nil)
	t.Cleanup(func() {
		if err := hosts[1].ask("DELETE", "/networks/others", nil, nil); err != nil {
			t.Error(err)
		}
	})
	before := snapshots(t, hosts)
	p := start(t, sharedLab(), tiny("--arm", "overlay", "--workload", "tcp_rr", hostsFlag(hosts[0], hosts[1]))...).want(0)
	allValid(t, p.run(), 1)
	settled(t, hosts, before)
	if !strings.Contains(before[1]["networks"], "others") || strings.Count(before[1]["nodes"], "ready") != 2 {
		t.Errorf("the test's own swarm was not what it should be: %q", before[1])
	}
}

// TestHostsJoin joins the server to the swarm of the client, and takes it out again.
func TestHostsJoin(t *testing.T) {
	hosts := sharedHosts(t)
	makeSwarm(t, hosts, 0)
	before := snapshots(t, hosts)
	p := start(t, sharedLab(), tiny("--arm", "overlay", "--workload", "tcp_rr", hostsFlag(hosts[0], hosts[1]))...).want(0)
	allValid(t, p.run(), 1)
	settled(t, hosts, before)
}

// TestHostsInTwoSwarms refuses engines of which each is in a swarm of its own.
func TestHostsInTwoSwarms(t *testing.T) {
	hosts := sharedHosts(t)
	makeSwarm(t, hosts, 0)
	makeSwarm(t, hosts, 1)
	before := snapshots(t, hosts)
	p := start(t, sharedLab(), tiny(hostsFlag(hosts[0], hosts[1]))...).want(1)
	p.wantError(hosts[0].url, hosts[1].url, "each is in a swarm of its own", "docker swarm leave")
	settled(t, hosts, before)
}

// TestHostsStuck meets an engine that holds the gossip's port in no swarm. One that was given is refused; one of an emulated lab
// is restarted, and the run goes on.
func TestHostsStuck(t *testing.T) {
	hosts := sharedHosts(t)
	l, err := hosts[1].gossip(wireAddrs[1])
	if err != nil {
		t.Fatal(err)
	}
	release := sync.OnceFunc(func() { _ = l.Close() })
	t.Cleanup(release)
	p := start(t, sharedLab(), tiny("--arm", "host", "--workload", "tcp_rr", hostsFlag(hosts[0], hosts[1]))...).want(1)
	p.wantError(hosts[1].url, "in no swarm", "port 7946 of "+wireAddrs[1]+" is taken", "restart the engine")

	socket := strings.TrimPrefix(hosts[1].url, "unix://")
	was, err := os.Stat(socket)
	if err != nil {
		t.Fatal(err)
	}
	p = start(t, sharedLab(), tiny("--arm", "host,overlay", "--workload", "tcp_rr")...)
	p.until("restarting it: engine " + hosts[1].url)
	for { // the test's socket plays that of the engine, which ends with it
		is, err := os.Stat(socket) // whose inode may be the old one's, used again
		if err == nil && (!os.SameFile(was, is) || !is.ModTime().Equal(was.ModTime())) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	release()
	allValid(t, p.want(0).run(), 2)
}

// TestHostsTLS speaks to both engines through TLS, with certificates that fit and with a CA that does not.
func TestHostsTLS(t *testing.T) {
	hosts := sharedHosts(t)
	certs, strangers := newAuthority(t), newAuthority(t)
	var urls []string
	for _, h := range hosts {
		urls = append(urls, "tcp://"+certs.proxy(t, strings.TrimPrefix(h.url, "unix://")))
	}
	good, wrong := certs.clientDir(t), certs.clientDir(t)
	p := start(t, sharedLab(), tiny("--arm", "host", "--workload", "tcp_rr", "--hosts", strings.Join(urls, ","), "--tls-dir", good)...).want(0)
	allValid(t, p.run(), 1)
	if err := os.WriteFile(filepath.Join(wrong, "ca.pem"), strangers.ca, 0o600); err != nil {
		t.Fatal(err)
	}
	p = start(t, sharedLab(), tiny("--hosts", strings.Join(urls, ","), "--tls-dir", wrong)...).want(1)
	p.wantError(urls[0], "certificate signed by unknown authority")
}

// TestHostsSSH meets a machine where nobody listens.
func TestHostsSSH(t *testing.T) {
	needProgram(t)
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skipf("%v (Debian, Ubuntu: openssh-client)", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "ssh://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := start(t, ownLab(t), tiny("--hosts", closed+","+closed+"0")...).want(1)
	p.wantError(closed, "Connection refused")
}

// TestStranger is a controller that has nothing but the program and the two engines' sockets: no root, no processes,
// mounts, network or cache of this machine.
func TestStranger(t *testing.T) {
	hosts := sharedHosts(t)
	const nobody = 65534
	work := t.TempDir()
	if err := os.Chown(work, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	script := `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/work /mnt/none
touch /mnt/a.sock /mnt/b.sock
mount --bind "$A" /mnt/a.sock
mount --bind "$B" /mnt/b.sock
mount --bind "$WORK" /mnt/work
cp "$PROGRAM" /mnt/econbench
for hide in /run /tmp /root /home /var/cache /var/lib; do mount -t tmpfs -o mode=755 tmpfs $hide; done
cd /mnt/work
exec setpriv --reuid 65534 --regid 65534 --clear-groups env -i PATH=/usr/bin:/bin HOME=/mnt/none \
	/mnt/econbench "$@" --hosts unix:///mnt/a.sock,unix:///mnt/b.sock`
	args := []string{"--pid", "--mount", "--net", "--fork", "--kill-child", "sh", "-c", script, "sh"}
	cmd := exec.Command("unshare", append(args, tiny("--workload", "tcp_rr")...)...)
	cmd.Env = append(os.Environ(), "WORK="+work, "PROGRAM="+filepath.Join(built.dir, "econbench"),
		"A="+strings.TrimPrefix(hosts[0].url, "unix://"), "B="+strings.TrimPrefix(hosts[1].url, "unix://"))
	cmd.Dir = work
	p := startCommand(t, cmd).want(0)
	run := p.run()
	allValid(t, run, 3)
	if run.Lab != "real" {
		t.Errorf("lab %q, want real", run.Lab)
	}
}

// pump copies both ways between two connections, passing on the end of each direction.
func pump(a, b net.Conn) {
	done := make(chan struct{}, 2)
	one := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // a broken connection ends like any other
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		done <- struct{}{}
	}
	go one(a, b)
	go one(b, a)
	<-done
	<-done
	_ = a.Close()
	_ = b.Close()
}
