package policy

import (
	"net/netip"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// sendRules let exportd send to the hosts and ports of the file and to no others.
func (p *Policy) sendRules() {
	if len(p.Config.Exports) > 0 {
		var peers []*model.Peer
		for _, x := range p.Config.Exports {
			peers = append(peers, &x.To)
		}
		p.sendTo("box:export", "the box sends records and events", peers)
	}
	if len(p.Config.Alerts) > 0 {
		var peers []*model.Peer
		for _, a := range p.Config.Alerts {
			peers = append(peers, &a.To)
		}
		p.sendTo("box:alerts", "the box tells of events", peers)
	}
}

func (p *Policy) sendTo(name, why string, peers []*model.Peer) {
	rule := p.own(name, why)
	type flow struct {
		to    netip.AddrPort
		proto uint8
	}
	seen := map[flow]bool{}
	for _, peer := range peers {
		f := flow{p.PeerAddress(peer), model.ProtoTCP}
		if peer.Scheme == "udp" {
			f.proto = model.ProtoUDP
		}
		party := p.partyOf(f.to.Addr())
		if seen[f] || party == "" || party == model.Box {
			continue
		}
		seen[f] = true
		side := Side{Prefix: netip.PrefixFrom(f.to.Addr(), f.to.Addr().BitLen())}
		p.add(Pair{model.Box, party}, Entry{rule, Side{Whole: true}, side, svcconf.Exportd.ID, model.OnePort(f.proto, f.to.Port())})
	}
}

// PeerAddress returns where a peer is; zero: nobody knows yet.
func (p *Policy) PeerAddress(peer *model.Peer) netip.AddrPort {
	a := peer.Address
	if peer.Device != nil {
		a = p.AddressOf(peer.Device)
	}
	if !a.Is4() {
		return netip.AddrPort{} // IPv6 is closed
	}
	return netip.AddrPortFrom(a, peer.Port)
}
