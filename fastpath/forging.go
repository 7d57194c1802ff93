// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
)

// Who may put frames of his own into a device: with CAP_NET_RAW by a packet socket, or by one of XDP, either of which does without once it is open; with
// CAP_NET_ADMIN, or CAP_SYS_ADMIN in its place, by making another device of it, or a program that redirects there.
//
// What is looked at is what can be seen, once a tick. It finds whoever has such a right, or may get it, and makes no secret of it. A container that was given
// CAP_NET_RAW, and has its processes come and go so that none is seen while it opens a socket and closes it, is not found: one that was started without can't
// ever be such.

// spaceKey is a network namespace as a process' folder tells of it.
type spaceKey struct{ dev, inode uint64 }

func keyOfSpace(id netspace.ID) spaceKey { return spaceKey{id.Dev, id.Inode} }

// forgers are these capabilities, by name.
var forgers = []struct {
	name string
	bit  uint64
}{{"CAP_NET_RAW", 1 << unix.CAP_NET_RAW}, {"CAP_NET_ADMIN", 1 << unix.CAP_NET_ADMIN}, {"CAP_SYS_ADMIN", 1 << unix.CAP_SYS_ADMIN}}

// forging says of network namespaces why somebody in there may put frames of his own into a device; "": nobody. Whatever can't be seen counts as if.
var forging = func(spaces map[spaceKey]netns.NsHandle) map[spaceKey]string {
	why := mayForge(spaces)
	for space, ns := range spaces {
		if why[space] != "" {
			continue
		}
		if n, err := frameSockets(ns); err != nil { // after those who might open one
			why[space] = err.Error()
		} else if n > 0 {
			why[space] = fmt.Sprintf("%d sockets for packets of any kind are open in it: want none", n)
		}
	}
	return why
}

// frameSockets counts the open sockets of a namespace by which frames of one's own can be sent.
func frameSockets(ns netns.NsHandle) (n int64, err error) {
	err = netspace.In(ns, func() error {
		here, err := procfs.NewFS("/proc/thread-self")
		if err != nil {
			return err
		}
		protocols, err := here.NetProtocols()
		n = protocols["PACKET"].Sockets + protocols["XDP"].Sockets
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("its sockets: %w", err)
	}
	return n, nil
}

// mayForge is forging by what processes may do.
func mayForge(spaces map[spaceKey]netns.NsHandle) map[spaceKey]string {
	why := map[spaceKey]string{}
	all := func(reason string) map[spaceKey]string {
		for space := range spaces {
			why[space] = reason
		}
		return why
	}
	all("no process can be seen in it: want one, to know what it may do")
	if err := mayLook(); err != nil {
		return all(err.Error())
	}
	seen := map[spaceKey]bool{}
	folder, err := os.Open(procfs.DefaultMountPoint)
	if err != nil {
		return all(err.Error())
	}
	defer folder.Close()
	names, err := folder.Readdirnames(-1)
	if err != nil {
		return all(err.Error())
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		space, none, err := spaceOfProcess(pid)
		if err != nil {
			return all(fmt.Sprintf("namespace of process %d: %v", pid, err))
		}
		if _, wanted := spaces[space]; none || !wanted || seen[space] && why[space] != "" {
			continue
		}
		seen[space], why[space] = true, ""
		if why[space], err = rightsOf(pid); err != nil {
			why[space] = fmt.Sprintf("rights of process %d: %v", pid, err)
		}
	}
	return why
}

// mayLook says whether this process may look at those that containers run, all of them.
func mayLook() error {
	proc, err := procfs.Self()
	if err != nil {
		return err
	}
	s, err := proc.NewStatus()
	if err == nil && s.CapEff&(1<<unix.CAP_SYS_PTRACE) == 0 {
		err = errors.New("without CAP_SYS_PTRACE the agent can't see what processes in it may do")
	}
	return err
}

// endedErr says whether an error is that of a process, or thread, that is no more.
func endedErr(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// spaceOfProcess is a process' network namespace, by the first of its threads that has one: a process goes on when its first thread has ended. One that not
// even CAP_SYS_PTRACE opens is none that this host's engine starts: it stands above the agent, as whoever runs this host as a container does.
func spaceOfProcess(pid int) (space spaceKey, none bool, err error) {
	folder := procfs.DefaultMountPoint + "/" + strconv.Itoa(pid)
	var st unix.Stat_t
	if err := unix.Stat(folder+"/ns/net", &st); err == nil {
		return spaceKey{st.Dev, st.Ino}, false, nil
	} else if errors.Is(err, fs.ErrPermission) {
		return space, true, nil
	} else if !endedErr(err) {
		return space, false, err
	}
	threads, err := os.ReadDir(folder + "/task")
	for _, t := range threads {
		if err := unix.Stat(folder+"/task/"+t.Name()+"/ns/net", &st); err == nil {
			return spaceKey{st.Dev, st.Ino}, false, nil
		} else if !endedErr(err) {
			return space, false, err
		}
	}
	if err != nil && !endedErr(err) {
		return space, false, err
	}
	return space, true, nil
}

// rightsOf says what a process may do, or get to do by what it runs, that makes a forger of it; "": nothing.
func rightsOf(pid int) (string, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return "", err
	}
	threads, err := proc.AllThreads(pid)
	if endedErr(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, thread := range threads {
		s, err := thread.NewStatus()
		if endedErr(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		var has []string
		for _, f := range forgers {
			if (s.CapPrm|s.CapInh|s.CapBnd)&f.bit != 0 {
				has = append(has, f.name)
			}
		}
		if len(has) > 0 {
			return fmt.Sprintf("process %d (%q) may have %s: want none there that could put frames of its own onto the wire", pid, s.Name, strings.Join(has, ", ")), nil
		}
	}
	return "", nil
}
