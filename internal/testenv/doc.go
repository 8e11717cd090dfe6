//go:build unix

// Package testenv is what the tests of this module stand on: it finds what they leave behind on the machine, runs them
// as root and as an ordinary user, and builds the helper programs that they run. Only tests import it.
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestRun(t *testing.T) {
//		testenv.RootAndUser(t, func(t *testing.T) {
//			testenv.Leaks(t)
//			…
//		})
//	}
//
// # Whose is it?
//
// Other programs, other tests among them, change the machine at the same time. Descriptors, goroutines and the namespaces
// of threads are the test process's own. A process is ours when it descends from the test process or carries its mark in
// the environment. Everything else that is new (mounts, cgroups, links, nft tables, files, orphans in namespaces that
// were not there before) could be another test run's: each run holds a shared lock on a file in the temporary
// directory, and such a thing is blamed on the package only when it is still there after the other runs ended.
//
// # What is not found
//
// Threads (Go keeps those that it made; see [Threads]); a namespace that only a descriptor of another process holds;
// memory.
package testenv
