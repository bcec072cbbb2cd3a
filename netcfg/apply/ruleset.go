//go:build linux

package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/state"
)

// Rulesets loads, observes and removes the table "inet bulkhead" of one network
// namespace. It reads no other table and changes none. Its methods may be called by
// several goroutines.
type Rulesets struct {
	mu    sync.Mutex
	nl    *nfnetlink
	table string

	// What the last look saw. The kernel counts every change of any ruleset in a
	// generation number; while it stays, so does what was seen.
	seen       bool
	generation uint32
	flowtables string // which can change without a new generation
	digest     string // of the kernel's objects; "": no table
	inventory  *inventory

	left       *inventory // of the table as it was last left, with
	leftDigest string     // the digest that it then had

	loaded     *nft.Table // what this process has loaded last, with
	loadedText string     // its digest
}

// LoadedRuleset says what was loaded, for a later [Rulesets.Observe], which may be
// another process's. The zero value stands for nothing loaded.
type LoadedRuleset struct {
	TextDigest   string `json:"text_digest"`   // of the table's printed text: [nft.Table.Digest]
	KernelDigest string `json:"kernel_digest"` // of what the kernel then had
}

// Counter is the value of a named counter.
type Counter struct{ Packets, Bytes uint64 }

// loadAttempts bounds how often a load starts over because somebody else changed a
// ruleset meanwhile. On a busy machine, against somebody who does nothing else, 20
// have been seen not to be enough.
const loadAttempts = 100

// OpenRulesets returns the rulesets of the network namespace that the file descriptor
// netns refers to, or for 0 that of the process. The descriptor must stay open until
// Close.
func OpenRulesets(netns int) (*Rulesets, error) {
	nl, err := dialNfnetlink(netns)
	if err != nil {
		return nil, fmt.Errorf("open nfnetlink: %w", err)
	}
	return &Rulesets{nl: nl, table: state.TableName}, nil
}

// Close lets go of the kernel. The table stays.
func (r *Rulesets) Close() error { return r.nl.close() }

// Load puts a table into the place of the one there is, in one transaction: at each
// instant packets meet either the old rules or the new ones, complete. Whatever
// anybody else has put into the table is gone afterwards. Counters that the old table
// has too keep their values, and dynamic sets their elements. Loading nil removes the
// table.
//
// If Load returns an error wrapping an errno, the kernel refused the table and the old
// one is in force. A table that is not valid, by [nft.Table.Validate], does not reach
// the kernel.
func (r *Rulesets) Load(t *nft.Table) (LoadedRuleset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t == nil {
		return LoadedRuleset{}, r.remove()
	}
	if t.Name != r.table {
		return LoadedRuleset{}, fmt.Errorf("load table %q: only %q is ours", t.Name, r.table)
	}
	if err := t.Validate(); err != nil {
		return LoadedRuleset{}, fmt.Errorf("load table %s: %w", t.Name, err)
	}
	text := t.Digest()
	for range loadAttempts {
		err := r.replace(t)
		if errors.Is(err, errGenerationChanged) || errors.Is(err, errStartOver) {
			continue
		}
		if err != nil {
			return LoadedRuleset{}, fmt.Errorf("load table %s: %w", t.Name, err)
		}
		r.loaded, r.loadedText = t, text
		r.left, r.leftDigest = r.inventory, r.digest
		return LoadedRuleset{TextDigest: text, KernelDigest: r.digest}, nil
	}
	return LoadedRuleset{}, fmt.Errorf("load table %s: somebody else changed rulesets %d times meanwhile", t.Name, loadAttempts)
}

// errStartOver says that a load is prepared and has to be done now.
var errStartOver = errors.New("start over")

// replace replaces the table and reads back what the kernel made of it. If anybody
// changes a ruleset meanwhile it returns errGenerationChanged: what was read
// might not be what was loaded. If a base chain is in the way of one of the same name, it
// loads the new one by another name and returns errStartOver.
func (r *Rulesets) replace(t *nft.Table) error {
	r.seen = false
	before, err := r.nl.generation()
	if err != nil {
		return err
	}
	old, err := r.nl.contents(r.table)
	if err != nil {
		return err
	}
	keep := keepable(old, t)
	t, again := evade(t, old, keep)
	batch, err := encodeReplacement(t, old, keep, lasting(old, t))
	if err != nil {
		return err
	}
	if err := r.nl.commit(batch, before); err != nil {
		return err
	}
	if again {
		return errStartOver
	}
	want := elementCount(t)
	after, err := r.look(func(_ string, elements int) bool { return elements == want })
	if err == nil && after != nextGeneration(before) {
		return errGenerationChanged
	}
	return err
}

// nextGeneration is the number after a commit; 0 is left out.
func nextGeneration(g uint32) uint32 { return max(g+1, 1) }

// rehashPause is how long a look waits for the kernel to sort out its hash tables.
const rehashPause = 5 * time.Millisecond

// look reads the table's digest from the kernel, unless it is known, and returns the
// generation for which it holds.
//
// For some milliseconds after elements were added the kernel may move those of big
// sets to a larger hash table, and lists some of them twice or not at all
// (net/netfilter/nft_set_hash.c, nft_rhash_walk). So a digest that is not the expected
// one is not believed until it comes twice in a row.
func (r *Rulesets) look(expected func(digest string, elements int) bool) (generation uint32, err error) {
	doubtful := ""
	for range loadAttempts {
		before, err := r.nl.generation()
		if err != nil {
			return 0, err
		}
		// A device that is removed leaves its flowtable, and the generation stays:
		// net/netfilter/nf_tables_api.c, nf_tables_flowtable_event.
		flowtables, err := r.nl.flowtables(r.table)
		if err != nil || r.seen && before == r.generation && flowtables == r.flowtables {
			return before, err
		}
		records, dumpErr := r.nl.records(r.table)
		after, err := r.nl.generation()
		if err != nil {
			return 0, err
		}
		if before != after {
			doubtful = ""
			continue // what was read may be half old, half new
		}
		if dumpErr != nil {
			return 0, dumpErr
		}
		digest, elements := digestOf(records)
		if digest == "" || digest == doubtful || expected(digest, elements) {
			r.seen, r.generation, r.flowtables, r.digest = true, after, flowtables, digest
			r.inventory = inventoryOf(records)
			return after, nil
		}
		doubtful = digest
		time.Sleep(rehashPause)
	}
	return 0, fmt.Errorf("read table %s: it came out different %d times", r.table, loadAttempts)
}

// Observe says whether the table in the kernel is the one that was loaded last. If
// it is, the digest is that of its text; otherwise somebody else wrote to it. The table
// itself is returned if this process has loaded it; if it was another, only its name.
func (r *Rulesets) Observe(last LoadedRuleset) (state.Ruleset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	expected := func(digest string, _ int) bool { return digest == last.KernelDigest }
	if _, err := r.look(expected); err != nil {
		return state.Ruleset{}, fmt.Errorf("observe table %s: %w", r.table, err)
	}
	switch {
	case r.digest == "":
		return state.Ruleset{}, nil
	case r.digest != last.KernelDigest:
		return r.foreign(last), nil
	}
	r.left, r.leftDigest = r.inventory, r.digest
	switch {
	case r.loaded != nil && r.loadedText == last.TextDigest:
		return state.Ruleset{Table: r.loaded, Digest: last.TextDigest}, nil
	}
	return state.Ruleset{Table: &nft.Table{Name: r.table}, Digest: last.TextDigest}, nil
}

// foreign is a table that somebody else has written to. What he did is known if this
// process has seen the table as it was before.
func (r *Rulesets) foreign(last LoadedRuleset) state.Ruleset {
	s := state.Ruleset{Table: &nft.Table{Name: r.table}, Foreign: true}
	if r.left != nil && r.leftDigest == last.KernelDigest {
		s.Changes, s.Unhooked = r.left.changes(r.inventory)
	}
	return s
}

// ObserveRuleset returns the digest of everything in the table as the kernel has it,
// but for what changes by itself: handles, use counts, the values of counters, the
// elements of dynamic sets. The digest means nothing to another kernel version.
func (r *Rulesets) ObserveRuleset() (digest string, exists bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	unknown := func(string, int) bool { return false }
	if _, err := r.look(unknown); err != nil {
		return "", false, fmt.Errorf("observe table %s: %w", r.table, err)
	}
	return r.digest, r.digest != "", nil
}

// Counters returns the named counters of the table and their values since they were
// first loaded. Without a table there are none.
func (r *Rulesets) Counters() (map[string]Counter, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counters, err := r.nl.counters(r.table)
	if err != nil {
		return nil, fmt.Errorf("read counters of table %s: %w", r.table, err)
	}
	return counters, nil
}

// HasFlowtable reports whether the kernel knows flowtables and how connections get
// into them. It has one tried out, and taken back: nothing is changed.
func (r *Rulesets) HasFlowtable() bool {
	const probe = "bulkhead-probe"
	e := &encoder{table: probe}
	e.out = append(e.out, encodeTable(probe))
	e.flowtable(nft.Flowtable{Name: probe})
	e.chain(&nft.Chain{Name: probe})
	err := e.rule(probe, 0, nft.Rule{Stmts: []nft.Stmt{nft.Offload{Flowtable: probe}}})
	return err == nil && r.nl.check(e.out) == nil
}

func (r *Rulesets) remove() error {
	r.seen = false
	err := r.nl.commit([]command{encodeTableRemoval(r.table)}, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove table %s: %w", r.table, err)
	}
	r.loaded, r.loadedText = nil, ""
	return nil
}

// keepable returns the names of the base chains that stay, emptied and filled anew,
// because they are in the kernel just as wanted.
func keepable(old contents, t *nft.Table) map[string]bool {
	keep := make(map[string]bool)
	for _, c := range t.Chains {
		if c.Hook == nil {
			continue
		}
		if o := old.chain(c.Name); o != nil && o.is(c.Hook) {
			keep[c.Name] = true
		}
	}
	return keep
}

// lasting returns the names of the dynamic sets that are in the kernel just as wanted.
// They stay with what packets have put into them, and so lose no count; what somebody
// has put there by hand goes when its time is over.
func lasting(old contents, t *nft.Table) map[string]bool {
	lasting := make(map[string]bool)
	for i := range t.Sets {
		s := &t.Sets[i]
		lasting[s.Name] = slices.ContainsFunc(old.sets, func(o oldSet) bool { return o.is(s) })
	}
	return lasting
}

// evade returns the table with another name for each base chain that drops by policy and
// whose name is taken by a chain that cannot stay, and true if there is any.
//
// A new base chain is at its hook with the policy accept until the kernel, going
// through a transaction that is in force already, comes to it and sets the policy
// (net/netfilter/nf_tables_api.c, nf_tables_commit). To stay closed, the new chain must
// come before the removal of the old one, so that the old one, empty but with its
// policy, is there as long as it takes. And that two chains of one name do not allow.
// Without this over 100 packets of 700,000 passed in 200 reloads that should not have.
func evade(t *nft.Table, old contents, keep map[string]bool) (*nft.Table, bool) {
	taken := func(name string) bool { return old.chain(name) != nil }
	inTheWay := func(c nft.Chain) bool { return c.Hook != nil && c.Hook.Drop && !keep[c.Name] && taken(c.Name) }
	if !slices.ContainsFunc(t.Chains, inTheWay) {
		return t, false
	}
	evading := *t
	evading.Chains = slices.Clone(t.Chains)
	for i := range evading.Chains {
		c := &evading.Chains[i]
		if !inTheWay(*c) {
			continue
		}
		for n := 0; taken(c.Name) || slices.ContainsFunc(t.Chains, func(o nft.Chain) bool { return o.Name == c.Name }); n++ {
			c.Name = fmt.Sprintf("next%d", n)
		}
	}
	return &evading, true
}

// encodeReplacement returns the transaction that puts a table into the place of what
// there is. It begins with the base chains that are not there by name: see evade.
func encodeReplacement(t *nft.Table, old contents, keep, lasting map[string]bool) ([]command, error) {
	e := &encoder{table: t.Name, sets: make(map[string]*nft.Set)}
	present := maps.Clone(keep)
	e.out = append(e.out, encodeTable(t.Name))
	for _, c := range t.OrderedChains() {
		if c.Hook != nil && old.chain(c.Name) == nil {
			e.chain(c)
			present[c.Name] = true
		}
	}
	e.out = append(e.out, encodeRemoval(t, old, keep, lasting)...)
	return e.out, e.content(t, present, lasting)
}

// encodeRemoval removes what the table holds, but for base chains to keep, for counters
// that are wanted and for sets that last. What refers to things goes before the things:
// rules before sets, sets with verdicts before chains.
func encodeRemoval(t *nft.Table, old contents, keep, lasting map[string]bool) []command {
	if !old.exists {
		return nil
	}
	var out []command
	add := func(typ uint16, table, name uint16, n, what string) *attrs {
		var a attrs
		a.string(table, t.Name)
		if n != "" {
			a.string(name, n)
		}
		out = append(out, command{typ: typ, attrs: a, what: "remove old " + what + " " + n})
		return &out[len(out)-1].attrs
	}
	add(unix.NFT_MSG_DELRULE, unix.NFTA_RULE_TABLE, 0, "", "rules")
	for _, s := range old.sets {
		if !lasting[s.name] {
			add(unix.NFT_MSG_DELSET, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME, s.name, "set")
		}
	}
	for _, name := range old.flowtables {
		add(unix.NFT_MSG_DELFLOWTABLE, nftaFlowtableTable, nftaFlowtableName, name, "flowtable")
	}
	for _, c := range old.chains {
		if !keep[c.name] {
			add(unix.NFT_MSG_DELCHAIN, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME, c.name, "chain")
		}
	}
	for _, o := range old.objects {
		if o.kind == unix.NFT_OBJECT_COUNTER && !o.annotated && slices.Contains(t.Counters, o.name) {
			continue
		}
		a := add(unix.NFT_MSG_DELOBJ, unix.NFTA_OBJ_TABLE, unix.NFTA_OBJ_NAME, o.name, "object")
		a.uint32(unix.NFTA_OBJ_TYPE, o.kind)
	}
	return out
}

func encodeTableRemoval(name string) command {
	var a attrs
	a.string(unix.NFTA_TABLE_NAME, name)
	return command{typ: unix.NFT_MSG_DELTABLE, attrs: a, what: "remove table " + name}
}
