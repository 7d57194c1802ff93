// SPDX-License-Identifier: Apache-2.0

package fastpath

import (
	"fmt"
	"slices"
	"strings"

	"github.com/econbench/econbench/internal/names"
)

// settings are what an arm has behind the name of a fast path over an overlay: "untracked", or several with colons, "untracked:direct".
type settings []string

func settingsOf(s string) settings {
	if s == "" {
		return nil
	}
	return strings.Split(s, ":")
}

func (s settings) has(name string) bool { return slices.Contains(s, name) }

// checkOverlaySetting allows none, those of every fast path over an overlay, and what a fast path has besides; each once.
func checkOverlaySetting(fastpath, setting string, others ...string) error {
	allowed := append(others, settingUntracked, settingDirect)
	all := settingsOf(setting)
	for i, s := range all {
		if !slices.Contains(allowed, s) {
			return names.Unknown("setting of "+fastpath, s, allowed)
		}
		if all[:i].has(s) {
			return fmt.Errorf("setting %q of %s: %s is given twice", setting, fastpath, s)
		}
	}
	return nil
}
