//go:build linux

// Package tinyinit is the program that is PID 1 of a command's PID namespace
// where the command itself must not be: PID 1 ignores every signal without a
// handler, its own abort() included, and nobody buries its orphans
// (pid_namespaces(7)). It is a static program of some hundred bytes; its source
// is src/init.c, and the artefacts of both architectures are committed.
package tinyinit
