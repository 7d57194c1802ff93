// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStorageJudged(t *testing.T) {
	room := uint64(2 * minFree / 4096)
	for _, tt := range []struct {
		name   string
		st     unix.Statfs_t
		tmpfs  bool
		errHas string
	}{
		{"room", unix.Statfs_t{Bsize: 4096, Bavail: room}, false, ""},
		{"full", unix.Statfs_t{Bsize: 4096, Bavail: 100}, false, "/d: 0 MB free, two engines need 1024"},
		{"read-only", unix.Statfs_t{Bsize: 4096, Bavail: room, Flags: unix.ST_RDONLY}, false, "read-only"},
		{"overlay", unix.Statfs_t{Type: unix.OVERLAYFS_SUPER_MAGIC, Bsize: 4096, Bavail: room}, true, ""},
	} {
		env := environment{storage: "overlay2"}
		err := env.judgeStorage("/d", tt.st)
		if tt.errHas == "" && err != nil || tt.errHas != "" && (err == nil || !strings.Contains(err.Error(), tt.errHas)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.errHas)
		}
		if env.dataTmpfs != tt.tmpfs || tt.tmpfs != (len(env.warnings) == 1) {
			t.Errorf("%s: %+v", tt.name, env)
		}
	}
}

// TestWithoutRoot runs a controller as nobody.
func TestWithoutRoot(t *testing.T) {
	if err := checkRights(); err != nil {
		t.Skip(err) // this process is the proof
	}
	cmd := exec.Command("/proc/self/exe", controllerCommand, "/tmp/never")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "user id is 65534, the emulated lab needs root") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestDataInMemory is the way taken where the data directory is on overlayfs.
func TestDataInMemory(t *testing.T) {
	o := needEmulated(t)
	env := environment{}
	if err := env.findBinaries(""); err != nil {
		t.Fatal(err)
	}
	env.storage, env.dataTmpfs = "overlay2", true
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	o.SocketGID, o.SocketMode = 65534, 0o620
	lock, err := claim(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	e := &Emulated{opts: o, place: o.place(), lost: make(chan struct{})}
	err = e.bringUp(t.Context(), env, lock)
	lock.Close()
	if err != nil {
		t.Error(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(strings.TrimPrefix(e.Hosts()[0], "unix://"), &st); err != nil || st.Gid != 65534 || st.Mode&0o777 != 0o620 {
		t.Errorf("socket: group %d, mode %o, %v", st.Gid, st.Mode, err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLeft(t, o)
}
