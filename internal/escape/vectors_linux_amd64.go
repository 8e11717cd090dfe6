package escape

import "golang.org/x/sys/unix"

// What only this machine has.
const (
	modifyLDT     = unix.SYS_MODIFY_LDT
	modifyLDTWant = "EPERM"
	modifyLDTBare = "ok|ENOSYS"
	foreignWant   = "SYS"
	foreignBare   = "ok|SEGV"
)
