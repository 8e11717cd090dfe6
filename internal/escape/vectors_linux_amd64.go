package escape

import "golang.org/x/sys/unix"

// ofMachine are those that only this machine has.
var ofMachine = []Vector{
	{Name: "modify_ldt", Args: call(unix.SYS_MODIFY_LDT, "0", "p", "64"), Want: "EPERM", Bare: "ok|ENOSYS", Control: Unfiltered},
	{Name: "i386's calls", Args: []string{"int80"}, Want: "SYS", Bare: "ok|SEGV", Control: Unfiltered},
	{Name: "x32's calls", Args: []string{"x32"}, Want: "SYS", Bare: "ENOSYS|ok", Control: Unfiltered},
}
