//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/nft/nfttest"
	"bulkhead/netcfg/state"
)

// nftProgram is nft(8), where the test brings it along.
const nftProgram = "/bin/nft"

// agree holds tables with flowtables against nft, which the kernel of the machine that
// runs the other tests may not let them do: what is printed is what nft lists, of what
// we have loaded and of what it loads from the print, and the kernel holds the same.
// Tables that look up protocols in ranges, nft 1.0.6 cannot load here: since 6.12.y
// the kernel refuses a half of its bytes to be turned round (nft_byteorder_init).
func agree() error {
	if _, err := os.Stat(nftProgram); errors.Is(err, fs.ErrNotExist) {
		fmt.Println("guest: no nft to compare with")
		return nil
	}
	small := &nft.Table{Name: state.TableName}
	nfttest.Offloading(rand.New(rand.NewPCG(1, 1)), small, "eth0", "eth1")
	if err := agreeOn(small, (space).holdsSame); err != nil {
		return err
	}
	return newTown(func(t *town) error {
		r, err := t.compile()
		if err != nil {
			return err
		}
		table := r.State.Ruleset.Table
		if len(table.Flowtables) != 1 {
			return errors.New("the example is without a flowtable")
		}
		// The text leaves out matches that others imply, so what nft makes of it has others.
		return agreeOn(table, func(space, space, string) error { return nil })
	})
}

// agreeOn compares the table as we load it and as nft does, and with same what is in
// the kernel then.
func agreeOn(t *nft.Table, same func(ours, theirs space, table string) error) error {
	ours, err := newSpace()
	if err != nil {
		return err
	}
	theirs, err := newSpace()
	if err != nil {
		return err
	}
	for _, s := range []space{ours, theirs} {
		for _, d := range t.Flowtables[0].Devices {
			if err := s.dummy(d); err != nil {
				return err
			}
		}
	}
	rulesets, err := apply.OpenRulesets(int(ours))
	if err != nil {
		return err
	}
	defer rulesets.Close()
	if _, err := rulesets.Load(t); err != nil {
		return err
	}
	text := t.String()
	if _, err := theirs.nft(text, "-f", "-"); err != nil {
		return err
	}
	for _, s := range []space{ours, theirs} {
		listed, err := s.nft("", "list", "table", "inet", t.Name)
		if err != nil {
			return err
		}
		if listed != text {
			return fmt.Errorf("printed\n%s\nand nft lists\n%s", text, listed)
		}
	}
	return same(ours, theirs, t.Name)
}

// holdsSame compares the rules and elements in the kernel, down to registers and bytes.
func (s space) holdsSame(other space, table string) error {
	var held [2][]string
	for i, s := range []space{s, other} {
		out, err := s.nft("", "--debug=netlink", "list", "table", "inet", table)
		if err != nil {
			return err
		}
		out = strings.ReplaceAll(out, "element ", "\nelement ") // which come in the order of hash tables
		held[i] = strings.Split(ruleHandles.ReplaceAllString(out, "$1"), "\n")
		slices.Sort(held[i])
	}
	for i, line := range held[0] {
		if i >= len(held[1]) || line != held[1][i] {
			return fmt.Errorf("the kernel holds other objects than nft would make, the first is %s", line)
		}
	}
	return nil
}

var ruleHandles = regexp.MustCompile(`(?m)^(inet bulkhead \S+) \d+( \d+)?\s*$`)

var counterValues = regexp.MustCompile(`packets \d+ bytes \d+`)

// nft runs nft in the namespace and returns what it prints, with counters at zero.
func (s space) nft(input string, args ...string) (string, error) {
	var out, stderr bytes.Buffer
	err := s.do(func() error {
		cmd := exec.Command(nftProgram, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewBufferString(input), &out, &stderr
		return cmd.Run()
	})
	if err != nil {
		return "", fmt.Errorf("nft %v: %w: %s", args, err, stderr.Bytes())
	}
	return counterValues.ReplaceAllString(out.String(), "packets 0 bytes 0"), nil
}
