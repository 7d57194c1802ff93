// SPDX-License-Identifier: Apache-2.0

package reports

import "io"

func (h *History) html(w io.Writer) error { return nil }
