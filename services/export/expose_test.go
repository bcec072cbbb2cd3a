//go:build linux

package export

import (
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/export/ipfix"
	"bulkhead/services/export/lines"
	"bulkhead/services/flow/record"
)

// Decode reads a line of flowd's, as a record and as an event, and returns what it was
// taken for and how much counts as lost.
func Decode(line []byte) (items []lines.Item, lost uint64) {
	count := func(n uint64) { lost += n }
	(&feed{lost: count, one: func(line []byte) error {
		r, err := decodeFlow(line)
		if err == nil {
			items = append(items, lines.Item{Flow: r})
		}
		return err
	}}).line(line)
	(&feed{lost: count, one: func(line []byte) error {
		e, err := decodeEvent(line)
		if err == nil {
			items = append(items, lines.Item{Event: e})
		}
		return err
	}}).line(line)
	return items, lost
}

// Encode writes items in all formats.
func Encode(items []lines.Item) error {
	if _, err := lines.Lines("gw", items); err != nil {
		return err
	}
	if _, err := lines.Loki("gw", items); err != nil {
		return err
	}
	for _, it := range items {
		syslogMessage("gw", it, true)
		if it.Flow != nil {
			ipfix.New().Flows(time.Time{}, []record.Record{*it.Flow})
		}
	}
	return nil
}

// Said is what is shown of what a peer says that knows a secret.
func Said(secret, text string) string {
	p, err := newPeer(svcconf.Peer{}, secret)
	if err != nil {
		return err.Error()
	}
	return p.plain(text)
}
