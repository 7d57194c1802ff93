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

// netfilterFacts are what the network namespace's packets pass on their hooks: on which there are rules beside Docker's, not
// how many nor which. Docker's own come and go with its networks, under random names; whether there are any follows from
// whether Docker manages rules at all, and which from its version.
func netfilterFacts(t trees, _ string) (econbench.Fingerprint, error) {
	legacy, legacyErr := t.legacyTables()
	nft, nftErr := nftRules()
	f := econbench.Fingerprint{}
	if legacyErr == nil {
		f["netfilter.iptables_legacy"] = cmp.Or(strings.Join(legacy.others, "; "), "none")
	}
	if nftErr == nil {
		f["netfilter.nft"] = cmp.Or(describe(nft.others), "none")
	}
	if err := errors.Join(legacyErr, nftErr); err != nil {
		return f, err
	}
	f["netfilter.docker"], f["netfilter.conntrack"], f["netfilter.flow_offload"] = "none", "unused", "none"
	if nft.docker || legacy.docker {
		f["netfilter.docker"] = "rules"
	}
	if nft.docker || nft.tracks || legacy.docker || legacy.nat { // Docker's translate addresses, from the first network on
		f["netfilter.conntrack"] = "used"
	}
	if nft.offload {
		f["netfilter.flow_offload"] = "flow table"
	}
	return f, nil
}

// legacy is what is known of iptables' tables of old.
type legacy struct {
	others []string // family, table, and the hooks that have rules which Docker does not make
	docker bool     // a hook has rules on which Docker always has some
	nat    bool     // addresses are translated
}

// dockerHooks are those on which Docker has rules, by table: filter's always, others when networks need them. Legacy rules
// don't name the chains that they jump to, so rules of others on the same hooks are not told from Docker's.
var dockerHooks = map[string][]string{
	"filter": {"forward"},
	"nat":    {"prerouting", "output", "postrouting"},
	"raw":    {"prerouting"}, // since Docker 28
}

// legacyTables reads them. Where there are none, the kernel may lack them altogether.
func (t trees) legacyTables() (l legacy, err error) {
	for _, family := range []ipFamily{ipv4, ipv6} {
		names := strings.Fields(string(content(t.proc, "net", family.tables)))
		slices.Sort(names)
		for _, name := range names {
			info, err := family.tableInfo(name)
			if err != nil {
				return l, fmt.Errorf("table %s of %s: %w", name, family.name, err)
			}
			l.add(family.name, plainName(name), info.withRules())
		}
	}
	return l, nil
}

func (l *legacy) add(family, table string, hooks []string) {
	if len(hooks) == 0 {
		return
	}
	l.docker = l.docker || table == "filter" && slices.Contains(hooks, "forward")
	l.nat = l.nat || table == "nat"
	others := slices.DeleteFunc(slices.Clone(hooks), func(h string) bool { return slices.Contains(dockerHooks[table], h) })
	if len(others) > 0 {
		l.others = append(l.others, family+" "+table+" "+strings.Join(others, " "))
	}
}

// describe is one line for all base chains.
func describe(chains []baseChain) string {
	var all []string
	for _, c := range chains {
		all = append(all, words(fmt.Sprintf("%s %s %s %d", c.family, c.hook, c.kind, c.priority)))
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), "; ")
}
