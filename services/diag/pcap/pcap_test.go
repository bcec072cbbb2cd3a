package pcap_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"

	"bulkhead/services/diag/pcap"
)

// ping is an echo request between two machines, in Ethernet.
var ping = []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00" +
	"E\x00\x00\x1c\x00\x01\x00\x00@\x01\x66\xde\x0a\x00\x00\x01\x0a\x00\x00\x02" +
	"\x08\x00\xf7\xfd\x00\x01\x00\x01")

var at = time.Unix(1795813200, 123456789)

// file is one frame as it is, and once with its beginning only.
func file(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := pcap.NewWriter(&b, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(at, ping, len(ping)); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(at.Add(time.Second), append(ping, make([]byte, 100)...), 1514); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTcpdumpReadsTheFile(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		if os.Getenv("BULKHEAD_NEED_TOOLS") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(path, file(t), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tcpdump", "--time-stamp-precision=nano", "-tt", "-nn", "-e", "-r", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"link-type EN10MB (Ethernet), snapshot length 64",
		"1795813200.123456789 02:00:00:00:00:02 > 02:00:00:00:00:01, ethertype IPv4 (0x0800), length 42: 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 1, length 8\n",
		"1795813201.123456789 02:00:00:00:00:02 > 02:00:00:00:00:01, ethertype IPv4 (0x0800), length 1514: ",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}

func TestFileHoldsWhatWasWritten(t *testing.T) {
	data := file(t)
	if want := pcap.HeaderSize + 2*pcap.RecordSize + len(ping) + 64; len(data) != want {
		t.Errorf("the file has %d bytes, want %d", len(data), want)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		b, info, err := r.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(info.Timestamp.UnixNano(), " ", info.CaptureLength, " ", info.Length, " ", bytes.HasPrefix(b, ping)))
	}
	want := []string{"1795813200123456789 42 42 true", "1795813201123456789 64 1514 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("frames differ (-want +got):\n%s", diff)
	}
}
