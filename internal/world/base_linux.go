package world

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// A Base is the part of a HostRoot that is the same for all Worlds, in a mount
// namespace that nobody lives in: Worlds begin with a copy of it, in place of
// one of the host's mounts that are then turned away. It takes a privileged
// embedder, to whose user namespace it belongs; all in it is nobody's in a World.
type Base struct{ mnt *os.File }

// NewBase makes a Base, nil where the embedder may not.
func NewBase(ctx context.Context) (*Base, error) {
	if !privileged() {
		return nil, nil
	}
	dev, err := newDev(0, nil)
	if err != nil {
		return nil, err
	}
	defer closeFiles([]*os.File{dev})
	s := &Spec{Root: HostRoot{}}
	fds, _, err := spawn.Run(ctx, func(p *spawn.Program) {
		dev := optional(p, dev)
		self := selfHandle(p)
		p.Do("unshare", "mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
		mnt := ownNS(p, self, "mnt")
		s.tree(&mounter{Program: p}, nil, dev, nil)
		p.Send(mnt)
	})
	if err != nil {
		return nil, outerError("the mounts of the host's userland", err)
	}
	return &Base{os.NewFile(uintptr(fds[0]), "mount namespace")}, nil
}

func (b *Base) enter(p *spawn.Program) {
	p.Do("setns", "mount namespace", unix.SYS_SETNS, p.Input(int(b.mnt.Fd())), unix.CLONE_NEWNS)
}

// Close gives the Base back. The Worlds that began with it keep what they have.
func (b *Base) Close() error { return b.mnt.Close() }
