//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A box whose first file asks for certificates is its owner's, who gets in again by the
// console when all that the desk had is lost.
func TestLostCertificateIsReplacedAtTheConsole(t *testing.T) {
	t.Parallel()
	b := unpack(t)
	file := filepath.Join(b.dir, "home.yaml")
	strict := strings.Replace(firstFile, "domain: home.arpa}", "domain: home.arpa, admin: {client-certificates: required}}", 1)
	if err := os.WriteFile(file, []byte(strict), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := b.cli("claim", "192.168.77.1", "--code", b.waiting().Code, "--yes", file); code != 0 || !strings.Contains(out, "home.yaml is confirmed") {
		t.Fatalf("the claim: exit %d\n%s", code, out)
	}
	if out, code := b.cli("--box", "gw", "show"); code != 0 || !strings.Contains(out, "gw is running") {
		t.Errorf("with the certificate: exit %d\n%s", code, out)
	}
	if out, code := b.cli("--box", "gw", "certificate"); code != 0 || !strings.Contains(out, "This workstation shows gw the certificate") {
		t.Errorf("another one: exit %d\n%s", code, out)
	}

	// The token alone, as somebody may have copied it.
	state, err := b.console("POST")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"BULKHEAD_TOKEN=" + b.token("gw"), "BULKHEAD_FINGERPRINT=" + state.Fingerprint.String(), "XDG_CONFIG_HOME=" + filepath.Join(b.dir, "elsewhere")}
	if out, code := b.cliWith(env, "--box", "192.168.10.1", "show"); code == 0 || !strings.Contains(out, "this box asks for a client certificate, and none was shown") {
		t.Errorf("without the certificate: exit %d\n%s", code, out)
	}
	if err := os.RemoveAll(filepath.Join(b.dir, "desk")); err != nil {
		t.Fatal(err)
	}
	if out, code := b.cli("claim", "192.168.10.1", "--code", state.Code, "--no-key"); code != 0 || !strings.Contains(out, "The box is yours") || strings.Contains(out, "warning") {
		t.Fatalf("the second claim: exit %d\n%s", code, out)
	}
	if out, code := b.cli("--box", "gw", "show"); code != 0 || !strings.Contains(out, "gw is running") {
		t.Errorf("with the new certificate: exit %d\n%s", code, out)
	}
}
