//go:build linux

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"bulkhead/images/lab/vm"
	"bulkhead/images/lab/vswitch"
	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/webui/remote"
)

// Box is a gateway that is a virtual machine, which has the image on its disk.
type Box struct {
	*vm.Machine
	options vm.Options
	log     *os.File        // of the console
	profile *remote.Profile // what its owner knows of it
}

// diskSize is that of the box's disk in bytes: the image and room for what it keeps.
const diskSize = 1 << 30

// newBox makes a machine with the image on its disk, and does not start it.
func (l *Lab) newBox(ctx context.Context, o VMOptions) error {
	dir := filepath.Join(l.World.Dir, "box")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil { // of a lab before
		return err
	}
	b := &Box{options: vm.Options{Arch: o.Arch, Memory: o.Memory, Dir: dir, Disk: filepath.Join(dir, "disk")}}
	if err := vm.NewDisk(ctx, b.options.Disk, o.Image, diskSize); err != nil {
		return err
	}
	var err error
	if b.log, err = os.Create(filepath.Join(l.World.Dir, "box.log")); err != nil {
		return err
	}
	b.options.Log = b.log
	for _, p := range l.Config.Ports {
		b.options.NICs = append(b.options.NICs, vm.NIC{
			Name: p.Name, MAC: p.MAC, Plug: func(c io.ReadWriteCloser) { l.panel.box[p.Name].Plug(vswitch.NewStream(c)) },
		})
	}
	l.Box = b
	return nil
}

// PowerOn starts the box, which must be off.
func (b *Box) PowerOn(ctx context.Context) (err error) {
	b.Machine, err = vm.Start(ctx, b.options)
	return err
}

// close cuts the power and forgets the box.
func (b *Box) close() (err error) {
	if b.Machine != nil {
		err = b.Kill()
	}
	return errors.Join(err, b.log.Close())
}

// only leaves all cables out but that of one port.
func (b *Box) only(port *model.Port) {
	for i := range b.options.NICs {
		n := &b.options.NICs[i]
		n.Unplugged = port != nil && n.Name != port.Name
	}
}

// Home is where the lab's workstations keep what they know of the box, as all hosts
// of the world see it.
const Home = innerDir + "/home"

// profileName is what they call it.
const profileName = "lab"

// Where a box without a configuration waits for its owner.
const setupAddress = "192.168.77.1"

// stages are what a new box shows of its start on its console: the firmware hands over
// to the boot loader, init starts the services, and the claim code. That has four
// groups, where fingerprints have more; what the terminal is told stands around it.
var stages = regexp.MustCompile(`BdsDxe: starting Boot\d+ |init: (starting \d+ services of version \S+)\r?\n|` +
	`[^-0-9A-Z]([0-9A-HJKMNP-TV-Z]{4}(?:-[0-9A-HJKMNP-TV-Z]{4}){3})[^-0-9A-Z]`)

// watchBoot tells how the box comes up and returns the claim code.
func (b *Box) watchBoot(ctx context.Context, p *Printer) (code string, err error) {
	for {
		m, err := b.Await(ctx, stages)
		switch {
		case err != nil:
			return "", err
		case m[2] != "":
			return m[2], nil
		case m[1] != "":
			p.Event("box: %s", m[1])
		default:
			p.Event("box: the firmware has found the disk")
		}
	}
}

// inForce is what the console shows once a configuration is.
var inForce = regexp.MustCompile(`State +running`)

// claim does what an owner does with a new box: plugs a computer into it, reads the
// code off its console, claims it and gives it its configuration, and then plugs
// everything in where it belongs. inner is the context of what the lab runs.
func (l *Lab) claim(ctx, inner context.Context, o VMOptions) error {
	owner := l.owner()
	if owner == nil {
		return errors.New("nobody is in an admin zone to claim the box")
	}
	port, vlan := l.panel.place(l.Config, owner.Zone.Name)
	if err := l.HostPort(owner.Host).SetMode(vswitch.Access(l.panel.native)); err != nil {
		return err
	}
	l.Box.only(port)
	if err := l.Box.PowerOn(ctx); err != nil {
		return err
	}
	o.Printer.Event("box switched on, %s", l.Box.how())
	code, err := l.Box.watchBoot(ctx, o.Printer)
	if err != nil {
		return err
	}
	o.Printer.Event("its console shows the claim code %s", code)
	if err := l.visit(ctx, owner); err != nil {
		return err
	}
	o.Printer.Event("%s, plugged into port %s, has an address", owner.Name, port.Name)
	profile, err := l.redeem(ctx, owner, o, code, func(ctx context.Context) error {
		if _, err := l.Box.Await(ctx, inForce); err != nil {
			return err
		}
		o.Printer.Event("box claimed, with %s", filepath.Base(o.File))
		if err := l.goHome(owner, vlan); err != nil {
			return err
		}
		if err := l.plugBox(ctx); err != nil {
			return err
		}
		return l.startClients(inner)
	})
	if err != nil {
		return err
	}
	l.Box.profile = profile
	return l.connect(ctx)
}

// connect makes connections to the box by its owner, and returns when it answers.
func (l *Lab) connect(ctx context.Context) error {
	l.API = remote.NewVia(l.Box.profile, func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = l.owner().Do(func() error {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	})
	return l.awaitAPI(ctx)
}

func (b *Box) how() string {
	if b.Accelerated {
		return "by KVM"
	}
	return "emulated"
}

// owner is who claims the box and asks it things.
func (l *Lab) owner() *Client {
	for _, c := range l.Clients {
		if c.Zone.Admin {
			return c
		}
	}
	return nil
}

// visit gets a client an address of a new box.
func (l *Lab) visit(ctx context.Context, c *Client) error {
	for {
		out, err := c.Output("udhcpc", "-i", clientLink, "-q", "-n", "-t", "10", "-T", "1")
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("the box gives %s no address: %w\n%s", c.Name, err, out), ctx.Err())
		}
	}
}

// redeem claims the box by the real program, on the client. Meanwhile it calls move,
// since the program looks for the box where the configuration has it.
func (l *Lab) redeem(ctx context.Context, c *Client, o VMOptions, code string, move func(context.Context) error) (*remote.Profile, error) {
	if err := os.RemoveAll(Home); err != nil { // of a lab before
		return nil, err
	}
	file, err := os.Open(o.File)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := exec.CommandContext(ctx, filepath.Join(o.Bin, "bulkhead"), "claim", "--code", code, "--name", profileName, "--yes", setupAddress, "-")
	cmd.Stdin = file
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+Home, worldEnv+"=")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		out, err := c.output(cmd, func() error { return c.Start(cmd) })
		if err != nil {
			cancel(fmt.Errorf("%w\n%s", err, out))
		}
	}()
	if err := move(ctx); err != nil {
		cancel(err) // unless the program has failed before
	}
	<-ended
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(Home, "bulkhead", "boxes", profileName+".json"))
	if err != nil {
		return nil, err
	}
	p := new(remote.Profile)
	if err := json.Unmarshal(data, p); err != nil {
		return nil, err
	}
	p.URL, p.Also = l.URL(), nil
	return p, nil
}

// URL is where the box is managed.
func (l *Lab) URL() string { return "https://" + l.owner().Zone.Gateway.String() }

// goHome plugs the client in where it belongs, as it was before the visit.
func (l *Lab) goHome(c *Client, vlan uint16) error {
	if err := l.HostPort(c.Host).SetMode(vswitch.Access(vlan)); err != nil {
		return err
	}
	if err := c.IP("addr flush dev " + clientLink); err != nil {
		return err
	}
	if c.Program == "" {
		return c.setAddress()
	}
	c.Addr = netip.Addr{}
	return nil
}

// plugBox plugs in all of the box's cables, those to the switch as trunks.
func (l *Lab) plugBox(ctx context.Context) error {
	if err := l.panel.tag(l.Config); err != nil {
		return err
	}
	l.Box.only(nil)
	for _, n := range l.Box.options.NICs {
		if err := l.Box.SetCable(ctx, n.Name, true); err != nil {
			return err
		}
	}
	return nil
}

// awaitAPI returns when the box answers its owner.
func (l *Lab) awaitAPI(ctx context.Context) error {
	for {
		asking, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := l.API.Status(asking)
		cancel()
		if err == nil || errors.Is(err, api.ErrUnknown) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the box does not answer its owner: %w", err)
		}
		_ = pause(ctx) // asked above
	}
}
