//go:build linux

package lab

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bulkhead/images/lab/probe"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// width is how many columns the lab prints at most.
const width = 80

// Printer writes what people read. Colour only repeats what the words say.
type Printer struct {
	W     io.Writer
	Color bool
	start time.Time
}

type style string

// Styles, as SGR codes of ECMA-48.
const (
	bold  style = "1"
	dim   style = "2"
	red   style = "1;31"
	green style = "32"
)

func (p *Printer) paint(s style, text string) string {
	if !p.Color {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// Title begins a section.
func (p *Printer) Title(format string, args ...any) {
	fmt.Fprintf(p.W, "\n%s\n", p.paint(bold, fmt.Sprintf(format, args...)))
}

// Line writes an indented line.
func (p *Printer) Line(format string, args ...any) {
	fmt.Fprintf(p.W, "  %s\n", fmt.Sprintf(format, args...))
}

// Event says what has just happened and when, counted from the first event.
func (p *Printer) Event(format string, args ...any) {
	if p.start.IsZero() {
		p.start = time.Now()
	}
	at := fmt.Sprintf("%4.1f s", time.Since(p.start).Seconds())
	p.Line("%s  %s", p.paint(dim, at), fmt.Sprintf(format, args...))
}

// client says that a client has its address.
func (p *Printer) client(c *Client) {
	how := "by " + c.Program
	if c.Program == "" {
		how = "its own, as the zone has no DHCP"
	}
	p.Event("%-15s %-15s %-12s %s", c.Name, c.Addr, c.Zone.Name, how)
}

// pad fills text up to n columns, counting characters and not bytes.
func pad(text string, n int) string {
	return text + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(text)))
}

// letters of a cell: one for each kind of packet.
var letters = []struct {
	letter string
	protos []uint8
}{
	{"t", []uint8{probe.TCP}},
	{"u", []uint8{probe.UDP}},
	{"p", []uint8{probe.ICMP}},
	{"o", []uint8{probe.SCTP, probe.GRE}},
}

// Text of a cell: a letter for what came through, in upper case if all of it did, a
// dot for what did not and a space for what was not asked; "!" follows if that is not
// as the policy says.
func (c *Cell) Text() string {
	var b strings.Builder
	for _, l := range letters {
		asked, came := 0, 0
		for _, a := range c.Answers {
			if slices.Contains(l.protos, a.Flow.Proto) {
				asked++
				if a.Arrived() {
					came++
				}
			}
		}
		switch {
		case asked == 0:
			b.WriteString(" ")
		case came == 0:
			b.WriteString("·")
		case came == asked:
			b.WriteString(strings.ToUpper(l.letter))
		default:
			b.WriteString(l.letter)
		}
	}
	if c.Wrong > 0 {
		b.WriteString("!")
	}
	return b.String()
}

// Matrix prints the zone matrix.
func (p *Printer) Matrix(m *Matrix) {
	p.Title("What reaches what: %d packets in %.1f s", m.Packets, m.Took.Seconds())
	heads := fit(m.Parties, width-2)
	first := longest(heads)
	line := p.paint(dim, pad("from \\ to", first))
	for i := range m.Parties {
		line += "  " + pad(heads[i], 5)
	}
	p.Line("%s", strings.TrimRight(line, " "))
	for i, from := range m.Parties {
		line := pad(heads[i], max(first, 9))
		for j, to := range m.Parties {
			line += "  " + p.cell(m.Cells[policy.Pair{From: from, To: to}], max(5, utf8.RuneCountInString(heads[j])))
		}
		p.Line("%s", strings.TrimRight(line, " "))
	}
	p.Line("%s", p.paint(dim, "t TCP  u UDP  p ping  o SCTP, GRE; upper case: every port asked; ·: nothing"))
}

func (p *Printer) cell(c *Cell, n int) string {
	if c == nil {
		return p.paint(dim, pad("  –", n))
	}
	text := c.Text()
	padded := pad(text, n)
	switch {
	case c.Wrong > 0:
		return p.paint(red, padded)
	case strings.Trim(text, "·") == "":
		return p.paint(dim, padded)
	}
	return p.paint(green, padded)
}

// fit cuts the longest names until a matrix of them fits in the width.
func fit(names []string, width int) []string {
	heads := slices.Clone(names)
	for {
		total := max(longest(heads), 9)
		at := 0
		for i, h := range heads {
			n := utf8.RuneCountInString(h)
			total += 2 + max(5, n)
			if n > utf8.RuneCountInString(heads[at]) {
				at = i
			}
		}
		n := utf8.RuneCountInString(heads[at])
		if total <= width || n <= 5 {
			return heads
		}
		heads[at] = string([]rune(names[at])[:n-2]) + "…"
	}
}

func longest(names []string) int {
	n := 0
	for _, s := range names {
		n = max(n, utf8.RuneCountInString(s))
	}
	return n
}

// Open prints what came through, rule by rule.
func (p *Printer) Open(m *Matrix) {
	p.Title("What is open, and by which rule")
	zones := m.Parties[:len(m.Parties)-2] // without internet and box
	last := ""
	list := m.open()
	ruleWidth := 0
	for _, o := range list {
		ruleWidth = max(ruleWidth, min(len(o.rule), 24))
	}
	for _, o := range list {
		name := o.rule
		if name == last {
			name = ""
		}
		last = o.rule
		from := strings.Join(o.from, ", ")
		if slices.Equal(o.from, zones) && len(zones) > 1 {
			from = "every zone"
		}
		for _, line := range fold(from+" → "+strings.Join(o.to, ", "), width-ruleWidth-4) {
			p.Line("%s  %s", pad(name, ruleWidth), line)
			name = ""
		}
		for _, line := range fold(o.services, width-ruleWidth-4) {
			p.Line("%s  %s", pad("", ruleWidth), p.paint(dim, line))
		}
	}
}

// fold breaks text at spaces so that it fits in n columns.
func fold(text string, n int) (lines []string) {
	line := ""
	for w := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(w) > n {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimLeft(line+" "+w, " ")
	}
	return append(lines, line)
}

// opening is what one rule lets through between parties, written together where it
// is the same.
type opening struct {
	rule     string
	services string
	from, to []string
}

func (m *Matrix) open() []opening {
	var list []opening
	for _, from := range m.Parties {
		for _, to := range m.Parties {
			c := m.Cells[policy.Pair{From: from, To: to}]
			if c == nil {
				continue
			}
			for _, r := range c.byRule() {
				text := strings.Join(r.services, " ")
				i := slices.IndexFunc(list, func(o opening) bool {
					return o.rule == r.name && o.services == text && slices.Equal(o.from, []string{from})
				})
				if i < 0 {
					list = append(list, opening{rule: r.name, services: text, from: []string{from}, to: []string{to}})
				} else {
					list[i].to = append(list[i].to, to)
				}
			}
		}
	}
	var merged []opening
	for _, o := range list {
		i := slices.IndexFunc(merged, func(n opening) bool {
			return n.rule == o.rule && n.services == o.services && slices.Equal(n.to, o.to)
		})
		if i < 0 {
			merged = append(merged, o)
		} else {
			merged[i].from = append(merged[i].from, o.from...)
		}
	}
	seen := make(map[string]int) // rules in the order in which they appeared
	for _, o := range merged {
		if _, ok := seen[o.rule]; !ok {
			seen[o.rule] = len(seen)
		}
	}
	slices.SortStableFunc(merged, func(a, b opening) int { // what the file says first
		return cmp.Or(cmp.Compare(own(a.rule), own(b.rule)), cmp.Compare(seen[a.rule], seen[b.rule]))
	})
	return merged
}

// own is 1 for the box's own rules.
func own(rule string) int {
	if strings.HasPrefix(rule, "box:") {
		return 1
	}
	return 0
}

type ruleServices struct {
	name     string
	services []string
}

// byRule lists what came through, by the rule that allows it.
func (c *Cell) byRule() []ruleServices {
	var list []ruleServices
	for _, a := range c.Answers {
		if !a.Arrived() {
			continue
		}
		name := "no rule"
		if a.Expect.Rule != nil {
			name = a.Expect.Rule.Name
		}
		i := slices.IndexFunc(list, func(r ruleServices) bool { return r.name == name })
		if i < 0 {
			i = len(list)
			list = append(list, ruleServices{name: name})
		}
		s := words(a.Service)
		if !a.Wrong() && a.To == model.Box && a.Receiver != gatewayName {
			s += " to " + a.Receiver // a forward
		}
		if !slices.Contains(list[i].services, s) {
			list[i].services = append(list[i].services, s)
		}
	}
	if len(list) == 1 && c.arrived() == len(c.Answers) {
		list[0].services = []string{"everything"}
	}
	return list
}

func (c *Cell) arrived() (n int) {
	for _, a := range c.Answers {
		if a.Arrived() {
			n++
		}
	}
	return n
}

func words(s model.Service) string {
	if s == model.ICMP(model.EchoRequest) {
		return "ping"
	}
	return s.String()
}

// Wrong prints the packets that were not treated as the policy says.
func (p *Printer) Wrong(list []Answer) {
	if len(list) == 0 {
		p.Line("%s", p.paint(green, "Every packet was treated as the policy says."))
		return
	}
	p.Title("Not as the policy says: %d", len(list))
	const most = 20
	for _, a := range list[:min(len(list), most)] {
		p.Line("%s %s", p.paint(red, "!"), a)
	}
	if len(list) > most {
		p.Line("and %d more", len(list)-most)
	}
}
