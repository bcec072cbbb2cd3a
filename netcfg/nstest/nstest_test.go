//go:build linux

package nstest_test

import (
	"net"
	"strings"
	"testing"

	"bulkhead/netcfg/nstest"
)

func TestNewNamespaceHoldsLoopbackOnly(t *testing.T) {
	nstest.Run(t, nstest.New(t), func() {
		links, err := net.Interfaces()
		if err != nil {
			t.Error(err)
		}
		if len(links) != 1 || links[0].Index != 1 || links[0].Flags&net.FlagUp != 0 {
			t.Errorf("got %v, want a downed loopback interface", links)
		}
	})
}

func TestVethJoinsNamespaces(t *testing.T) {
	a, b := nstest.New(t), nstest.New(t)
	nstest.Veth(t, a, "left", b, "right")
	nstest.Exec(t, a, "ip", "addr", "add", "192.0.2.1/24", "dev", "left")
	nstest.Exec(t, b, "ip", "addr", "add", "192.0.2.2/24", "dev", "right")

	var server, client net.Conn
	nstest.Run(t, b, func() {
		l, err := net.Listen("tcp", "192.0.2.2:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		nstest.Run(t, a, func() {
			if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
				t.Fatal(err)
			}
		})
		if server, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	})
	defer client.Close()
	defer server.Close()
	if got, want := server.RemoteAddr().(*net.TCPAddr).IP.String(), "192.0.2.1"; got != want {
		t.Errorf("connection from %s, want %s", got, want)
	}
}

func TestNamedNamespaceIsTheOneReturned(t *testing.T) {
	name, ns := nstest.Named(t)
	nstest.Exec(t, ns, "ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
	out := nstest.Exec(t, nstest.New(t), "ip", "netns", "exec", name, "ip", "-br", "link")
	if !strings.Contains(out, "here@there") {
		t.Errorf("interface not found by name of the namespace:\n%s", out)
	}
}
