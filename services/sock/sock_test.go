//go:build linux

package sock_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nstest"
	"bulkhead/services/sock"
)

// directory returns one with a short path: a socket's has 107 bytes.
func directory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestSocketOfADeadProcessIsReplaced(t *testing.T) {
	dir := directory(t)
	path := filepath.Join(dir, "x.sock")
	for range 2 {
		l, err := sock.Listen(path, -1)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("socket has mode %v", info.Mode())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// serve answers HTTP requests with the user who makes them.
func serve(t *testing.T, l net.Listener) {
	t.Helper()
	srv := &http.Server{ConnContext: sock.ConnContext, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := sock.PeerUID(r.Context())
		fmt.Fprintln(w, uid, ok)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

func TestOnlyTheUsersNamedGetThrough(t *testing.T) {
	const friend, stranger = 7106, 65534
	ns := nstest.New(t) // for its threads, which are never used again
	path := filepath.Join(directory(t), "x.sock")
	l, err := sock.Listen(path, friend, friend)
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Mode != unix.S_IFSOCK|0o660 || st.Gid != friend || st.Uid != 0 {
		t.Errorf("socket has mode %#o, user %d, group %d", st.Mode, st.Uid, st.Gid)
	}
	serve(t, l)
	// As if the directory and the mode of the socket did not keep them away already.
	for _, p := range []string{path, filepath.Dir(path)} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[uintptr]string{0: "0 true\n", friend: "7106 true\n", stranger: ""} {
		if got := ask(t, ns, uid, path); got != want {
			t.Errorf("user %d: got %q, want %q", uid, got, want)
		}
	}
}

func TestOwnGroupIsLetInByWhoIsNotRoot(t *testing.T) {
	const id, other = 7106, 7105
	ns := nstest.New(t) // for its threads, which are never used again
	dir := directory(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for group, want := range map[int]uint32{id: unix.S_IFSOCK | 0o660, other: unix.S_IFSOCK | 0o600, -1: unix.S_IFSOCK | 0o600} {
		path := filepath.Join(dir, fmt.Sprint("x", group))
		nstest.Run(t, ns, func() {
			for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} { // this thread's only
				if _, _, errno := unix.RawSyscall(call, id, id, id); errno != 0 {
					t.Error(errno)
					return
				}
			}
			l, err := sock.Listen(path, group)
			if err != nil {
				t.Error(err)
				return
			}
			l.Close()
		})
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode != want || st.Uid != id || st.Gid != id {
			t.Errorf("for group %d the socket has mode %#o, user %d, group %d, want mode %#o", group, st.Mode, st.Uid, st.Gid, want)
		}
	}
}

// ask makes a request as a user and returns the answer's body, or "".
func ask(t *testing.T, ns int, uid uintptr, path string) (body string) {
	t.Helper()
	nstest.Run(t, ns, func() {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 { // this thread's only
			t.Error(errno)
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		f := os.NewFile(uintptr(fd), path)
		defer f.Close()
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			t.Error(err)
			return
		}
		_, _ = f.WriteString("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") // fails if they hung up already
		resp, err := http.ReadResponse(bufio.NewReader(f), nil)
		if err != nil {
			return // so they did
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		body = string(data)
	})
	return body
}
