package news_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/news"
	"bulkhead/services/flow/record"
)

var (
	start = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	addrs = cmpopts.EquateComparable(netip.Addr{})
)

func event(n int, kind record.Kind, device string) record.Event {
	return record.Event{
		Time: start.Add(time.Duration(n) * time.Second), Kind: kind, Text: fmt.Sprint(n), Key: fmt.Sprint(n),
		Side: record.Side{Zone: "iot", Device: device, MAC: model.MAC{0, 0, 0, 0, 0, byte(n)}},
	}
}

func TestLatestComeFirstAndNoMoreThanAreKept(t *testing.T) {
	l := new(news.Log)
	for i := range news.Max + 10 {
		l.Add(event(i, record.NewDevice, ""))
	}
	list := l.List(news.Query{})
	if len(list) != news.Max || list[0].Text != fmt.Sprint(news.Max+9) || list[news.Max-1].Text != "10" {
		t.Errorf("got %d events from %s to %s", len(list), list[0].Text, list[len(list)-1].Text)
	}
}

func TestQueries(t *testing.T) {
	l := new(news.Log)
	l.Add(event(1, record.NewDevice, ""), event(2, record.PortScan, "tv"), event(3, record.CriticalHit, "tv"))
	srv := httptest.NewServer(l)
	defer srv.Close()
	for query, want := range map[string]int{
		"": 3, "kind=port-scan": 1, "device=tv": 2, "device=00:00:00:00:00:01": 1, "zone=iot": 3, "zone=guest": 0,
		"since=2026-11-27T12:00:02Z": 2, "limit=1": 1, "device=tv&kind=critical": 1,
	} {
		resp, err := http.Get(srv.URL + "?" + query)
		if err != nil {
			t.Fatal(err)
		}
		var got []record.Event
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || len(got) != want {
			t.Errorf("%q: got %d events, %v, want %d", query, len(got), err, want)
		}
		resp.Body.Close()
	}
	for _, query := range []string{"kind=none", "since=today", "limit=0", "limit=x"} {
		resp, err := http.Get(srv.URL + "?" + query)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", query, resp.Status)
		}
	}
}

func TestLogComesBackAsItWas(t *testing.T) {
	l := new(news.Log)
	l.Add(event(1, record.NewDevice, ""), event(2, record.PortScan, "tv"))
	data, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, damaged := news.Decode(append([]byte("{\n"), data...))
	if diff := cmp.Diff(l.List(news.Query{}), got.List(news.Query{}), addrs); diff != "" || damaged != 1 {
		t.Errorf("%d damaged, events differ (-want +got):\n%s", damaged, diff)
	}
}

func TestLiveReaderHearsAtOnce(t *testing.T) {
	l := new(news.Log)
	srv := httptest.NewServer(http.HandlerFunc(l.Live))
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	want := event(1, record.NewDevice, "")
	l.Add(want)
	var got record.Event
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &got) != nil {
		t.Fatalf("got %q", lines.Text())
	}
	if diff := cmp.Diff(want, got, addrs); diff != "" {
		t.Errorf("event differs (-want +got):\n%s", diff)
	}
}

func TestSlowReaderIsToldWhatItMissed(t *testing.T) {
	l := new(news.Log)
	r := l.Listen()
	defer r.Close()
	for i := range 100 {
		l.Add(event(i, record.NewDevice, ""))
	}
	if got, waiting := r.Skipped(), len(r.C()); int(got)+waiting != 100 || got == 0 {
		t.Errorf("%d skipped, %d wait", got, waiting)
	}
	if got := r.Skipped(); got != 0 {
		t.Errorf("%d skipped are told twice", got)
	}
}

func FuzzDecode(f *testing.F) {
	l := new(news.Log)
	l.Add(event(1, record.NewDevice, ""), event(2, record.PortScan, "tv"))
	data, err := l.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		l, _ := news.Decode(data)
		if _, err := l.Encode(); err != nil {
			t.Error(err)
		}
	})
}
