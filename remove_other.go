//go:build !linux

package sandbox

import (
	"context"

	"github.com/seed-5a9fb6e0/sandbox/rootfs"
)

func removeUpper(ctx context.Context, dir string) error { return rootfs.Remove(ctx, dir) }
