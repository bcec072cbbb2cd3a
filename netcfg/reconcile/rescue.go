//go:build linux

package reconcile

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
)

// rescueFile keeps the way in of the configuration that was last in force.
const rescueFile = "rescue.json"

// rescue is what is left of a configuration when the box must be closed: the admin
// zones with DHCP, and nothing that a rule allows. It is kept in a form of its own,
// so that it can be read after an update that no longer takes the file itself.
type rescue struct {
	Name   string       `json:"name"`
	Domain string       `json:"domain"`
	Ports  []rescuePort `json:"ports"`
	Zones  []rescueZone `json:"zones"`
}

type rescuePort struct {
	Name string    `json:"name"`
	MAC  model.MAC `json:"mac"`
}

type rescueZone struct {
	Name    string       `json:"name"`
	Port    string       `json:"port"`
	VLAN    uint16       `json:"vlan,omitempty"`
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"`
	DHCP    *rescueDHCP  `json:"dhcp,omitempty"`
}

type rescueDHCP struct {
	First netip.Addr    `json:"first"`
	Last  netip.Addr    `json:"last"`
	Lease time.Duration `json:"lease"` // nanoseconds
}

func rescueOf(cfg *model.Config) rescue {
	v := rescue{Name: cfg.System.Name, Domain: cfg.System.Domain}
	for _, p := range cfg.Ports { // all of them: their order is in the names of links
		v.Ports = append(v.Ports, rescuePort{p.Name, p.MAC})
	}
	for _, z := range cfg.Zones {
		if !z.Admin {
			continue
		}
		zone := rescueZone{Name: z.Name, Port: z.Port.Name, VLAN: z.VLAN, Subnet: z.Subnet, Gateway: z.Gateway}
		if z.DHCP.Enabled {
			zone.DHCP = &rescueDHCP{z.DHCP.Pool.First, z.DHCP.Pool.Last, z.DHCP.Lease}
		}
		v.Zones = append(v.Zones, zone)
	}
	return v
}

// config is the inverse of rescueOf. Whatever wrote the file, the result is a valid
// configuration or there is an error.
func (v rescue) config() (*model.Config, error) {
	cfg := nothing()
	cfg.System.Name, cfg.System.Domain = v.Name, v.Domain
	ports := map[string]*model.Port{}
	for _, p := range v.Ports {
		port := &model.Port{Name: p.Name, MAC: p.MAC}
		ports[p.Name], cfg.Ports = port, append(cfg.Ports, port)
	}
	for _, z := range v.Zones {
		zone := &model.Zone{
			Name: z.Name, Port: ports[z.Port], VLAN: z.VLAN, Subnet: z.Subnet, Gateway: z.Gateway, Admin: true,
		}
		if d := z.DHCP; d != nil {
			zone.DHCP = model.DHCP{Enabled: true, Pool: model.Range{First: d.First, Last: d.Last}, Lease: d.Lease}
		}
		if err := checkZone(zone); err != nil {
			return nil, fmt.Errorf("zone %q: %w", z.Name, err)
		}
		cfg.Zones = append(cfg.Zones, zone)
	}
	return cfg, nil
}

func checkZone(z *model.Zone) error {
	switch {
	case z.Name == "" || z.Port == nil || z.VLAN > 4094:
		return errors.New("no name, no port or no VLAN")
	case !z.Subnet.IsValid() || !z.Subnet.Addr().Is4() || z.Subnet != z.Subnet.Masked() || z.Subnet.Bits() > 30:
		return fmt.Errorf("%s is no subnet", z.Subnet)
	case !z.Subnet.Contains(z.Gateway):
		return fmt.Errorf("gateway %s is outside of %s", z.Gateway, z.Subnet)
	}
	if p := z.DHCP.Pool; z.DHCP.Enabled && (!z.Subnet.Contains(p.First) || !z.Subnet.Contains(p.Last) || z.DHCP.Lease < 2*time.Minute) {
		return fmt.Errorf("pool %s-%s or lease %s is impossible", p.First, p.Last, z.DHCP.Lease)
	}
	return nil
}

// rescue returns the target of a box that must be closed because of reason.
func (r *Reconciler) rescue(reason string) target {
	var v rescue
	err := r.o.Store.Load(rescueFile, &v)
	var cfg *model.Config
	if err == nil {
		cfg, err = v.config()
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.o.Log.Error("the admin zones of the last configuration are lost", "err", err)
		}
		cfg = nothing()
	}
	return target{cfg: cfg, closed: reason}
}

// saveRescue keeps the way in of the target, once, when it is the confirmed one and
// known to work.
func (r *Reconciler) saveRescue() error {
	if r.rescued || r.noState != nil || r.trial != nil || r.target.closed != "" {
		return nil
	}
	if err := r.o.Store.Save(rescueFile, rescueOf(r.target.cfg)); err != nil {
		return fmt.Errorf("save the way in for the worst case: %w", err)
	}
	r.rescued = true
	return nil
}
