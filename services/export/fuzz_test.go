//go:build linux

package export_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"bulkhead/services/export"
)

// FuzzFeed holds that whatever flowd says, all that is taken for a record or an event can
// be sent.
func FuzzFeed(f *testing.F) {
	for _, v := range []any{films, refused, scan} {
		line, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"skipped": 7}`))
	f.Add([]byte(`{"skipped": -7}`))
	f.Add([]byte(" "))
	f.Fuzz(func(t *testing.T, line []byte) {
		items, _ := export.Decode(line)
		if err := export.Encode(items); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	})
}

// FuzzAnswer holds that what a peer says is one short line without the secret it knows.
func FuzzAnswer(f *testing.F) {
	f.Add("200 OK hunter2\x1b[2J\r\n")
	f.Add(strings.Repeat("\xff", 1000))
	f.Fuzz(func(t *testing.T, text string) {
		said := export.Said("hunter2", text)
		if strings.Contains(said, "hunter2") || len(said) > 210 || !utf8.ValidString(said) || strings.ContainsFunc(said, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q", said)
		}
	})
}
