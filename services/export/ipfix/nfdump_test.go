//go:build linux

package ipfix_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/services/export/ipfix"
	"bulkhead/services/flow/record"
)

// nfcapd is nfdump's collector, in a network namespace of its own.
type nfcapd struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string
	log  *strings.Builder
	conn net.Conn
}

// queue is the line of its socket in /proc/net/udp, without where that stands in memory
// and whose it is: it listens at port 4739, and nothing waits to be read.
const queue = " 00000000:1283 00000000:0000 07 00000000:00000000 "

func newNfcapd(t *testing.T) *nfcapd {
	t.Helper()
	name, ns := nstest.Named(t)
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up")
	c := &nfcapd{t: t, dir: t.TempDir(), log: new(strings.Builder)}
	c.cmd = exec.Command("ip", "netns", "exec", name, "nfcapd", "-4", "-w", c.dir, "-p", "4739")
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		_ = c.cmd.Wait()
		if t.Failed() {
			t.Logf("nfcapd:\n%s", c.log)
		}
	})
	c.drain()
	nstest.Run(t, ns, func() {
		var err error
		if c.conn, err = net.Dial("udp", "127.0.0.1:4739"); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { c.conn.Close() })
	return c
}

func (c *nfcapd) send(messages [][]byte) {
	c.t.Helper()
	for _, m := range messages {
		if _, err := c.conn.Write(m); err != nil {
			c.t.Fatal(err)
		}
	}
}

// drain waits until nfcapd listens and has taken all that was sent.
func (c *nfcapd) drain() {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", c.cmd.Process.Pid)); err == nil && strings.Contains(string(data), queue) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatal("nfcapd does not read")
		}
	}
}

// stop makes nfcapd write what it has, and returns what nfdump reads of it, sorted.
func (c *nfcapd) stop() []string {
	c.t.Helper()
	c.drain()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatal(err)
	}
	if !strings.Contains(c.log.String(), "Sequence Errors: 0, Bad Packets: 0") {
		c.t.Error("nfcapd counts errors")
	}
	cmd := exec.Command("nfdump", "-q", "-R", c.dir, "-N", "-6",
		"-o", "fmt:%ts,%te,%pr,%sa,%sp,%da,%dp,%opkt,%obyt,%ipkt,%ibyt,%nsa,%nsp,%nda,%ndp,%ismc,%idmc,%in,%out")
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("nfdump: %v\n%s", err, out)
	}
	rows := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(out), " ", "")), "\n")
	slices.Sort(rows)
	return rows
}

// row is how nfdump shows a record, without spaces. To it, "out" is the way back.
func row(r *record.Record, zones []string) string {
	src, dst := netip.AddrPortFrom(r.Src.Addr, r.Src.Port), netip.AddrPortFrom(r.Dst.Addr, r.Dst.Port)
	none := netip.MustParseAddrPort("0.0.0.0:0")
	if !src.Addr().IsValid() {
		src, dst = netip.AddrPortFrom(none.Addr(), r.Src.Port), netip.AddrPortFrom(none.Addr(), r.Dst.Port)
	}
	postSrc, postDst := none, none
	if r.NATSrc.IsValid() || r.NATDst.IsValid() {
		postSrc, postDst = src, dst
	}
	if r.NATSrc.IsValid() {
		postSrc = r.NATSrc
	}
	if r.NATDst.IsValid() {
		dst = r.NATDst
	}
	port := fmt.Sprint(dst.Port())
	if r.Proto == model.ProtoICMP {
		port += ".0" // type and code
	}
	const layout = "2006-01-0215:04:05.000"
	return fmt.Sprintf("%s,%s,%d,%s,%d,%s,%s,%d,%d,%d,%d,%s,%d,%s,%d,%s,%s,%d,%d", r.Start.Format(layout), r.End.Format(layout), r.Proto,
		src.Addr(), src.Port(), dst.Addr(), port, r.In.Packets, r.In.Bytes, r.Out.Packets, r.Out.Bytes,
		postSrc.Addr(), postSrc.Port(), postDst.Addr(), postDst.Port(), r.Src.MAC, r.Dst.MAC,
		slices.Index(zones, r.Src.Zone)+1, slices.Index(zones, r.Dst.Zone)+1)
}

func TestNfdumpReadsTheSameFlows(t *testing.T) {
	c := newNfcapd(t)
	zones := []string{"internet", "iot", "storage", "guest"}
	e := ipfix.New(zones...)
	records := mix()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		r := mix()[i%7]
		r.Start = noon.Add(-time.Duration(random.IntN(1e6)) * time.Millisecond)
		r.Out = record.Count{Packets: 1 + random.Uint64N(1e6), Bytes: 40 + random.Uint64N(1e12)}
		if r.Verdict == record.Allowed {
			r.In = record.Count{Packets: 1 + random.Uint64N(1e6), Bytes: 40 + random.Uint64N(1e12)}
		}
		records = append(records, r)
	}
	c.send(e.Templates(noon))
	for some := range slices.Chunk(records, 100) { // as many as its socket surely holds
		c.send(e.Flows(noon, some))
		c.drain()
	}
	got := c.stop()
	var want []string
	for i := range records {
		want = append(want, row(&records[i], zones))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
