// Package store is the crash-only state of sandboxes: a plain directory for what must survive a reboot, and small
// records of the live sandboxes on tmpfs. There is no server and no database; several programs share a store.
//
//	s, err := store.Open("")                          // the default store
//	b, err := s.Block(ctx)                            // root: 65,536 ids that no other live sandbox has
//	e, err := s.Create(store.Record{Block: b.Base()}) // before anything is made in the kernel
//	...                                               // make, use and remove mounts, cgroups, files
//	err = e.Remove()                                  // last
//	b.Release()
//	err = s.Close()
//
// # How a crash is noticed
//
// A handle has an owner id and holds an flock(2) on the file of that name for its life. The kernel drops the lock
// when the last descriptor of that open file is gone, however the program ended. A record names its owner, so
// a record whose owner's lock can be taken belongs to a dead program, and [Store.Recover] cleans up after it. A child
// of the program has a copy of the descriptor until it execs or closes it: for so long the owner seems to live.
//
// # Files
//
//	DIR/version              format of the store
//	DIR/run                  ordinary user: symlink to RUN, or RUN itself
//	DIR/{blobs,layers,…}     made by their users through Sub
//	RUN/owners/OWNER         empty, locked as long as the handle is open
//	RUN/live/NAME            one record, JSON, replaced only as a whole
//	RUN/live/.OWNER.N        a record being written; garbage once OWNER is dead
//	RUN/../ids/N             symlink to RUN/owners/OWNER: block N of ids is taken
//
// KEY is a hash of the store's real path. RUN is /run/sandbox/KEY for root, /dev/shm/sandbox-0/KEY where /run is not
// on tmpfs. For an ordinary user it is sandbox/KEY in the first of $XDG_RUNTIME_DIR, /run/user/UID and
// /dev/shm/sandbox-UID that can be had, else DIR/run. DIR/run remembers the choice, so that
// two programs of one user meet although their environments differ.
//
// # Guarantees
//
// A reader never sees half a record. Of several programs that create one name, one wins. After a SIGKILL between
// any two system calls, the next Recover of any program leaves nothing of the dead one, provided that its
// cleaner succeeds. Records of living owners, corrupt files and files of newer versions are never touched.
// Recover may run in several programs at once: a record is cleaned by one of them at a time, the others wait.
//
// # Not guaranteed
//
// Records are not synced: they describe kernel objects, which a power cut ends too. Where RUN is not on tmpfs they
// may come back after a reboot; their owners are dead then and Recover cleans them. flock must work between the
// programs, so a store on a network file system is for one machine at a time. Programs that see different /run
// directories (containers) don't see each other's claims of ids; each begins to look at a random place.
//
// # Privileges and kernels
//
// Any user; id blocks are for root. Linux 3.15 (renameat2(2)), with a fallback to link(2) for file systems without it.
//
// Locks within a process, in order: Entry.mu, Store.mu, Store.blocks.mu.
package store
