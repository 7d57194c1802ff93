// SPDX-License-Identifier: Apache-2.0

package hostfacts

import (
	"fmt"
	"slices"
	"strings"

	"github.com/safchain/ethtool"

	"github.com/econbench/econbench"
)

// ethtoolFacts are what a device's driver tells. Each is absent where the driver has no such thing.
func ethtoolFacts(device string) econbench.Fingerprint {
	f := econbench.Fingerprint{}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return f
	}
	defer e.Close()
	if d, err := e.DriverInfo(device); err == nil {
		f["nic.driver"], f["nic.driver_version"] = words(d.Driver), words(d.Version)
		f["nic.firmware"], f["nic.bus"] = told(d.FwVersion), told(d.BusInfo)
	}
	if r, err := e.GetRing(device); err == nil {
		f["nic.rings"] = numbers("rx", r.RxPending, "rx-mini", r.RxMiniPending, "rx-jumbo", r.RxJumboPending, "tx", r.TxPending)
	}
	if c, err := e.GetChannels(device); err == nil {
		f["nic.channels"] = numbers("rx", c.RxCount, "tx", c.TxCount, "combined", c.CombinedCount, "other", c.OtherCount)
	}
	if c, err := e.GetCoalesce(device); err == nil {
		f["nic.coalesce"] = coalescing(c)
	}
	if p, err := e.GetPause(device); err == nil {
		f["nic.pause"] = numbers("autoneg", p.Autoneg, "rx", p.RxPause, "tx", p.TxPause)
	}
	if states, err := e.FeaturesWithState(device); err == nil {
		f["nic.offloads"] = switchedOn(states, func(s ethtool.FeatureState) bool { return s.Active })
	}
	if flags, err := e.PrivFlags(device); err == nil {
		f["nic.private_flags"] = switchedOn(flags, func(on bool) bool { return on })
	}
	return f
}

// told is a text that drivers fill with words for nothing.
func told(s string) string {
	if s = words(s); strings.EqualFold(s, "N/A") {
		return ""
	}
	return s
}

// coalescing leaves out what a driver adapts to the traffic: it may say what it has come to at the moment.
func coalescing(c ethtool.Coalesce) string {
	if c.UseAdaptiveRxCoalesce != 0 {
		c.RxCoalesceUsecs, c.RxMaxCoalescedFrames = 0, 0
	}
	if c.UseAdaptiveTxCoalesce != 0 {
		c.TxCoalesceUsecs, c.TxMaxCoalescedFrames = 0, 0
	}
	return numbers(
		"adaptive-rx", c.UseAdaptiveRxCoalesce, "adaptive-tx", c.UseAdaptiveTxCoalesce,
		"rx-usecs", c.RxCoalesceUsecs, "rx-frames", c.RxMaxCoalescedFrames,
		"rx-usecs-irq", c.RxCoalesceUsecsIrq, "rx-frames-irq", c.RxMaxCoalescedFramesIrq,
		"tx-usecs", c.TxCoalesceUsecs, "tx-frames", c.TxMaxCoalescedFrames,
		"tx-usecs-irq", c.TxCoalesceUsecsIrq, "tx-frames-irq", c.TxMaxCoalescedFramesIrq,
		"pkt-rate-low", c.PktRateLow, "pkt-rate-high", c.PktRateHigh,
	)
}

// numbers writes pairs of name and number, without those that are 0; "0" if all are.
func numbers(pairs ...any) string {
	var parts []string
	for i := 0; i+1 < len(pairs); i += 2 {
		if n, _ := pairs[i+1].(uint32); n != 0 {
			parts = append(parts, fmt.Sprintf("%v=%d", pairs[i], n))
		}
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, " ")
}

// switchedOn are the names of what is on, sorted; "none" if nothing is.
func switchedOn[T any](states map[string]T, on func(T) bool) string {
	var names []string
	for name, state := range states {
		if on(state) {
			names = append(names, words(name))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
