package edit

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"bulkhead/netcfg/conf"
)

// value is what a key is given.
type value struct {
	words  []string // none: the key is removed
	plain  bool     // written as it is: true, false
	listed bool     // in brackets even if it is one word
	usual  bool     // what it means to say nothing: a key that is not there stays so
}

func words(w ...string) value { return value{words: clean(w)} }

func listed(w []string) value {
	v := words(w...)
	v.listed = len(v.words) != 1 || v.words[0] != "any"
	return v
}

// truth is true or false, of which the usual one need not be written.
func truth(b, usual bool) value {
	return value{words: []string{fmt.Sprint(b)}, plain: true, usual: b == usual}
}

// clean leaves out what is empty: a field of a form that nobody filled in.
func clean(w []string) (out []string) {
	for _, s := range w {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

// text writes a value.
func (v value) text(inFlow bool) string {
	if v.plain {
		return v.words[0]
	}
	if len(v.words) == 1 && !v.listed {
		return quote(v.words[0], inFlow)
	}
	var list []string
	for _, w := range v.words {
		list = append(list, quote(w, true))
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// leaves are what a key says that has the value.
func (v value) leaves(path string) (list []leaf) {
	kind := conf.Text
	if v.plain {
		kind = conf.Bool
	}
	for i, w := range v.words {
		list = append(list, leaf{fmt.Sprintf("%s%s#%d", path, sep, i), kind, w})
	}
	return list
}

// The words that need no quotes, though YAML, or some reader of it, takes what looks like
// them for something else than text.
var (
	ordinary = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9 _./'()+=;,-]*$`)
	day      = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	period   = regexp.MustCompile(`^[0-9]+[hms]([0-9]+[ms])*$`)
	special  = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|nan|inf)$`)
)

// quote writes a text so that it is read as what it is.
func quote(s string, inFlow bool) string {
	if bare(s, inFlow) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == ' ' || unicode.IsGraphic(r) && !unicode.IsSpace(r) && r != utf8.RuneError:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			fmt.Fprintf(&b, `\U%08X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// bare reports whether a text needs no quotes.
func bare(s string, inFlow bool) bool {
	if special.MatchString(s) || strings.HasSuffix(s, " ") || strings.Contains(s, "  ") || inFlow && strings.Contains(s, ",") {
		return false
	}
	return ordinary.MatchString(s) || day.MatchString(s) || period.MatchString(s) || isAddresses(s)
}

// isAddresses reports whether s is an IPv4 address, a prefix or a range of them.
func isAddresses(s string) bool {
	first, last, isRange := strings.Cut(s, "-")
	a, err := netip.ParseAddr(first)
	if isRange {
		b, err2 := netip.ParseAddr(last)
		return err == nil && err2 == nil && a.Is4() && b.Is4()
	}
	if err == nil {
		return a.Is4()
	}
	p, err := netip.ParsePrefix(s)
	return err == nil && p.Addr().Is4()
}

// maxValue is the longest value, in bytes: whatever is longer is refused anyway, but where
// it stands could not be said.
const maxValue = 2048

// check reports values that no file can hold.
func (v value) check(key string) error {
	for _, w := range v.words {
		switch {
		case !utf8.ValidString(w):
			return fmt.Errorf("%s: %.40q is not text", key, w)
		case len(w) > maxValue:
			return fmt.Errorf("%s: is %d bytes long", key, len(w))
		}
	}
	return nil
}
