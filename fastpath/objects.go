// SPDX-License-Identifier: Apache-2.0

package fastpath

// Objects are the compiled BPF programs of this package by name.
func Objects() map[string][]byte {
	return map[string][]byte{"econ": _EconBytes, "handicap": _HandicapBytes, "nameserver": _NameserverBytes, "oncache": _OncacheBytes, "xmasq": _XmasqBytes}
}
