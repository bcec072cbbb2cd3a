package push

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"bulkhead/netcfg/gitrepo"
)

// Bounds of what a remote may say: gitprotocol-common(5), and our own.
const (
	maxLine = 65520   // bytes of a pkt-line, its length included
	maxTalk = 4 << 20 // bytes of all lines of an answer
	maxRefs = 100_000 // lines of an advertisement
	maxSaid = 200     // bytes of a reason that are shown
	flush   = "0000"  // ends a list of lines
	needs   = "report-status"
)

// lines reads pkt-lines: gitprotocol-common(5).
type lines struct {
	r    *bufio.Reader
	left int // bytes that may yet come
}

func newLines(r io.Reader) *lines { return &lines{bufio.NewReader(r), maxTalk} }

// next returns the next line without its newline; more is false for the end of a list.
func (l *lines) next() (line string, more bool, err error) {
	var head [4]byte
	if _, err := io.ReadFull(l.r, head[:]); err != nil {
		return "", false, unexpected(err)
	}
	n, err := strconv.ParseUint(string(head[:]), 16, 16)
	switch {
	case err != nil, n > maxLine, n > 0 && n < 4:
		return "", false, fmt.Errorf("the remote does not speak git's protocol: it says %q", head[:])
	case n == 0:
		return "", false, nil
	}
	if l.left -= int(n); l.left < 0 {
		return "", false, fmt.Errorf("the remote says more than %d bytes", maxTalk)
	}
	data := make([]byte, n-4)
	if _, err := io.ReadFull(l.r, data); err != nil {
		return "", false, unexpected(err)
	}
	return strings.TrimSuffix(string(data), "\n"), true, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// advertised reads what the remote has: the commit that its branch ends in, zero if it
// has no such branch. gitprotocol-pack(5), "Reference Discovery".
func advertised(l *lines) (tip gitrepo.ID, err error) {
	for i := range maxRefs {
		line, more, err := l.next()
		if err != nil || !more {
			return tip, err
		}
		if i == 0 {
			var capabilities string
			line, capabilities, _ = strings.Cut(line, "\x00")
			if !has(capabilities, needs) {
				return tip, errors.New("the remote does not tell what becomes of a push: its git is too old, or it is none")
			}
			if hash := value(capabilities, "object-format"); hash != "" && hash != "sha1" {
				return tip, fmt.Errorf("the remote's repository is of format %q: make one with git init --bare --object-format=sha1", printable(hash))
			}
		}
		id, ref, ok := strings.Cut(line, " ")
		if !ok || ref != gitrepo.Branch {
			continue // another branch, or something that this client does not use
		}
		if tip, err = gitrepo.ParseID(id); err != nil {
			return tip, err
		}
	}
	return tip, fmt.Errorf("the remote has more than %d branches", maxRefs)
}

func has(capabilities, name string) bool {
	for _, c := range strings.Fields(capabilities) {
		if c == name {
			return true
		}
	}
	return false
}

func value(capabilities, name string) string {
	for _, c := range strings.Fields(capabilities) {
		if v, ok := strings.CutPrefix(c, name+"="); ok {
			return v
		}
	}
	return ""
}

// command asks the remote to move its branch.
func command(old, new gitrepo.ID, cut []gitrepo.ID) string {
	var b strings.Builder
	line := func(s string) { fmt.Fprintf(&b, "%04x%s", len(s)+4, s) }
	for _, id := range cut {
		line("shallow " + id.String())
	}
	line(fmt.Sprintf("%s %s %s\x00 %s agent=bulkhead", old, new, gitrepo.Branch, needs))
	return b.String() + flush
}

// report reads what became of it: gitprotocol-pack(5), "Report Status".
func report(l *lines) error {
	line, more, err := l.next()
	switch {
	case err != nil:
		return err
	case !more || line != "unpack ok":
		return fmt.Errorf("the remote cannot keep what was sent: %s", printable(strings.TrimPrefix(line, "unpack ")))
	}
	took := false
	for {
		line, more, err := l.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if line == "ok "+gitrepo.Branch {
			took = true
		}
		if why, ok := strings.CutPrefix(line, "ng "+gitrepo.Branch+" "); ok {
			return fmt.Errorf("the remote refuses: %s", printable(why))
		}
	}
	if !took {
		return errors.New("the remote does not say that it took what was sent")
	}
	return nil
}

// printable is what a stranger said, fit for a status or a log.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, s)
	if s = strings.Join(strings.Fields(s), " "); len(s) > maxSaid {
		s = strings.ToValidUTF8(s[:maxSaid], "") + "…"
	}
	if s == "" {
		return "it does not say why"
	}
	return s
}
