// Package lines writes flow records and events as JSON: a line each, or as Grafana Loki
// takes them. It sends nothing, and checks nothing: JSON has room for all that a
// stranger may call himself.
package lines

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"bulkhead/services/flow/record"
)

// Item is a record or an event.
type Item struct {
	Flow  *record.Record
	Event *record.Event
}

// Flow is a line about a connection or a refusal.
type Flow struct {
	Type string `json:"type"` // "flow"
	Box  string `json:"box"`  // its name
	*record.Record
}

// Event is a line about an event.
type Event struct {
	Type string `json:"type"` // "event"
	Box  string `json:"box"`
	*record.Event
}

// line returns the item as JSON without the end of the line.
func line(box string, it Item) ([]byte, error) {
	if it.Flow != nil {
		return json.Marshal(Flow{"flow", box, it.Flow})
	}
	return json.Marshal(Event{"event", box, it.Event})
}

// Lines returns the items as lines that end in a newline.
func Lines(box string, items []Item) ([]byte, error) {
	var b bytes.Buffer
	for _, it := range items {
		l, err := line(box, it)
		if err != nil {
			return nil, err
		}
		b.Write(l)
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

// labels are those of a stream of Loki. It keeps an index of each combination, so
// nothing that has many values is one.
type labels struct {
	Job     string `json:"job"`
	Box     string `json:"box"`
	Type    string `json:"type"`
	Verdict string `json:"verdict,omitempty"`
	Kind    string `json:"kind,omitempty"`
}

// stream is the lines with the same labels: a time in nanoseconds and a line each.
type stream struct {
	Labels labels      `json:"stream"`
	Values [][2]string `json:"values"`
}

// Loki returns the items as the body of a push:
// https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs
func Loki(box string, items []Item) ([]byte, error) {
	var push struct {
		Streams []*stream `json:"streams"`
	}
	by := map[labels]*stream{}
	for _, it := range items {
		l, err := line(box, it)
		if err != nil {
			return nil, err
		}
		key, at := labels{Job: "bulkhead", Box: box, Type: "flow"}, time.Time{}
		if it.Flow != nil {
			key.Verdict, at = it.Flow.Verdict.String(), it.Flow.End
		} else {
			key.Type, key.Kind, at = "event", string(it.Event.Kind), it.Event.Time
		}
		s := by[key]
		if s == nil {
			s = &stream{Labels: key}
			by[key] = s
			push.Streams = append(push.Streams, s)
		}
		s.Values = append(s.Values, [2]string{strconv.FormatInt(at.UnixNano(), 10), string(l)})
	}
	return json.Marshal(push)
}
