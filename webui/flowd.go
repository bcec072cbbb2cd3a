//go:build linux

package webui

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// maxFlows bounds what is read of an answer of flowd's, in bytes.
const maxFlows = 16 << 20

// openFlowd asks flowd, which does not judge who asks: only pages of who may read do. The
// caller closes the answer.
func (v *visit) openFlowd(path string, q url.Values) (*http.Response, error) {
	req, err := http.NewRequestWithContext(v.Context(), http.MethodGet, "http://flowd"+path+"?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: ownTransport(v.s.o.Flowd)}
	resp, err := client.Do(req)
	if err != nil {
		v.s.log.Debug("ask flowd", "path", path, "err", err)
		return nil, errNoFlowd
	}
	return resp, nil
}

// askFlowd is openFlowd for an answer that is read at once.
func askFlowd[T any](v *visit, path string, q url.Values) (answer T, err error) {
	resp, err := v.openFlowd(path, q)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	body := json.NewDecoder(io.LimitReader(resp.Body, maxFlows))
	switch resp.StatusCode {
	case http.StatusOK:
		if err := body.Decode(&answer); err != nil {
			return answer, fmt.Errorf("the answer of flowd: %w", err)
		}
		return answer, nil
	case http.StatusBadRequest:
		var f failure
		if err := body.Decode(&f); err != nil {
			return answer, fmt.Errorf("the answer of flowd: %w", err)
		}
		return answer, fmt.Errorf("%w: %s", errForm, f.Error)
	}
	return answer, fmt.Errorf("flowd answers %s", resp.Status)
}

// errNoFlowd is the error while flowd does not answer.
var errNoFlowd error = awayError(noFlowd)

// awayError says which part of the box does not answer, and is [errAway].
type awayError string

func (e awayError) Error() string { return string(e) }

func (awayError) Is(target error) bool { return target == errAway }

// bytesText is an amount of data for people.
func bytesText(n uint64) string {
	const units = "kMGTPE"
	f, unit := float64(n), ""
	for i := 0; f >= 999.5 && i < len(units); i++ {
		f, unit = f/1000, string(units[i])
	}
	if unit == "" || f >= 9.95 {
		return fmt.Sprintf("%.0f %sB", f, unit)
	}
	return fmt.Sprintf("%.1f %sB", f, unit)
}
