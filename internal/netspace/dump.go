// SPDX-License-Identifier: Apache-2.0

package netspace

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dumpTries is how often a table is read that changes meanwhile.
const dumpTries = 10

// Whole reads a table of the kernel's by netlink, again if it changed while it was read (NLM_F_DUMP_INTR): what came may then
// lack a part.
func Whole[T any](dump func() ([]T, error)) (list []T, err error) {
	for range dumpTries {
		if list, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return list, err
}
