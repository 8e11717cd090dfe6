//go:build linux

// Package tinyinit has the two programs that stand beside commands, static ones
// of some hundred bytes; their sources are src/init.c and src/guard.c, and the
// artefacts of both architectures are committed.
//
// The init is PID 1 of a command's PID namespace where the command itself must not
// be: PID 1 ignores every signal without a handler, its own abort() included, and
// nobody buries its orphans (pid_namespaces(7)).
//
// The guard, one for each embedding program, outlives that for a moment, in which it
// kills commands that are PID 1 themselves: they can rid themselves of
// PR_SET_PDEATHSIG, by which the kernel would.
package tinyinit
