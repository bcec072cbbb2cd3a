//go:build linux

package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/dns/dnsmessage"

	"bulkhead/netcfg/svcconf"
)

var errSilent = errors.New("no answer")

// dhcp asks for an offer, as a client would that has just come into the zone.
func (a *Asker) dhcp(ctx context.Context, z svcconf.UpdateDHCP) error {
	mac := make([]byte, 6)
	rand.Read(mac)
	mac[0] = mac[0]&^1 | 2 // one that no card has: locally administered
	discover, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		return err
	}
	data, err := a.ask(ctx, filepath.Join(a.Dirs.RunDir(svcconf.Dhcpd.Name), svcconf.ProbeSocket), z.Zone, discover.ToBytes())
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return errSilent
	}
	offer, err := dhcpv4.FromBytes(data)
	if err != nil {
		return err
	}
	given, ok := netip.AddrFromSlice(offer.YourIPAddr.To4())
	if offer.MessageType() != dhcpv4.MessageTypeOffer || offer.TransactionID != discover.TransactionID || !ok || !z.Address.Contains(given) {
		return fmt.Errorf("%s of %s is no offer of an address in %s", offer.MessageType(), offer.YourIPAddr, z.Address.Masked())
	}
	return nil
}

// dns asks for the box's own name.
func (a *Asker) dns(ctx context.Context, z svcconf.UpdateDNS) error {
	name, err := dnsmessage.NewName(z.Name + ".")
	if err != nil {
		return err
	}
	var id [2]byte
	rand.Read(id[:])
	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(id[0])<<8 | uint16(id[1]), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	msg, err := query.Pack()
	if err != nil {
		return err
	}
	data, err := a.ask(ctx, filepath.Join(a.Dirs.RunDir(svcconf.Dnsd.Name), svcconf.ProbeSocket), z.Zone, msg)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return errSilent
	}
	var reply dnsmessage.Message
	if err := reply.Unpack(data); err != nil {
		return err
	}
	if reply.ID != query.ID || reply.RCode != dnsmessage.RCodeSuccess {
		return fmt.Errorf("%s for %s", reply.RCode, z.Name)
	}
	for _, r := range reply.Answers {
		if body, ok := r.Body.(*dnsmessage.AResource); ok && netip.AddrFrom4(body.A) == z.Address {
			return nil
		}
	}
	return fmt.Errorf("%s is not %s", z.Name, z.Address)
}
