package tinyinit

import _ "embed"

var (
	//go:embed init_arm64
	initProgram []byte
	//go:embed guard_arm64
	guardProgram []byte
)
