//go:build linux

package webui_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/services/auth/access"
	"bulkhead/services/update/gaf"
	"bulkhead/services/update/gaf/gaftest"
	"bulkhead/services/update/manifest"
)

// withMachine is a box with a made-up updated.
func withMachine(t *testing.T) (*box, *machine) {
	t.Helper()
	b, m := newBox(t), newMachine()
	mux := http.NewServeMux()
	m.serve(mux)
	b.updated(mux)
	b.start(conf1)
	return b, m
}

// send sends a form with a file.
func (w *browser) send(path string, file []byte, fields ...string) view {
	w.b.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, f := range fields {
		if err := form.WriteField(f, "yes"); err != nil {
			w.b.t.Fatal(err)
		}
	}
	part, err := form.CreateFormFile("image", "<b>.gaf")
	if err == nil {
		_, err = part.Write(file)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		w.b.t.Fatal(err)
	}
	return w.sendAs(path, form.FormDataContentType(), &body)
}

func (w *browser) sendAs(path, kind string, body io.Reader) view {
	w.b.t.Helper()
	req, err := http.NewRequest("POST", w.b.url("127.0.0.1")+path, body)
	if err != nil {
		w.b.t.Fatal(err)
	}
	req.Header = w.header.Clone()
	req.Header.Set("Content-Type", kind)
	resp, err := w.client.Do(req)
	if err != nil {
		w.b.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		w.b.t.Fatal(err)
	}
	return view{resp, text.String()}
}

// image is a small image, signed or not.
func image(t *testing.T, version string, sign bool) []byte {
	t.Helper()
	path := gaftest.New(t, "amd64", version, nil)
	if sign {
		a, err := gaf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		m, err := a.Describe(version)
		if err != nil {
			t.Fatal(err)
		}
		data, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		key, err := manifest.NewPrivateKey(bytes.Repeat([]byte{1}, 32))
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Sign(data, []manifest.Signature{key.SignImage(data)}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestUpdateComesFromABrowser(t *testing.T) {
	b, m := withMachine(t)
	w := b.owner()
	w.reads(w.get("/system/update"), 200, []string{"2026.11.20-3f9c2ab", "in slot a", "2026.10.02-91c05de: it is complete", "undone", "does not answer &lt;i&gt;", `enctype="multipart/form-data"`}, "Restart into it")
	w.leads(w.send("/system/update", image(t, "2", true)), "/system/update")
	b.eventually("the image is handed on", func() bool {
		body := w.get("/system/update").body
		return strings.Contains(body, "Restart into it") && !strings.Contains(body, "is being received")
	})
	m.mu.Lock()
	same := bytes.Equal(m.parts["kernel"], gaftest.Kernel("amd64", "2")) && bytes.Equal(m.parts["root"], gaftest.Root("2"))
	m.mu.Unlock()
	if !same {
		t.Error("what arrives is not what was sent")
	}
	if left, err := filepath.Glob(filepath.Join(b.o.State, "image-*")); err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	w.reads(w.post("/system/update/start", nil), 200, []string{"The box restarts into the update", `data-back="/system/update"`})
	if !slices.Equal(m.told(), []string{"update/commit"}) {
		t.Errorf("updated was told %v", m.told())
	}
	w.leads(w.post("/system/update/forget", nil), "/system/update?done=forgotten")
}

func TestImagesThatAreNone(t *testing.T) {
	b, m := withMachine(t)
	w := b.owner()
	for _, c := range []struct {
		name   string
		file   []byte
		status int
		want   string
	}{
		{"no file", nil, 422, "choose a file"},
		{"no archive", []byte("<script>"), 422, "not a gokrazy archive"},
		{"an unsigned one", image(t, "2", false), 422, "the image is not signed"},
		{"an older one", image(t, "1", true), 409, "older than one that ran here"},
	} {
		v := w.send("/system/update", c.file)
		if v.StatusCode != c.status || !strings.Contains(v.body, c.want) {
			t.Errorf("%s: got %d\n%s", c.name, v.StatusCode, v.body)
		}
	}
	w.reads(w.send("/system/update", image(t, "2", false), "downgrade"), 422, []string{`name="downgrade" value="yes" checked`})
	w.reads(w.post("/system/update", url.Values{"image": {"x"}}), 400, []string{"The form was not understood"})
	if v := w.sendAs("/system/update", "multipart/form-data; boundary=x", strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\nhalf")); v.StatusCode != 400 {
		t.Errorf("half a form: got %d\n%s", v.StatusCode, v.body)
	}
	w.leads(w.send("/system/update", image(t, "1", true), "downgrade"), "/system/update")
	if m.staging() == nil {
		t.Error("an older one is not taken where that was asked for")
	}
}

// TestImagesGoThroughAFile sends what is larger than the memory that webuid may have.
func TestImagesGoThroughAFile(t *testing.T) {
	b, _ := withMachine(t)
	w := b.owner()
	const size = 128 << 20
	head, tail := "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n", "\r\n--x--\r\n"
	body := io.MultiReader(strings.NewReader(head), io.LimitReader(&pattern{}, size), strings.NewReader(tail))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	v := w.sendAs("/system/update", "multipart/form-data; boundary=x", body)
	runtime.ReadMemStats(&after)
	w.reads(v, 422, []string{"not a gokrazy archive"})
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d MiB were allocated for an image of %d", used>>20, size>>20)
	} else {
		t.Logf("%d KiB were allocated for an image of %d MiB", used>>10, size>>20)
	}
	if left, err := filepath.Glob(filepath.Join(b.o.State, "image-*")); err != nil || left != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// An image may take longer than a page: what it is refused for is said on a page that is whole.
func TestSlowImageIsRefusedOnItsPage(t *testing.T) {
	b, m := newBox(t), newMachine()
	mux := http.NewServeMux()
	m.serve(mux)
	b.updated(mux)
	const page = time.Second
	b.o.SetPageTime(page)
	b.start(conf1)
	w := b.owner()
	image, sent := io.Pipe()
	go func() {
		_, _ = io.WriteString(sent, "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n")
		<-time.After(page + page/10)
		_, _ = io.WriteString(sent, "no image\r\n--x--\r\n")
		sent.Close()
	}()
	v := w.sendAs("/system/update", "multipart/form-data; boundary=x", image)
	w.reads(v, 422, []string{"not a gokrazy archive", "Bring another version", "2026.11.20-3f9c2ab"}, "the update service does not answer")
}

func TestImagesAreAdministrators(t *testing.T) {
	b, m := withMachine(t)
	op := b.owner().as("op", access.Operator)
	if v := op.send("/system/update", []byte("small: nobody reads it")); v.StatusCode != http.StatusForbidden {
		t.Errorf("got %d", v.StatusCode)
	}
	op.reads(op.post("/system/restart", nil), 403, []string{"Not allowed"})
	if m.staging() != nil || m.told() != nil {
		t.Errorf("updated was told %+v, %v", m.staging(), m.told())
	}
}

func TestTrialIsShown(t *testing.T) {
	b, m := withMachine(t)
	w := b.owner()
	m.mu.Lock()
	m.status.Trial, m.status.Waiting = true, []string{"DNS in zone <iot>"}
	m.mu.Unlock()
	w.reads(w.get("/system/update"), 200, []string{"is on trial", "DNS in zone &lt;iot&gt;", `<meta http-equiv="refresh" content="3; url=/system/update?itself=1">`, `data-reload="3" data-again="/system/update?itself=1"`}, "multipart")
	w.reads(w.post("/system/restart", nil), 409, []string{"on trial here"})
}

func TestBoxIsSentDown(t *testing.T) {
	b, m := withMachine(t)
	w := b.owner()
	w.reads(w.get("/system/power"), 200, []string{"Restart now", "Switch off now"})
	w.reads(w.post("/system/restart", nil), 200, []string{"The box restarts", `data-back="/system"`})
	w.reads(w.post("/system/power-off", nil), 200, []string{"The box switches itself off"}, "data-back")
	if !slices.Equal(m.told(), []string{"restart", "power-off"}) {
		t.Errorf("updated was told %v", m.told())
	}
}

func TestUpdatedIsAway(t *testing.T) {
	b := newBox(t)
	b.start(conf1)
	w := b.owner()
	w.reads(w.get("/system/update"), 200, []string{"the update service does not answer"}, "multipart")
	w.reads(w.post("/system/restart", nil), 503, []string{"the update service does not answer"})
}
