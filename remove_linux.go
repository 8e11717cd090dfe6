package sandbox

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/seed-5a9fb6e0/sandbox/internal/world"
	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

// removeUpper removes what a sandbox wrote, when nothing runs in it any more.
// What belongs to an ordinary user's subordinate ids is removed from inside of a
// user namespace that has them: after a crash the sandbox's own is gone.
func removeUpper(ctx context.Context, dir string) error {
	err := rootfs.Remove(ctx, dir)
	if !errors.Is(err, fs.ErrPermission) || os.Geteuid() == 0 || !world.HaveMapHelpers() {
		return err
	}
	ids, idErr := subordinate()
	if idErr != nil || ids.UIDs == nil {
		return errors.Join(err, idErr)
	}
	ns, nsErr := world.NewNamespaces(ctx, ids, false)
	if nsErr != nil {
		return errors.Join(err, nsErr)
	}
	defer ns.Close()
	if err := world.Yield(ctx, ns, dir); err != nil {
		return err
	}
	return rootfs.Remove(ctx, dir)
}
