//go:build linux

package reconcile

import "bulkhead/netcfg/svcconf"

// export completes what is sent out with the secrets. Whoever needs one that cannot be had
// is left out: what the box sent would be refused, or would tell a stranger's server.
func (v *revealer) export(x svcconf.Export) svcconf.Export {
	reveal := func(name string, value *string) bool {
		if name == "" {
			return true
		}
		s, ok := v.value(name)
		if ok {
			*value = s.Reveal()
		}
		return ok
	}
	exports, alerts := x.Exports, x.Alerts
	x.Exports, x.Alerts = nil, nil
	for _, e := range exports {
		if reveal(e.Secret, &e.Token) {
			x.Exports = append(x.Exports, e)
		}
	}
	for _, a := range alerts {
		if reveal(a.TokenSecret, &a.Token) && reveal(a.PasswordSecret, &a.Password) && reveal(a.PathSecret, &a.To.Path) {
			x.Alerts = append(x.Alerts, a)
		}
	}
	return x
}
