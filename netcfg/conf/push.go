package conf

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bulkhead/netcfg/model"
)

const (
	pushForm  = "write ssh://git@192.168.20.11/path/to/repository.git, with an address, or the name of a device, for the host"
	knownForm = "write the remote's public key, known-host: ssh-ed25519 AAAA... as ssh-keyscan -t ed25519 shows it behind the host"
)

// push reads where the history of the configuration is taken.
func (d *decoder) push(n *node) {
	if n == nil {
		return
	}
	const path = "system.config"
	f := d.fields(n, n, path, path)
	if f == nil {
		return
	}
	p := &model.Push{Pos: d.at(n)}
	found := d.remote(f.get("push"), path+".push", p)
	known := d.knownHost(f.get("known-host"), path+".known-host", p)
	keyed := false
	if key := f.get("key"); key != nil {
		p.Key, keyed = d.secret(key, path+".key", path+".key", model.SecretSSHKey)
	}
	if found && known && keyed {
		d.cfg.System.Push = p
	}
}

// remoteURL is what a push may say. The path goes through a shell at the remote, so it
// holds nothing that means something there.
var remoteURL = regexp.MustCompile(`^ssh://(?:([a-z_][a-z0-9_.-]{0,31})@)?([A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?(/[A-Za-z0-9._/-]{1,200})$`)

// remote reads the address of a repository.
func (d *decoder) remote(n *node, path string, p *model.Push) bool {
	v, ok := d.word(n, path, "the address of a repository", pushForm)
	if !ok {
		return false
	}
	m := remoteURL.FindStringSubmatch(v)
	if m == nil {
		d.error(n, path, pushForm, "%q is not the address of a repository that is reached by SSH", cut(v))
		return false
	}
	p.User, p.Port, p.Path = "git", 22, m[4]
	if m[1] != "" {
		p.User = m[1]
	}
	if m[3] != "" {
		port, err := strconv.ParseUint(m[3], 10, 16)
		if err != nil || port == 0 {
			d.error(n, path, "write a port from 1 to 65535", "%s is not a port", m[3])
			return false
		}
		p.Port = uint16(port)
	}
	p.Address, p.Device, ok = d.host(n, path, m[2], hostWords{
		form: pushForm, nobody: "no remote can be at %s", one: "%q is a %s: the history goes to one host",
		named: "the host of a push is not looked up by name: the packet filter lets the box reach one address", instead: "write the host's address",
	})
	return ok
}

// hostWords are what is said of a host that cannot be.
type hostWords struct {
	form    string // of an address with a host
	nobody  string // %s is an address that is nobody's
	one     string // %q is the name of a %s other than a device
	named   string // of a host with a name of DNS,
	instead string // and what to do about it
}

// host reads the one host that the box sends something to: an address, or the name of a
// device. Who it is may not be for name servers to say.
func (d *decoder) host(n *node, path, host string, say hostWords) (a netip.Addr, dev *model.Device, ok bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		if !a.Is4() || a.IsMulticast() || a.IsUnspecified() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
			slices.ContainsFunc(d.zones, func(z *zone) bool { return z.gateway == a }) {
			d.error(n, path, say.form, say.nobody, a)
			return a, nil, false
		}
		return a, nil, true
	}
	if e := d.endpoints[host]; e != nil && e.kind == "device" {
		return a, e.device.model, true
	} else if e != nil {
		d.error(n, path, say.form, say.one, host, e.kind)
		return a, nil, false
	}
	if strings.Contains(host, ".") {
		d.error(n, path, say.instead, "%s", say.named)
		return a, nil, false
	}
	if !d.broken["devices"] {
		d.unknownName(n, path, "device", host, func() string {
			var names []string
			for _, dev := range d.cfg.Devices {
				names = append(names, dev.Name)
			}
			return d.didYouMean("device", host, names, "declare it under devices, or write its address; the devices are ")
		})
	}
	return a, nil, false
}

// hostKeys are the kinds of keys that SSH servers have, RFC 8709, RFC 5656, RFC 8332.
var hostKeys = []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"}

// knownHost reads the remote's public key.
func (d *decoder) knownHost(n *node, path string, p *model.Push) bool {
	v, ok := d.word(n, path, "a public key", knownForm)
	if !ok {
		return false
	}
	kind, text, _ := strings.Cut(v, " ")
	data, err := base64.StdEncoding.DecodeString(text)
	if inner, rest, ok := wireString(data); err != nil || !ok || string(inner) != kind || len(rest) < 32 || !slices.Contains(hostKeys, kind) {
		d.error(n, path, knownForm, "%q is not the public key of a host", cut(v))
		return false
	}
	p.KnownHost = v
	return true
}

// wireString takes a string off data, as SSH writes them: RFC 4251 section 5.
func wireString(data []byte) (s, rest []byte, ok bool) {
	if len(data) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(data)
	if rest = data[4:]; uint64(n) > uint64(len(rest)) {
		return nil, nil, false
	}
	return rest[:n], rest[n:], true
}

// checkSSHKey reports what keeps a text from being a private key that needs no
// passphrase. https://cvsweb.openbsd.org/src/usr.bin/ssh/PROTOCOL.key
func checkSSHKey(value string) error {
	const make = "make one for the box alone: ssh-keygen -t ed25519 -N '' -f FILE"
	block, _ := pem.Decode([]byte(value))
	if block == nil || block.Type != "OPENSSH PRIVATE KEY" {
		return errors.New("a private key in OpenSSH's format is needed; " + make)
	}
	rest, ok := strings.CutPrefix(string(block.Bytes), "openssh-key-v1\x00")
	cipher, _, whole := wireString([]byte(rest))
	switch {
	case !ok || !whole:
		return errors.New("the private key is not whole: copy it again")
	case string(cipher) != "none":
		return fmt.Errorf("the private key has a passphrase, which nobody is there to type; %s", make)
	}
	return nil
}
