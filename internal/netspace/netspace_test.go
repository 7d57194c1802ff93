// SPDX-License-Identifier: Apache-2.0

package netspace

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInLeavesTheFirstThreadAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root: network namespaces can't be entered")
	}
	ns, id, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for range 50 {
		err := In(ns, func() error {
			if unix.Gettid() == unix.Getpid() {
				return fmt.Errorf("ran on the first thread")
			}
			other, otherID, err := Own()
			if err == nil && otherID != id {
				err = fmt.Errorf("ran in %v, want %v", otherID, id)
			}
			other.Close()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
