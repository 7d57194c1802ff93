// SPDX-License-Identifier: Apache-2.0

package tune

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

const (
	featureOn  = "on"
	featureOff = "off"
)

// offloadChanges finds the features of a device, in the calling thread's network namespace, that are to change.
func offloadChanges(t Tuning) ([]*change, error) {
	ifi, err := device(KindOffloads, t.Device)
	if err != nil {
		return nil, err
	}
	states, err := features(t.Device)
	if err != nil {
		return nil, err
	}
	wanted, err := wantedFeatures(t, states)
	if err != nil {
		return nil, err
	}
	var changes []*change
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		changes = append(changes, &change{Kind: KindOffloads, Device: t.Device, Ifindex: ifi.Index, Name: name,
			Before: onOff(states[name].Requested), After: onOff(wanted[name])})
	}
	return changes, nil
}

// wantedFeatures writes a tuning's patterns out. A plain name is stronger than a pattern that covers it.
func wantedFeatures(t Tuning, states map[string]ethtool.FeatureState) (map[string]bool, error) {
	wanted := map[string]bool{}
	for pattern, on := range t.Features {
		if !isPattern(pattern) {
			continue
		}
		for name, s := range states {
			if ok, _ := path.Match(pattern, name); !ok || fixed(s) || (s.Active == on && s.Requested == on) {
				continue
			}
			if other, twice := wanted[name]; twice && other != on {
				return nil, fmt.Errorf("offloads of %s: feature %s: asked for both on and off by patterns", t.Device, name)
			}
			wanted[name] = on
		}
	}
	for name, on := range t.Features {
		s, known := states[name]
		switch {
		case isPattern(name):
			continue
		case !known:
			return nil, fmt.Errorf("offloads of %s: feature %q: unknown to this kernel; allowed: %s", t.Device, name, join(changeable(states)))
		case fixed(s) && s.Active != on:
			return nil, fmt.Errorf("offloads of %s: feature %s: fixed at %s; allowed: %s", t.Device, name, onOff(s.Active), join(changeable(states)))
		case fixed(s):
			delete(wanted, name)
		default:
			wanted[name] = on
		}
	}
	return wanted, nil
}

func isPattern(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// fixed is how ethtool(8) tells what it marks [fixed].
func fixed(s ethtool.FeatureState) bool { return !s.Available || s.NeverChanged }

func changeable(states map[string]ethtool.FeatureState) []string {
	var names []string
	for name, s := range states {
		if !fixed(s) {
			names = append(names, name)
		}
	}
	return names
}

func onOff(on bool) string {
	if on {
		return featureOn
	}
	return featureOff
}

func features(device string) (map[string]ethtool.FeatureState, error) {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return nil, fmt.Errorf("offloads of %s: %w", device, err)
	}
	defer e.Close()
	states, err := e.FeaturesWithState(device)
	if errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("offloads of %s: device %w", device, errGone)
	} else if err != nil {
		return nil, fmt.Errorf("offloads of %s: %w", device, err)
	}
	return states, nil
}

// readFeature returns what was last asked for (wanted_features). Whether it is active depends on other features too,
// and follows once those are back.
func readFeature(device, name string) (string, error) {
	states, err := features(device)
	if err != nil {
		return "", err
	}
	s, ok := states[name]
	if !ok {
		return "", fmt.Errorf("offloads of %s: feature %s: %w", device, name, errGone)
	}
	return onOff(s.Requested), nil
}

func writeFeature(device, name, value string) error {
	e, err := ethtool.NewEthtool()
	if err != nil {
		return fmt.Errorf("offloads of %s: %w", device, err)
	}
	defer e.Close()
	if err := e.Change(device, map[string]bool{name: value == featureOn}); err != nil {
		return fmt.Errorf("offloads of %s: switch %s %s (CAP_NET_ADMIN): %w", device, name, value, err)
	}
	return nil
}

// checkFeature makes sure that a feature is not only wanted but in effect.
func checkFeature(device, name, value string) error {
	states, err := features(device)
	if err != nil {
		return err
	}
	if found := onOff(states[name].Active); found != value {
		return fmt.Errorf("offloads of %s: feature %s: asked for %s, kernel keeps it %s for another feature's sake", device, name, value, found)
	}
	return nil
}
