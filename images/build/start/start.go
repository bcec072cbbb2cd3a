// Package start is what the init of an image does: gokrazy's boot and supervision,
// and between the two what the box needs before any service runs. The builder
// generates a main that calls it with the programs of the image.
package start

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"

	"github.com/gokrazy/gokrazy"
	"golang.org/x/sys/unix"

	"bulkhead/services/update/boot"
	"bulkhead/services/update/manifest"
	"bulkhead/services/update/perm"
)

// A Program is one that init starts, and starts again whenever it ends, but with exit
// codes 0 and 125.
type Program struct {
	Path         string // in the image
	Args         []string
	Env          []string // "key=value", added to those of init
	WaitForClock bool     // not before the clock was set from the network
}

// Main never returns. If the system cannot come up it ends init, and with it the
// kernel, which restarts the box: the boot loader then may take the other slot.
func Main(built string, programs []Program) {
	log.SetFlags(0) // the kernel's own lines have times, ours follow closely
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := gokrazy.Boot(built); err != nil {
		log.Fatalf("init: %v", err)
	}
	ctx := context.Background()
	// First of all, so that nothing that hangs keeps a bad image up.
	go boot.Guard(ctx, logger)
	if err := perm.Prepare(ctx, logger); err != nil {
		// The services start nevertheless: a box whose disk is broken tells so on
		// its console and in its log, and stays closed.
		logger.Error("the box will forget everything when it restarts", "err", err)
		if errors.Is(err, perm.ErrDamaged) {
			logger.Error("nothing was written there; a factory reset on the console makes a new /perm")
		}
	}
	if err := closeInput(); err != nil {
		logger.Error("init reads the console", "err", err)
	}
	if err := forbidKeys(); err != nil {
		logger.Error("Ctrl-Alt-Del restarts the box", "err", err)
	}
	log.Printf("init: starting %d services of version %s", len(programs), version())
	services := make([]*gokrazy.Service, len(programs))
	for i, p := range programs {
		cmd := exec.Command(p.Path, p.Args...)
		cmd.Env = append(os.Environ(), p.Env...)
		if p.WaitForClock {
			services[i] = gokrazy.NewWaitForClockService(cmd)
		} else {
			services[i] = gokrazy.NewService(cmd)
		}
	}
	if err := gokrazy.SuperviseServices(services); err != nil {
		log.Fatalf("init: %v", err)
	}
	if err := quieten(); err != nil {
		logger.Error("init goes on writing over the console", "err", err)
	}
	select {}
}

// version is that of the image that runs.
func version() string {
	data, err := os.ReadFile("/etc/bulkhead/" + manifest.InfoFile)
	if err != nil {
		return err.Error()
	}
	info, err := manifest.ParseInfo(data)
	if err != nil {
		return err.Error()
	}
	return info.Version
}

// closeInput keeps gokrazy from starting a shell when somebody presses a key on the
// console, which has a menu of its own: it would eat every second key.
func closeInput() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("close standard input: %w", err)
	}
	os.Stdin = null
	return nil
}

// forbidKeys keeps Ctrl-Alt-Del from restarting the box at once, with /perm mounted:
// the console's menu does so properly, and asks.
func forbidKeys() error {
	// The kernel then sends init an interrupt instead. Nobody listens; to ignore it
	// would be inherited by all services.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		return fmt.Errorf("switch off Ctrl-Alt-Del: %w", err)
	}
	return nil
}
