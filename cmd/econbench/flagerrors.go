// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/econbench/econbench/internal/names"
)

// wanted says what the values of a flag's type look like.
var wanted = map[string]string{
	"int": "a whole number", "uint64": "a whole number from 0", "bool": "true or false", "duration": "a time with its unit, as in 1.3s or 400ms",
	"share": "a share from 0 to below 1, as in 5% or 0.05",
}

// flagNamed finds the flag in an error of the parser's, which are sentences around it.
var flagNamed = regexp.MustCompile(`--([a-z-]+)(?:" flag: |$)`)

// flagError says on one line what is wrong with a flag: which, what was found, what is allowed.
func flagError(cmd *cobra.Command, err error) error {
	see := "see " + cmd.CommandPath() + " --help"
	name := ""
	if m := flagNamed.FindStringSubmatch(err.Error()); m != nil {
		name = m[1]
	}
	flag := cmd.Flags().Lookup(name)
	bad, isValue := err.(interface{ GetValue() string })
	unknown, isName := err.(interface{ GetSpecifiedName() string })
	switch {
	case isValue && flag != nil && wanted[flag.Value.Type()] != "":
		return fmt.Errorf("flag --%s: %q: want %s: %s", name, bad.GetValue(), wanted[flag.Value.Type()], see)
	case isName && flag != nil:
		return fmt.Errorf("flag --%s: no value given: %s", name, see)
	case isName && len(unknown.GetSpecifiedName()) > 1:
		hint := ""
		if near, ok := names.Nearest(unknown.GetSpecifiedName(), flagNames(cmd)); ok {
			hint = "did you mean --" + near + "? "
		}
		return fmt.Errorf("unknown flag --%s: %s%s", unknown.GetSpecifiedName(), hint, see)
	}
	return fmt.Errorf("%w: %s", err, see)
}

// flagUsed finds the flags in a usage text.
var flagUsed = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`)

func flagNames(cmd *cobra.Command) (list []string) {
	for _, m := range flagUsed.FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
		list = append(list, m[1])
	}
	return list
}
