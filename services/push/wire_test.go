package push

import (
	"fmt"
	"strings"
	"testing"

	"bulkhead/netcfg/gitrepo"
)

// pkt writes pkt-lines; "" is a flush.
func pkt(list ...string) string {
	s := ""
	for _, l := range list {
		if l == "" {
			s += "0000"
			continue
		}
		s += fmt.Sprintf("%04x%s", len(l)+4, l)
	}
	return s
}

const (
	id1  = "1111111111111111111111111111111111111111"
	id2  = "2222222222222222222222222222222222222222"
	none = "0000000000000000000000000000000000000000"
)

func TestAdvertised(t *testing.T) {
	const caps = "\x00report-status delete-refs side-band-64k quiet object-format=sha1 agent=git/2.39.5\n"
	tests := []struct{ name, said, tip, err string }{
		{"empty repository", pkt(none+" capabilities^{}"+caps, ""), none, ""},
		{"our branch", pkt(id1+" refs/heads/main"+caps, ""), id1, ""},
		{"several branches", pkt(id1+" refs/heads/alpha"+caps, id2+" refs/heads/main\n", id1+" .have\n", "shallow "+id1, ""), id2, ""},
		{"old git", pkt(id1+" refs/heads/main\x00delete-refs", ""), none, "does not tell what becomes"},
		{"SHA-256", pkt(none+" capabilities^{}\x00report-status object-format=sha256", ""), none, "of format \"sha256\""},
		{"a bad ID", pkt("xyz refs/heads/main"+caps, ""), none, "not the ID of a git object"},
		{"a greeting", "Hello, this host is for mail only.\n", none, "does not speak git's protocol"},
		{"half a line", "0040abc", none, "unexpected EOF"},
		{"nothing", "", none, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tip, err := advertised(newLines(strings.NewReader(tt.said)))
			if tip.String() != tt.tip && err == nil || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %s, %v", tip, err)
			}
		})
	}
}

func TestReport(t *testing.T) {
	tests := []struct{ name, said, err string }{
		{"taken", pkt("unpack ok\n", "ok refs/heads/main\n", ""), ""},
		{"refused", pkt("unpack ok\n", "ng refs/heads/main hook declined\n", ""), "the remote refuses: hook declined"},
		{"disk full", pkt("unpack No space left\n", "ng refs/heads/main unpacker error\n", ""), "the remote cannot keep what was sent: No space left"},
		{"another branch", pkt("unpack ok\n", "ok refs/heads/other\n", ""), "does not say that it took"},
		{"nothing", pkt(""), "it does not say why"},
		{"colours", pkt("unpack ok\n", "ng refs/heads/main \x1b[31mno\x1b[m\n", ""), "the remote refuses: [31mno [m"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := report(newLines(strings.NewReader(tt.said)))
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzRemote listens to a remote that says anything.
func FuzzRemote(f *testing.F) {
	f.Add(pkt(id1+" refs/heads/main\x00report-status", "") + pkt("unpack ok\n", "ok refs/heads/main\n", ""))
	f.Add("0004")
	f.Add("fff0")
	f.Fuzz(func(t *testing.T, said string) {
		l := newLines(strings.NewReader(said))
		tip, err := advertised(l)
		if err != nil {
			return
		}
		if _, err := gitrepo.ParseID(tip.String()); err != nil {
			t.Errorf("took %s", tip)
		}
		if err := report(l); err == nil && !strings.Contains(said, "ok "+gitrepo.Branch) {
			t.Error("took a push for done that nobody said was")
		}
		if s := printable(said); len(s) > maxSaid+len("…") || strings.ContainsAny(s, "\x1b\n\x00") {
			t.Errorf("shows %q", s)
		}
	})
}
