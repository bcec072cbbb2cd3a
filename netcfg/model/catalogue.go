package model

import (
	"maps"
	"slices"
)

// catalogue holds the protocols that every configuration may name. Ports are those
// of the IANA registry (https://www.iana.org/assignments/service-names-port-numbers)
// or, where a product never registered, those it listens on unless told otherwise.
//
// An entry is what a server listens on. Ports that a protocol agrees on later (FTP
// data, SIP media) are not in it: a configuration that needs them says so.
var catalogue = map[string][]Service{
	// Remote control
	"ssh":    {OnePort(ProtoTCP, 22)},
	"mosh":   {PortRange(ProtoUDP, 60000, 61000)},
	"telnet": {OnePort(ProtoTCP, 23)},
	"rdp":    {OnePort(ProtoTCP, 3389), OnePort(ProtoUDP, 3389)},
	"vnc":    {PortRange(ProtoTCP, 5900, 5903)},
	"winrm":  {PortRange(ProtoTCP, 5985, 5986)},

	// Web
	"http":     {OnePort(ProtoTCP, 80)},
	"https":    {OnePort(ProtoTCP, 443)},
	"http3":    {OnePort(ProtoUDP, 443)},
	"quic":     {OnePort(ProtoUDP, 443)},
	"http-alt": {OnePort(ProtoTCP, 8080)},

	// Names, time, addresses
	"dns":  {OnePort(ProtoUDP, 53), OnePort(ProtoTCP, 53)},
	"dot":  {OnePort(ProtoTCP, 853)},
	"doq":  {OnePort(ProtoUDP, 853)},
	"mdns": {OnePort(ProtoUDP, 5353)},
	"ntp":  {OnePort(ProtoUDP, 123)},
	"nts":  {OnePort(ProtoTCP, 4460)}, // key exchange; time itself is ntp
	"dhcp": {OnePort(ProtoUDP, 67)},
	"ping": {ICMP(EchoRequest)},

	// Files
	"nfs":   {OnePort(ProtoTCP, 2049)}, // version 4; version 3 needs more than one port
	"smb":   {OnePort(ProtoTCP, 445)},
	"iscsi": {OnePort(ProtoTCP, 3260)},
	"rsync": {OnePort(ProtoTCP, 873)},
	"ftp":   {OnePort(ProtoTCP, 21)},
	"tftp":  {OnePort(ProtoUDP, 69)},
	"git":   {OnePort(ProtoTCP, 9418)},

	// Mail
	"smtp":       {OnePort(ProtoTCP, 25)},
	"smtps":      {OnePort(ProtoTCP, 465)},
	"submission": {OnePort(ProtoTCP, 587)},
	"imap":       {OnePort(ProtoTCP, 143)},
	"imaps":      {OnePort(ProtoTCP, 993)},
	"pop3s":      {OnePort(ProtoTCP, 995)},

	// Directories and databases
	"ldap":     {OnePort(ProtoTCP, 389)},
	"ldaps":    {OnePort(ProtoTCP, 636)},
	"kerberos": {OnePort(ProtoTCP, 88), OnePort(ProtoUDP, 88)},
	"radius":   {PortRange(ProtoUDP, 1812, 1813)},
	"postgres": {OnePort(ProtoTCP, 5432)},
	"mysql":    {OnePort(ProtoTCP, 3306)},
	"redis":    {OnePort(ProtoTCP, 6379)},

	// Messages, telemetry, homes
	"mqtt":       {OnePort(ProtoTCP, 1883)},
	"mqtts":      {OnePort(ProtoTCP, 8883)},
	"amqp":       {OnePort(ProtoTCP, 5672)},
	"coap":       {OnePort(ProtoUDP, 5683)},
	"modbus":     {OnePort(ProtoTCP, 502)},
	"syslog":     {OnePort(ProtoUDP, 514)},
	"syslog-tls": {OnePort(ProtoTCP, 6514)},
	"snmp":       {OnePort(ProtoUDP, 161)},
	"snmp-trap":  {OnePort(ProtoUDP, 162)},
	"prometheus": {OnePort(ProtoTCP, 9090)},

	// Print, sound, pictures, calls
	"ipp":       {OnePort(ProtoTCP, 631)},
	"jetdirect": {OnePort(ProtoTCP, 9100)},
	"rtsp":      {OnePort(ProtoTCP, 554)},
	"rtmp":      {OnePort(ProtoTCP, 1935)},
	"sip":       {OnePort(ProtoUDP, 5060), OnePort(ProtoTCP, 5060)},
	"sips":      {OnePort(ProtoTCP, 5061)},
	"stun":      {OnePort(ProtoUDP, 3478), OnePort(ProtoTCP, 3478)},

	// Tunnels
	"wireguard": {OnePort(ProtoUDP, 51820)},
	"openvpn":   {OnePort(ProtoUDP, 1194)},
	"ipsec":     {{Proto: ProtoESP}, OnePort(ProtoUDP, 500), OnePort(ProtoUDP, 4500)},

	// Tools
	"iperf":  {OnePort(ProtoTCP, 5001), OnePort(ProtoUDP, 5001)},
	"iperf3": {OnePort(ProtoTCP, 5201), OnePort(ProtoUDP, 5201)},
	"wol":    {OnePort(ProtoUDP, 9)},
}

// CatalogueNames returns the names of the built-in protocols, sorted.
func CatalogueNames() []string { return slices.Sorted(maps.Keys(catalogue)) }

// Catalogued returns the services of a built-in protocol. The caller owns the slice.
func Catalogued(name string) ([]Service, bool) {
	s, ok := catalogue[name]
	return slices.Clone(s), ok
}

// Application guesses what a connection to a port is, by the name of the built-in protocol
// that the port alone belongs to; "" if there is none. Of several it is the first in the
// order of the alphabet.
func Application(proto uint8, port uint16) string {
	if HasPorts(proto) {
		return applications[Service{Proto: proto, Ports: true, Lo: port, Hi: port}]
	}
	return applications[Service{Proto: proto, Type: true, Lo: port, Hi: port}]
}

// applications are the built-in protocols by each of their services that is one port or
// one ICMP type.
var applications = func() map[Service]string {
	byService := make(map[Service]string)
	for _, name := range CatalogueNames() {
		for _, s := range catalogue[name] {
			if s.Lo == s.Hi && byService[s] == "" {
				byService[s] = name
			}
		}
	}
	return byService
}()
