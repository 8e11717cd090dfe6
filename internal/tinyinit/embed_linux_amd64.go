package tinyinit

import _ "embed"

var (
	//go:embed init_amd64
	initProgram []byte
	//go:embed guard_amd64
	guardProgram []byte
)
