package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"bulkhead/netcfg/strictjson"
	"bulkhead/netcfg/svcconf"
)

const format = "bulkhead backup"

// Files of an archive. The manifest is the first.
const (
	manifestFile = "manifest.json"
	configFile   = "config.yaml"
	secretsFile  = "secrets.json"
	devicesFile  = "devices.json"
	leasesFile   = "leases.json"
	keysFile     = "update-keys.json"
	isolatedFile = "isolated.json"
	historyDir   = "history/"
)

// maxFiles is how many files an archive has at most. A history has a few hundred.
const maxFiles = 4096

// tarBlock is what all of an archive is made of, in bytes; two of zeros end it.
const tarBlock = 512

// Errors that callers tell apart.
var (
	ErrNewer   = errors.New("the backup was made by a newer Bulkhead: update this one first")
	ErrDamaged = errors.New("that is no backup, or it is damaged")
)

// Encode writes a backup as an archive. Version, format and sums are made here.
func Encode(b *Backup) ([]byte, error) {
	files, err := b.files()
	if err != nil {
		return nil, err
	}
	m := b.Manifest
	m.Format, m.Version, m.Sums = format, Version, map[string]string{}
	for _, f := range files {
		m.Sums[f.name] = sum(f.data)
	}
	manifest, err := encode(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range append([]member{{manifestFile, manifest}}, files...) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Size: int64(len(f.data)), Mode: 0o600, ModTime: b.Time.UTC(), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if out.Len() > MaxArchive {
		return nil, fmt.Errorf("the backup has %d bytes; the limit is %d", out.Len(), MaxArchive)
	}
	return out.Bytes(), nil
}

// member is a file of an archive.
type member struct {
	name string
	data []byte
}

// files are all but the manifest, in their order. What there is nothing of has none.
func (b *Backup) files() ([]member, error) {
	var list []member
	var err error
	add := func(there bool, name string, data []byte) {
		if there {
			list = append(list, member{name, data})
		}
	}
	addJSON := func(there bool, name string, v any) {
		data, bad := encode(v)
		err = errors.Join(err, bad)
		add(there, name, data)
	}
	add(b.Config != nil, configFile, b.Config)
	add(b.Secrets != nil, secretsFile, b.Secrets)
	addJSON(len(b.Devices) > 0, devicesFile, b.Devices)
	addJSON(len(b.Leases) > 0, leasesFile, svcconf.Leases{Leases: b.Leases})
	addJSON(len(b.Keys) > 0, keysFile, b.Keys)
	add(b.Isolated != nil, isolatedFile, b.Isolated)
	for _, c := range b.History {
		add(true, changeFile(c.Number), c.Data)
	}
	return list, err
}

func encode(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "\t")
	return append(data, '\n'), err
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func changeFile(n int) string { return fmt.Sprintf("%s%06d.json", historyDir, n) }

// Decode reads an archive. The error wraps [ErrNewer], or [ErrDamaged]; it quotes
// nothing of the archive but names of files.
func Decode(data []byte) (*Backup, error) {
	if len(data) > MaxArchive {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrDamaged, MaxArchive)
	}
	r := bytes.NewReader(data)
	b, err := decode(tar.NewReader(r))
	switch {
	case errors.Is(err, ErrNewer):
		return nil, err
	case err == nil && (r.Len() > 0 || len(data)%tarBlock != 0 || !bytes.HasSuffix(data, make([]byte, 2*tarBlock))):
		err = errors.New("it does not end where it should") // the reader minds neither
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return b, nil
}

func decode(r *tar.Reader) (*Backup, error) {
	first, err := next(r)
	switch {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty")
	case err != nil:
		return nil, err
	case first.name != manifestFile:
		return nil, errors.New("it does not begin with " + manifestFile)
	}
	b := new(Backup)
	if b.Manifest, err = readManifest(first.data); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for {
		f, err := next(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if want, listed := b.Sums[f.name]; !listed || seen[f.name] || want != sum(f.data) {
			return nil, fmt.Errorf("%q is not what the manifest says", f.name)
		}
		seen[f.name] = true
		if err := b.take(f); err != nil {
			return nil, err
		}
	}
	if len(seen) != len(b.Sums) {
		return nil, fmt.Errorf("of %d files, %d are there", len(b.Sums), len(seen))
	}
	return b, nil
}

// next returns the next file. The error is [io.EOF] after the last.
func next(r *tar.Reader) (member, error) {
	h, err := r.Next()
	switch {
	case errors.Is(err, io.EOF):
		return member{}, io.EOF
	case err != nil:
		return member{}, errors.New("it is cut off, or no tar archive")
	case h.Typeflag != tar.TypeReg || h.Format != tar.FormatUSTAR || len(h.PAXRecords) > 0:
		return member{}, fmt.Errorf("%q is no plain file", h.Name)
	}
	// No more than what is there: the header may say anything.
	data, err := io.ReadAll(r)
	if err != nil || int64(len(data)) != h.Size {
		return member{}, fmt.Errorf("%q is cut off", h.Name)
	}
	return member{h.Name, data}, nil
}

func readManifest(data []byte) (m Manifest, err error) {
	// A newer version may have more to say: which it is comes first.
	var v struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err != nil || v.Format != format || v.Version < 1 {
		return m, errors.New(manifestFile + " is none")
	}
	if v.Version > Version {
		return m, ErrNewer
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, errors.New(manifestFile + " makes no sense")
	}
	if len(m.Sums) > maxFiles {
		return m, fmt.Errorf("it has more than %d files", maxFiles)
	}
	return m, nil
}

// take takes a file in.
func (b *Backup) take(f member) (err error) {
	number, isChange := strings.CutPrefix(f.name, historyDir)
	switch {
	case f.name == configFile:
		b.Config = f.data
	case f.name == secretsFile:
		b.Secrets = f.data
	case f.name == isolatedFile:
		b.Isolated = f.data
	case f.name == devicesFile:
		b.Devices, err = strictjson.Decode[map[string]netip.Addr](bytes.NewReader(f.data))
	case f.name == leasesFile:
		var v svcconf.Leases
		v, err = strictjson.Decode[svcconf.Leases](bytes.NewReader(f.data))
		b.Leases = v.Leases
	case f.name == keysFile:
		b.Keys, err = strictjson.Decode[[]UpdateKey](bytes.NewReader(f.data))
	case isChange:
		n, bad := strconv.Atoi(strings.TrimSuffix(number, ".json"))
		last := len(b.History) - 1
		if bad != nil || n < 1 || changeFile(n) != f.name || last >= 0 && n != b.History[last].Number+1 {
			return fmt.Errorf("%q is not the change that follows", f.name)
		}
		b.History = append(b.History, Change{n, f.data})
	default:
		b.Others = append(b.Others, f.name)
	}
	if err != nil {
		return fmt.Errorf("%q makes no sense", f.name) // err may quote it
	}
	return nil
}
