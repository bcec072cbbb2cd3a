//go:build linux

package gate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/file"
	"bulkhead/services/update/api"
)

// ErrQuestion says that a question makes no sense.
var ErrQuestion = errors.New("no question for DNS")

// maxAnswers bounds what is told of an answer.
const maxAnswers = 100

// Lookup asks the box's DNS server as a device in a zone would ask it. The name may be an
// address, whose name is asked for then.
func (a *Asker) Lookup(ctx context.Context, zone, name, kind string) (*api.Lookup, error) {
	if !slices.Contains(api.LookupTypes, kind) {
		return nil, fmt.Errorf("%w: there is no type %.20q here", ErrQuestion, kind)
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		if name, err = dns.ReverseAddr(addr.WithZone("").String()); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrQuestion, err)
		}
		kind = "PTR"
	}
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, fmt.Errorf("%w: %.300q is no name", ErrQuestion, name)
	}
	query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.StringToType[kind])
	msg, err := query.Pack()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	data, err := a.ask(ctx, filepath.Join(a.Dirs.RunDir(svcconf.Dnsd.Name), svcconf.ProbeSocket), zone, msg)
	if err != nil {
		return nil, err
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%w in zone %.40q: perhaps it has no DNS", errSilent, zone)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(data); err != nil {
		return nil, fmt.Errorf("the answer of dnsd: %w", err)
	}
	out := &api.Lookup{Question: query.Question[0].Name + " " + kind, Code: dns.RcodeToString[reply.Rcode], Answers: []api.LookupAnswer{}}
	for _, rr := range reply.Answer[:min(len(reply.Answer), maxAnswers)] {
		h := rr.Header()
		data := strings.TrimPrefix(rr.String(), h.String())
		out.Answers = append(out.Answers, api.LookupAnswer{Name: h.Name, Type: dns.TypeToString[h.Rrtype], TTL: h.Ttl, Data: data})
	}
	return out, nil
}

// Address returns the IPv4 address of a name, as the first zone that has DNS is told. A
// name without a dot is one of the box's own domain.
func (a *Asker) Address(ctx context.Context, name string) (netip.Addr, error) {
	var c svcconf.Update
	data, err := file.Read(a.Dirs.Config(svcconf.Updated.Name), 1<<20)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil || len(c.DNS) == 0 {
		return netip.Addr{}, fmt.Errorf("%w: no zone has DNS, so that names have no addresses: write an address", ErrQuestion)
	}
	zone := c.DNS[0]
	if _, domain, _ := strings.Cut(zone.Name, "."); !strings.Contains(name, ".") {
		name += "." + domain
	}
	out, err := a.Lookup(ctx, zone.Zone, name, "A")
	if err != nil {
		return netip.Addr{}, err
	}
	for _, rr := range out.Answers {
		if addr, err := netip.ParseAddr(rr.Data); err == nil && rr.Type == "A" {
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: %.300s has no IPv4 address (%s)", ErrQuestion, name, out.Code)
}
