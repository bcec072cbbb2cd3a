//go:build linux

package lab

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
)

// door is a way to the management pages: from a machine in an admin zone.
type door struct {
	at        *station
	zone      string
	subnet    netip.Prefix
	from, box netip.Addr
}

func (d door) String() string {
	return fmt.Sprintf("%s (zone %s) to https://%s", d.from, d.zone, d.box)
}

// doors are those of a configuration.
func (s *sentinel) doors(cfg *model.Config) (list []door) {
	for _, z := range cfg.Zones {
		i := slices.IndexFunc(s.stations, func(st *station) bool { return st.port == z.Port.Name && st.vlan == z.VLAN })
		if !z.Admin || i < 0 {
			continue
		}
		b := z.Subnet.Addr().As4()
		b[3] += 77 // nobody else's: of no device, and out of no pool
		list = append(list, door{s.stations[i], z.Name, z.Subnet, netip.AddrFrom4(b), z.Gateway})
	}
	return list
}

// settle gives the machine at a door its address.
func (d door) settle() error {
	return d.at.IP(fmt.Sprintf("addr replace %s/%d dev %s", d.from, d.subnet.Bits(), clientLink))
}

// answers asks the box through the door whether it is there.
func (d door) answers(ctx context.Context) error {
	const patience = 3 * time.Second // of a browser, at least
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var conn net.Conn
	err := d.at.Do(func() (err error) {
		from := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(d.from, 0))}
		conn, err = from.DialContext(ctx, "tcp4", netip.AddrPortFrom(d.box, 443).String())
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // nobody else is there
	if _, err := fmt.Fprintf(secure, "GET /api/v1/health HTTP/1.1\r\nHost: %s\r\n\r\n", d.box); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// adminPath uses doors all the time.
type adminPath struct {
	s *sentinel

	watch sync.RWMutex // held by who changes doors
	doors []door

	mu         sync.Mutex
	failed     []string
	used, lost atomic.Int64
}

// hold says which doors must be open from now on. It returns when none of the others is
// in use any more.
func (p *adminPath) hold(doors []door) {
	p.watch.Lock()
	defer p.watch.Unlock()
	p.doors = doors
}

// run uses the doors until the context ends.
func (p *adminPath) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		p.use(ctx, n)
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (p *adminPath) use(ctx context.Context, n int) {
	p.watch.RLock()
	defer p.watch.RUnlock()
	if len(p.doors) == 0 {
		return
	}
	d := p.doors[n%len(p.doors)]
	lost, err := p.s.knock(ctx, d, uint16(10000+n%10000))
	p.lost.Add(int64(lost))
	if err == nil && n%4 == 0 { // each has to be dialed, with cryptography
		err = d.answers(ctx)
	}
	if err != nil && ctx.Err() == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.failed = append(p.failed, fmt.Sprintf("%s at %s: %v", d, time.Now().Format("15:04:05.000"), err))
		return
	}
	p.used.Add(1)
}

// failures are the uses that did not succeed, since it was last asked.
func (p *adminPath) failures() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.failed
	p.failed = nil
	return list
}

// auditor says how the gateway differs from what a configuration asks for.
type auditor struct {
	lab    *Lab
	kernel *apply.Kernel
	fresh  *Host // to load rules into that nobody has seen before
}

func newAuditor(l *Lab) (*auditor, error) {
	k, err := apply.Open(l.Gateway.NetNS(), filepath.Join(l.World.Dir, "auditor"))
	if err != nil {
		return nil, err
	}
	fresh, err := l.World.NewHost("fresh")
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	l.Clients = append(l.Clients, &Client{Host: fresh}) // so that it goes with the lab
	return &auditor{l, k, fresh}, nil
}

// compile makes of a file what it asks for with what the box knows.
func (a *auditor) compile(ctx context.Context, data []byte) (*compile.Result, error) {
	s, err := a.lab.API.Status(ctx)
	if err != nil {
		return nil, err
	}
	cfg, problems := conf.ParseConfirmed("audit.yaml", data, s.Now)
	if cfg == nil {
		return nil, problems.Err()
	}
	f := facts.Facts{Now: s.Now, Provided: a.lab.provided, Uplink: s.Uplink}
	if f.Links, f.Kernel, err = a.kernel.Facts(); err != nil {
		return nil, err
	}
	pins, err := a.pins()
	if err != nil {
		return nil, err
	}
	f.Devices = compile.Pin(cfg, pins, func(netip.Addr) bool { return false })
	return compile.Compile(cfg, f), nil
}

// pins are the addresses that the box has given to devices.
func (a *auditor) pins() (pins map[string]netip.Addr, err error) {
	data, err := os.ReadFile(filepath.Join(a.lab.World.Dir, "perm/netcfgd/addresses.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &pins)
	}
	return pins, err
}

// shownLink is a link as ip(8) shows it.
type shownLink struct {
	Up    bool
	Alias string
	Addrs []string
}

// kernelDiffers says how the kernel of the gateway differs from what is desired, as the
// ordinary tools show it; "" if it does not.
func (a *auditor) kernelDiffers(want state.State) (string, error) {
	links, routes := make(map[string]shownLink), []string{}
	out, err := a.lab.Gateway.Output("ip", "-j", "addr")
	if err != nil {
		return "", err
	}
	var shown []struct {
		Name  string   `json:"ifname"`
		Flags []string `json:"flags"`
		Addrs []struct {
			Family string `json:"family"`
			Local  string `json:"local"`
			Bits   int    `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		return "", err
	}
	aliases, err := a.lab.Gateway.Output("sh", "-c", "cd /sys/class/net && grep -s . */ifalias || true")
	if err != nil {
		return "", err
	}
	alias := make(map[string]string)
	for line := range strings.Lines(aliases) {
		link, text, _ := strings.Cut(strings.TrimSpace(line), "/ifalias:")
		alias[link] = text
	}
	for _, l := range shown {
		if l.Name == "lo" {
			continue
		}
		s := shownLink{Up: slices.Contains(l.Flags, "UP"), Alias: alias[l.Name]}
		for _, addr := range l.Addrs {
			if addr.Family == "inet" {
				s.Addrs = append(s.Addrs, fmt.Sprintf("%s/%d", addr.Local, addr.Bits))
			}
		}
		links[l.Name] = s
	}
	if out, err = a.lab.Gateway.Output("ip", "-4", "route"); err != nil {
		return "", err
	}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		routes = append(routes, strings.Join(f[:slices.Index(f, "dev")+2], " "))
	}
	slices.Sort(routes)

	wantLinks, wantRoutes := make(map[string]shownLink), []string{}
	for name := range links { // those that nobody uses are down
		wantLinks[name] = shownLink{}
	}
	for _, l := range want.Links {
		wantLinks[l.Name] = shownLink{Up: l.Up, Alias: l.Alias}
	}
	for _, addr := range want.Addrs {
		l := wantLinks[addr.Link]
		l.Addrs = append(l.Addrs, addr.Prefix.String())
		wantLinks[addr.Link] = l
		wantRoutes = append(wantRoutes, fmt.Sprintf("%s dev %s", addr.Prefix.Masked(), addr.Link))
	}
	for _, r := range want.Routes {
		dst := strings.Replace(r.Dst.String(), "0.0.0.0/0", "default", 1)
		wantRoutes = append(wantRoutes, fmt.Sprintf("%s via %s dev %s", dst, r.Gateway, r.Link))
	}
	slices.Sort(wantRoutes)
	diff := cmp.Diff(wantLinks, links) + cmp.Diff(wantRoutes, routes)

	settings, wantSettings := make(map[string]string), make(map[string]string)
	for _, s := range want.Sysctls {
		wantSettings[s.Key] = s.Value
		var value []byte
		if err := a.lab.Gateway.Do(func() (err error) { value, err = os.ReadFile("/proc/sys/" + s.Key); return err }); err != nil {
			return "", err
		}
		settings[s.Key] = strings.TrimSpace(string(value))
	}
	diff += cmp.Diff(wantSettings, settings)

	rules, err := a.rules(want.Ruleset)
	return diff + rules, err
}

// rules compares the gateway's table with what a kernel makes of the desired one that
// has never had another.
func (a *auditor) rules(want state.Ruleset) (diff string, err error) {
	file := filepath.Join(a.lab.World.Dir, "fresh.nft")
	if err := os.WriteFile(file, []byte("flush ruleset\n"+want.Table.String()), 0o644); err != nil {
		return "", err
	}
	if _, err := a.fresh.Output("nft", "-f", file); err != nil {
		return "", err
	}
	fresh, err := listRules(a.fresh)
	if err != nil {
		return "", err
	}
	is, err := listRules(a.lab.Gateway)
	return cmp.Diff(fresh, is), err
}

// listRules lists all that is in a host's table, sorted: chains, sets and counters come in
// the order in which they were made. Sets that packets fill are emptied before, as they
// may be so long that listing them takes seconds. What they held is nobody's wish.
func listRules(h *Host) ([]string, error) {
	parts, err := listParts(h, "-t") // without elements
	if err != nil {
		return nil, err
	}
	dynamic := func(part string) bool { return strings.Contains(part, "flags dynamic") }
	for _, p := range parts {
		if !dynamic(p) {
			continue
		}
		if _, err := h.Output("nft", "flush", "set", "inet", state.TableName, strings.Fields(p)[1]); err != nil {
			return nil, err
		}
	}
	parts, err = listParts(h)
	for i, p := range parts {
		if dynamic(p) {
			p, _, _ = strings.Cut(p, "\t\telements = ")
			parts[i] = strings.TrimSuffix(p, "\t}")
		}
	}
	slices.Sort(parts)
	return parts, err
}

func listParts(h *Host, flags ...string) ([]string, error) {
	out, err := h.Output("nft", slices.Concat([]string{"-s"}, flags, []string{"list", "ruleset"})...)
	_, out, _ = strings.Cut(strings.TrimSuffix(out, "\n}\n"), "{\n")
	return strings.Split(out, "\n\n"), err
}

// servicesDiffer says how the services differ from what they are to be told, in what
// they are told and in what they say that they serve.
func (a *auditor) servicesDiffer(want *compile.Result) (string, error) {
	var diff strings.Builder
	for _, s := range []struct {
		user svcconf.User
		conf any
	}{
		{svcconf.Wand, want.WAN}, {svcconf.Dhcpd, want.DHCP}, {svcconf.Dnsd, want.DNS},
		{svcconf.Webuid, want.Web}, {svcconf.Updated, want.Update}, {svcconf.Pushd, want.Push},
	} {
		desired, err := json.MarshalIndent(s.conf, "", "\t")
		if err != nil {
			return "", err
		}
		desired = append(desired, '\n')
		told, err := os.ReadFile(filepath.Join(runDir, s.user.Name, svcconf.ConfigFile))
		if err != nil {
			return "", err
		}
		if d := cmp.Diff(string(desired), string(told)); d != "" {
			fmt.Fprintf(&diff, "%s is told otherwise:\n%s", s.user.Name, d)
		}
		if a.lab.Daemons[s.user.Name] == nil {
			continue
		}
		ack, err := os.ReadFile(filepath.Join(runDir, s.user.Name, svcconf.AckFile))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if want := fmt.Sprintf("%x", sha256.Sum256(desired)); strings.TrimSpace(string(ack)) != want {
			fmt.Fprintf(&diff, "%s serves %.12s, not %.12s\n", s.user.Name, ack, want)
		}
	}
	return diff.String(), nil
}

// recordsDiffer says how what netcfgd says and keeps differs from a confirmed file with
// nothing pending.
func (a *auditor) recordsDiffer(ctx context.Context, data []byte) (string, error) {
	s, err := a.lab.API.Status(ctx)
	if err != nil {
		return "", err
	}
	kept, err := os.ReadFile(filepath.Join(a.lab.World.Dir, "perm/netcfgd/confirmed.yaml"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(a.lab.World.Dir, "perm/netcfgd/staged.json")); err == nil {
		return "a change is still staged\n", nil
	}
	type records struct {
		Mode              api.Mode
		Digest            string
		Pending           *api.Pending
		Applied           bool
		Untaken, Troubles []string
		Kept              string
	}
	want := records{Mode: api.Running, Digest: fmt.Sprintf("%x", sha256.Sum256(data)), Applied: true, Kept: string(data)}
	is := records{s.Mode, s.Digest, s.Pending, s.Applied, slices.DeleteFunc(s.Untaken, func(n string) bool { return a.lab.Daemons[n] == nil }), s.Troubles, string(kept)}
	if len(is.Untaken) == 0 {
		is.Untaken = nil
	}
	return cmp.Diff(want, is), nil
}
