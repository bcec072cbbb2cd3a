package txn

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"bulkhead/netcfg/gitrepo"
)

// An Entry is one change of the history.
type Entry struct {
	Number int // counts up from 1 and is never used again
	Change
	Sum    string // SHA-256 of all that is kept of it, the sum of the entry before included; hexadecimal
	Before string // the sum of the entry before; "": it was the first
	Parent string // the git commit of the entry before; "": it was the first
}

// Commit returns the entry as a git commit. It is the same for all time: what it is
// made of is under the entry's sum.
func (e Entry) Commit() gitrepo.Commit {
	subject := e.Why
	if strings.TrimSpace(subject) == "" {
		subject = fmt.Sprintf("change %d", e.Number)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", subject)
	for _, line := range e.Reach {
		fmt.Fprintln(&b, line)
	}
	if e.MoreReach > 0 {
		fmt.Fprintf(&b, "and %d more\n", e.MoreReach)
	}
	if len(e.Reach) > 0 {
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "Change: %d\n", e.Number)
	if e.Via != "" {
		fmt.Fprintf(&b, "Via: %s\n", e.Via)
	}
	parent, _ := gitrepo.ParseID(e.Parent) // zero, the first, for ""
	return gitrepo.Commit{Parent: parent, Author: e.Author, Time: e.Time, Message: b.String(), File: e.Name, Data: e.Config}
}

// stored is an entry as it is on disk: a JSON object whose last member is the sum of
// all bytes before it.
type stored struct {
	Number int `json:"number"`
	Change
	Config []byte `json:"config,omitempty"` // hides the change's: of the time before sums, when entries were no more than their change
	Packed []byte `json:"packed,omitempty"` // the configuration, gzip
	Before string `json:"before,omitempty"`
	Parent string `json:"parent,omitempty"`
}

const (
	sumMember = `,"sum":"`
	sumBytes  = len(sumMember) + 2*sha256.Size + len(`"}`)
)

// seal returns what is written to disk of e, and e with its sum.
func seal(e Entry) ([]byte, Entry, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(e.Config)
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, Entry{}, err
	}
	data, err := json.Marshal(stored{Number: e.Number, Change: e.Change, Packed: b.Bytes(), Before: e.Before, Parent: e.Parent})
	if err != nil {
		return nil, Entry{}, err
	}
	data = data[:len(data)-1] // the sum follows before the brace
	e.Sum = sum(data)
	return append(data, sumMember+e.Sum+`"}`...), e, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

var errSum = errors.New("it is not what was written")

// unseal reads what seal wrote. Sealed is false for an entry of the time before there
// were sums, in which damage cannot be told.
func unseal(number int, data []byte) (e Entry, sealed bool, err error) {
	body, mark, sealed := cutSum(data)
	if sealed && sum(body) != mark {
		return Entry{}, true, errSum
	}
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return Entry{}, sealed, err
	}
	e = Entry{Number: number, Change: s.Change, Sum: mark, Before: s.Before, Parent: s.Parent}
	if e.Change.Config = s.Config; !sealed {
		if e.Config == nil {
			return Entry{}, false, errSum
		}
		return e, false, nil
	}
	if s.Number != number {
		return Entry{}, true, fmt.Errorf("it is change %d", s.Number)
	}
	e.Config, err = unpack(s.Packed)
	return e, true, err
}

// cutSum parts what was written from its sum.
func cutSum(data []byte) (body []byte, mark string, ok bool) {
	at := len(data) - sumBytes
	if at < 0 || !bytes.HasPrefix(data[at:], []byte(sumMember)) || !bytes.HasSuffix(data, []byte(`"}`)) {
		return nil, "", false
	}
	return data[:at], string(data[at+len(sumMember) : len(data)-len(`"}`)]), true
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(z, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, err
}
