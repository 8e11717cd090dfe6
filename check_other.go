//go:build !linux

package sandbox

// landlockFeatures is Linux's.
func landlockFeatures(int) []Feature { return nil }
