// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// maxFuture is how far ahead of this machine's clock a Release may be dated.
const maxFuture = time.Hour

// release is what is used of an archive's Release file. Only the signed text of
// an InRelease ever becomes one.
type release struct {
	Suite, Codename string
	Date            time.Time
	ValidUntil      time.Time // zero: the archive sets none, as Debian's stable releases
	Archs           []string
	Components      []string
	ByHash          bool
	Files           map[string]content // by path below dists/SUITE
}

// content names bytes: their SHA-256 in hex, and how many they are.
type content struct {
	SHA256 string
	Size   int64
}

// readKeyring reads the first keyring of the distribution that exists.
func readKeyring(root string, d distribution) (openpgp.EntityList, string, error) {
	for _, name := range d.keyrings {
		text, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("read keyring: %w", err)
		}
		keys, err := openpgp.ReadKeyRing(bytes.NewReader(text))
		if err != nil {
			return nil, "", fmt.Errorf("parse keyring %s: %w", name, err)
		}
		return keys, name, nil
	}
	return nil, "", fmt.Errorf("keyring %s is missing: install %s-archive-keyring", d.keyrings[0], d.id)
}

// verifyInRelease returns the signed text of an InRelease file. One good
// signature by a valid key of the keyring is enough: archives sign with an old
// and a new key at a time, and a machine may know but one of them.
func verifyInRelease(signed []byte, keys openpgp.KeyRing, now time.Time) ([]byte, error) {
	block, _ := clearsign.Decode(signed)
	if block == nil {
		return nil, errors.New("found no clearsigned text")
	}
	config := &packet.Config{Time: func() time.Time { return now }}
	packets := packet.NewOpaqueReader(block.ArmoredSignature.Body)
	var failed []error
	for {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("parse signature: %w", err)
		}
		var one bytes.Buffer
		if err := p.Serialize(&one); err != nil {
			return nil, fmt.Errorf("parse signature: %w", err)
		}
		if _, err = openpgp.CheckDetachedSignature(keys, bytes.NewReader(block.Bytes), &one, config); err == nil {
			return block.Plaintext, nil
		}
		failed = append(failed, err)
	}
	if len(failed) == 0 {
		return nil, errors.New("found no signature")
	}
	texts := make([]string, len(failed))
	for i, err := range failed {
		texts[i] = err.Error()
	}
	return nil, fmt.Errorf("none of %d signatures is good: %s", len(failed), strings.Join(texts, "; "))
}

// parseRelease reads the text of a Release file.
func parseRelease(text []byte) (*release, error) {
	var st stanza
	err := scanStanzas(bytes.NewReader(text), nil, func(s stanza) error {
		if st != nil {
			return errors.New("more than one paragraph")
		}
		st = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	r := &release{
		Suite: st["suite"], Codename: st["codename"],
		Archs: strings.Fields(st["architectures"]), Components: strings.Fields(st["components"]),
		ByHash: st["acquire-by-hash"] == "yes",
		Files:  map[string]content{},
	}
	if r.Date, err = parseDate(st["date"]); err != nil {
		return nil, fmt.Errorf("field Date: %w", err)
	}
	if v, ok := st["valid-until"]; ok {
		if r.ValidUntil, err = parseDate(v); err != nil {
			return nil, fmt.Errorf("field Valid-Until: %w", err)
		}
	}
	for line := range strings.Lines(st["sha256"]) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("field SHA256: line %q has %d words, allowed: 3", line, len(f))
		}
		c, err := parseContent(f[0], f[1])
		if err != nil {
			return nil, fmt.Errorf("field SHA256: %s: %w", f[2], err)
		}
		r.Files[f[2]] = c
	}
	return r, nil
}

// parseDate reads a date of a Release file; archives write UTC by various names.
func parseDate(v string) (time.Time, error) {
	for _, layout := range []string{time.RFC1123, "Mon, _2 Jan 2006 15:04:05 MST", time.RFC1123Z} {
		if t, err := time.Parse(layout, v); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date, such as %q", v, time.RFC1123)
}

func parseContent(sum, size string) (content, error) {
	if b, err := hex.DecodeString(sum); err != nil || len(b) != 32 {
		return content{}, fmt.Errorf("%q is not a SHA-256", sum)
	}
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n < 0 {
		return content{}, fmt.Errorf("%q is not a size", size)
	}
	return content{SHA256: strings.ToLower(sum), Size: n}, nil
}

// check says whether the release is the one asked for, and of today.
func (r *release) check(p Platform, d distribution, now time.Time) error {
	if r.Codename != p.Suite && r.Suite != p.Suite {
		return fmt.Errorf("found suite %q, code name %q, allowed: %s", r.Suite, r.Codename, p.Suite)
	}
	if ahead := r.Date.Sub(now); ahead > maxFuture {
		return fmt.Errorf("found date %s, %s ahead of this machine's clock, allowed: %s", r.Date.Format(time.RFC3339), ahead.Round(time.Second), maxFuture)
	}
	if !r.ValidUntil.IsZero() && now.After(r.ValidUntil) {
		return fmt.Errorf("expired: valid until %s, now is %s: the mirror is stale, or the clock wrong", r.ValidUntil.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if !slices.Contains(r.Archs, p.Arch) {
		return fmt.Errorf("found architectures %q, allowed: %s", r.Archs, p.Arch)
	}
	for _, c := range d.components {
		if !slices.Contains(r.Components, c) {
			return fmt.Errorf("found components %q, lacks %s", r.Components, c)
		}
	}
	return nil
}
