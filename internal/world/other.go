//go:build !linux

// Package world works on Linux only.
package world
