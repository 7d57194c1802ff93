// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// source is one archive of apt's configuration (sources.list(5)).
type source struct {
	URI        string
	Suites     []string
	Components []string
	Archs      []string // empty: all
	SignedBy   string   // path of a keyring, an embedded key, or ""
}

// parseSourcesList reads the one-line format:
//
//	deb [ option=value … ] URI suite [component …]
func parseSourcesList(text []byte) ([]source, error) {
	var all []source
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "deb-src" {
			continue
		}
		if f[0] != "deb" {
			return nil, fmt.Errorf("line %d: type %q, allowed: deb, deb-src", n, f[0])
		}
		s, rest, err := parseOptions(f[1:])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(rest) < 2 {
			return nil, fmt.Errorf("line %d: %q lacks a URI or a suite", n, strings.TrimSpace(line))
		}
		s.URI, s.Suites, s.Components = rest[0], rest[1:2], rest[2:]
		all = append(all, s)
	}
	return all, nil
}

// parseOptions takes the leading [ … ] off the fields of a line.
func parseOptions(f []string) (source, []string, error) {
	var s source
	if len(f) == 0 || !strings.HasPrefix(f[0], "[") {
		return s, f, nil
	}
	end := slices.IndexFunc(f, func(w string) bool { return strings.HasSuffix(w, "]") })
	if end < 0 {
		return s, nil, errors.New("options lack their closing bracket")
	}
	options := strings.Trim(strings.Join(f[:end+1], " "), "[] ")
	for _, o := range strings.Fields(options) {
		key, value, _ := strings.Cut(o, "=")
		switch strings.TrimRight(key, "+-") {
		case "arch":
			s.Archs = strings.Split(value, ",")
		case "signed-by":
			s.SignedBy = value
		}
	}
	return s, f[end+1:], nil
}

// parseSources reads the deb822 format of *.sources files.
func parseSources(text []byte) ([]source, error) {
	var all []source
	err := scanStanzas(bytes.NewReader(text), nil, func(st stanza) error {
		if !slices.Contains(strings.Fields(st["types"]), "deb") || isNo(st["enabled"]) {
			return nil
		}
		for _, uri := range strings.Fields(st["uris"]) {
			all = append(all, source{
				URI:        uri,
				Suites:     strings.Fields(st["suites"]),
				Components: strings.Fields(st["components"]),
				Archs:      strings.Fields(st["architectures"]),
				SignedBy:   strings.TrimSpace(st["signed-by"]),
			})
		}
		return nil
	})
	return all, err
}

// isNo is apt's reading of a boolean that is true by default.
func isNo(v string) bool {
	return slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(v))
}

// readSources reads apt's configuration below root, in apt's order:
// sources.list, then sources.list.d by name.
func readSources(root string) ([]source, error) {
	files := []string{filepath.Join(root, "etc/apt/sources.list")}
	entries, err := os.ReadDir(filepath.Join(root, "etc/apt/sources.list.d"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read apt configuration: %w", err)
	}
	for _, e := range entries {
		if ext := path.Ext(e.Name()); ext == ".list" || ext == ".sources" {
			files = append(files, filepath.Join(root, "etc/apt/sources.list.d", e.Name()))
		}
	}
	var all []source
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt configuration: %w", err)
		}
		parse := parseSourcesList
		if path.Ext(file) == ".sources" {
			parse = parseSources
		}
		found, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("parse apt configuration: %s: %w", file, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// pickMirror returns the URL of the distribution's main archive among sources.
// Third-party archives use the distributions' suite names too, so entries are
// ranked by how surely they are the real one, and the first of the best rank is
// taken. A wrong guess cannot do harm: the archive's signature is checked.
func pickMirror(all []source, d distribution, arch string) (string, error) {
	best, uri := 0, ""
	for _, s := range all {
		if r := rank(s, d, arch); r > best {
			best, uri = r, s.URI
		}
	}
	if best == 0 {
		var found []string
		for _, s := range all {
			found = append(found, strings.Join(append([]string{redact(s.URI)}, s.Suites...), " "))
		}
		return "", fmt.Errorf("apt configuration names no main archive of %s: found %q in /etc/apt/sources.list and /etc/apt/sources.list.d", d.id, found)
	}
	return uri, nil
}

// rank is 0 for what is not the distribution's main archive.
func rank(s source, d distribution, arch string) int {
	known := func(suite string) bool {
		return d.suites == nil && !strings.Contains(suite, "-") || slices.Contains(d.suites, suite)
	}
	ours := slices.ContainsFunc(d.keyrings, func(k string) bool { return path.Base(k) == path.Base(s.SignedBy) })
	switch {
	case !slices.Contains(s.Components, "main"),
		!slices.ContainsFunc(s.Suites, known),
		len(s.Archs) > 0 && !slices.Contains(s.Archs, arch),
		strings.Contains(s.URI, "security"),
		s.SignedBy != "" && !ours:
		return 0
	case ours:
		return 4
	case path.Base(s.URI) == d.id:
		return 3
	case strings.Contains(s.URI, d.id):
		return 2
	default:
		return 1
	}
}

// findMirror returns the base URL of the mirror apt is configured with, without
// a slash at its end. A mirror+file: list (apt-transport-mirror(1)) gives its
// first line.
func findMirror(root string, d distribution, arch string) (*url.URL, error) {
	all, err := readSources(root)
	if err != nil {
		return nil, err
	}
	uri, err := pickMirror(all, d, arch)
	if err != nil {
		return nil, err
	}
	if list, ok := strings.CutPrefix(uri, "mirror+file:"); ok {
		if uri, err = firstOfList(filepath.Join(root, strings.TrimPrefix(list, "//"))); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(strings.TrimRight(uri, "/"))
	if err != nil {
		return nil, fmt.Errorf("parse mirror's address: %w", err)
	}
	if !slices.Contains([]string{"http", "https", "file"}, u.Scheme) {
		return nil, fmt.Errorf("mirror %s has scheme %q, allowed: http, https, file, mirror+file", u.Redacted(), u.Scheme)
	}
	return u, nil
}

func firstOfList(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read list of mirrors: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 0 {
			return f[0], nil
		}
	}
	return "", fmt.Errorf("list of mirrors %s is empty", file)
}

// proxyLine matches Acquire::http::Proxy "http://host:port"; in apt.conf(5). The
// nested form with braces is not understood; $http_proxy is there for that.
var proxyLine = regexp.MustCompile(`(?mi)^\s*Acquire::(https?)::Proxy\s+"([^"]*)"\s*;`)

// aptProxies returns the proxies that apt is configured with, by scheme, as far
// as they are readable: a value is an address, "DIRECT" or absent.
func aptProxies(root string) map[string]string {
	proxies := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(root, "etc/apt/apt.conf.d/*")) // errs on bad patterns alone
	for _, file := range append(files, filepath.Join(root, "etc/apt/apt.conf")) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // not there, or for root's eyes only
		}
		for _, m := range proxyLine.FindAllSubmatch(text, -1) {
			proxies[strings.ToLower(string(m[1]))] = string(m[2])
		}
	}
	return proxies
}

// redact hides the password that an address may carry.
func redact(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "(unreadable address)"
	}
	return u.Redacted()
}
