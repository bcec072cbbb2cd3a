package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/backup"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/secrets"
	"bulkhead/services/file"
	updates "bulkhead/services/update/api"
	"bulkhead/services/update/manifest"
	"bulkhead/webui/remote"
)

// Bounds on what is read, in bytes. Encrypted, an archive grows by a header and a tag
// for each 64 KiB.
const (
	maxBackup   = backup.MaxArchive + 1<<20
	maxIdentity = 64 << 10
)

// restoring is the command's flags.
type restoring struct {
	identity string
	ports    []string
	show     bool
	replace  bool
	terms
}

func (a *app) restoreCommand() *cobra.Command {
	var r restoring
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup back, on the same or on other hardware",
		Long: `Put back what "bulkhead backup" wrote. FILE is opened on this machine, with the private
key that --identity names: a file of age-keygen's, or an SSH key.

Other hardware has other ports. You are asked which is which: plug a cable into one and
see which port it is. Scripts say it with --port: the name in the configuration, and the
name or MAC of a port of the box. Only these MACs are changed in the file.

The secrets, the leases, the addresses given to devices and who is isolated go onto the
box first. The configuration is tried as any other. Once it is confirmed, it has its
history before it, if the box had none. The box is then told to trust the keys that sign
images, as far as its rules allow. Restoring the same once more is no harm.

A new box is claimed first, without a file. Tokens are not in a backup: the claim has
made one for this machine.

` + trialHelp + `

` + exitHelp,
		Example: `  bulkhead claim 192.168.77.1 --name gw
  bulkhead --box gw restore gw-2026-11-27.backup.age --identity ~/safe/key.txt
  bulkhead restore gw-2026-11-27.backup.age --identity ~/safe/key.txt --show`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.restore(cmd.Context(), args[0], r) },
	}
	cmd.Flags().StringVarP(&r.identity, "identity", "i", "", "`file` with the private key that opens the backup")
	cmd.Flags().StringArrayVar(&r.ports, "port", nil, "`name=port`, such as lan=eth1 or lan=52:54:00:10:00:01; lan=none leaves it as it is")
	cmd.Flags().BoolVar(&r.show, "show", false, "only show what is in FILE; asks no box")
	cmd.Flags().BoolVar(&r.replace, "replace-secrets", false, "give secrets that the box has with other values those of the backup")
	r.terms.flags(cmd)
	_ = cmd.MarkFlagRequired("identity")
	return cmd
}

// opened is a backup that was decrypted.
type opened struct {
	*backup.Backup
	archive []byte
	secrets *secrets.Exported
	cfg     *model.Config
}

// open reads and decrypts a backup. Its errors quote no secret.
func (a *app) open(name, identity string) (*opened, error) {
	// What was asked cannot be done; nothing has failed.
	bad := func(file string, err error, hint string) error {
		return &remote.Error{Msg: fmt.Sprintf("%s: %v", file, err), Hint: hint, Err: api.ErrInvalid}
	}
	data, err := file.Read(name, maxBackup)
	if err != nil {
		return nil, err
	}
	key, err := file.Read(identity, maxIdentity)
	if err != nil {
		return nil, err
	}
	const another = "use another copy, or an older backup; nothing has changed"
	keys, err := secrets.ReadIdentities(key, a.passphrase(identity))
	switch {
	case errors.Is(err, secrets.ErrNoIdentity):
		return nil, bad(identity, err, "it is what age-keygen wrote, or an SSH key such as ~/.ssh/id_ed25519: the private half, whole; age -d opens one that is encrypted itself")
	case err != nil:
		return nil, bad(identity, err, "try again; nothing has changed")
	}
	archive, err := secrets.Decrypt(data, keys, backup.MaxArchive)
	switch {
	case errors.Is(err, secrets.ErrNoKey):
		return nil, bad(name, err, fmt.Sprintf("%s is not the key of a recipient that the box had; try the others: \"bulkhead secret recipients list\" shows them on a box that runs", identity))
	case err != nil:
		return nil, bad(name, err, another)
	}
	b := &opened{archive: archive}
	if b.Backup, err = backup.Decode(archive); err != nil {
		if errors.Is(err, backup.ErrNewer) {
			return nil, bad(name, err, "update the box and this program, which must know as much as what made the backup")
		}
		return nil, bad(name, err, another)
	}
	b.secrets = new(secrets.Exported)
	if b.Secrets != nil {
		if b.secrets, err = secrets.Inspect(b.Secrets); err != nil {
			return nil, bad(name, fmt.Errorf("its secrets: %w", err), another)
		}
	}
	return b, nil
}

// passphrase asks for the one of an SSH key.
func (a *app) passphrase(of string) func() ([]byte, error) {
	return func() ([]byte, error) {
		f, ok := a.in.(*os.File)
		if !ok || !terminal(f) {
			return nil, errors.New("it has a passphrase, and nobody is there to be asked for it")
		}
		fmt.Fprintf(a.err, "Passphrase of %s (it is not shown): ", of)
		word, err := typeHidden(f)
		fmt.Fprintln(a.err)
		return []byte(word), err
	}
}

// inBackup is what restore --show prints as JSON.
type inBackup struct {
	Box     string             `json:"box"`
	Time    time.Time          `json:"time"`
	File    string             `json:"file"`
	Config  string             `json:"config"`
	Ports   []backup.Port      `json:"ports"`
	Secrets []string           `json:"secrets"` // their names
	Changes int                `json:"changes"`
	Leases  int                `json:"leases"`
	Devices int                `json:"devices"`
	Keys    []backup.UpdateKey `json:"keys"`
	LeftOut []string           `json:"leftOut,omitempty"`
	Unknown []string           `json:"unknown,omitempty"` // files in it that this program does not know
}

func (a *app) showBackup(b *opened) error {
	names := []string{}
	for _, s := range b.secrets.Secrets {
		names = append(names, s.Name)
	}
	if a.json {
		return a.printJSON(inBackup{b.Box, b.Time, b.File, string(b.Config), b.Ports, names, len(b.History), len(b.Leases), len(b.Devices), b.Keys, b.LeftOut, b.Others})
	}
	history := "no history"
	if n := len(b.History); n > 0 {
		history = fmt.Sprintf("changes %d to %d", b.History[0].Number, b.History[n-1].Number)
	}
	fmt.Fprintf(a.out, "Backup of %s of %s\n", b.Box, a.when(b.Time))
	for _, row := range [][2]string{
		{"configuration", fmt.Sprintf("%s, %d bytes", b.File, len(b.Config))},
		{"history", history},
		{"secrets", orDash(strings.Join(names, ", "))},
		{"leases", fmt.Sprint(len(b.Leases))},
		{"devices", fmt.Sprintf("%d were given an address", len(b.Devices))},
		{"signing keys", orDash(strings.Join(keyNames(b.Keys), ", "))},
	} {
		fmt.Fprintf(a.out, "  %-14s %s\n", row[0], row[1])
	}
	for _, what := range b.LeftOut {
		fmt.Fprintf(a.out, "%s\n", a.paint(yellow, "It lacks: "+what))
	}
	for _, what := range b.Others {
		fmt.Fprintf(a.out, "%s\n", a.paint(yellow, "This program is too old for what it has in "+what))
	}
	return nil
}

func keyNames(keys []backup.UpdateKey) (names []string) {
	for _, k := range keys {
		names = append(names, k.Name)
	}
	return names
}

func (a *app) restore(ctx context.Context, name string, r restoring) error {
	if !r.show && !r.yes && (!a.asks || a.json) {
		return fmt.Errorf("%w: nobody is there to agree to it: use --yes", errUsage)
	}
	if err := a.mayInsist(r.terms); err != nil {
		return err
	}
	b, err := a.open(name, r.identity)
	if err != nil {
		return err
	}
	if r.show || !a.json {
		if err := a.showBackup(b); err != nil || r.show {
			return err
		}
	}
	var problems diag.List
	if b.cfg, problems = conf.ParseConfirmed(b.File, b.Config, a.now()); b.cfg == nil {
		return &api.Refused{Problems: problems, Hint: "this program cannot use the file in the backup; --show --json prints it"}
	}
	s, err := a.site(ctx)
	if err != nil {
		return err
	}
	in := a.reader()
	macs, err := a.choosePorts(ctx, s.client(), in, b, r.ports)
	if err != nil {
		return err
	}
	data, err := conf.MovePorts(b.File, b.Config, macs, a.now())
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if !r.yes {
		switch answer, err := a.ask(in, fmt.Sprintf("Put what is in it onto this box, and try %s? [y/N] ", b.File)); {
		case err != nil:
			return err
		case !agreed(answer):
			return fmt.Errorf("%w: nothing was restored", errNotKept)
		}
	}
	return a.putBack(ctx, s, in, b, api.File{Name: b.File, Data: data}, r)
}

func agreed(answer string) bool {
	answer = strings.ToLower(answer)
	return answer == "y" || answer == "yes"
}

// restored is what restore prints as JSON.
type restored struct {
	*api.Restored
	Confirmed bool     `json:"confirmed"`
	Keys      []string `json:"keys,omitempty"` // that the box was told to trust, by name
}

// putBack takes all steps that change something, in an order in which each may be the
// last one: what was done is not done again by the next attempt.
func (a *app) putBack(ctx context.Context, s *site, in *bufio.Reader, b *opened, f api.File, r restoring) error {
	out, err := s.client().Restore(ctx, api.Restore{Data: b.archive, Replace: r.replace, Author: author()})
	if err != nil {
		return err
	}
	result := restored{Restored: out}
	if !a.json {
		a.printRestored(out)
	}
	if result.Confirmed, err = a.inForce(ctx, s, f, out); err != nil {
		return err
	}
	if result.Confirmed {
		a.note("%s is in force already", f.Name)
	} else if err := a.tryRestored(ctx, s, in, f, out.Changes, r.terms); err != nil {
		return err
	}
	result.Confirmed = true
	result.Keys = a.restoreKeys(ctx, a.updatesOf(s), b)
	if a.json {
		return a.printJSON(result)
	}
	fmt.Fprintf(a.out, "%s is restored. Tokens are not in a backup: make those anew that others had, with: bulkhead %stoken create\n", b.Box, s.flags())
	return nil
}

// note says something to people.
func (a *app) note(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.out, format+"\n", args...)
	}
}

func (a *app) printRestored(out *api.Restored) {
	var list []string
	add := func(n int, what string) {
		if n > 0 {
			list = append(list, what)
		}
	}
	add(len(out.Secrets), plural(len(out.Secrets), "secret"))
	add(out.Leases, plural(out.Leases, "lease"))
	add(out.Devices, "the addresses of "+plural(out.Devices, "device"))
	add(out.Isolated, plural(out.Isolated, "isolation"))
	if len(list) > 0 {
		fmt.Fprintf(a.out, "On the box: %s\n", strings.Join(list, ", "))
	}
	for _, n := range out.Notes {
		fmt.Fprintf(a.out, "%s\n", a.paint(yellow, "Not restored: "+n))
	}
}

// inForce reports whether the box has all of it: an attempt before this one got as far.
func (a *app) inForce(ctx context.Context, s *site, f api.File, out *api.Restored) (bool, error) {
	status, err := s.client().Status(ctx)
	if err != nil || status.Mode != api.Running || status.Confirmed == nil || out.Changes > 0 {
		return false, err
	}
	e, err := s.client().Entry(ctx, status.Confirmed.Number)
	if err != nil {
		return false, err
	}
	return bytes.Equal(e.Data, f.Data), nil
}

// tryRestored shows the plan and tries the file, as apply does.
func (a *app) tryRestored(ctx context.Context, s *site, in *bufio.Reader, f api.File, changes int, t terms) error {
	t.window = cmp.Or(t.window, firstWindow)
	plan, err := s.client().Plan(ctx, api.Proposal{File: f})
	if err != nil {
		return err
	}
	if !a.json && plan.Lockout == "" {
		done := *plan
		done.Missing = nil // it is the last word, not the first
		a.printPlan(&done)
	}
	c := api.Change{File: f, Author: author(), Via: api.ViaCLI, Why: "restored from a backup", Restores: changes}
	p := proposal{
		what: f.Name, cfg: a.configOf(f), terms: t, shown: true,
		start: func(ctx context.Context, box *api.Client, t api.Terms) (*api.Trial, error) {
			c.Terms = t
			return box.Apply(ctx, c)
		},
	}
	tried, err := a.insist(ctx, s, in, p)
	if err == nil && !a.json {
		a.printKept(s, p, tried.tried)
	}
	return err
}

// updatesOf returns a client of the updated of a box.
func (a *app) updatesOf(s *site) *updates.Client {
	if s.box == nil {
		return updates.NewClient(filepath.Join(filepath.Dir(a.socket), updates.SocketFile))
	}
	return &updates.Client{Caller: remote.New(s.box)}
}

// restoreKeys has the box trust the keys that the other one trusted, as far as it takes
// them: the first at its word, and others if a key of this machine's vouches for them
// that it trusts. It returns their names.
func (a *app) restoreKeys(ctx context.Context, c *updates.Client, b *opened) (done []string) {
	own, _, ownErr := readSigningKey()
	wanted := slices.Clone(b.Keys)
	slices.SortStableFunc(wanted, func(x, y backup.UpdateKey) int { // one's own first: it can vouch for the others
		mine := func(k backup.UpdateKey) int {
			if ownErr == nil && k.Key == own.Public().String() {
				return 0
			}
			return 1
		}
		return mine(x) - mine(y)
	})
	for _, k := range wanted {
		switch added, err := a.restoreKey(ctx, c, k, own, ownErr); {
		case err != nil:
			fmt.Fprintf(a.err, "warning: the box does not trust the signing key of %s: %v\n\thint: who has a key that it trusts: bulkhead keys add %s %q\n", k.Name, err, k.Key, k.Name)
		case added:
			done = append(done, k.Name)
			a.note("The box trusts the signing key of %s", k.Name)
		}
	}
	return done
}

func (a *app) restoreKey(ctx context.Context, c *updates.Client, k backup.UpdateKey, own manifest.PrivateKey, ownErr error) (added bool, err error) {
	key, err := manifest.ParsePublicKey(k.Key)
	if err != nil {
		return false, errors.New("it is none")
	}
	have, err := c.Keys(ctx)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(have.Keys, func(o updates.Key) bool { return o.ID == key.ID() }) {
		return false, nil
	}
	in := updates.AddKey{Key: key, Name: k.Name}
	if len(have.Keys) > 0 {
		if ownErr != nil {
			return false, ownErr
		}
		in.Signature = new(own.SignKeys(manifest.KeyChange{Nonce: have.Nonce, Key: in.Key, Name: in.Name}))
	}
	return true, c.AddKey(ctx, in)
}
