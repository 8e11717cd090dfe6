package escape

// What only amd64 has.
const (
	modifyLDT     = 5000
	modifyLDTWant = "ENOSYS"
	modifyLDTBare = "ENOSYS"
	foreignWant   = "ENOSYS"
	foreignBare   = "ENOSYS"
)
