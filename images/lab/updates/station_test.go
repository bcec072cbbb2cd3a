//go:build linux

package updates_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/svcconf"
)

type svcLease = svcconf.Lease

// station is a computer in a zone that takes leases. It is the far end of a cable.
type station struct {
	out    chan []byte
	in     chan *dhcpv4.DHCPv4
	closed chan struct{}
	once   sync.Once
}

func newStation() *station {
	return &station{out: make(chan []byte, 64), in: make(chan *dhcpv4.DHCPv4, 64), closed: make(chan struct{})}
}

// Read returns a frame that the station sends.
func (s *station) Read() ([]byte, error) {
	select {
	case f := <-s.out:
		return f, nil
	case <-s.closed:
		return nil, io.EOF
	}
}

// Write takes frames, of which it looks at DHCP's only.
func (s *station) Write(frames [][]byte) error {
	for _, f := range frames {
		p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.NoCopy)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 68 {
			continue
		}
		if m, err := dhcpv4.FromBytes(udp.Payload); err == nil {
			select {
			case s.in <- m:
			default: // nobody waits
			}
		}
	}
	return nil
}

func (s *station) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// send broadcasts a message.
func (s *station) send(m *dhcpv4.DHCPv4) error {
	eth := &layers.Ethernet{SrcMAC: m.ClientHWAddr, DstMAC: net.HardwareAddr{255, 255, 255, 255, 255, 255}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero, DstIP: net.IPv4bcast}
	udp := &layers.UDP{SrcPort: 68, DstPort: 67}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		return err
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, udp, gopacket.Payload(m.ToBytes()))
	if err != nil {
		return err
	}
	s.out <- append([]byte(nil), buf.Bytes()...)
	return nil
}

// ask sends a message until its answer comes, which is of the kind.
func (s *station) ask(ctx context.Context, m *dhcpv4.DHCPv4, kind dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	m.SetBroadcast()
	for {
		if err := s.send(m); err != nil {
			return nil, err
		}
		again := time.After(2 * time.Second)
		for waiting := true; waiting; {
			select {
			case r := <-s.in:
				if r.TransactionID == m.TransactionID && r.MessageType() == kind {
					return r, nil
				}
				if r.TransactionID == m.TransactionID && r.MessageType() == dhcpv4.MessageTypeNak {
					return nil, errors.New("the box says no")
				}
			case <-again:
				waiting = false
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// lease takes a lease under a name and returns its address.
func (s *station) lease(ctx context.Context, mac net.HardwareAddr, name string) (string, error) {
	discover, err := dhcpv4.NewDiscovery(mac, dhcpv4.WithOption(dhcpv4.OptHostName(name)))
	if err != nil {
		return "", err
	}
	offer, err := s.ask(ctx, discover, dhcpv4.MessageTypeOffer)
	if err != nil {
		return "", err
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithOption(dhcpv4.OptHostName(name)))
	if err != nil {
		return "", err
	}
	ack, err := s.ask(ctx, request, dhcpv4.MessageTypeAck)
	if err != nil {
		return "", err
	}
	return ack.YourIPAddr.String(), nil
}
