package world

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/seed-5a9fb6e0/sandbox/internal/spawn"
)

// Yield makes what a sandbox wrote below dir removable for the embedder, an
// ordinary user, to whom the subordinate ids are other users: in the user
// namespace n, whose root he is, every directory is given to him. Each is first
// moved to the top, so that no path gets long, however deep the sandbox made it.
func Yield(ctx context.Context, n *Namespaces, dir string) error {
	y := &yielder{n: n, dir: dir, queue: []string{"."}}
	for len(y.queue) > 0 {
		name := y.queue[0]
		y.queue = y.queue[1:]
		if err := y.open(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

type yielder struct {
	n     *Namespaces
	dir   string
	queue []string // directories below dir still to be seen, none deeper than one
	made  int
	buf   [64 << 10]byte // for getdents64: on the heap, where it does not move
}

// run runs calls as root of the user namespace, with the working directory dir.
func (y *yielder) run(ctx context.Context, build func(*spawn.Program)) (*spawn.Program, error) {
	_, p, err := spawn.Run(ctx, func(p *spawn.Program) {
		user := p.Input(int(y.n.User.Fd()))
		p.Do("chdir", y.dir, unix.SYS_CHDIR, y.dir)
		p.EnterUserNS(user)
		p.SetIDs(spawn.IDs{})
		build(p)
	})
	return p, err
}

// open gives one directory to the embedder and moves those in it to the top.
func (y *yielder) open(ctx context.Context, name string) error {
	var dirs []string
	for position := 0; ; {
		var read spawn.Ref
		p, err := y.run(ctx, func(p *spawn.Program) {
			fd := p.Do("open", name, unix.SYS_OPENAT, at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			p.Do("fchown", name, unix.SYS_FCHOWN, fd, 0, 0)
			p.Do("fchmod", name, unix.SYS_FCHMOD, fd, 0o700)
			p.Do("lseek", name, unix.SYS_LSEEK, fd, position, unix.SEEK_SET)
			read = p.Do("getdents64", name, unix.SYS_GETDENTS64, fd, uintptr(unsafe.Pointer(&y.buf)), len(y.buf))
		})
		if err != nil {
			return fmt.Errorf("give %q to its owner: %w", filepath.Join(y.dir, name), err)
		}
		n := p.Result(read)
		if n == 0 {
			return y.lift(ctx, name, dirs)
		}
		var more []string
		more, position = directories(y.buf[:n])
		dirs = append(dirs, more...)
	}
}

// lift moves directories of name to the top, under new names.
func (y *yielder) lift(ctx context.Context, name string, dirs []string) error {
	if name == "." {
		y.queue = append(y.queue, dirs...)
		return nil
	}
	if len(dirs) == 0 {
		return nil
	}
	_, err := y.run(ctx, func(p *spawn.Program) {
		for _, d := range dirs {
			to := fmt.Sprintf(".yield.%d", y.made)
			y.made++
			y.queue = append(y.queue, to)
			from := name + "/" + d
			p.Do("rename", from, unix.SYS_RENAMEAT2, at, from, at, to, unix.RENAME_NOREPLACE)
		}
	})
	return err
}

// minDirent is the size of the shortest struct linux_dirent64 (getdents(2)).
const minDirent = 24

// directories lists those of a getdents64 buffer, and where it ended.
func directories(b []byte) (dirs []string, position int) {
	for len(b) >= minDirent {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size < minDirent || size > len(b) {
			break
		}
		position = int(binary.NativeEndian.Uint64(b[8:]))
		name, _, _ := bytes.Cut(b[19:size], []byte{0})
		if kind := b[18]; kind == unix.DT_DIR && string(name) != "." && string(name) != ".." {
			dirs = append(dirs, string(name))
		}
		b = b[size:]
	}
	return dirs, position
}
