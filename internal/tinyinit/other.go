//go:build !linux

// Package tinyinit works on Linux only.
package tinyinit
