//go:build linux

// Package vmtest runs test binaries in a guest with another kernel, or for another processor, under qemu without
// hardware support (TCG). Only tests use it, each behind a build tag of its own: `make arm64`.
package vmtest
