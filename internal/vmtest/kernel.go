//go:build linux

package vmtest

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A kernel is one of Debian's: its image and its modules, by name as `lsmod` shows it.
type kernel struct {
	image   string
	modules map[string]string
}

// kernel returns the one that a meta package ("linux-image-cloud-amd64") depends on.
func (d *debian) kernel(meta string) (*kernel, error) {
	dir, err := d.unpacked(meta, true)
	if err != nil {
		return nil, err
	}
	images, err := filepath.Glob(dir + "/boot/vmlinuz-*")
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("%s: %d kernel images (%v)", dir, len(images), err)
	}
	k := &kernel{images[0], map[string]string{}}
	return k, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(e.Name(), ".ko"); err == nil && ok && e.Type().IsRegular() {
			k.modules[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
}

// A module is the file of one, as the kernel loads it.
type module struct {
	name string
	data []byte
}

// load returns the modules that are asked for, each behind those that it depends on. One that the kernel has built in,
// or has not, is left out: a test that needs it tells.
func (k *kernel) load(names []string) ([]module, error) {
	var all []module
	seen := map[string]bool{}
	var add func(name string) error
	add = func(name string) error {
		path, ok := k.modules[name]
		if !ok || seen[name] {
			return nil
		}
		seen[name] = true
		data, err := readModule(path)
		if err != nil {
			return err
		}
		needs, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, need := range needs {
			if err := add(need); err != nil {
				return err
			}
		}
		all = append(all, module{name, data})
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readModule reads a file that newer releases compress.
func readModule(path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".xz") {
		return os.ReadFile(path)
	}
	data, err := exec.Command("xz", "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("xz -dc %s: %w", path, err)
	}
	return data, nil
}

// dependencies are those that modpost wrote into the module (scripts/mod/modpost.c, add_depends).
func dependencies(data []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok {
			return strings.FieldsFunc(string(list), func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}
