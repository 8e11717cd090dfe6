//go:build !linux

// Package spawn works on Linux only.
package spawn
