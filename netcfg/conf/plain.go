package conf

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"bulkhead/netcfg/diag"
)

// A configuration file may be public, so secrets do not belong into it, not even into
// its comments. What follows knows one by its looks: by the form that its kind has, or
// as something in a sentence that no person thought of.

// form is what secrets of a kind look like.
type form struct {
	kind  string   // with its article
	marks []string // a line without any of them holds none: looking for them is quick
	re    *regexp.Regexp
}

// The forms of secrets, as those who make them document them. Each match is at least
// so long that nobody writes it by chance. \b keeps them from being found inside of
// longer words.
var forms = []form{
	{"a private key", []string{"PRIVATE KEY"}, regexp.MustCompile(`-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY( BLOCK)?-----`)}, // RFC 7468, OpenSSH, OpenPGP
	{"an age key", []string{"AGE-SECRET-KEY-"}, regexp.MustCompile(`AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]{40,}`)},
	{"a token of Bulkhead", []string{"bulkhead_"}, regexp.MustCompile(`\bbulkhead_[0-9a-f]{64}\b`)},
	{"a GitHub token", []string{"ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"}, regexp.MustCompile(`\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{30,})`)},
	{"a GitLab token", []string{"gl"}, regexp.MustCompile(`\bgl(pat|dt|rt|cbt|ptt|soat)-[A-Za-z0-9_-]{20,}`)},
	{"a Slack token", []string{"xox"}, regexp.MustCompile(`\bxox[abeprs]-[A-Za-z0-9-]{20,}`)},
	{"an AWS access key", []string{"AKIA", "ASIA"}, regexp.MustCompile(`\b(AKIA|ASIA)[0-9A-Z]{16}\b`)},
	{"a Google API key", []string{"AIza"}, regexp.MustCompile(`\bAIza[0-9A-Za-z_-]{35}`)},
	{"a Stripe key", []string{"k_live_", "k_test_"}, regexp.MustCompile(`\b[rs]k_(live|test)_[0-9A-Za-z]{16,}`)},
	{"a Tailscale key", []string{"tskey-"}, regexp.MustCompile(`\btskey-[a-z]+-[A-Za-z0-9]{8,}`)},
	{"a DigitalOcean token", []string{"_v1_"}, regexp.MustCompile(`\bdo[opr]_v1_[0-9a-f]{64}\b`)},
	{"a Vault token", []string{"hvs.", "hvb."}, regexp.MustCompile(`\bhv[sb]\.[A-Za-z0-9_-]{24,}`)},
	{"an npm or PyPI token", []string{"npm_", "pypi-"}, regexp.MustCompile(`\b(npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{32,})`)},
	{"an API key", []string{"sk-"}, regexp.MustCompile(`\bsk-[A-Za-z0-9_-]{32,}`)},
	{"a Telegram bot's token", []string{":AA"}, regexp.MustCompile(`\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b`)},
	{"a JSON web token", []string{"eyJ"}, regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{16,}`)}, // RFC 7519
	{"a hashed password", []string{"$"}, regexp.MustCompile(`\$(2[abxy]|5|6|7|y|gy|argon2id?|scrypt)\$[A-Za-z0-9./=,$+-]{20,}`)},    // crypt(5)
	// 32 bytes in base64: 43 digits, of which the last has two bits to spare, and a filler.
	{"a WireGuard key", []string{"="}, regexp.MustCompile(`(^|[^A-Za-z0-9+/=_-])[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=([^A-Za-z0-9+/=_-]|$)`)},
	// RFC 3986, section 3.2.1: deprecated there for this very reason.
	{"an address with a password", []string{"://"}, regexp.MustCompile(`\b[a-z][a-z0-9+.-]*://[^\s/:@"']*:[^\s/@"']{3,}@[^\s/]`)},
}

// find returns where the secret in the line begins, or -1.
func (f *form) find(line string) int {
	if !slices.ContainsFunc(f.marks, func(m string) bool { return strings.Contains(line, m) }) {
		return -1
	}
	at := f.re.FindStringIndex(line)
	if at == nil {
		return -1
	}
	match := line[at[0]:at[1]]
	return at[0] + len(match) - len(strings.TrimLeft(match, " \t\"'`:,;([{#|>"))
}

const (
	plainMsg  = "looks like %s, and a configuration file is no place for secrets"
	plainHint = "remove it, and keep it on the box: bulkhead secret set NAME; where the box needs it, write {secret: NAME}. If anybody has seen the file, get another one"
)

// keyEnd ends what begins with a private key's first line.
var keyEnd = regexp.MustCompile(`-----END [A-Z0-9 ]{0,24}PRIVATE KEY( BLOCK)?-----`)

// maxKeyLines is how many lines a private key has at most.
const maxKeyLines = 200

// plain finds secrets by their form, anywhere in the file. Nothing else is said about
// the lines they are in: it might quote them.
func (p *problems) plain(file string, data []byte) {
	key := 0 // lines for which a private key may go on
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if key > 0 {
			p.hush(n)
			if key--; keyEnd.MatchString(line) {
				key = 0
			}
			continue
		}
		for _, f := range forms {
			at := f.find(line)
			if at < 0 {
				continue
			}
			p.leak(diag.Pos{File: file, Line: n, Col: 1 + utf8.RuneCountInString(line[:at])}, "", f.kind)
			if f.kind == forms[0].kind && !keyEnd.MatchString(line) {
				p.hush(n - 1) // of a block, YAML says where it is announced
				key = maxKeyLines
			}
			break
		}
	}
}

// leak reports a secret.
func (p *problems) leak(pos diag.Pos, key, kind string) {
	report := p.add
	if p.lenient {
		report = p.warn
	}
	report(pos, key, fmt.Sprintf(plainMsg, kind), plainHint)
	p.hush(pos.Line)
}

// hush keeps further problems of a line from being told.
func (p *problems) hush(line int) {
	if p.hushed == nil {
		p.hushed = make(map[int]bool)
	}
	p.hushed[line] = false
}

// unsaid stands for errors in a line with a secret. Where the secret itself is no
// error, they must be one.
func (p *problems) unsaid(pos diag.Pos) {
	if p.lenient && !p.hushed[pos.Line] {
		p.hushed[pos.Line] = true
		p.errors++
		p.found.Add(pos, "", "there is more wrong with this line, which cannot be told without the secret in it", plainHint)
	}
}

// What is taken for random.
const (
	randomLength = 20  // characters; passwords are shorter, and nothing tells them from words
	randomRun    = 8   // without a hyphen or the like: the names of products are full of shorter ones
	randomRuns   = 12  // in all such runs
	randomBits   = 3.2 // of Shannon's entropy per character: no repetition
	hexLength    = 32  // hexadecimal digits: the first 12 of a commit or a checksum do
	hexBits      = 2.8 // of entropy per digit, of 4
)

// random reports whether a sentence holds a word that looks as if dice had made it. In
// words and names that people make, letters and digits come in runs, and capitals at
// the beginning of one.
func random(sentence string) bool {
	words := strings.FieldsFunc(sentence, func(r rune) bool {
		return r > 'z' || class(byte(r)) == other && !strings.ContainsRune("-_+/=", r)
	})
	return slices.ContainsFunc(words, func(w string) bool {
		switch {
		case len(w) >= hexLength && isHex(w):
			return entropy(w) >= hexBits
		case len(w) < randomLength || entropy(w) < randomBits:
			return false
		}
		return mixed(w)
	})
}

// kind is what a character is to a reader.
type kind uint8

const (
	other kind = iota
	lower
	upper
	digit
)

func class(c byte) kind {
	switch {
	case 'a' <= c && c <= 'z':
		return lower
	case 'A' <= c && c <= 'Z':
		return upper
	case '0' <= c && c <= '9':
		return digit
	}
	return other
}

// mixed reports whether letters and digits of a word alternate more than people make
// them: in runs without a hyphen, they change at every sixth character at least, other
// than at the beginning of a Word.
func mixed(word string) bool {
	changes, length := 0, 0
	for run := range strings.FieldsFuncSeq(word, func(r rune) bool { return class(byte(r)) == other }) {
		if len(run) < randomRun {
			continue
		}
		length += len(run)
		for i := 1; i < len(run); i++ {
			before, now := class(run[i-1]), class(run[i])
			begins := now == upper && i+1 < len(run) && class(run[i+1]) == lower
			if before != now && !begins && (before != upper || now != lower) {
				changes++
			}
		}
	}
	return length >= randomRuns && changes*6 >= length && strings.ContainsAny(word, "0123456789")
}

// isHex reports whether w is a hexadecimal number that is not of one kind of digit only.
func isHex(w string) bool {
	digits, letters := false, false
	for _, c := range []byte(w) {
		switch {
		case '0' <= c && c <= '9':
			digits = true
		case 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
			letters = true
		default:
			return false
		}
	}
	return digits && letters
}

// entropy is Shannon's, in bits per character.
func entropy(w string) float64 {
	var count [256]int
	for _, c := range []byte(w) {
		count[c]++
	}
	h := 0.0
	for _, n := range count {
		if n > 0 {
			f := float64(n) / float64(len(w))
			h -= f * math.Log2(f)
		}
	}
	return h
}
