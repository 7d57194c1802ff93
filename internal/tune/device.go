// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"fmt"
	"net"
	"os"
)

// device looks a device up in the calling thread's network namespace.
func device(kind Kind, name string) (*net.Interface, error) {
	ifi, err := net.InterfaceByName(name)
	if err == nil {
		return ifi, nil
	}
	all, listErr := net.Interfaces()
	if listErr != nil {
		return nil, fmt.Errorf("%s: device %q: %w", kind, name, listErr)
	}
	var names []string
	for _, i := range all {
		if i.Name == name { // the look-up failed for another reason
			return nil, fmt.Errorf("%s: device %q: %w", kind, name, err)
		}
		names = append(names, i.Name)
	}
	return nil, fmt.Errorf("%s: device %q: %w in this network namespace; there are: %s", kind, name, errGone, join(names))
}

// bootID is the kernel's random identity of this boot.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return normal(string(b)), nil
}
