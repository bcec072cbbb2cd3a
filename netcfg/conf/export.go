package conf

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/model"
)

// Bounds and defaults of what is sent out.
const (
	maxPeers     = 16 // of export, and of alerts
	maxSendTo    = 16 // recipients of one alert
	maxCA        = 8  // certificates of one host
	defaultAgain = time.Hour
	minAgain     = time.Minute
	maxAgain     = 30 * 24 * time.Hour
	defaultLimit = 20
	maxLimit     = 1000
)

const (
	formatForm = "write ipfix, syslog, json or loki"
	wayForm    = "write webhook, ntfy or mail"
)

// schemes lists how each format or way is sent, with the usual port; 0: there is none.
var schemes = map[string][]scheme{
	model.FormatIPFIX:  {{"udp", 4739}, {"tcp", 4739}},
	model.FormatSyslog: {{"udp", 514}, {"tcp", 514}, {"tls", 6514}},
	model.FormatJSON:   {{"tcp", 0}, {"tls", 0}, {"http", 80}, {"https", 443}},
	model.FormatLoki:   {{"http", 3100}, {"https", 443}},
	model.ByWebhook:    {{"https", 443}, {"http", 80}},
	model.ByNtfy:       {{"https", 443}, {"http", 80}},
	model.ByMail:       {{"smtp", 587}, {"smtps", 465}},
}

type scheme struct {
	name string
	port uint16
}

// exports reads where records and events are sent.
func (d *decoder) exports(n *node) {
	d.each(n, "export", func(e entry, path string) {
		if len(d.cfg.Exports) == maxPeers {
			d.error(e.key, path, "remove some", "there are more than %d", maxPeers)
			return
		}
		f := d.fields(e.value, e.key, path, "export.*")
		if f == nil {
			return
		}
		x := &model.Export{Name: e.key.text, Pos: d.at(e.key)}
		format, ok := d.choice(f.get("format"), path+".format", model.ExportFormats, "a format", formatForm)
		if !ok {
			return
		}
		x.Format = format
		d.send(f, path+".send", x)
		token, to := d.optionalSecret(f, path, "export.*", "token", model.SecretToken), d.peer(f, path, format, &x.To)
		if x.Token = token; to {
			d.secure(f.get("token"), path+".token", &x.To)
		}
		d.cfg.Exports = append(d.cfg.Exports, x)
	})
}

// send reads what is sent: everything that the format can say, without the key.
func (d *decoder) send(f *fields, path string, x *model.Export) {
	const form = "write flows, refusals, events, or a list of them"
	ipfix := x.Format == model.FormatIPFIX
	if !f.has("send") {
		x.Flows, x.Refusals, x.Events = true, true, !ipfix
		return
	}
	for _, n := range d.some(f.get("send"), path) {
		switch v, ok := d.choice(n, path, []string{"flows", "refusals", "events"}, "something to send", form); {
		case !ok:
		case v == "flows":
			x.Flows = true
		case v == "refusals":
			x.Refusals = true
		case ipfix:
			d.error(n, path, "write flows, refusals, or both; alerts and the other formats tell of events", "IPFIX has no words for events")
		default:
			x.Events = true
		}
	}
}

// choice reads one of some words.
func (d *decoder) choice(n *node, path string, words []string, want, form string) (string, bool) {
	v, ok := d.word(n, path, want, form)
	if ok && !slices.Contains(words, v) {
		d.error(n, path, form, "%q is not %s", cut(v), want)
		return "", false
	}
	return v, ok
}

func (d *decoder) optionalSecret(f *fields, path, table, key string, kind model.SecretKind) string {
	if f.get(key) == nil {
		return ""
	}
	name, _ := d.secret(f.get(key), path+"."+key, table+"."+key, kind)
	return name
}

var (
	urlPath = regexp.MustCompile(`^/[A-Za-z0-9._~/%?=&+:@,;!$()*-]{0,500}$`)
	peerURL = regexp.MustCompile(`^([a-z]+)://([A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?(/.*)?$`)
	dnsName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])$`)
)

// peer reads the keys "to", "at" and "ca".
func (d *decoder) peer(f *fields, path, format string, p *model.Peer) bool {
	n, at := f.get("to"), path+".to"
	form := "write such as " + schemes[format][0].name + "://192.168.10.20, with an address, or the name of a device, for the host"
	v, ok := d.word(n, at, "an address to send to", form)
	if !ok {
		return false
	}
	m := peerURL.FindStringSubmatch(v)
	if m == nil {
		d.error(n, at, form, "%q is not an address to send to", cut(v))
		return false
	}
	i := slices.IndexFunc(schemes[format], func(s scheme) bool { return s.name == m[1] })
	if i < 0 {
		var names []string
		for _, s := range schemes[format] {
			names = append(names, s.name+"://")
		}
		d.error(n, at, "the address begins with "+strings.Join(names, " or "), "%s does not go over %s", format, cut(m[1]))
		return false
	}
	p.Scheme, p.Port = m[1], schemes[format][i].port
	if !d.peerPort(n, at, m[3], p) || !d.peerPath(n, at, m[4], p) || !d.peerHost(f, path, m[2], form, p) {
		return false
	}
	return d.ca(f.get("ca"), path+".ca", p)
}

func (d *decoder) peerPort(n *node, path, digits string, p *model.Peer) bool {
	if digits != "" {
		port, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || port == 0 {
			d.error(n, path, "write a port from 1 to 65535", "%s is not a port", digits)
			return false
		}
		p.Port = uint16(port)
	}
	if p.Port == 0 {
		d.error(n, path, "write one behind the host, such as :9000", "there is no usual port for it")
		return false
	}
	return true
}

func (d *decoder) peerPath(n *node, path, text string, p *model.Peer) bool {
	switch web := strings.HasPrefix(p.Scheme, "http"); {
	case text == "":
	case !web:
		d.error(n, path, "end the address behind the port", "%s has no paths", p.Scheme)
		return false
	case !urlPath.MatchString(text):
		d.error(n, path, "escape what is not a letter or a digit", "the path has characters that cannot stand in one")
		return false
	case random(text):
		d.ps.leak(d.at(n), path, "a key or a token, mixed as by dice")
		return false
	}
	p.Path = text
	return true
}

// peerHost reads who is sent to. A host that has a name in DNS needs an address beside it:
// the packet filter lets the box reach one address, whatever name servers say.
func (d *decoder) peerHost(f *fields, path, host, form string, p *model.Peer) bool {
	say := hostWords{
		form: form, nobody: "%s is not the IPv4 address of another host", one: "%q is a %s: something is sent to one host",
		named: "hosts are not looked up by name: the packet filter lets the box reach one address", instead: "add where the host is, such as at: 203.0.113.9",
	}
	at, ok := f.get("to"), false
	if !f.has("at") {
		p.Address, p.Device, ok = d.host(at, path+".to", host, say)
		if ok && p.Device != nil {
			p.Name = p.Device.Name + "." + d.cfg.System.Domain
		}
		return ok
	}
	if !dnsName.MatchString(host) {
		d.error(at, path+".to", "write the host's name in DNS here, or remove the key at", "%q is not a name whose address could stand under at", cut(host))
		return false
	}
	n := f.get("at")
	say.form = "write the host's address, or the name of a device"
	v, ok := d.word(n, path+".at", "an address", say.form)
	if !ok {
		return false
	}
	p.Name = strings.ToLower(host)
	p.Address, p.Device, ok = d.host(n, path+".at", v, say)
	return ok
}

// ca reads the certificates that a host's own must come from.
func (d *decoder) ca(n *node, path string, p *model.Peer) bool {
	const form = "write what stands between BEGIN and END CERTIFICATE in one line: grep -v CERTIFICATE ca.pem | tr -d '\\n'"
	if n != nil && !slices.Contains([]string{"tls", "https", "smtp", "smtps"}, p.Scheme) {
		d.error(n, path, "remove it, or send over TLS", "%s shows no certificate", p.Scheme)
		return false
	}
	sound := true
	for i, n := range d.some(n, path) {
		v, ok := d.word(n, path, "a certificate", form)
		switch {
		case !ok:
			return false
		case i == maxCA:
			d.error(n, path, "remove some", "there are more than %d certificates", maxCA)
			return false
		}
		der, err := base64.StdEncoding.DecodeString(v)
		if err == nil {
			_, err = x509.ParseCertificate(der)
		}
		if err != nil {
			d.error(n, path, form, "%q is not a certificate", cut(v))
			sound = false
		}
		p.CA = append(p.CA, v)
	}
	return sound
}

// secure reports a token that would be sent for everybody to read.
func (d *decoder) secure(n *node, path string, p *model.Peer) {
	switch {
	case n == nil:
	case p.Scheme == "http":
		d.error(n, path, "use https://", "a secret would be sent without encryption")
	case p.Scheme != "https":
		d.error(n, path, "remove it", "%s has no tokens", p.Scheme)
	}
}

// alerts reads who is told of events.
func (d *decoder) alerts(n *node) {
	d.each(n, "alerts", func(e entry, path string) {
		if len(d.cfg.Alerts) == maxPeers {
			d.error(e.key, path, "remove some", "there are more than %d", maxPeers)
			return
		}
		f := d.fields(e.value, e.key, path, "alerts.*")
		if f == nil {
			return
		}
		a := &model.Alert{Name: e.key.text, Pos: d.at(e.key), Again: defaultAgain, Limit: defaultLimit}
		way, ok := d.choice(f.get("by"), path+".by", model.AlertWays, "a way to tell", wayForm)
		if !ok {
			return
		}
		a.By = way
		d.when(f, path, a)
		found := d.peer(f, path, way, &a.To)
		a.Token = d.optionalSecret(f, path, "alerts.*", "token", model.SecretToken)
		a.Path = d.optionalSecret(f, path, "alerts.*", "path", model.SecretPath)
		if found {
			d.secure(f.get("token"), path+".token", &a.To)
			d.secure(f.get("path"), path+".path", &a.To)
			d.topic(f, path, a)
		}
		d.mail(f, path, a)
		d.cfg.Alerts = append(d.cfg.Alerts, a)
	})
}

// topic checks the path of a way over HTTP.
func (d *decoder) topic(f *fields, path string, a *model.Alert) {
	switch {
	case a.By == model.ByMail:
	case a.To.Path != "" && f.has("path"):
		d.error(f.key("path"), path+".path", "remove one of the two", "the address under to has a path already")
	case a.By == model.ByNtfy && !f.has("path") && strings.Trim(a.To.Path, "/") == "":
		d.error(f.get("to"), path+".to", "end it in the topic, such as /my-box, or name a secret: path: {secret: topic}", "the address has no topic")
	}
}

var (
	mailAddress = regexp.MustCompile(`^[A-Za-z0-9._%+-]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
	mailUser    = regexp.MustCompile(`^[!-~]{1,128}$`)
)

// mail reads the keys that only mail has.
func (d *decoder) mail(f *fields, path string, a *model.Alert) {
	if a.By != model.ByMail {
		for _, key := range []string{"user", "password", "from", "recipients"} {
			if f.has(key) {
				d.error(f.key(key), path+"."+key, "remove it, or write by: mail", "only mail has this")
			}
		}
		return
	}
	const form = "write an address such as alex@example.com"
	address := func(n *node, path string) string {
		v, ok := d.word(n, path, "an address of mail", form)
		if ok && !mailAddress.MatchString(v) {
			d.error(n, path, form, "%q is not an address of mail", cut(v))
		}
		return v
	}
	for _, key := range []string{"from", "recipients"} {
		if !f.has(key) {
			d.error(f.at, path, form, "key %q is missing", key)
		}
	}
	a.From = address(f.get("from"), path+".from")
	for i, n := range d.some(f.get("recipients"), path+".recipients") {
		if i == maxSendTo {
			d.error(n, path+".recipients", "use a list of the mail server", "there are more than %d recipients", maxSendTo)
			break
		}
		a.Recipients = append(a.Recipients, address(n, path+".recipients"))
	}
	if v, ok := d.word(f.get("user"), path+".user", "a name", "write the name to log in with"); ok {
		if a.User = v; !mailUser.MatchString(v) {
			d.error(f.get("user"), path+".user", "write the name to log in with", "%q is not a name to log in with", cut(v))
		}
	}
	a.Password = d.optionalSecret(f, path, "alerts.*", "password", model.SecretPassword)
	if f.has("user") != f.has("password") {
		d.error(f.at, path, "give both, or none", "user and password belong together")
	}
}

// when reads which events are told, and when.
func (d *decoder) when(f *fields, path string, a *model.Alert) {
	form := "the kinds of events are " + enumerate(model.EventKinds)
	for _, n := range d.some(f.get("events"), path+".events") {
		if v, ok := d.choice(n, path+".events", model.EventKinds, "a kind of event", form); ok && !slices.Contains(a.Events, v) {
			a.Events = append(a.Events, v)
		}
	}
	const againForm = "write a time with a unit, such as 6h or 30m"
	if v, ok := d.word(f.get("again"), path+".again", "a time", againForm); ok {
		switch t, err := time.ParseDuration(v); {
		case err != nil:
			d.error(f.get("again"), path+".again", againForm, "%q is not a time", cut(v))
		case t < minAgain || t > maxAgain:
			d.error(f.get("again"), path+".again", "choose from 1m to 720h", "%s is out of range", cut(v))
		default:
			a.Again = t
		}
	}
	if v, ok := d.number(f.get("limit"), path+".limit", 1, maxLimit, fmt.Sprintf("choose from 1 to %d messages in an hour", maxLimit)); ok {
		a.Limit = v
	}
	d.quiet(f.get("quiet"), path+".quiet", a)
}

var quietHours = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])$`)

func (d *decoder) quiet(n *node, path string, a *model.Alert) {
	const form = "write from when to when, such as 22:00-07:00"
	v, ok := d.word(n, path, "quiet hours", form)
	if !ok {
		return
	}
	m := quietHours.FindStringSubmatch(v)
	if m == nil {
		d.error(n, path, form, "%q are no quiet hours", cut(v))
		return
	}
	var t [4]int
	for i := range t {
		t[i], _ = strconv.Atoi(m[i+1]) // two digits
	}
	if a.QuietFrom, a.QuietTo = 60*t[0]+t[1], 60*t[2]+t[3]; a.QuietFrom == a.QuietTo {
		d.error(n, path, form, "the quiet hours end when they begin")
	}
}
