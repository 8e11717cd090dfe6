package cgroup

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// On v2 a program of type BPF_PROG_TYPE_CGROUP_DEVICE answers each use of a device node with yes or no; one of each
// group above has to say yes, too (cgroup-v2.rst, "Device controller").

// filterName tells ours from those of others on the same cgroup; the kernel takes 15 bytes.
const filterName = "sandbox_devices"

// setDeviceFilter replaces the filter of a directory. The new one is added before the old one goes: in between what both
// allow is allowed. The cgroup keeps the program alive; no descriptor has to.
func setDeviceFilter(h *hierarchy, dir string, list []string) error {
	fd, err := h.openFile(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	old, err := deviceFilters(fd)
	if err != nil {
		return noDeviceFilter(err)
	}
	defer func() {
		for _, p := range old {
			_ = p.Close()
		}
	}()
	if list != nil {
		if err := attachDeviceFilter(fd, parseDevices(list)); err != nil {
			return noDeviceFilter(err)
		}
	}
	for _, p := range old {
		err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: fd, Program: p, Attach: ebpf.AttachCGroupDevice})
		if err != nil {
			return noDeviceFilter(err)
		}
	}
	return nil
}

func noDeviceFilter(err error) error {
	return &UnsupportedError{What: "device limit", Err: err,
		Remedy: "run as root (CAP_BPF and CAP_NET_ADMIN), on a kernel with CONFIG_CGROUP_BPF"}
}

// deviceFilters are those of ours that are attached.
func deviceFilters(dirfd int) (ours []*ebpf.Program, err error) {
	attached, err := link.QueryPrograms(link.QueryOptions{Target: dirfd, Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		return nil, err
	}
	for _, a := range attached.Programs {
		p, err := ebpf.NewProgramFromID(a.ID)
		if errors.Is(err, unix.ENOENT) {
			continue // It is gone.
		}
		if err != nil {
			return nil, err
		}
		info, err := p.Info()
		if err != nil || info.Name != filterName {
			_ = p.Close()
			continue
		}
		ours = append(ours, p)
	}
	return ours, nil
}

func attachDeviceFilter(dirfd int, set deviceSet) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: filterName, Type: ebpf.CGroupDevice,
		Instructions: filterProgram(set), License: "Apache-2.0"})
	if err != nil {
		return err
	}
	defer p.Close()
	return link.RawAttachProgram(link.RawAttachProgramOptions{Target: dirfd, Program: p,
		Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI})
}

// filterProgram returns 1 when one entry allows all of the access that is asked for, as v1 does: an open for reading and
// writing asks for both at once.
func filterProgram(set deviceSet) asm.Instructions {
	// struct bpf_cgroup_dev_ctx: access<<16 | type, major, minor.
	p := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.Mov.Reg32(asm.R3, asm.R2),
		asm.And.Imm32(asm.R2, 0xffff),
		asm.RSh.Imm32(asm.R3, 16),
		asm.LoadMem(asm.R4, asm.R1, 4, asm.Word),
		asm.LoadMem(asm.R5, asm.R1, 8, asm.Word),
	}
	for i, d := range set {
		next := fmt.Sprintf("after%d", i)
		kind := int32(unix.BPF_DEVCG_DEV_CHAR)
		if d.kind == 'b' {
			kind = unix.BPF_DEVCG_DEV_BLOCK
		}
		p = append(p, asm.JNE.Imm(asm.R2, kind, next))
		if d.access != mayAll {
			p = append(p, asm.Mov.Reg32(asm.R0, asm.R3), asm.And.Imm32(asm.R0, int32(d.access)), asm.JNE.Reg(asm.R0, asm.R3, next))
		}
		if d.major != anyNumber {
			p = append(p, asm.JNE.Imm(asm.R4, int32(d.major), next))
		}
		if d.minor != anyNumber {
			p = append(p, asm.JNE.Imm(asm.R5, int32(d.minor), next))
		}
		p = append(p, asm.Mov.Imm32(asm.R0, 1), asm.Return(), asm.Mov.Imm32(asm.R0, 0).WithSymbol(next))
	}
	return append(p, asm.Mov.Imm32(asm.R0, 0), asm.Return())
}
