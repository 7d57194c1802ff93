// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/econbench/econbench"
	"github.com/econbench/econbench/internal/profile"
	"github.com/econbench/econbench/internal/wholefile"
	"github.com/econbench/econbench/reports"
)

// profilesFolder is where a run's profiles are, in its directory.
const profilesFolder = reports.ProfilesFolder

func makeProfiles(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("profiles: %w", err)
	}
	return nil
}

// profileName is what a profile's files are called: WORKLOAD-PARAMS-ARM.
func profileName(p *profile.Profile) string {
	parts := []string{p.Workload}
	if params := p.Params.String(); params != "" {
		parts = append(parts, params)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-+=", r):
			return r
		case r == '#': // a second arm of one kind: not what a setting would be called
			return '~'
		}
		return '_'
	}, strings.Join(append(parts, p.Arm.String()), "-"))
}

// baselineOf is the profile that another one is set against; nil: it is the baseline itself, or that was not profiled.
func baselineOf(list []*profile.Profile, p *profile.Profile) *profile.Profile {
	if p.Arm == p.Baseline {
		return nil
	}
	i := slices.IndexFunc(list, func(b *profile.Profile) bool {
		return b.Arm == p.Baseline && b.Workload == p.Workload && b.Params.String() == p.Params.String()
	})
	if i < 0 {
		return nil
	}
	return list[i]
}

// tellProfiles prints the tables and leaves all in the folder, if there is one.
func tellProfiles(w io.Writer, list []*profile.Profile, dir string) (err error) {
	if dir != "" {
		err = leaveProfiles(list, dir)
	}
	for i, p := range list {
		if i > 0 {
			err = errors.Join(err, newline(w))
		}
		if base := baselineOf(list, p); base != nil {
			err = errors.Join(err, profile.Compare(base, p).RenderText(w))
		} else {
			err = errors.Join(err, p.RenderText(w))
		}
	}
	return err
}

// leaveProfiles leaves stacks, pictures and tables in a folder that is there.
func leaveProfiles(list []*profile.Profile, dir string) error {
	for _, p := range list {
		files := map[string]func(io.Writer) error{
			".json":   func(w io.Writer) error { return writeJSON(w, p) },
			".folded": func(w io.Writer) error { return profile.WriteFolded(w, p.Stacks) },
			".svg":    p.RenderSVG,
		}
		if base := baselineOf(list, p); base != nil {
			d := profile.Compare(base, p)
			files[".diff.folded"], files[".diff.svg"], files[".diff.txt"] = d.WriteFolded, d.RenderSVG, d.RenderText
		}
		for _, extension := range []string{".diff.folded", ".diff.svg", ".diff.txt"} {
			if err := os.Remove(filepath.Join(dir, profileName(p)+extension)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("profiles: %w", err) // against what was the baseline before
			}
		}
		for extension, render := range files {
			var b bytes.Buffer
			err := render(&b)
			if err == nil {
				err = wholefile.Write(filepath.Join(dir, profileName(p)+extension), b.Bytes())
			}
			if err != nil {
				return fmt.Errorf("profile %s: %w", profileName(p), err)
			}
		}
	}
	return nil
}

// remake makes tables and pictures of what is in a folder, or in that of a run directory, against the baseline named, if one is.
func remake(w io.Writer, dir, baseline string) error {
	if inner := filepath.Join(dir, profilesFolder); isFolder(inner) {
		dir = inner
	}
	list, err := loadProfiles(dir)
	if err != nil {
		return err
	}
	if baseline != "" {
		arm, err := econbench.ParseArm(baseline)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(list, func(p *profile.Profile) bool { return p.Arm == arm }) {
			return fmt.Errorf("baseline %q: not among the profiles in %s", baseline, dir)
		}
		for _, p := range list {
			p.Baseline = arm
		}
		sortProfiles(list)
	}
	return tellProfiles(w, list, dir)
}

func isFolder(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// loadProfiles reads all profiles of a folder, the baselines first.
func loadProfiles(dir string) (list []*profile.Profile, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.folded"))
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".diff.folded") {
			continue
		}
		p, err := loadProfile(strings.TrimSuffix(name, ".folded"))
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("profiles in %s: found none: want a folder that profile --output or run --profile left", dir)
	}
	sortProfiles(list)
	return list, nil
}

// sortProfiles puts each workload's baseline before its other arms.
func sortProfiles(list []*profile.Profile) {
	slices.SortStableFunc(list, func(a, b *profile.Profile) int {
		switch {
		case a.Workload != b.Workload:
			return strings.Compare(a.Workload, b.Workload)
		case a.Params.String() != b.Params.String():
			return strings.Compare(a.Params.String(), b.Params.String())
		case (a.Arm == a.Baseline) != (b.Arm == b.Baseline):
			if a.Arm == a.Baseline {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Arm.String(), b.Arm.String())
	})
}

// loadProfile reads the two files of one.
func loadProfile(stem string) (*profile.Profile, error) {
	p := &profile.Profile{}
	b, err := os.ReadFile(stem + ".json")
	if err == nil {
		err = json.Unmarshal(b, p)
	}
	if err != nil {
		return nil, fmt.Errorf("profile %s.json: %w", stem, err)
	}
	if p.Schema != profile.Schema {
		return nil, fmt.Errorf("profile %s.json: schema %d: want %d", stem, p.Schema, profile.Schema)
	}
	folded, err := os.ReadFile(stem + ".folded")
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if p.Stacks, err = profile.ParseFolded(bytes.NewReader(folded)); err != nil {
		return nil, fmt.Errorf("profile %s.folded: %w", stem, err)
	}
	return p, nil
}
