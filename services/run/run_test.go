package run_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"bulkhead/services/run"
)

// services are what the test binary turns into when it is started again with the
// name in SERVICE.
var services = map[string]func(context.Context, *slog.Logger) error{
	"waits":     func(ctx context.Context, _ *slog.Logger) error { ready(); <-ctx.Done(); return nil },
	"cancelled": func(ctx context.Context, _ *slog.Logger) error { ready(); <-ctx.Done(); return ctx.Err() },
	"disabled":  func(context.Context, *slog.Logger) error { return fmt.Errorf("zone: %w", run.ErrDisabled) },
	"failing":   func(context.Context, *slog.Logger) error { return errors.New("no luck") },
	"returning": func(context.Context, *slog.Logger) error { return nil },
	"failing late": func(ctx context.Context, _ *slog.Logger) error {
		ready()
		<-ctx.Done()
		return errors.New("cannot save")
	},
}

func ready() { fmt.Println("ready") }

func TestMain(m *testing.M) {
	if f, ok := services[os.Getenv("SERVICE")]; ok {
		run.Main("test", f)
	}
	os.Exit(m.Run())
}

func TestExitCodeTellsSupervisorWhatToDo(t *testing.T) {
	tests := []struct {
		service string
		stop    bool
		want    int
	}{
		{"waits", true, 143},
		{"cancelled", true, 143},
		{"disabled", false, 125},
		{"failing", false, 1},
		{"returning", false, 1},
		{"failing late", true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.service, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = append(os.Environ(), "SERVICE="+tt.service)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if tt.stop {
				if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != tt.want {
				t.Errorf("got exit code %d, want %d", got, tt.want)
			}
		})
	}
}

func TestFlagsNameDirectories(t *testing.T) {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	d := run.Flags(flags)
	if err := flags.Parse([]string{"-run", "/tmp/r"}); err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		d.RunDir("dnsd"):   "/tmp/r/dnsd",
		d.Config("dnsd"):   "/tmp/r/dnsd/config.json",
		d.StateDir("dnsd"): "/perm/bulkhead/dnsd",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
