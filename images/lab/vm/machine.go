//go:build linux

// Package vm runs virtual machines in QEMU: a computer that can be switched on, have
// its cables pulled, be talked to on its serial line, and lose its power at any
// instant. It knows nothing of what runs inside.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/model"
)

// Options says what a machine is made of.
type Options struct {
	Arch   string // "amd64" or "arm64"
	Memory int    // MiB; 0: 256
	// Dir is where the machine keeps what outlives a loss of power beside its
	// disk: the variables of its firmware. Start makes them if there are none.
	Dir  string
	Disk string // file made by [NewDisk]; "": none
	NICs []NIC
	Log  io.Writer // gets what is written to the serial line, too; may be nil

	// Kernel is started without firmware where it is set, with Initrd and the
	// command line Append.
	Kernel, Initrd, Append string

	QEMU []string // further arguments, for what only one test plugs in
}

// NIC is a network card, in the order in which the guest finds them.
type NIC struct {
	Name string // by which [Machine.SetCable] knows it; letters and digits
	MAC  model.MAC
	// Plug is handed the other end of the cable each time the machine starts. It
	// speaks what QEMU calls a stream: see [bulkhead/images/lab/vswitch.NewStream].
	Plug func(io.ReadWriteCloser)
	// Unplugged leaves the cable out at first, so that the guest sees no carrier.
	Unplugged bool
}

// arch is what QEMU is told of an architecture.
type arch struct {
	qemu, machine, cpu string
	code, vars         string // firmware of Debian's packages ovmf and qemu-efi-aarch64
}

var arches = map[string]arch{
	// The lesser of two kinds of page tables saves time in emulation.
	"amd64": {"qemu-system-x86_64", "q35", "max,la57=off", "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	"arm64": {"qemu-system-aarch64", "virt", "cortex-a72", "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
}

// Lacks says what is not installed that machines of an architecture need; nil:
// nothing. The error wraps [fs.ErrNotExist].
func Lacks(name string) error {
	a, ok := arches[name]
	if !ok {
		return fmt.Errorf("no machine of architecture %q can be made", name)
	}
	var missing []string
	for _, program := range []string{a.qemu, "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	for _, file := range []string{a.code, a.vars} {
		if _, err := os.Stat(file); err != nil {
			missing = append(missing, file)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s: %w", strings.Join(missing, ", "), fs.ErrNotExist)
	}
	return nil
}

// NewDisk makes a disk that holds what an image does, and zeros up to its size in
// bytes. The image stays as it is and must not change or move while the disk is
// used.
//
// The disk is a qcow2 file: what the guest has flushed is in it even if QEMU is
// killed in the next instant, and what it has not flushed may be lost, since the
// tables that say where it is are written late. A real disk does no better.
func NewDisk(ctx context.Context, path, image string, size int64) error {
	image, err := filepath.Abs(image)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "raw", path, strconv.FormatInt(size, 10))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make disk %s over %s: %w: %s", path, image, err, bytes.TrimSpace(out))
	}
	return nil
}

// Machine is one that is switched on, until it ends by itself or is killed.
type Machine struct {
	*Console
	Accelerated bool // by KVM; emulated otherwise

	qmp     *qmp
	process *os.Process
	done    chan struct{} // closed when QEMU has ended
	err     error         // why, once done
	stderr  *bytes.Buffer // what QEMU complained of, once done
}

// Start switches a machine on. QEMU ends with this process, however that ends.
func Start(ctx context.Context, o Options) (_ *Machine, err error) {
	a, ok := arches[o.Arch]
	if !ok {
		return nil, fmt.Errorf("no machine of architecture %q can be made", o.Arch)
	}
	m := &Machine{Console: newConsole(o.Log), Accelerated: o.Arch == runtime.GOARCH && KVM(), done: make(chan struct{}), stderr: new(bytes.Buffer)}
	args, err := m.arguments(a, o)
	if err != nil {
		return nil, err
	}
	var wires wires
	defer wires.close()
	control, err := wires.add()
	if err != nil {
		return nil, err
	}
	args = append(args, "-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", wires.last()), "-mon", "chardev=qmp,mode=control")
	for _, n := range o.NICs {
		end, err := wires.add()
		if err != nil {
			return nil, errors.Join(err, control.Close())
		}
		// Without the ROM, which is there to boot from the network.
		args = append(args, "-netdev", fmt.Sprintf("stream,id=%s,addr.type=fd,addr.str=%d", n.Name, wires.last()),
			"-device", fmt.Sprintf("virtio-net-pci,id=card-%s,netdev=%s,mac=%s,romfile=", n.Name, n.Name, n.MAC))
		n.Plug(end)
	}
	if err := m.launch(exec.Command(a.qemu, args...), wires.far); err != nil {
		return nil, errors.Join(err, control.Close())
	}
	m.qmp = newQMP(control, m.done)
	if err := m.powerOn(ctx, o.NICs); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	return m, nil
}

// powerOn lets the machine run, which so far has all parts but does nothing.
func (m *Machine) powerOn(ctx context.Context, nics []NIC) error {
	if err := m.qmp.greet(ctx); err != nil {
		return errors.Join(fmt.Errorf("start QEMU: %w", err), m.complaint())
	}
	for _, n := range nics {
		if n.Unplugged {
			if err := m.SetCable(ctx, n.Name, false); err != nil {
				return err
			}
		}
	}
	return m.qmp.execute(ctx, "cont", nil)
}

// arguments returns QEMU's, but for what takes wires.
func (m *Machine) arguments(a arch, o Options) ([]string, error) {
	accel, cpu := "tcg", a.cpu
	if m.Accelerated {
		accel, cpu = "kvm", "host"
	}
	memory := o.Memory
	if memory == 0 {
		memory = 256
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-machine", a.machine + ",accel=" + accel, "-cpu", cpu, "-m", strconv.Itoa(memory), "-smp", "1",
		"-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial",
		"-device", "virtio-rng-pci", "-device", "i6300esb", "-action", "watchdog=reset",
	}
	boot := ""
	if o.Kernel != "" {
		args = append(args, "-kernel", o.Kernel, "-append", o.Append)
		if o.Initrd != "" {
			args = append(args, "-initrd", o.Initrd)
		}
	} else {
		boot = ",bootindex=0"
		// The firmware remembers where disks were: each machine has its own memory.
		vars := filepath.Join(o.Dir, "vars.fd")
		if err := copyOnce(vars, a.vars); err != nil {
			return nil, err
		}
		args = append(args, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+a.code, "-drive", "if=pflash,unit=1,format=raw,file="+vars)
	}
	if o.Disk != "" {
		args = append(args,
			"-blockdev", "driver=file,node-name=file,filename="+o.Disk, "-blockdev", "driver=qcow2,node-name=disk,file=file,discard=unmap",
			// The guest sees a cache that it has to flush.
			"-device", "virtio-blk-pci,drive=disk,write-cache=on"+boot)
	}
	return append(args, o.QEMU...), nil
}

// copyOnce copies a file unless the copy is there.
func copyOnce(dst, src string) error {
	if _, err := os.Stat(dst); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data, err := os.ReadFile(src)
	if err != nil {
		return err
	}
	return os.WriteFile(dst, data, 0o644)
}

// wires are connections between this process and QEMU.
type wires struct{ far []*os.File }

// add makes one and returns the near end.
func (w *wires) add() (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	near := os.NewFile(uintptr(fds[0]), "wire")
	defer near.Close()
	w.far = append(w.far, os.NewFile(uintptr(fds[1]), "wire"))
	return net.FileConn(near)
}

// last is the number under which QEMU finds the end of the last wire.
func (w *wires) last() int { return 2 + len(w.far) }

// close closes the far ends, which QEMU has copies of.
func (w *wires) close() {
	for _, f := range w.far {
		f.Close()
	}
}

// launch starts QEMU with its serial line on the console.
func (m *Machine) launch(cmd *exec.Cmd, files []*os.File) error {
	cmd.ExtraFiles = slices.Clone(files)
	cmd.Stdout, cmd.Stderr = m.Console, m.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	m.in = stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		// The signal comes when the thread that forked ends, not the process: this
		// one belongs to QEMU.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			m.err = cmd.Wait()
			m.end()
			close(m.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	m.process = cmd.Process
	return nil
}

// complaint is what QEMU wrote before it ended; nil while it runs.
func (m *Machine) complaint() error {
	select {
	case <-m.done:
		return fmt.Errorf("QEMU: %w: %s", m.err, bytes.TrimSpace(m.stderr.Bytes()))
	default:
		return nil
	}
}

// SetCable plugs the cable of a network card in or out.
func (m *Machine) SetCable(ctx context.Context, nic string, in bool) error {
	return m.qmp.execute(ctx, "set_link", map[string]any{"name": "card-" + nic, "up": in})
}

// Reset presses the reset button.
func (m *Machine) Reset(ctx context.Context) error { return m.qmp.execute(ctx, "system_reset", nil) }

// PowerButton presses the power button, which asks the guest to end.
func (m *Machine) PowerButton(ctx context.Context) error {
	return m.qmp.execute(ctx, "system_powerdown", nil)
}

// AwaitEvent returns the next event of one of the names that no call has returned
// yet, such as "RESET", "SHUTDOWN" or "WATCHDOG", and skips others before it. See
// QEMU's QMP reference.
func (m *Machine) AwaitEvent(ctx context.Context, names ...string) (string, error) {
	return m.qmp.awaitEvent(ctx, names)
}

// Done is closed when the machine is off.
func (m *Machine) Done() <-chan struct{} { return m.done }

// CPU returns the processor time that the machine has taken so far, in steps of 10 ms.
// It depends far less than the clock on what else runs on this computer. It is 0 for a
// machine that is off.
func (m *Machine) CPU() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.process.Pid))
	if err != nil {
		return 0
	}
	// utime and stime, proc_pid_stat(5), in hundredths of a second on all of Linux's
	// architectures. The name before them may hold anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var sum time.Duration
	for _, f := range fields[min(11, len(fields)):min(13, len(fields))] {
		n, _ := strconv.ParseInt(f, 10, 64) // the kernel's
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}

// Kill cuts the power: QEMU ends without a chance to write anything. It returns when
// QEMU is gone; a machine that is off already is left alone.
func (m *Machine) Kill() error {
	if err := m.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-m.done
	return nil
}
