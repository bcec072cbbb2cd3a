package alert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"
	"unicode"

	"bulkhead/services/flow/record"
)

// maxText bounds the text of one event, in bytes.
const maxText = 500

// titles call kinds of events by words.
var titles = map[record.Kind]string{
	record.NewDevice:    "new device",
	record.ForeignDHCP:  "foreign DHCP server",
	record.CriticalHit:  "refused at a critical device",
	record.PortScan:     "port scan",
	record.NewBehaviour: "new behaviour",
	record.Isolated:     "device isolated",
	record.Change:       "configuration changed",
	record.Trouble:      "trouble",
}

// Test is the notice that shows whether the way to somebody works.
func Test(now time.Time) *Notice {
	e := record.Event{Time: now, Kind: record.Trouble, Text: "This is a test: alerts of the box arrive here.", Key: "test"}
	return &Notice{Events: []record.Event{e}, test: true}
}

// Title says in a few words of ours what happened. box is the box's name.
func (n *Notice) Title(box string) string {
	switch e := n.Events[0]; {
	case n.count() > 1:
		return fmt.Sprintf("%s: %d events", box, n.count())
	case n.test:
		return box + ": test"
	case titles[e.Kind] == "":
		return box + ": event"
	default:
		return box + ": " + titles[e.Kind]
	}
}

func (n *Notice) count() int { return len(n.Events) + n.More }

// Urgent reports whether somebody should look at once.
func (n *Notice) Urgent() bool {
	for _, e := range n.Events {
		switch e.Kind {
		case record.CriticalHit, record.ForeignDHCP, record.PortScan:
			return true
		}
	}
	return false
}

// Text is a line for each event, with times of the given zone.
func (n *Notice) Text(zone *time.Location) string {
	var b strings.Builder
	for i := range n.Events {
		e := &n.Events[i]
		fmt.Fprintf(&b, "%s %s\n", e.Time.In(zone).Format("2006-01-02 15:04:05"), plain(e.Text))
	}
	if n.More > 0 {
		fmt.Fprintf(&b, "and %d more\n", n.More)
	}
	return b.String()
}

// plain makes a text a part of a line, and bounds it.
func plain(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), maxText)], "\ufffd")
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// Webhook is the body of a POST: JSON, with a text that chats show.
func (n *Notice) Webhook(box string, zone *time.Location) ([]byte, error) {
	return json.Marshal(struct {
		Box    string         `json:"box"`
		Title  string         `json:"title"`
		Text   string         `json:"text"`
		Events []record.Event `json:"events"`
		More   int            `json:"more,omitempty"`
	}{box, n.Title(box), n.Title(box) + "\n" + n.Text(zone), n.Events, n.More})
}

// Mail is a message (RFC 5322) with lines that end in CR LF. The addresses are those of
// the configuration; id makes the message one of its kind.
func (n *Notice) Mail(box, from string, to []string, now time.Time, zone *time.Location, id string) []byte {
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	_, domain, _ := strings.Cut(from, "@")
	header("From", (&mail.Address{Name: box, Address: from}).String())
	header("To", strings.Join(to, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", n.Title(box)))
	header("Date", now.In(zone).Format(time.RFC1123Z))
	header("Message-ID", fmt.Sprintf("<%s@%s>", id, domain))
	header("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday note comes back
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(n.Text(zone), "\n", "\r\n"))) // a buffer takes all
	_ = w.Close()
	return b.Bytes()
}
