package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"bulkhead/netcfg/model"
)

// A SyntaxError says where a filter stops making sense.
type SyntaxError struct {
	At  int // bytes before it
	Why string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("filter, character %d: %s", e.At+1, e.Why) }

// vocabulary is what a test may begin with.
const vocabulary = "host, net, port, mac, tcp, udp, icmp, arp, ip, ip6, not or ("

// Parse reads a filter. An empty one is nil. The error is a [*SyntaxError].
func Parse(text string) (Expr, error) {
	if len(text) > MaxText {
		return nil, &SyntaxError{MaxText, fmt.Sprintf("a filter has at most %d bytes", MaxText)}
	}
	p := &parser{words: split(text), end: len(text)}
	if len(p.words) == 0 {
		return nil, nil
	}
	e, err := p.expr(0)
	if err == nil && len(p.words) > 0 {
		err = p.wrong("%q is too much: join tests by and, or", p.words[0].text)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

type word struct {
	at   int
	text string
}

// split cuts a text into words. Parentheses and ! are words wherever they stand.
func split(text string) (words []word) {
	for i := 0; i < len(text); {
		n := strings.IndexAny(text[i:], " \t\r\n()!")
		switch {
		case n < 0:
			n = len(text) - i
		case n == 0:
			n = 1
		}
		if w := strings.TrimSpace(text[i : i+n]); w != "" {
			words = append(words, word{i, w})
		}
		i += n
	}
	return words
}

type parser struct {
	words []word
	end   int
	tests int
}

func (p *parser) wrong(format string, args ...any) error {
	at := p.end
	if len(p.words) > 0 {
		at = p.words[0].at
	}
	return &SyntaxError{at, fmt.Sprintf(format, args...)}
}

// accept takes the next word if it is one of those.
func (p *parser) accept(texts ...string) bool {
	for _, t := range texts {
		if len(p.words) > 0 && p.words[0].text == t {
			p.words = p.words[1:]
			return true
		}
	}
	return false
}

// expr reads tests that are joined by one of the two.
func (p *parser) expr(depth int) (Expr, error) {
	first, err := p.term(depth)
	if err != nil {
		return nil, err
	}
	all, some := allOf{first}, anyOf{first}
	for {
		joint := p.words
		and := p.accept("and", "&&")
		if !and && !p.accept("or", "||") {
			break
		}
		if and && len(some) > 1 || !and && len(all) > 1 {
			p.words = joint
			return nil, p.wrong("it is not clear what belongs together: put parentheses around what is joined by and, or around what is joined by or")
		}
		next, err := p.term(depth)
		if err != nil {
			return nil, err
		}
		if and {
			all = append(all, next)
		} else {
			some = append(some, next)
		}
	}
	switch {
	case len(all) > 1:
		return all, nil
	case len(some) > 1:
		return some, nil
	}
	return first, nil
}

// term reads one test, or what stands for one.
func (p *parser) term(depth int) (Expr, error) {
	if len(p.words) == 0 {
		return nil, p.wrong("it ends too early: one of %s has to follow", vocabulary)
	}
	if p.tests++; p.tests > maxTests {
		return nil, p.wrong("that is too much: a filter has at most %d tests", maxTests)
	}
	if depth >= maxDepth {
		return nil, p.wrong("that is too deep: a filter has at most %d parentheses within each other", maxDepth)
	}
	switch {
	case p.accept("not", "!"):
		p.tests-- // it is the test that counts
		e, err := p.term(depth + 1)
		if err != nil {
			return nil, err
		}
		return not{e}, nil
	case p.accept("("):
		p.tests--
		e, err := p.expr(depth + 1)
		if err == nil && !p.accept(")") {
			err = p.wrong("a closing parenthesis is missing")
		}
		return e, err
	}
	return p.test()
}

func (p *parser) test() (Expr, error) {
	for _, k := range kinds {
		if p.accept(k.word) {
			return protocol{k}, nil
		}
	}
	switch name := p.words[0].text; {
	case p.accept("host"):
		return value(p, "host", "an IPv4 address, such as 192.168.20.5", func(s string) (Expr, bool) {
			a, err := netip.ParseAddr(s)
			return host{netip.PrefixFrom(a, a.BitLen())}, err == nil && a.Is4()
		})
	case p.accept("net"):
		return value(p, "net", "an IPv4 network without bits behind its length, such as 192.168.20.0/24", func(s string) (Expr, bool) {
			n, err := netip.ParsePrefix(s)
			return network{n}, err == nil && n.Addr().Is4() && n == n.Masked()
		})
	case p.accept("port"):
		return value(p, "port", "a number from 1 to 65535", func(s string) (Expr, bool) {
			n, err := strconv.ParseUint(s, 10, 16)
			return port(n), err == nil && n > 0 && s[0] != '0'
		})
	case p.accept("mac"):
		return value(p, "mac", "an Ethernet address, such as 52:54:00:12:34:56", func(s string) (Expr, bool) {
			m, err := model.ParseMAC(s)
			return mac(m), err == nil
		})
	default:
		return nil, p.wrong("%.40q is none of %s", name, vocabulary)
	}
}

// value reads what follows a word.
func value(p *parser, after, want string, read func(string) (Expr, bool)) (Expr, error) {
	if len(p.words) == 0 {
		return nil, p.wrong("%s takes %s", after, want)
	}
	e, ok := read(p.words[0].text)
	if !ok {
		return nil, p.wrong("%s takes %s, not %.40q", after, want, p.words[0].text)
	}
	p.words = p.words[1:]
	return e, nil
}
