//go:build linux

package gate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/probe"
	"bulkhead/services/run"
	"bulkhead/services/sock/sockhttp"
)

// patience is how long one thing may take to answer. What does not answer in that
// time is asked again, until the trial is over.
const patience = 8 * time.Second

// Bounds of what is read, in bytes.
const (
	maxStatus = 4 << 20
	maxFile   = 32 << 20 // of the confirmed configuration
)

// An Asker asks the box's own programs.
type Asker struct {
	Dirs run.Dirs

	// ask asks a service what it would answer a client of a zone, and get fetches a
	// page. They are probe.Ask and a plain GET but in tests.
	ask func(ctx context.Context, socket, zone string, msg []byte) ([]byte, error)
	get func(ctx context.Context, url string) error
}

// NewAsker returns an asker of the programs in dirs.
func NewAsker(dirs run.Dirs) *Asker { return &Asker{dirs, probe.Ask, get} }

// Before returns how the box is, for a later comparison.
func (a *Asker) Before(ctx context.Context) Before {
	l := a.Look(ctx)
	if l.Config != nil {
		for what := range l.silent() {
			l.Silent = append(l.Silent, what)
		}
	}
	return l.Before
}

func (a *Asker) before(ctx context.Context) (Before, error) {
	var b Before
	data, err := file.Read(filepath.Join(a.Dirs.StateDir("netcfgd"), "confirmed.yaml"), maxFile)
	switch {
	case err == nil:
		sum := sha256.Sum256(data)
		b.Digest = hex.EncodeToString(sum[:])
	case !errors.Is(err, fs.ErrNotExist):
		b.Digest = "unreadable"
	}
	b.Netcfgd, err = a.netcfgd(ctx)
	return b, err
}

// netcfgd asks netcfgd for its status.
func (a *Asker) netcfgd(ctx context.Context) (*Netcfgd, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	socket := filepath.Join(a.Dirs.Run, "netcfgd.sock")
	client := http.Client{Transport: sockhttp.Transport(socket)}
	req, err := http.NewRequestWithContext(ctx, "GET", "http://netcfgd/v1/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, errors.Unwrap(err) // without the made-up address
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	var status struct {
		Netcfgd
		Uplink *struct {
			Address netip.Prefix `json:"address"`
		} `json:"uplink"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&status); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	n := status.Netcfgd
	n.Uplink = status.Uplink != nil && status.Uplink.Address.IsValid()
	return &n, nil
}

// Look asks for everything once. It takes a few seconds at most.
func (a *Asker) Look(ctx context.Context) Look {
	var l Look
	var err error
	if l.Before, err = a.before(ctx); err != nil {
		l.NoNetcfgd = err.Error()
		return l
	}
	if data, err := file.Read(a.Dirs.Config(svcconf.Updated.Name), 1<<20); err == nil {
		var c svcconf.Update
		if json.Unmarshal(data, &c) == nil {
			l.Config = &c
		}
	}
	if l.Config == nil {
		return l
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l.DHCP, l.DNS, l.Admin = map[string]string{}, map[string]string{}, map[netip.Addr]string{}
	var asked sync.WaitGroup
	var mu sync.Mutex
	for _, z := range l.Config.DHCP {
		asked.Go(func() { put(&mu, l.DHCP, z.Zone, a.dhcp(ctx, z)) })
	}
	for _, z := range l.Config.DNS {
		asked.Go(func() { put(&mu, l.DNS, z.Zone, a.dns(ctx, z)) })
	}
	for _, addr := range l.Config.Admin {
		asked.Go(func() {
			put(&mu, l.Admin, addr, a.get(ctx, "https://"+netip.AddrPortFrom(addr, 443).String()+"/api/v1/health"))
		})
	}
	asked.Wait()
	return l
}

// put notes an answer under a lock.
func put[K comparable](mu *sync.Mutex, m map[K]string, key K, err error) {
	mu.Lock()
	defer mu.Unlock()
	m[key] = ""
	if err != nil {
		m[key] = err.Error()
	}
}

// get fetches a page. The box's certificate is its own, and what matters here is that
// the server behind it works.
func get(ctx context.Context, url string) error {
	t := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}}
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("true"))) {
		err = fmt.Errorf("HTTP status %d: %.100s", resp.StatusCode, body)
	}
	return err
}
