// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/econbench/econbench"
)

// netfilterFacts are what the network namespace's packets pass on their hooks: which kinds of rules stand there, not how many
// nor which. Docker adds some for each network and container, under random names, so that neither text nor number is the
// same twice; what a packet pays for is first of all whether a hook has any.
func netfilterFacts(t trees, _ string) (econbench.Fingerprint, error) {
	legacy, nat, err := t.legacyTables()
	chains, tracks, nftErr := nftRules()
	f := econbench.Fingerprint{}
	if err == nil {
		f["netfilter.iptables_legacy"] = cmp.Or(strings.Join(legacy, "; "), "none")
	}
	if nftErr == nil {
		f["netfilter.nft"] = cmp.Or(describe(chains), "none")
	}
	f["netfilter.conntrack"] = conntrack(len(legacy) > 0, nat, chains, tracks, errors.Join(err, nftErr))
	return f, errors.Join(err, nftErr)
}

// conntrack is whether connections are tracked, as far as rules tell: address translation and rules on a connection's state
// need it. What other legacy rules match is not read, and nothing is said then.
func conntrack(legacy, nat bool, chains []baseChain, tracks bool, err error) string {
	switch {
	case nat || tracks || slices.ContainsFunc(chains, func(c baseChain) bool { return c.kind == "nat" }):
		return "used"
	case legacy || err != nil:
		return ""
	}
	return "unused"
}

// legacyTables are iptables' tables of old, each with the hooks that have rules. nat says whether one of them translates.
func (t trees) legacyTables() (tables []string, nat bool, err error) {
	for _, family := range []ipFamily{ipv4, ipv6} {
		names := strings.Fields(string(content(t.proc, "net", family.tables)))
		slices.Sort(names)
		for _, name := range names {
			info, err := family.tableInfo(name)
			if err != nil {
				return nil, false, fmt.Errorf("table %s of %s: %w", name, family.name, err)
			}
			hooks := info.withRules()
			tables = append(tables, words(family.name+" "+plainName(name)+" "+cmp.Or(strings.Join(hooks, " "), "empty")))
			nat = nat || name == "nat"
		}
	}
	return tables, nat, nil
}

// describe is one line for all base chains.
func describe(chains []baseChain) string {
	var all []string
	for _, c := range chains {
		line := fmt.Sprintf("%s %s %s %d", c.family, c.hook, c.kind, c.priority)
		if c.rules == 0 {
			line += " empty"
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "; ")
}
