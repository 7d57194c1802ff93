// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/econbench/econbench/internal/names"
)

// layoutVersion is part of every recipe's ID. Raise it when the same packages
// shall give another image: a change in layout.go, filter.go or merge.go.
const layoutVersion = 1

// Recipe says what an image holds. It is a plain value: nothing in it depends on
// the machine, and its ID together with a Platform names the image.
type Recipe struct {
	Name     string   // in the reference: econbench/NAME
	Packages []string // what is asked for; what they depend on comes along
	// Without are patterns (path.Match) of packages that are left out although
	// something depends on them, with all that only they need. Each needs a
	// reason beside it.
	Without []string
	Users   []User // system accounts beyond root, nobody and www-data
	Dirs    []Dir  // folders that maintainer scripts would have made
	// Links are patterns (path.Match) of files to be reachable through
	// /usr/bin too, by symbolic links of the same name.
	Links []string
}

// User is a line of /etc/passwd and a group of the same name and number.
type User struct {
	Name string
	ID   int
	Home string
}

// Dir is a folder of the image; User is one of the recipe's or a standard one.
type Dir struct {
	Path string // without leading slash
	Mode int64
	User string
}

// Tools is what an endpoint container runs: the workloads' programs, and what an
// engineer asks for first inside one.
func Tools() Recipe {
	return Recipe{
		Name: "tools",
		Packages: []string{
			"base-files", "coreutils", "dash", "grep", "libc-bin", "netbase", // a system to stand on
			"ethtool", "iproute2", "tcpdump", // to look around
			"iperf3", "memcached", "netperf", "nginx", "wrk", // workloads
		},
		Without: []string{
			"adduser", "debconf", "debconf-2.0", "debianutils", "init-system-helpers", // called by maintainer scripts, which do not run
			"awk", "lsb-base", // called by maintainer and init scripts
			"perl", "perl-base", // memcached-tool and memcached's start script for init
			"libcap2-bin", // setcap for ip(8)'s vrf helper
		},
		Users: []User{
			{Name: "memcache", ID: 101, Home: "/nonexistent"},
			{Name: "tcpdump", ID: 102, Home: "/nonexistent"}, // tcpdump started as root changes to it
		},
		Dirs: []Dir{
			{Path: "run/memcached", Mode: 0o755, User: "memcache"},
			{Path: "var/lib/nginx", Mode: 0o755, User: "www-data"},
			{Path: "var/log/nginx", Mode: 0o755, User: "www-data"},
		},
	}
}

// Postgres is Tools with programs that are larger, or need what is: the
// distribution's PostgreSQL, reachable in /usr/bin, Redis, sockperf (the C++
// library) and h2load.
func Postgres() Recipe {
	r := Tools()
	r.Name = "postgres"
	r.Packages = append(r.Packages, "postgresql", "redis-server", "redis-tools", "sockperf", "nghttp2-client")
	r.Without = append(r.Without,
		"postgresql-common", "postgresql-client-common", "ssl-cert", "sensible-utils", // Debian's cluster scripts, in perl
		"libllvm*",               // 127 MB for query compilation, loaded on demand only: jit is off without it
		"locales", "locales-all", // C.UTF-8 is in libc-bin
	)
	r.Users = append(r.Users, User{Name: "postgres", ID: 103, Home: "/var/lib/postgresql"})
	r.Dirs = append(r.Dirs,
		Dir{Path: "var/lib/postgresql", Mode: 0o755, User: "postgres"},
		Dir{Path: "var/log/postgresql", Mode: 0o755, User: "postgres"},
		Dir{Path: "run/postgresql", Mode: 0o2775, User: "postgres"},
	)
	r.Links = append(r.Links, "usr/lib/postgresql/*/bin/*")
	return r
}

// Recipes lists all recipes.
func Recipes() []Recipe { return []Recipe{Tools(), Postgres()} }

// Lookup returns the recipe of that name.
func Lookup(name string) (Recipe, error) {
	var known []string
	for _, r := range Recipes() {
		if r.Name == name {
			return r, nil
		}
		known = append(known, r.Name)
	}
	return Recipe{}, names.Unknown("image recipe", name, known)
}

// ID is the SHA-256, in hex, over all that the recipe says and the platform. It
// does not change with the versions of the packages: those are in the Manifest.
func (r Recipe) ID(p Platform) string {
	text, err := json.Marshal(struct {
		Layout   int
		Recipe   Recipe
		Platform Platform
		Drop     []string
	}{layoutVersion, r, p, slices.Concat(droppedTrees, keptNames)})
	if err != nil {
		panic(err) // strings and numbers alone: cannot fail
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Ref is the name under which the image is loaded into an engine:
// econbench/NAME:ID, the ID cut to 12 digits.
func (r Recipe) Ref(p Platform) string {
	return "econbench/" + r.Name + ":" + r.ID(p)[:12]
}

// ImportChanges are the Dockerfile instructions to import an image's tar with,
// since a tar carries no configuration.
func ImportChanges() []string {
	return []string{
		"ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"ENV LC_ALL=C.UTF-8",
		`CMD ["sleep", "infinity"]`,
	}
}
