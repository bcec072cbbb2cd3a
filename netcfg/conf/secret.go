package conf

import (
	"errors"
	"fmt"
	"strings"

	"bulkhead/netcfg/model"
)

const secretForm = "write the name under which the secret is kept on the box"

// secret reads {secret: name}, which stands for a value that is kept on the box. Table
// lists the keys of the mapping, of which "secret" is one.
func (d *decoder) secret(n *node, path, table string, kind model.SecretKind) (name string, ok bool) {
	f := d.fields(n, n, path, table)
	if f == nil || f.get("secret") == nil {
		return "", false
	}
	at := f.get("secret")
	path = join(path, "secret")
	name, ok = d.word(at, path, "the name of a secret", secretForm)
	if !ok || !d.name(at, path) {
		return "", false
	}
	d.cfg.Secrets = append(d.cfg.Secrets, model.SecretUse{Name: name, Kind: kind, Path: path, Pos: d.at(at)})
	return name, true
}

// CheckSecret reports what keeps the value of a secret from being what it is named
// for. The error does not quote it.
func CheckSecret(kind model.SecretKind, value string) error {
	switch kind {
	case model.SecretResolver:
		_, err := SecretResolver(value)
		return err
	case model.SecretSSHKey:
		return checkSSHKey(value)
	case model.SecretToken:
		return printable(value, 4096, "a token")
	case model.SecretPassword:
		return printable(value, 255, "a password")
	case model.SecretPath:
		if !urlPath.MatchString(value) {
			return errors.New("the part of an address from the first slash behind the host on is needed, such as /services/T0/B0/x")
		}
		return nil
	}
	return fmt.Errorf("nothing uses a secret as %q", kind)
}

// SecretResolver returns the resolver that the value of a secret describes. The error
// does not quote it.
func SecretResolver(value string) (model.Resolver, error) {
	r, msg, _ := resolverOf(value)
	if msg != "" || !r.TLS {
		return model.Resolver{}, errors.New("a resolver is needed, such as tls://9.9.9.9#dns.quad9.net")
	}
	return r, nil
}

// printable reports what keeps a value from being one line of ASCII.
func printable(value string, limit int, what string) error {
	bad := func(r rune) bool { return r < ' ' || r > '~' }
	if value == "" || len(value) > limit || strings.ContainsFunc(value, bad) || strings.TrimSpace(value) != value {
		return fmt.Errorf("%s of at most %d printable ASCII characters is needed, without spaces around it", what, limit)
	}
	return nil
}
