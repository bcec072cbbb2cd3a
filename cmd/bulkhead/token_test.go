package main

import (
	"strings"
	"testing"
	"time"
)

func TestExpiryIsReadAsPeopleWriteIt(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err) // Go brings the time zones if nobody else does
	}
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, berlin)
	for _, c := range []struct{ text, want, why string }{
		{"12h", "2026-11-27T23:00:00Z", ""},
		{"90d", "2027-02-25T11:00:00Z", ""},
		{"8w", "2027-01-22T11:00:00Z", ""},
		{"366d", "2027-11-28T11:00:00Z", ""},
		{"2026-11-27", "2026-11-27T23:00:00Z", ""}, // the rest of today
		{"2027-06-30", "2027-06-30T22:00:00Z", ""},
		{"", "", "say when the token ends"},
		{"never", "", "is no time: write 12h, 90d, 8w or a day such as 2027-02-27"},
		{"d", "", "is no time"},
		{"-1d", "", "is no time"},
		{"99999999999999999999d", "", "is no time"},
		{"0d", "", "over already"},
		{"-1h", "", "over already"},
		{"2026-11-26", "", "over already"},
		{"367d", "", "more than a year"},
		{"2028-01-01", "", "more than a year"},
	} {
		got, err := parseExpiry(c.text, now)
		switch {
		case c.why == "" && (err != nil || got.Format(time.RFC3339) != c.want):
			t.Errorf("%q: got %s, %v", c.text, got.Format(time.RFC3339), err)
		case c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%q: got %v", c.text, err)
		}
	}
}
