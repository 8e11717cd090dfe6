//go:build linux

// Package vmtest runs test binaries of this module in guests: machines with another kernel, another way to have cgroups
// or another processor, which qemu emulates without hardware support (TCG), some twenty times slower than the host.
//
// The kernel and what else a guest needs are Debian's packages, fetched once from where this machine gets its own and
// kept in the user's cache directory. The guest's init (command init) does what its plan (package plan) says: loads
// modules, makes a disk the root, mounts cgroups, and runs the test binaries one after the other, as root; what they
// print comes back over a serial line and becomes subtests of the host's test.
//
// `make test` has a guest with cgroup v2 only, `make matrix` those of several kernels, `make arm64` one for arm64.
package vmtest
