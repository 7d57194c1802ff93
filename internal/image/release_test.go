// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// signAll signs as archives do while they change keys.
func signAll(t *testing.T, text string, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var private []*packet.PrivateKey
	for _, k := range keys {
		private = append(private, k.PrivateKey)
	}
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, private, &packet.Config{Time: func() time.Time { return fakeNow.AddDate(0, 0, -1) }})
	check(t, err)
	_, err = io.WriteString(w, text)
	check(t, err)
	check(t, w.Close())
	return b.Bytes()
}

func TestVerifyInRelease(t *testing.T) {
	known, stranger := fakeKey(), newKey("Stranger")
	expired, err := openpgp.NewEntity("Old", "", "old@example.invalid", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 86400, Time: func() time.Time { return fakeNow.AddDate(-1, 0, 0) },
	})
	check(t, err)
	ring := openpgp.EntityList{expired, known}
	const text = "Suite: stable\n- dashed: yes\n"
	tests := []struct {
		name   string
		signed []byte
		ok     bool
	}{
		{"one", signAll(t, text, known), true},
		{"new key unknown", signAll(t, text, stranger, known), true},
		{"old key expired", signAll(t, text, expired, known), true},
		{"only expired", signAll(t, text, expired), false},
		{"only unknown", signAll(t, text, stranger, stranger), false},
		{"text around is not signed", append(append([]byte("Suite: evil\n"), signAll(t, text, known)...), "Suite: evil\n"...), true},
		{"changed", bytes.Replace(signAll(t, text, known), []byte("stable"), []byte("sable"), 1), false},
		{"empty", nil, false},
	}
	for _, tt := range tests {
		got, err := verifyInRelease(tt.signed, ring, fakeNow)
		if (err == nil) != tt.ok || tt.ok && strings.TrimSpace(string(got)) != strings.TrimSpace(text) {
			t.Errorf("%s: found %q, %v", tt.name, got, err)
		}
	}
}
