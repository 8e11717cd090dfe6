//go:build linux

// Package world builds the inside of a sandbox, its namespaces and mounts, and
// starts commands in it. Everything is done by children of the embedding
// program that run no Go (package spawn): no thread is moved, and between
// commands no process is left. A World is held by descriptors.
//
// The order of the steps is what keeps it safe, and is explained where each is
// added: build (the World), command (what runs in it).
package world
