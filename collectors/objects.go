// SPDX-License-Identifier: Apache-2.0

package collectors

// Objects are the compiled BPF programs of this package by name.
func Objects() map[string][]byte {
	return map[string][]byte{"exact": _ExactBytes, "histograms": _HistogramsBytes}
}
