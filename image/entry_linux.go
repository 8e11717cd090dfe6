package image

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// place makes one entry in a directory of the layer. What an earlier entry of this layer put there gives way, except
// that a directory stays when it is mentioned again.
func (u *unpacker) place(dir *node, name string, h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		return u.placeDir(dir, name, h)
	}
	if h.Typeflag == tar.TypeLink {
		return u.hardLink(dir, name, h)
	}
	m, err := u.metaOf(h)
	if err != nil {
		return err
	}
	if err := u.clear(dir, name); err != nil {
		return err
	}
	fd, err := u.tree.dir(dir)
	if err != nil {
		return err
	}
	delete(dir.links, name)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.regular(dir, fd, name, content{r: r, size: h.Size, sparse: isSparse(h), meta: m})
	case tar.TypeSymlink:
		return u.symlink(dir, fd, name, h.Linkname, m)
	case tar.TypeFifo:
		return u.special(dir, fd, name, unix.S_IFIFO, m)
	case tar.TypeChar, tar.TypeBlock:
		return u.device(dir, fd, name, h, m)
	}
	return invalidf("type %q: not a file of an image", h.Typeflag)
}

// clear moves what this layer has at a name out of the way: one rename, however large the tree. Without an entry of
// that name, which is nearly always, it costs one system call.
func (u *unpacker) clear(dir *node, name string) error {
	fd, err := u.tree.dir(dir)
	if err != nil {
		return err
	}
	k := dir.kids[name]
	if k == nil {
		if err := unix.Unlinkat(fd, name, 0); err != unix.ENOENT {
			return err
		}
		return nil
	}
	u.tree.forget(k)
	delete(dir.kids, name)
	u.trashed++
	return unix.Renameat(fd, name, u.trash, strconv.Itoa(u.trashed))
}

func (u *unpacker) placeDir(dir *node, name string, h *tar.Header) error {
	m, err := u.metaOf(h)
	if err != nil {
		return err
	}
	k := dir.kids[name]
	if k == nil {
		k, err = u.mkdir(dir, name)
		if err == unix.EEXIST {
			if err = u.clear(dir, name); err == nil {
				k, err = u.mkdir(dir, name)
			}
		}
		if err != nil {
			return err
		}
	}
	k.meta, k.implied = m, false
	return nil
}

// content is a regular file to be written.
type content struct {
	r      io.Reader
	size   int64
	sparse bool // leave blocks of zeros out
	meta   *dirMeta
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (u *unpacker) regular(dir *node, dirfd int, name string, c content) error {
	if c.size < 0 {
		return invalidf("size is negative")
	}
	if u.out.Bytes += c.size; u.out.Bytes > u.opts.limits.Bytes {
		return &LimitError{What: "bytes", Max: u.opts.limits.Bytes}
	}
	fd, err := openBeneath(dirfd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if c.sparse {
		err = u.fillSparse(fd, c)
	} else {
		err = u.fill(fd, c)
	}
	if err != nil {
		return err
	}
	return u.setFile(file{dir: dir, name: name, fd: fd}, c.meta)
}

// fill writes by plain write(2): an os.File would register each descriptor with the poller.
func (u *unpacker) fill(fd int, c content) error {
	for left := c.size; left > 0; {
		n, err := io.ReadFull(c.r, u.buf[:min(left, int64(len(u.buf)))])
		if err != nil {
			return err
		}
		if err := writeAll(fd, u.buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// fillSparse seeks over zeros, which the reader has put in place of the holes.
func (u *unpacker) fillSparse(fd int, c content) error {
	const block = 4096
	for off := int64(0); off < c.size; {
		n, err := io.ReadFull(c.r, u.buf[:min(c.size-off, block)])
		if err != nil {
			return err
		}
		if !allZero(u.buf[:n]) {
			if _, err := unix.Seek(fd, off, io.SeekStart); err != nil {
				return err
			}
			if err := writeAll(fd, u.buf[:n]); err != nil {
				return err
			}
		}
		if off += int64(n); u.ctx.Err() != nil {
			return u.ctx.Err()
		}
	}
	return unix.Ftruncate(fd, c.size)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (u *unpacker) symlink(dir *node, dirfd int, name, target string, m *dirMeta) error {
	if target == "" {
		return invalidf("link without a target")
	}
	if err := unix.Symlinkat(target, dirfd, name); err != nil {
		return err
	}
	return u.setNode(dir, dirfd, name, m)
}

func (u *unpacker) special(dir *node, dirfd int, name string, kind uint32, m *dirMeta) error {
	if err := unix.Mknodat(dirfd, name, kind|0o600, 0); err != nil {
		return err
	}
	if err := u.setNode(dir, dirfd, name, m); err != nil {
		return err
	}
	return chmodAt(dirfd, name, m.mode)
}

// device makes a device node. Only root of the initial user namespace may; for others it is left out and noted. A
// character device 0:0 would be a whiteout, by which an image could hide a file in ways that a scanner does not see.
func (u *unpacker) device(dir *node, dirfd int, name string, h *tar.Header, m *dirMeta) error {
	kind := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > 0xfff || h.Devminor > 0xfffff {
		return invalidf("device %d:%d: no such number", h.Devmajor, h.Devminor)
	}
	if kind == unix.S_IFCHR && h.Devmajor == 0 && h.Devminor == 0 {
		return invalidf("character device 0:0: a whiteout in disguise")
	}
	err := unix.EPERM
	if u.root {
		err = asErrno(unix.Mknodat(dirfd, name, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))))
	}
	switch err {
	case unix.EPERM:
		u.omit(dir, name, "device")
		u.left[dir.join(name)] = true
		return nil
	case 0:
		if err := u.setNode(dir, dirfd, name, m); err != nil {
			return err
		}
		return chmodAt(dirfd, name, m.mode)
	}
	return err
}

func asErrno(err error) unix.Errno {
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return 0
}

// hardLink links a name to a file of this layer, or to one of the layers below, which is first copied up: a link can't
// reach into another directory tree.
func (u *unpacker) hardLink(dir *node, name string, h *tar.Header) error {
	comps, err := u.split(h.Linkname)
	if err != nil {
		return err
	}
	if len(comps) == 0 {
		return invalidf("hard link to the root")
	}
	last := len(comps) - 1
	to, err := u.walk(comps[:last], makeIfBelow)
	if err != nil {
		return err
	}
	if to == nil {
		return missingf("hard link to %q: not there", shorten(h.Linkname))
	}
	target := comps[last]
	if to == dir && target == name {
		return invalidf("hard link to itself")
	}
	if to.kids[target] != nil {
		return invalidf("hard link to directory %q", shorten(h.Linkname))
	}
	if len(u.left) > 0 && u.left[to.join(target)] {
		u.omit(dir, name, "hard link to a device")
		return u.clear(dir, name)
	}
	if err := u.pullUp(to, target); err != nil {
		return err
	}
	if err := u.clear(dir, name); err != nil {
		return err
	}
	return u.link(to, target, dir, name)
}

func (u *unpacker) link(to *node, target string, dir *node, name string) error {
	from, err := u.tree.dir(to)
	if err != nil {
		return err
	}
	fd, err := u.tree.dir(dir)
	if err != nil {
		return err
	}
	delete(dir.links, name)
	// Without AT_SYMLINK_FOLLOW a link to a symbolic link is one to the link itself.
	return unix.Linkat(from, target, fd, name, 0)
}

// pullUp sees to it that this layer has the target of a hard link.
func (u *unpacker) pullUp(dir *node, name string) error {
	fd, err := u.tree.dir(dir)
	if err != nil {
		return err
	}
	if _, err := lstatAt(fd, name); err != unix.ENOENT {
		return err
	}
	low, ok, err := u.lookBelow(dir, name)
	if err != nil {
		return err
	}
	if !ok {
		return missingf("hard link to %q: not there", shorten(dir.join(name)))
	}
	u.copied[dir.join(name)] = true
	return u.copyUp(dir, name, low)
}

// copyUp copies a file of a layer below.
func (u *unpacker) copyUp(dir *node, name string, low lower) error {
	m, err := u.metaBelow(low, name)
	if err != nil {
		return err
	}
	fd, err := u.tree.dir(dir)
	if err != nil {
		return err
	}
	switch kind := low.st.Mode & unix.S_IFMT; kind {
	case unix.S_IFREG:
		src, err := openBeneath(low.dir, name, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(src), "")
		err = u.regular(dir, fd, name, content{r: f, size: low.st.Size, sparse: low.st.Blocks*512 < low.st.Size, meta: m})
		return errors.Join(err, f.Close())
	case unix.S_IFLNK:
		target, err := readlinkAt(low.dir, name)
		if err != nil {
			return err
		}
		return u.symlink(dir, fd, name, target, m)
	case unix.S_IFIFO:
		return u.special(dir, fd, name, kind, m)
	case unix.S_IFCHR, unix.S_IFBLK:
		h := &tar.Header{Typeflag: tar.TypeChar, Devmajor: int64(unix.Major(low.st.Rdev)), Devminor: int64(unix.Minor(low.st.Rdev))}
		if kind == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		return u.device(dir, fd, name, h, m)
	}
	return invalidf("hard link to directory %q", shorten(name))
}
