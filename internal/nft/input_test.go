// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/econbench/econbench/internal/netspace"
)

// TestAsksForInput has rules by nft and by iptables, as the kernel gives them back.
func TestAsksForInput(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make a network namespace")
	}
	for rules, want := range map[string]bool{
		"":                                                        false,
		"nft add rule ip t c meta iifname eth0":                   true,
		"nft add rule ip t c meta iif lo drop":                    true,
		"nft add rule ip t c meta oifname eth0":                   false,
		"nft add rule ip t c tcp dport 53 accept":                 false,
		"nft add rule ip t c fib saddr . iif oif missing drop":    true,
		"nft add rule ip t c ct state established accept":         false,
		"iptables-nft -A INPUT -i eth0 -p tcp --dport 80 -j DROP": true,
		"iptables-nft -A INPUT -p tcp --dport 80 -j DROP":         false,
		"iptables-nft -t nat -A OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:4242": false,
		"nft add chain netdev n c { type filter hook ingress device lo priority 0 ; }":                                     true,
	} {
		if fields := strings.Fields(rules); rules != "" {
			if _, err := exec.LookPath(fields[0]); err != nil {
				t.Logf("%s is missing", fields[0])
				continue
			}
		}
		own, _, err := netspace.Own()
		if err != nil {
			t.Fatal(err)
		}
		err = netspace.In(own, func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			for _, line := range []string{"nft add table ip t", "nft add chain ip t c", "nft add table netdev n", rules} {
				fields := strings.Fields(line)
				if len(fields) == 0 {
					continue
				}
				if out, err := exec.Command(fields[0], fields[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", line, err, out)
				}
			}
			c, err := Here()
			if err != nil {
				return err
			}
			defer c.Close()
			if got, err := c.AsksForInput(); got != want || err != nil {
				t.Errorf("%q: %t, %v, want %t", rules, got, err, want)
			}
			return nil
		})
		own.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzAsks has the messages that rules and chains are read from.
func FuzzAsks(f *testing.F) {
	expression, err := encode([]attr{nest(unix.NFTA_RULE_EXPRESSIONS, nest(1, str(unix.NFTA_EXPR_NAME, "meta"), nest(unix.NFTA_EXPR_DATA, be32(unix.NFTA_META_KEY, unix.NFT_META_IIF))))})
	if err != nil {
		f.Fatal(err)
	}
	body := append(header(unix.NFPROTO_IPV4, 0), expression...)
	if asks, err := ruleAsks(body); !asks || err != nil {
		f.Errorf("%t, %v", asks, err)
	}
	f.Add(body)
	f.Fuzz(func(_ *testing.T, body []byte) {
		_, _ = ruleAsks(body)
		_, _ = chainAsks(body)
	})
}
