package filter_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"bulkhead/services/diag/filter"
	"bulkhead/services/diag/pcap"
)

func TestFiltersAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"host 192.168.20.5":                   "host 192.168.20.5",
		"  tcp\tand\nport 443 ":               "(tcp and port 443)",
		"!icmp && !arp":                       "(not icmp and not arp)",
		"not(tcp or udp)":                     "not (tcp or udp)",
		"ip6 || net 10.0.0.0/8":               "(ip6 or net 10.0.0.0/8)",
		"((mac 52:54:00:12:34:56))":           "mac 52:54:00:12:34:56",
		"ip and (udp or icmp) and not arp":    "(ip and (udp or icmp) and not arp)",
		"not not tcp":                         "not not tcp",
		"(tcp and port 1) or host 1.2.3.4":    "((tcp and port 1) or host 1.2.3.4)",
		strings.Repeat("tcp and ", 63) + "ip": "(" + strings.Repeat("tcp and ", 63) + "ip)",
	} {
		e, err := filter.Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if e.String() != want {
			t.Errorf("%q is read as %q, want %q", text, e, want)
		}
	}
	if e, err := filter.Parse(" \n"); e != nil || err != nil {
		t.Errorf("nothing is read as %v, %v", e, err)
	}
}

func TestMistakesAreShownWhereTheyAre(t *testing.T) {
	for text, want := range map[string]string{
		"prot tcp":                   `filter, character 1: "prot" is none of host, net, port, mac, tcp, udp, icmp, arp, ip, ip6, not or (`,
		"tcp port 443":               `filter, character 5: "port" is too much: join tests by and, or`,
		"tcp and":                    `filter, character 8: it ends too early: one of host, net, port, mac, tcp, udp, icmp, arp, ip, ip6, not or ( has to follow`,
		"(tcp":                       `filter, character 5: a closing parenthesis is missing`,
		"tcp)":                       `filter, character 4: ")" is too much: join tests by and, or`,
		"tcp and udp or icmp":        `filter, character 13: it is not clear what belongs together: put parentheses around what is joined by and, or around what is joined by or`,
		"port 0":                     `filter, character 6: port takes a number from 1 to 65535, not "0"`,
		"port 080":                   `filter, character 6: port takes a number from 1 to 65535, not "080"`,
		"port 65536":                 `filter, character 6: port takes a number from 1 to 65535, not "65536"`,
		"host":                       `filter, character 5: host takes an IPv4 address, such as 192.168.20.5`,
		"host tv":                    `filter, character 6: host takes an IPv4 address, such as 192.168.20.5, not "tv"`,
		"host fe80::1":               `filter, character 6: host takes an IPv4 address, such as 192.168.20.5, not "fe80::1"`,
		"net 10.0.0.1/8":             `filter, character 5: net takes an IPv4 network without bits behind its length, such as 192.168.20.0/24, not "10.0.0.1/8"`,
		"mac 52":                     `filter, character 5: mac takes an Ethernet address, such as 52:54:00:12:34:56, not "52"`,
		strings.Repeat("(", 50):      `filter, character 33: that is too deep: a filter has at most 32 parentheses within each other`,
		strings.Repeat(" ", 1001):    `filter, character 1001: a filter has at most 1000 bytes`,
		strings.Repeat("ip or ", 65): `filter, character 385: that is too much: a filter has at most 64 tests`,
	} {
		e, err := filter.Parse(text)
		if _, ok := errors.AsType[*filter.SyntaxError](err); !ok || err.Error() != want || e != nil {
			t.Errorf("%q: got %v, %v, want the error\n%s", text, e, err, want)
		}
	}
}

// generator makes filters and frames out of few values, so that they meet.
type generator struct{ *rand.Rand }

func (g generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) expr(depth int) string {
	if depth > 0 && g.IntN(3) > 0 {
		switch join := g.pick(" and ", " or ", "not"); join {
		case "not":
			return "not (" + g.expr(depth-1) + ")"
		default:
			parts := make([]string, 2+g.IntN(2))
			for i := range parts {
				parts[i] = "(" + g.expr(depth-1) + ")"
			}
			return strings.Join(parts, join)
		}
	}
	return g.pick("host 10.0.0.1", "host 10.0.0.2", "net 10.0.0.0/31", "net 10.1.0.0/16", "net 0.0.0.0/0", "port 53", "port 443",
		"mac 02:00:00:00:00:01", "mac 02:00:00:00:00:02", "tcp", "udp", "icmp", "arp", "ip", "ip6")
}

// frame is whole.
func (g generator) frame() []byte {
	var b []byte
	b = append(b, 2, 0, 0, 0, 0, byte(g.IntN(3)), 2, 0, 0, 0, 0, byte(g.IntN(3)))
	ether := []uint16{0x0800, 0x0800, 0x0800, 0x0806, 0x86dd, 0x88cc}[g.IntN(6)]
	b = binary.BigEndian.AppendUint16(b, ether)
	addr := func() []byte { return []byte{10, byte(g.IntN(2)), 0, byte(g.IntN(4))} }
	if ether == 0x0806 {
		b = append(b, 0, 1, 8, 0, 6, 4, 0, 1)
		b = append(append(b, 2, 0, 0, 0, 0, 1), addr()...)
		b = append(append(b, 0, 0, 0, 0, 0, 0), addr()...)
	} else {
		words := 5 + g.IntN(2)
		b = append(b, 0x40|byte(words), 0, 0, 60, 0, 0)
		b = binary.BigEndian.AppendUint16(b, []uint16{0, 0x4000, 0x2000, 0x0010}[g.IntN(4)])
		b = append(b, 64, []byte{1, 6, 17, 17, 47}[g.IntN(5)], 0, 0)
		b = append(append(b, addr()...), addr()...)
		b = append(b, make([]byte, 4*(words-5))...)
		for range 2 {
			b = binary.BigEndian.AppendUint16(b, []uint16{53, 443, 1024}[g.IntN(3)])
		}
		b = append(b, make([]byte, 16)...)
	}
	return b
}

func TestProgramsDoWhatFiltersMean(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	g := generator{rand.New(rand.NewPCG(seed, 0))}
	taken, all := 0, 0
	for range 300 {
		text := g.expr(4)
		e, err := filter.Parse(text)
		if err != nil {
			if len(text) > filter.MaxText || strings.Contains(err.Error(), "too much") {
				continue
			}
			t.Fatalf("%q: %v", text, err)
		}
		vm := machine(t, e)
		for range 200 {
			f := g.frame()
			if g.IntN(8) == 0 {
				f = f[:g.IntN(len(f))]
			}
			got, err := vm.Run(f)
			if err != nil {
				t.Fatal(err)
			}
			if want := filter.Match(e, f); (got != 0) != want {
				t.Fatalf("%q, frame %x: the program takes %d bytes, want %t", text, f, got, want)
			}
			if all++; got != 0 {
				taken++
			}
		}
	}
	if taken == 0 || taken == all {
		t.Errorf("%d frames of %d are taken: that proves nothing", taken, all)
	}
}

// machine runs a filter's program. To assemble it is what the kernel is given.
func machine(t testing.TB, e filter.Expr) *bpf.VM {
	t.Helper()
	code := filter.Program(e, 1<<16)
	if raw, err := bpf.Assemble(code); err != nil || len(raw) > 4096 { // BPF_MAXINSNS
		t.Fatalf("%v: %d instructions, %v", e, len(raw), err)
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatalf("%v: %v", e, err)
	}
	return vm
}

func TestTcpdumpTakesTheSameFrames(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		if os.Getenv("BULKHEAD_NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	g := generator{rand.New(rand.NewPCG(1, 2))}
	var frames [][]byte
	path := filepath.Join(t.TempDir(), "all.pcap")
	for range 2000 { // whole: tcpdump makes the same tests in another order
		frames = append(frames, g.frame())
	}
	writeFile(t, path, frames)
	// What the words are in tcpdump's language.
	theirs := strings.NewReplacer(
		"host 10.0.0.1", "(ip host 10.0.0.1 or arp host 10.0.0.1)", "host 10.0.0.2", "(ip host 10.0.0.2 or arp host 10.0.0.2)",
		"net 10.0.0.0/31", "(ip net 10.0.0.0/31 or arp net 10.0.0.0/31)", "net 10.1.0.0/16", "(ip net 10.1.0.0/16 or arp net 10.1.0.0/16)",
		"net 0.0.0.0/0", "(ip or arp)", "port 53", "(ip and (tcp port 53 or udp port 53))", "port 443", "(ip and (tcp port 443 or udp port 443))",
		"mac ", "ether host ", "tcp", "(ip proto 6)", "udp", "(ip proto 17)", "icmp", "(ip proto 1)",
	)
	for range 40 {
		text := g.expr(3)
		e, err := filter.Parse(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var mine [][]byte
		vm := machine(t, e)
		for _, f := range frames {
			if n, err := vm.Run(f); err != nil {
				t.Fatal(err)
			} else if n > 0 {
				mine = append(mine, f)
			}
		}
		cmd := exec.Command("tcpdump", "-tt", "-nn", "-q", "-r", path, theirs.Replace(text))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil && !strings.Contains(stderr.String(), "expression rejects all packets") {
			t.Fatalf("tcpdump, %q: %v\n%s", theirs.Replace(text), err, &stderr)
		}
		n := 0
		for line := range strings.Lines(string(out)) {
			if line[0] != ' ' && line[0] != '\t' {
				n++
			}
		}
		if n != len(mine) {
			t.Errorf("%q takes %d frames, tcpdump %d with %q", text, len(mine), n, theirs.Replace(text))
		}
	}
}

func writeFile(t *testing.T, path string, frames [][]byte) {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, 1<<16)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range frames {
		if err := w.Write(time.Unix(int64(i), 0), f, len(f)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFiltersAreJoined(t *testing.T) {
	e := filter.All(filter.Host(netip.MustParseAddr("10.0.0.1")), filter.Not(filter.Port(443)))
	if got, want := fmt.Sprint(e), "(host 10.0.0.1 and not port 443)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFilterOfNothingTakesWholeFrames(t *testing.T) {
	vm := machine(t, nil)
	for _, f := range [][]byte{nil, make([]byte, 1514)} {
		if n, err := vm.Run(f); err != nil || n != 1<<16 {
			t.Errorf("%d bytes: got %d, %v", len(f), n, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"host 10.0.0.1 and not (tcp and port 443)", "net 10.0.0.0/8 or mac 02:00:00:00:00:01", "!(icmp)", "((("} {
		f.Add(s, []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00E"))
	}
	f.Fuzz(func(t *testing.T, text string, frame []byte) {
		e, err := filter.Parse(text)
		if e == nil {
			if err != nil && !strings.HasPrefix(err.Error(), "filter, character ") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		n, err := machine(t, e).Run(frame)
		if err != nil || (n != 0) != filter.Match(e, frame) {
			t.Errorf("%q, frame %x: the program takes %d bytes, %v", text, frame, n, err)
		}
		said := e.String()
		if said[0] == '(' {
			said = said[1 : len(said)-1] // or it is deeper than it was
		}
		if len(said) > filter.MaxText {
			return
		}
		if again, err := filter.Parse(said); err != nil || again.String() != e.String() {
			t.Errorf("%q is said as %q, which is read as %v, %v", text, said, again, err)
		}
	})
}
