//go:build linux

package webui_test

import (
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
