package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxLines bounds a page that is checked.
const maxLines = 20000

// Check reports what is wrong with a page that a daemon with a prefix has written. Its
// daemon may have been taken over: a page that passes says nothing in another's name and
// breaks no reader.
func Check(page []byte, prefix string) error {
	if len(page) > MaxPage {
		return fmt.Errorf("larger than %d bytes", MaxPage)
	}
	if !utf8.Valid(page) {
		return errors.New("not UTF-8")
	}
	c := checker{prefix: "bulkhead_" + prefix + "_", seen: make(map[string]bool)}
	n := 0
	for line := range bytes.Lines(page) {
		n++
		text, whole := strings.CutSuffix(string(line), "\n")
		if !whole {
			return fmt.Errorf("line %d: cut off", n)
		}
		if n > maxLines {
			return fmt.Errorf("more than %d lines", maxLines)
		}
		if err := c.line(text); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

// checker knows what may come next.
type checker struct {
	prefix string
	family string // that the last lines were of
	typed  bool   // its type is known
	seen   map[string]bool
}

func (c *checker) line(s string) error {
	if rest, ok := strings.CutPrefix(s, "# HELP "); ok {
		name, _, _ := strings.Cut(rest, " ")
		if !strings.HasPrefix(name, c.prefix) || !isName(name) || c.seen[name] {
			return fmt.Errorf("%.80q is no name, not its own, or there twice", name)
		}
		c.family, c.typed = name, false
		c.seen[name] = true
		return nil
	}
	if rest, ok := strings.CutPrefix(s, "# TYPE "); ok {
		name, kind, _ := strings.Cut(rest, " ")
		if c.family == "" || name != c.family || c.typed || kind != "counter" && kind != "gauge" {
			return fmt.Errorf("type %.80q in the wrong place", rest)
		}
		c.typed = true
		return nil
	}
	rest, ok := strings.CutPrefix(s, c.family)
	if !ok || !c.typed {
		return fmt.Errorf("%.80q is not of the family above", s)
	}
	rest, err := skipLabels(rest)
	if err != nil {
		return err
	}
	value, ok := strings.CutPrefix(rest, " ")
	if !ok {
		return fmt.Errorf("%.80q has no value", s)
	}
	if _, err := strconv.ParseFloat(value, 64); err != nil || strings.ContainsAny(value, "_xXpP") {
		return fmt.Errorf("%.80q is no value", value)
	}
	return nil
}

// skipLabels returns what comes behind the labels, if there are any.
func skipLabels(s string) (string, error) {
	s, ok := strings.CutPrefix(s, "{")
	if !ok {
		return s, nil
	}
	for {
		name, rest, ok := strings.Cut(s, `="`)
		if !ok || !isName(name) || strings.Contains(name, ":") {
			return "", fmt.Errorf("%.80q is no label", s)
		}
		rest, ok = skipValue(rest)
		if !ok {
			return "", fmt.Errorf("label %s has no end", name)
		}
		if after, ok := strings.CutPrefix(rest, "}"); ok {
			return after, nil
		}
		if s, ok = strings.CutPrefix(rest, ","); !ok {
			return "", fmt.Errorf("%.80q behind label %s", rest, name)
		}
	}
}

// skipValue returns what comes behind the quote that ends a label's value.
func skipValue(s string) (string, bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return s[i+1:], true
		case '\\':
			if i++; i == len(s) || !strings.ContainsRune(`\"n`, rune(s[i])) {
				return "", false
			}
		}
	}
	return "", false
}

// isName reports whether s is a metric's or a label's name.
func isName(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == ':'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
