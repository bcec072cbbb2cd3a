//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow"
	"bulkhead/services/flow/record"
	"bulkhead/services/privdrop"
	"bulkhead/services/run"
	"bulkhead/services/sock"
)

// asDaemon makes the test binary the daemon in its value.
const asDaemon = "BULKHEAD_TEST_DAEMON"

func TestMain(m *testing.M) {
	switch os.Getenv(asDaemon) {
	case "exportd":
		main()
	case "flowd": // as its own main does
		dirs := run.Flags(flag.CommandLine)
		flag.Parse()
		me := svcconf.Flowd
		_, err1 := privdrop.Dir(dirs.Run, me.Name, me.ID, svcconf.Webuid.ID)
		_, err2 := privdrop.Dir(dirs.Run, svcconf.NamesDir, me.ID, svcconf.Dnsd.ID)
		_, err3 := privdrop.Dir(dirs.Run, svcconf.FeedDir, me.ID, svcconf.Exportd.ID)
		_, err4 := privdrop.Dir(dirs.State, me.Name, me.ID, me.ID)
		if err := errors.Join(err1, err2, err3, err4, privdrop.Exec(me.ID, unix.CAP_NET_ADMIN)); err != nil {
			log.Fatal(err)
		}
		run.Main(me.Name, func(ctx context.Context, log *slog.Logger) error { return flow.Serve(ctx, log, *dirs) })
	case "netcfgd":
		dirs := run.Flags(flag.CommandLine)
		flag.Parse()
		log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("svc", "netcfgd")
		log.Error("ended", "err", reconcile.Serve(context.Background(), log, reconcile.Paths{Run: dirs.Run, State: dirs.State}))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// box is a gateway with a real netcfgd and exportd, and a flowd that says what the test
// says, before a storage room with a host that has real collectors.
type box struct {
	t             *testing.T
	dir           string
	gw, storage   int // namespaces
	name          string
	api           *api.Client
	log           nstest.Output
	flows, events chan any
}

const (
	vault        = "192.168.30.10"
	debianPython = "/usr/bin/python3" // which has Debian's modules
)

func newBox(t *testing.T, flowd func(*box)) *box {
	b := &box{t: t, gw: nstest.New(t), flows: make(chan any), events: make(chan any)}
	b.name, b.storage = nstest.Named(t)
	var err error
	if b.dir, err = os.MkdirTemp("", "x"); err != nil { // short: a socket's path has 107 bytes
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(b.dir) })
	if err := os.Chmod(b.dir, 0o755); err != nil { // exportd's user passes through
		t.Fatal(err)
	}
	nstest.Exec(t, b.gw, "ip", "link", "set", "lo", "up")
	nstest.Veth(t, b.gw, "nas", b.storage, "eth0")
	nstest.Exec(t, b.gw, "ip", "link", "set", "nas", "address", "52:54:00:10:00:03")
	nstest.Exec(t, b.storage, "ip", "link", "set", "lo", "up")
	nstest.Exec(t, b.storage, "ip", "link", "set", "eth0", "address", "52:54:00:30:00:10")
	for _, a := range []string{vault, "192.168.30.11"} {
		nstest.Exec(t, b.storage, "ip", "addr", "add", a+"/24", "dev", "eth0")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the box said:\n%s", b.log.String())
		}
	})
	flowd(b)
	b.start("netcfgd")
	b.start("exportd")
	b.api = api.NewClient(filepath.Join(b.dir, "run", api.SocketFile))
	b.until("netcfgd answers", func() bool { _, err := b.api.Zones(t.Context()); return err == nil })
	return b
}

func (b *box) start(name string) {
	b.t.Helper()
	cmd := exec.Command(os.Args[0], "-run", filepath.Join(b.dir, "run"), "-state", filepath.Join(b.dir, "state"))
	cmd.Env = append(os.Environ(), asDaemon+"="+name)
	cmd.Stderr = &b.log
	nstest.Run(b.t, b.gw, func() {
		if err := cmd.Start(); err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGKILL); _ = cmd.Wait() }) // it may be gone
}

// inStorage runs a program in the storage room until the test ends.
func (b *box) inStorage(out io.Writer, program ...string) *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", b.name}, program...)...)
	cmd.Stdout, cmd.Stderr = out, &b.log
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it may be gone
	return cmd
}

// flowd serves the live streams to exportd's user.
func (b *box) flowd() {
	dir, err := privdrop.Dir(filepath.Join(b.dir, "run"), svcconf.FeedDir, 0, svcconf.Exportd.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	l, err := sock.Listen(filepath.Join(dir, svcconf.FlowsSocket), svcconf.Exportd.ID, svcconf.Exportd.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	stream := func(c chan any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for http.NewResponseController(w).Flush() == nil {
				select {
				case <-r.Context().Done():
					return
				case v := <-c:
					_ = json.NewEncoder(w).Encode(v)
				}
			}
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/flows/live", stream(b.flows))
	mux.HandleFunc("GET /v1/events/live", stream(b.events))
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	b.t.Cleanup(func() { srv.Close() })
}

func (b *box) until(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("never came true: %s", what)
		}
	}
}

func (b *box) apply(file string) {
	b.t.Helper()
	if _, err := api.Keep(b.t.Context(), b.api, api.Change{File: api.File{Name: "home.yaml", Data: []byte(file)}, Author: "alex", Why: "a test"}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) secret(name, value string) {
	b.t.Helper()
	if _, err := b.api.SetSecret(b.t.Context(), name, api.NewSecret{Value: api.Hidden(value), Author: "alex"}); err != nil {
		b.t.Fatal(err)
	}
}

// dial connects from the gateway as a user.
func (b *box) dial(user int, network, addr string) (err error) {
	b.t.Helper()
	nstest.Run(b.t, b.gw, func() {
		id := uintptr(user)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); errno != 0 { // this thread's only
			b.t.Error(errno)
			return
		}
		// Without a dialer of its own Go may connect on another thread.
		d := net.Dialer{Timeout: 2 * time.Second}
		var conn net.Conn
		if conn, err = d.Dial(network, addr); err == nil {
			_, err = conn.Write([]byte("x")) // of a datagram, the ruleset's refusal is the error
			conn.Close()
		}
	})
	return err
}

const home = `
system: {name: gw, domain: home.arpa, timezone: Europe/Berlin}
ports:
  nas: {mac: "52:54:00:10:00:03"}
zones:
  storage: {port: nas, subnet: 192.168.30.0/24, admin: true}
devices:
  vault: {zone: storage, mac: "52:54:00:30:00:10", address: 192.168.30.10, owner: alex, purpose: logs}
`

// certify makes a certificate for the vault that is its own authority.
func certify(t *testing.T, dir string) (der []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vault"}, DNSNames: []string{"vault.home.arpa"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if der, err = x509.CreateCertificate(rand.Reader, c, c, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir+"/key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return der
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	noon  = time.Date(2026, 11, 27, 12, 0, 0, 7e6, time.UTC)
	films = record.Record{
		Start: noon.Add(-time.Minute), End: noon, Began: noon.Add(-time.Minute),
		Src: record.Side{Zone: "storage", Device: "tv", Addr: netip.MustParseAddr("192.168.30.100"), Port: 40000},
		Dst: record.Side{Zone: model.Internet, Addr: netip.MustParseAddr("203.0.113.9"), Port: 443}, Proto: model.ProtoTCP,
		NATSrc: netip.MustParseAddrPort("203.0.113.2:61000"), Out: record.Count{Packets: 5, Bytes: 900}, In: record.Count{Packets: 7, Bytes: 9000},
		Verdict: record.Allowed, Rule: "browsing", Ended: record.Finished, Name: `fi"l]m\s.example`,
	}
	scan = record.Event{Time: noon, Kind: record.PortScan, Side: films.Src, Text: "\"tv\r\n.\r\nBcc: x@example.com\" tried 100 ports", Key: "tv"}
)

// TestRealCollectorsReadWhatGoesThroughTheRules has rsyslog, nfcapd and a mail server take
// what a box sends that its own ruleset keeps from sending anything else.
func TestRealCollectorsReadWhatGoesThroughTheRules(t *testing.T) {
	b := newBox(t, (*box).flowd)
	certificate := certify(t, b.dir)
	logs := b.rsyslog()
	flows := b.nfcapd()
	mail := new(nstest.Output)
	b.inStorage(mail, debianPython, "testdata/mail.py", vault, b.dir+"/cert.pem", b.dir+"/key.pem")
	b.until("the mail server listens", func() bool { return strings.Contains(mail.String(), "ready") })
	b.apply(home)
	for network, port := range map[string]string{"tcp4": ":514", "udp4": ":4739"} {
		if err := b.dial(svcconf.Exportd.ID, network, vault+port); err == nil {
			t.Error("exportd gets out although nothing is to be sent")
		}
	}
	b.secret("mail", "hunter2-mail")
	ca := base64.StdEncoding.EncodeToString(certificate)
	b.apply(home + fmt.Sprintf(`
export:
  datagrams: {format: syslog, to: "udp://vault"}
  stream:    {format: syslog, to: "tcp://vault"}
  sealed:    {format: syslog, to: "tls://vault", ca: %[1]s}
  collector: {format: ipfix, to: "udp://vault"}
alerts:
  starttls: {by: mail, to: "smtp://vault", ca: %[1]s, user: box, password: {secret: mail}, from: box@example.com, recipients: [alex@example.com, kim@example.com]}
  smtps:    {by: mail, to: "smtps://vault", ca: %[1]s, user: box, password: {secret: mail}, from: box@example.com, recipients: kim@example.com, events: [change]}
`, ca))
	b.flows <- films
	b.events <- scan
	b.checkLogs(logs)
	b.checkMail(mail, "587")
	b.until("the record is sent", func() bool {
		return strings.Contains(b.status(), `"name": "collector",`+"\n\t\t\t"+`"sent": 1`)
	})
	flows()
	b.checkTest(mail)
	b.checkRules()
	b.checkSecrets()
}

// rsyslog starts a rsyslog that takes syslog in three ways, and returns its file.
func (b *box) rsyslog() (path string) {
	path = b.dir + "/log"
	write(b.t, b.dir+"/rsyslog.conf", fmt.Sprintf(`
global(workDirectory="%[1]s" defaultNetstreamDriverCAFile="%[1]s/cert.pem" defaultNetstreamDriverCertFile="%[1]s/cert.pem" defaultNetstreamDriverKeyFile="%[1]s/key.pem")
module(load="imudp")
module(load="imptcp")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
module(load="mmpstrucdata")
template(name="line" type="string" string="%%inputname%% %%protocol-version%% %%pri-text%% %%timestamp:::date-rfc3339%% %%hostname%% %%app-name%% %%msgid%%|%%$!%%|%%msg%%\n")
ruleset(name="all") {
	action(type="mmpstrucdata")
	action(type="omfile" file="%[1]s/log" template="line")
}
input(type="imudp" port="514" ruleset="all")
input(type="imptcp" port="514" ruleset="all")
input(type="imtcp" port="6514" ruleset="all")
`, b.dir))
	b.inStorage(&b.log, "rsyslogd", "-n", "-f", b.dir+"/rsyslog.conf", "-i", b.dir+"/rsyslog.pid")
	b.until("rsyslog listens", func() bool {
		out := nstest.Exec(b.t, b.storage, "ss", "-lntuH")
		return strings.Contains(out, ":6514") && strings.Count(out, ":514 ") >= 2
	})
	return path
}

// checkLogs holds that rsyslog has understood the record and the event, three times each.
func (b *box) checkLogs(path string) {
	b.t.Helper()
	var text string
	b.until("all has been logged", func() bool {
		data, err := os.ReadFile(path)
		text = string(data)
		return err == nil && strings.Count(text, "\n") >= 6
	})
	count := map[string]int{}
	for line := range strings.Lines(strings.TrimSpace(text)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), "|", 3)
		if len(parts) != 3 {
			b.t.Fatalf("in the log: %s", line)
		}
		input, head, _ := strings.Cut(parts[0], " ")
		count[input]++
		var v struct {
			SD map[string]map[string]string `json:"rfc5424-sd"`
		}
		if err := json.Unmarshal([]byte(parts[1]), &v); err != nil {
			b.t.Fatalf("%v in the log: %s", err, line)
		}
		if flow := v.SD["flow@32473"]; flow != nil {
			if head != "1 local0.info 2026-11-27T12:00:00.007+00:00 gw bulkhead flow" && head != "1 local0.info 2026-11-27T12:00:00.007Z gw bulkhead flow" ||
				flow["srcip"] != "192.168.30.100" || flow["natsrc"] != "203.0.113.2:61000" || flow["inbytes"] != "9000" || flow["rule"] != "browsing" ||
				flow["name"] != films.Name || !strings.HasSuffix(parts[2], "allowed by browsing, 900 bytes out, 9000 back") {
				b.t.Errorf("of the record, rsyslog has\n%s", line)
			}
			continue
		}
		if event := v.SD["event@32473"]; event["kind"] != "port-scan" || event["aboutdevice"] != "tv" || strings.TrimSpace(parts[2]) != `"tv??.??Bcc: x@example.com" tried 100 ports` {
			b.t.Errorf("of the event, rsyslog has\n%s", line)
		}
	}
	if len(count) != 3 || count["imudp"] != 2 || count["imptcp"] != 2 || count["imtcp"] != 2 {
		b.t.Errorf("messages by input: %v", count)
	}
}

// nfcapd starts nfdump's collector. What it returns stops it, and checks what it has.
func (b *box) nfcapd() (check func()) {
	dir := b.dir + "/flows"
	if err := os.Mkdir(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	cmd := b.inStorage(&b.log, "nfcapd", "-4", "-w", dir, "-p", "4739")
	b.until("nfcapd listens", func() bool { return strings.Contains(nstest.Exec(b.t, b.storage, "ss", "-lnuH"), ":4739") })
	return func() {
		b.t.Helper()
		b.until("nfcapd has read", func() bool {
			return strings.Contains(nstest.Exec(b.t, b.storage, "ss", "-lnuH", "sport", "=", ":4739"), "UNCONN 0 ")
		})
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			b.t.Fatal(err)
		}
		_ = cmd.Wait() // what it wrote counts
		out, err := exec.Command("nfdump", "-q", "-R", dir, "-N", "-o", "fmt:%sa,%sp,%da,%dp,%nsa,%nsp,%opkt,%obyt,%ipkt,%ibyt").CombinedOutput()
		if got := strings.ReplaceAll(strings.TrimSpace(string(out)), " ", ""); err != nil || got != "192.168.30.100,40000,203.0.113.9,443,203.0.113.2,61000,7,9000,5,900" {
			b.t.Errorf("nfdump reads %q, %v", got, err)
		}
	}
}

// checkMail holds that the event came by mail, and nothing else in it.
func (b *box) checkMail(mail *nstest.Output, port string) {
	b.t.Helper()
	b.until("mail comes to port "+port, func() bool { return strings.Contains(mail.String(), `{"port": `+port) })
	for in := bufio.NewScanner(strings.NewReader(mail.String())); in.Scan(); {
		var m struct {
			Port             int
			From, Data, User string
			To               []string
		}
		if json.Unmarshal(in.Bytes(), &m) != nil || fmt.Sprint(m.Port) != port {
			continue
		}
		if m.User != "box" || m.From != "box@example.com" || strings.Contains(m.Data, "\nBcc") || !strings.Contains(m.Data, "\r\nSubject: gw: ") {
			b.t.Errorf("mail is %+v", m)
		}
		if port == "587" && (len(m.To) != 2 || !strings.Contains(m.Data, "Subject: gw: port scan\r\n") || !strings.Contains(m.Data, "2026-11-27 13:00:00 \"tv")) {
			b.t.Errorf("mail is %+v", m)
		}
		return
	}
}

func (b *box) status() string {
	data, _ := os.ReadFile(filepath.Join(b.dir, "run", svcconf.Exportd.Name, svcconf.StatusFile)) // none yet
	return string(data)
}

// checkTest has the alerts tried out.
func (b *box) checkTest(mail *nstest.Output) {
	b.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return sock.Dial(ctx, filepath.Join(b.dir, "run", svcconf.Exportd.Name, svcconf.ExportSocket))
	}}}
	resp, err := client.Post("http://exportd/v1/alerts/test", "application/json", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	want := `[{"name":"starttls","answer":"taken by the mail server"},{"name":"smtps","answer":"taken by the mail server"}]` + "\n"
	if err != nil || string(got) != want {
		b.t.Errorf("the test says %s, %v", got, err)
	}
	b.checkMail(mail, "465")
}

// checkRules holds that exportd reaches what the file names, and nobody else does.
func (b *box) checkRules() {
	b.t.Helper()
	me := svcconf.Exportd.ID
	for _, to := range []string{"tcp4 :514", "tcp4 :6514", "tcp4 :587", "tcp4 :465", "udp4 :514", "udp4 :4739"} {
		network, port, _ := strings.Cut(to, " ")
		if err := b.dial(me, network, vault+port); err != nil {
			b.t.Errorf("exportd to %s: %v", to, err)
		}
	}
	b.inStorage(io.Discard, debianPython, "-m", "http.server", "8080")
	b.until("somebody else listens", func() bool { return strings.Contains(nstest.Exec(b.t, b.storage, "ss", "-lntH"), ":8080") })
	var all sync.WaitGroup // each of whom waits in vain
	refuse := func(user int, network, addr string) {
		all.Go(func() {
			if err := b.dial(user, network, addr); err == nil {
				b.t.Errorf("user %d reaches %s", user, addr)
			}
		})
	}
	refuse(me, "tcp4", vault+":8080")
	refuse(me, "tcp4", "192.168.30.11:514")
	refuse(me, "udp4", "192.168.30.11:514")
	refuse(me, "udp4", vault+":53")
	for _, user := range []int{0, svcconf.Flowd.ID, svcconf.Dnsd.ID, svcconf.Webuid.ID, svcconf.Pushd.ID, 65534} {
		refuse(user, "tcp4", vault+":514")
		refuse(user, "udp4", vault+":4739")
	}
	all.Wait()
}

// checkSecrets looks for the password everywhere but where exportd is told it.
func (b *box) checkSecrets() {
	b.t.Helper()
	mine, found := filepath.Join(b.dir, "run", svcconf.Exportd.Name, svcconf.ConfigFile), false
	err := filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		switch has := strings.Contains(string(data), "hunter2"); {
		case path == mine:
			info, err := d.Info()
			if err != nil {
				return err
			}
			st := info.Sys().(*syscall.Stat_t)
			if found = has; info.Mode().Perm() != 0o640 || st.Uid != 0 || int(st.Gid) != svcconf.Exportd.ID {
				b.t.Errorf("%s is of %d:%d, %v", path, st.Uid, st.Gid, info.Mode())
			}
		case has:
			b.t.Errorf("%s has the password", path)
		}
		return err
	})
	if err != nil || !found || strings.Contains(b.log.String(), "hunter2") {
		b.t.Errorf("the password: where it should be: %v, %v; in what was said: %v", found, err, strings.Contains(b.log.String(), "hunter2"))
	}
}

// TestExportdHearsTheRealFlowd opens a connection to the box, and finds it at a collector.
func TestExportdHearsTheRealFlowd(t *testing.T) {
	b := newBox(t, func(b *box) { b.start("flowd") })
	b.apply(home + `
export:
  vector: {format: json, to: "tcp://vault:9000", send: flows}
`)
	lines := make(chan string, 100)
	nstest.Run(t, b.storage, func() {
		l, err := net.Listen("tcp4", vault+":9000")
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				for in := bufio.NewScanner(c); in.Scan(); {
					lines <- in.Text()
				}
			}
		}()
	})
	b.until("flowd knows the rules", func() bool {
		_, err := os.Stat(filepath.Join(b.dir, "run", svcconf.Flowd.Name, svcconf.AckFile))
		return err == nil
	})
	var outcome error
	nstest.Run(t, b.storage, func() { // nobody listens there, so that the connection is over soon
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(vault), Port: 45454}}
		_, outcome = d.Dial("tcp4", "192.168.30.1:443")
	})
	deadline := time.After(60 * time.Second)
	for {
		select {
		case line := <-lines:
			var v struct {
				Type, Box string
				record.Record
			}
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if v.Src.Port != 45454 {
				continue // exportd's own, for one
			}
			if v.Type != "flow" || v.Box != "gw" || v.Src.Device != "vault" || v.Dst.Zone != model.Box || v.Dst.Port != 443 || v.Rule != "box:admin" || v.Out.Packets != 1 {
				t.Errorf("the connection is told as %s", line)
			}
			return
		case <-deadline:
			t.Fatalf("the connection (%v) is not told of; exportd says %s", outcome, b.status())
		}
	}
}
