package kernel_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/kernel"
)

// options is a small source with the ways in which a kernel describes options.
var options = fstest.MapFS{
	"Kconfig": {Data: []byte(`mainmenu "Linux"
source "scripts/Kconfig.include"
source "net/Kconfig"
source "arch/$(SRCARCH)/Kconfig"
`)},
	"scripts/Kconfig.include": {Data: []byte("cc-option = $(success,$(CC) -Werror $(1))\n")},
	"net/Kconfig": {Data: []byte(`
menuconfig NET
	bool "Networking support"
	help
	  Unless you are sure, say Y here.

	  config GHOST
	  depends on MOON

if NET

config VLAN_8021Q
	tristate "802.1Q"
	depends on BLOCK && \
		(PHY || FIXED)
	select LLC if INET

menu "Filters"
	depends on FILTER=y

config NF_TABLES
	tristate "nf_tables" if EXPERT
	depends on !OLD && NETDEVICES != n

config NFT_LIMIT
	tristate "limit"
	depends on NF_TABLES

endmenu

config LLC
	tristate

endif

config CANARY
	bool "canary" if $(cc-option,-fstack-protector)
	depends on NET || WIFI
`)},
	"arch/x86/Kconfig": {Data: []byte(`
config PCI
	bool "PCI"
	depends on ACPI
config PCI
	bool "PCI on something else"
	depends on OF && NET
choice
	prompt "Timer"
	default HZ_250
	depends on TICKS
config HZ_250
	bool "250"
endchoice
`)},
}

func TestExplainNamesTheUnmetDependency(t *testing.T) {
	k, err := kernel.ReadKconfig(options, "x86")
	if err != nil {
		t.Fatal(err)
	}
	got := kernel.Config{"NET": "y", "BLOCK": "y", "FILTER": "m", "OLD": "y", "LLC": "y", "VLAN_8021Q": "y", "INET": "y"}
	for _, tt := range []struct{ option, wanted, want string }{
		{"VLAN_8021Q", "y", "CONFIG_VLAN_8021Q: wanted y, is y: it depends on PHY || FIXED"},
		{"NF_TABLES", "y", "CONFIG_NF_TABLES: wanted y, is n: it depends on !OLD and on EXPERT and on FILTER = y and on NETDEVICES != n"},
		{"NFT_LIMIT", "y", "CONFIG_NFT_LIMIT: wanted y, is n: it depends on FILTER = y and on NF_TABLES"},
		{"PCI", "y", "CONFIG_PCI: wanted y, is n: it depends on ACPI"},
		{"HZ_250", "y", "CONFIG_HZ_250: wanted y, is n: it depends on TICKS"},
		{"CANARY", "y", "CONFIG_CANARY: wanted y, is n: something else decides it"},
		{"GHOST", "y", "CONFIG_GHOST: this source has no such option"},
		{"LLC", "n", "CONFIG_LLC: wanted off, is y: selected by VLAN_8021Q"},
		{"NET", "n", "CONFIG_NET: wanted off, is y: nobody is asked about it"},
	} {
		if diff := cmp.Diff(tt.want, k.Explain(tt.option, tt.wanted, got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.option, diff)
		}
	}
}

func TestReadKconfigRefusesWhatCannotBe(t *testing.T) {
	if _, err := kernel.ReadKconfig(fstest.MapFS{"Kconfig": {Data: []byte("source \"net/Kconfig\"\n")}}, "x86"); err == nil {
		t.Error("no error")
	}
	if _, err := kernel.ReadKconfig(fstest.MapFS{"Kconfig": {Data: []byte("endif\n")}}, "x86"); err == nil {
		t.Error("no error for an end without a beginning")
	}
	if _, err := kernel.ReadKconfig(fstest.MapFS{"Kconfig": {Data: []byte("source \"Kconfig\"\n")}}, "x86"); err == nil {
		t.Error("no error for a file that is in itself")
	}
}

func TestCheckNamesEveryOptionThatFellAway(t *testing.T) {
	k, err := kernel.ReadKconfig(options, "x86")
	if err != nil {
		t.Fatal(err)
	}
	wanted := kernel.Config{"VLAN_8021Q": "y", "MISSPELT": "n", "NET": "y"}
	err = kernel.Check("amd64", wanted, kernel.Config{"NET": "y"}, k)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"CONFIG_MISSPELT: this source has no such option",
		"CONFIG_VLAN_8021Q: wanted y, is n: it depends on BLOCK and on PHY || FIXED",
		"CONFIG_VLAN_8021Q is n and must be on: zones are VLANs of a trunk",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

func FuzzReadKconfig(f *testing.F) {
	for _, file := range options {
		f.Add(string(file.Data), "A && !(B || C=y)")
	}
	f.Fuzz(func(t *testing.T, text, condition string) {
		k, err := kernel.ReadKconfig(fstest.MapFS{"Kconfig": {Data: []byte(text + "\nconfig FUZZED\n\tdepends on " + condition + "\n")}}, "x86")
		if err == nil {
			k.Explain("FUZZED", "y", kernel.Config{"A": "y"})
		}
	})
}
