//go:build linux

package vmtest

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
)

// A file of an initramfs: exactly one of Data and Link, or neither for a directory.
type file struct {
	mode fs.FileMode // permission bits
	data []byte
	link string // the target of a symbolic link
}

// writeInitramfs writes files, by their names without a leading slash, as the kernel takes an initramfs (its
// Documentation/driver-api/early-userspace/buffer-format.rst, "newc"). Directories above them are made.
func writeInitramfs(w io.Writer, files map[string]file) error {
	all := map[string]file{}
	for name, f := range files {
		all[name] = f
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			all[dir] = file{mode: fs.ModeDir | 0o755}
		}
	}
	for i, name := range slices.Sorted(maps.Keys(all)) { // a directory comes before what is in it
		if err := writeEntry(w, i+1, name, all[name]); err != nil {
			return err
		}
	}
	return writeEntry(w, 0, "TRAILER!!!", file{})
}

func writeEntry(w io.Writer, inode int, name string, f file) error {
	const dir, regular, symlink = 0o040000, 0o100000, 0o120000
	mode, data := regular|uint32(f.mode.Perm()), f.data
	switch {
	case f.mode.IsDir():
		mode = dir | uint32(f.mode.Perm())
	case f.link != "":
		mode, data = symlink|0o777, []byte(f.link)
	}
	head := "070701"
	for _, v := range []uint32{uint32(inode), mode, 0, 0, 1, 0, uint32(len(data)), 0, 0, 0, 0, uint32(len(name) + 1), 0} {
		head += fmt.Sprintf("%08X", v)
	}
	for _, b := range [][]byte{padded([]byte(head + name + "\x00")), padded(data)} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// padded fills b up to a multiple of four bytes.
func padded(b []byte) []byte {
	return append(slices.Clip(b), make([]byte, -len(b)&3)...)
}
