//go:build linux

package lab

import (
	"errors"
	"fmt"

	"bulkhead/images/lab/vswitch"
	"bulkhead/netcfg/model"
)

// panel is what a gateway that is a virtual machine is plugged into: a switch at
// each of its ports, whose other ports are the machines of the zones there. Ports go by
// their names, which a changed configuration has too; "" is behind none of them.
type panel struct {
	switches map[string]*vswitch.Switch
	box      map[string]*vswitch.Port // the ends of the cables to the box
	hosts    map[*Host]*vswitch.Port
	native   uint16 // VLAN of what is untagged at the box's end; no zone's
}

// newPanel makes a switch for each port of the file. At first they are what a new box
// needs, which knows of no VLANs: what is in the native VLAN is connected with it as
// by a cable, and nobody else is.
func newPanel(cfg *model.Config) (*panel, error) {
	used := make(map[uint16]bool)
	for _, z := range cfg.Zones {
		used[z.VLAN] = true
	}
	if cfg.Uplink != nil {
		used[cfg.Uplink.VLAN] = true
	}
	p := &panel{
		switches: make(map[string]*vswitch.Switch), box: make(map[string]*vswitch.Port), hosts: make(map[*Host]*vswitch.Port),
		native: 1,
	}
	for used[p.native] {
		p.native++
	}
	p.switches[""] = vswitch.New() // of those behind no port of the box: an internet without an uplink
	for _, port := range cfg.Ports {
		sw := vswitch.New()
		end, err := sw.AddPort(port.Name, vswitch.Access(p.native))
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.switches[port.Name], p.box[port.Name] = sw, end
	}
	return p, nil
}

func (p *panel) close() error {
	var errs []error
	for _, sw := range p.switches {
		errs = append(errs, sw.Close())
	}
	return errors.Join(errs...)
}

// place says where a party is: behind which port of the box, and in which VLAN of
// the switch there.
func (p *panel) place(cfg *model.Config, party string) (*model.Port, uint16) {
	port, vlan := (*model.Port)(nil), uint16(0)
	if z := cfg.Zone(party); z != nil {
		port, vlan = z.Port, z.VLAN
	} else if cfg.Uplink != nil {
		port, vlan = cfg.Uplink.Port, cfg.Uplink.VLAN
	}
	if vlan == 0 {
		vlan = p.native
	}
	return port, vlan
}

// portName is what the panel calls a port.
func portName(port *model.Port) string {
	if port == nil {
		return ""
	}
	return port.Name
}

// tag makes the box's ends what the configuration says that they are: trunks, where
// it has VLANs.
func (p *panel) tag(cfg *model.Config) error {
	modes := make(map[string]vswitch.Mode)
	add := func(party string) {
		port, vlan := p.place(cfg, party)
		m := modes[portName(port)]
		if vlan == p.native {
			m.Untagged = vlan
		} else {
			m.Tagged = append(m.Tagged, vlan)
		}
		modes[portName(port)] = m
	}
	for _, z := range cfg.Zones {
		add(z.Name)
	}
	if cfg.Uplink != nil {
		add(model.Internet)
	}
	for port, m := range modes {
		if err := p.box[port].SetMode(m); err != nil {
			return err
		}
	}
	return nil
}

// plug gives a host a network card that leads to a party's access port.
func (p *panel) plug(cfg *model.Config, h *Host, link, mac, party string) error {
	port, vlan := p.place(cfg, party)
	return p.attach(h, link, mac, port, vlan)
}

func (p *panel) attach(h *Host, link, mac string, port *model.Port, vlan uint16) error {
	end, err := p.switches[portName(port)].AddPort(h.Name, vswitch.Access(vlan))
	if err != nil {
		return err
	}
	err = h.Do(func() error {
		tap, err := vswitch.OpenTAP(link)
		if err == nil {
			end.Plug(tap)
		}
		return err
	})
	if err != nil {
		return err
	}
	p.hosts[h] = end
	return h.IP(fmt.Sprintf("link set dev %s %s up\nlink set dev lo up", link, mac))
}

// BoxPort is the switch's end of the cable to the box's port of that name.
func (l *Lab) BoxPort(name string) *vswitch.Port { return l.panel.box[name] }

// HostPort is the switch's end of the cable to a host.
func (l *Lab) HostPort(h *Host) *vswitch.Port { return l.panel.hosts[h] }
