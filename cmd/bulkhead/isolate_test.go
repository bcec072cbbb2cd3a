package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
)

// quarantine is a box on which the TV is isolated.
type quarantine struct{}

func (quarantine) Isolated(context.Context) ([]api.Isolation, error) {
	return []api.Isolation{
		{Machine: "tv", Device: "tv", MAC: model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, Addresses: []netip.Addr{tv}, Since: today.Add(-time.Hour), Author: "kim", Via: api.ViaUI, Why: "it calls home"},
		{Machine: "192.168.40.140", Addresses: []netip.Addr{netip.MustParseAddr("192.168.40.140")}, Since: today, Until: today.Add(time.Hour), Author: "alex", Via: api.ViaCLI},
	}, nil
}

func (quarantine) Isolate(_ context.Context, in api.Isolate) (*api.Isolation, error) {
	i := &api.Isolation{Machine: in.Machine, Since: today, Until: in.Until, Author: in.Author, Via: in.Via, Why: in.Why}
	switch {
	case in.Machine == "laptop":
		return nil, &api.Refused{Lockout: "you are at 192.168.10.9 and would isolate yourself"}
	case in.Machine == "tv":
		i.Device, i.MAC, i.Addresses = "tv", model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}, []netip.Addr{tv}
	case in.Machine == "192.168.40.140":
		i.Addresses = []netip.Addr{netip.MustParseAddr(in.Machine)}
	default:
		return nil, api.Unknown(fmt.Errorf("%q is no device of the configuration, no MAC and no address", in.Machine))
	}
	return i, nil
}

func (q quarantine) Release(ctx context.Context, in api.Release) (*api.Isolation, error) {
	list, _ := q.Isolated(ctx)
	if in.Machine != "tv" {
		return nil, api.Tell(api.ErrNothing, fmt.Errorf("%s is not isolated", in.Machine))
	}
	return &list[0], nil
}
