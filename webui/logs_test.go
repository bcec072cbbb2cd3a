//go:build linux

package webui_test

import (
	"strings"
	"testing"

	"bulkhead/services/auth/access"
)

func TestLogsAreShown(t *testing.T) {
	b, _ := withMachine(t)
	op := b.owner().as("op", access.Operator)
	op.reads(op.get("/system"), 200, []string{`href="/system/logs"`}, `href="/system/update"`)
	op.reads(op.get("/system/logs/dnsd"), 200, []string{
		"Log of dnsd", "2026-11-27 17:00:02 UTC", "msg=started", `<span class="mark bad">error`, `<span class="mark warn">warning`, "&lt;script&gt;alert(1)", "goroutine 1 [running]:",
		`<meta http-equiv="refresh" content="5; url=/system/logs/dnsd?itself=1">`, `href="/system/logs/dnsd?pause=1">Pause`,
	}, "<script>alert")
	op.reads(op.get("/system/logs"), 200, []string{"Log of netcfgd"})
	op.reads(op.get("/system/logs/dnsd?q=RESOLVER&pause=1"), 200, []string{"9.9.9.9:853", `value="RESOLVER"`, `href="/system/logs/dnsd?q=RESOLVER">Go on`, `href="/system/logs/wand?q=RESOLVER"`}, "msg=started", "http-equiv")
	op.reads(op.get("/system/logs/init"), 404, []string{"no such daemon"})
}

func TestLogsAreAway(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	w.reads(w.get("/system/logs/dnsd"), 200, []string{"the update service does not answer"}, "http-equiv")
}

func TestNamesAreLookedUp(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	op := b.owner().as("op", access.Operator)
	op.reads(op.get("/system/lookup"), 200, []string{"<option>iot</option>", "<option>TXT</option>"}, "Answer")
	op.reads(op.get("/system/lookup?zone=iot&name=nas.home.arpa&type=TXT"), 200, []string{
		"nas.home.arpa. TXT", "The name is there.", "192.168.30.5", "&lt;img src=x&gt;", "<option selected>iot</option>", `value="nas.home.arpa"`}, "<img")
	op.reads(op.get("/system/lookup?zone=iot&name=nas..home"), 422, []string{"is no name", `value="nas..home"`})
	op.reads(op.get("/system/lookup?zone=moon&name=nas"), 422, []string{"choose a zone", `value="nas"`})
}

func TestHostsAreAskedWhetherTheyAnswer(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	op := b.owner().as("op", access.Operator)
	op.reads(op.get("/system/reach"), 200, []string{`name="target"`, `href="/system/lookup"`}, "Answer", `href="/system/capture"`)
	op.reads(op.get("/system/reach?target=tv"), 200, []string{
		"192.168.40.5 answers each time: after 0.41 ms on average, 0.41 at least, 0.41 at most.", "an echo", `value="tv"`})
	op.reads(op.get("/system/reach?target=198.51.100.9&how=ping"), 200, []string{"198.51.100.9 does not answer: no answer.", "nobody"})
	op.reads(op.get("/system/reach?target=198.51.100.9&how=traceroute"), 200, []string{
		"198.51.100.9 is reached over 3 hops.", "<code>203.0.113.1</code>", "1.25, 1.50", "on the way", "does not say", "the target", "13, 13, 13", "<option value=\"traceroute\" selected>"})
	op.reads(op.get("/system/reach?target=%3Cscript%3E"), 422, []string{"&lt;script&gt; is no name", `value="&lt;script&gt;"`}, "<script>", "Answer")
	op.reads(op.get("/system/capture"), 403, nil)
}

func TestPacketsAreDownloaded(t *testing.T) {
	b := newSampleBox(t)
	b.start(conf1)
	w := b.owner()
	w.reads(w.get("/system/capture"), 200, []string{"<option>iot</option>", "<option>internet</option>", `value="1000"`, `max="60"`})
	form := map[string][]string{"zone": {"iot"}, "filter": {" udp and port 53 "}, "packets": {"7"}, "seconds": {"5"}}
	v := w.post("/system/capture", form)
	if want := "iot udp and port 53 7 5 127.0.0.1"; v.StatusCode != 200 || v.body != want {
		t.Errorf("got %d %q, want %q", v.StatusCode, v.body, want)
	}
	if got := v.Header.Get("Content-Type"); got != "application/vnd.tcpdump.pcap" {
		t.Errorf("it is %s", got)
	}
	if got := v.Header.Get("Content-Disposition"); !strings.HasPrefix(got, `attachment; filename="iot-2`) || !strings.HasSuffix(got, `.pcap"`) {
		t.Errorf("it is called %s", got)
	}
	form["filter"] = []string{"prot"}
	w.reads(w.post("/system/capture", form), 422, []string{"&#34;prot&#34; is none of host", `value="prot"`, "<option selected>iot</option>", `value="7"`})
	form["packets"] = []string{"many"}
	w.reads(w.post("/system/capture", form), 422, []string{"packets and seconds are numbers"})
}
