// Package netns gives processes networks, by the Container Network Model. This
// first version has the modes None and Host, and works inside any network
// namespace: Dial and Listen there without moving a thread of the caller's.
//
//	ns, err := netns.New(ctx)                       // a namespace with only lo, which is up
//	l, err := ns.Listen(ctx, "tcp", "localhost:80") // inside it
//	conn, err := ns.Dial(ctx, "tcp", "localhost:80")
//	err = ns.Close()
//
// # Guarantees
//
// No process and no thread is left in a namespace: it is held by a descriptor.
// Sockets are made inside by a short-lived child of the caller and then served
// by Go's poller as any other. Names are never resolved by the caller's
// resolver.
//
// # Not guaranteed
//
// A socket keeps its namespace alive, also after Close.
//
// # Privileges and kernels
//
// New needs CAP_SYS_ADMIN, or the user namespace that will own the network
// namespace. Linux 5.10 or newer.
package netns
