package model_test

import (
	"regexp"
	"slices"
	"testing"

	"bulkhead/netcfg/model"
)

func TestCatalogueHasTheUsualProtocols(t *testing.T) {
	for name, want := range map[string]string{
		"ssh": "tcp/22", "http": "tcp/80", "https": "tcp/443", "http3": "udp/443", "quic": "udp/443",
		"dns": "udp/53 tcp/53", "dot": "tcp/853", "ntp": "udp/123", "nfs": "tcp/2049", "smb": "tcp/445",
		"mqtt": "tcp/1883", "mqtts": "tcp/8883", "ping": "icmp/8", "rdp": "tcp/3389 udp/3389",
		"vnc": "tcp/5900-5903", "imap": "tcp/143", "imaps": "tcp/993", "smtp": "tcp/25", "smtps": "tcp/465",
		"submission": "tcp/587", "ldap": "tcp/389", "ldaps": "tcp/636", "postgres": "tcp/5432",
		"mysql": "tcp/3306", "syslog": "udp/514", "snmp": "udp/161", "ipp": "tcp/631", "rtsp": "tcp/554",
		"mdns": "udp/5353", "wireguard": "udp/51820", "ipsec": "esp udp/500 udp/4500",
		"sip": "udp/5060 tcp/5060", "iperf3": "tcp/5201 udp/5201",
	} {
		services, ok := model.Catalogued(name)
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		got := ""
		for i, s := range services {
			if i > 0 {
				got += " "
			}
			got += s.String()
		}
		if got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// A name in the catalogue is a word of the configuration language, so it follows
// the language's rules and never hides one of its own words.
func TestCatalogueNamesAreWords(t *testing.T) {
	word := regexp.MustCompile(`^[a-z][a-z0-9-]*[a-z0-9]$`)
	for _, name := range model.CatalogueNames() {
		if !word.MatchString(name) || len(name) > 32 {
			t.Errorf("%q is not a name", name)
		}
		if _, ok := model.ProtoByName(name); ok || name == "any" {
			t.Errorf("%q means something else", name)
		}
		services, _ := model.Catalogued(name)
		if len(services) == 0 {
			t.Errorf("%q is empty", name)
		}
		for i, s := range services {
			if s.Any || s.Proto == 0 || s.Lo > s.Hi || slices.Contains(services[:i], s) {
				t.Errorf("%q holds a bad service: %+v", name, s)
			}
		}
	}
}

func TestCataloguedCannotBeChanged(t *testing.T) {
	s, _ := model.Catalogued("ssh")
	s[0].Lo = 1
	if again, _ := model.Catalogued("ssh"); again[0].Lo != 22 {
		t.Error("the catalogue changed")
	}
}

func TestApplication(t *testing.T) {
	for _, tt := range []struct {
		proto uint8
		port  uint16
		want  string
	}{
		{model.ProtoTCP, 443, "https"}, {model.ProtoUDP, 443, "http3"}, {model.ProtoUDP, 53, "dns"}, {model.ProtoICMP, 8, "ping"},
		{model.ProtoTCP, 49152, ""}, {model.ProtoICMP, 3, ""}, {model.ProtoGRE, 0, ""},
	} {
		if got := model.Application(tt.proto, tt.port); got != tt.want {
			t.Errorf("%d/%d is %q, want %q", tt.proto, tt.port, got, tt.want)
		}
	}
}
