package rootfs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMountValid(t *testing.T) {
	dir := t.TempDir()
	for name, m := range map[string]Mount{
		"bind":        {Type: Bind, Source: dir, Target: "/src", Writable: true},
		"bind a file": {Type: Bind, Source: "/etc/passwd", Target: "/etc/passwd"},
		"tmpfs":       {Type: Tmpfs, Target: "/out"},
		"tmpfs, all":  {Type: Tmpfs, Target: "/dev/shm", Writable: true, Size: 4096, Inodes: 2, Mode: 0o777 | fs.ModeSticky, UID: 1, GID: 2},
		"large tmpfs": {Type: Tmpfs, Target: "/out", Size: MaxTmpfsSize},
		"empty file":  {Type: File, Target: "/run/secrets/token"},
		"file":        {Type: File, Target: "/proc2", Data: []byte("x"), Mode: 0o400, UID: 4294967294},
		"odd name":    {Type: File, Target: "/\xff\n:,\\ " + strings.Repeat("x", 200)},
	} {
		t.Run(name, func(t *testing.T) { require.NoError(t, m.Validate()) })
	}
}

func TestMountInvalid(t *testing.T) {
	dir := t.TempDir()
	tests := map[string]struct {
		m     Mount
		field string
		kind  error
	}{
		"no type":           {Mount{Target: "/a"}, "Type", fs.ErrInvalid},
		"unknown type":      {Mount{Type: 77, Target: "/a"}, "Type", fs.ErrInvalid},
		"writable image":    {Mount{Type: Image, Source: "v", Target: "/a", Writable: true}, "Writable", fs.ErrInvalid},
		"no image":          {Mount{Type: Image, Target: "/a"}, "Source", fs.ErrInvalid},
		"name of a volume":  {Mount{Type: Volume, Source: "../v", Target: "/a"}, "Source", fs.ErrInvalid},
		"no volume":         {Mount{Type: Volume, Target: "/a"}, "Source", fs.ErrInvalid},
		"no target":         {Mount{Type: Tmpfs}, "Target", fs.ErrInvalid},
		"relative target":   {Mount{Type: Tmpfs, Target: "a"}, "Target", fs.ErrInvalid},
		"target not clean":  {Mount{Type: Tmpfs, Target: "/a/../b"}, "Target", fs.ErrInvalid},
		"target with slash": {Mount{Type: Tmpfs, Target: "/a/"}, "Target", fs.ErrInvalid},
		"target with NUL":   {Mount{Type: Tmpfs, Target: "/a\x00b"}, "Target", fs.ErrInvalid},
		"root":              {Mount{Type: Tmpfs, Target: "/"}, "Target", fs.ErrInvalid},
		"dev":               {Mount{Type: Tmpfs, Target: "/dev"}, "Target", fs.ErrInvalid},
		"proc":              {Mount{Type: Tmpfs, Target: "/proc"}, "Target", fs.ErrInvalid},
		"below proc":        {Mount{Type: File, Target: "/proc/sys/kernel/core_pattern"}, "Target", fs.ErrInvalid},
		"below sys":         {Mount{Type: Tmpfs, Target: "/sys/fs/cgroup"}, "Target", fs.ErrInvalid},
		"long target":       {Mount{Type: Tmpfs, Target: strings.Repeat("/a", 2048)}, "Target", fs.ErrInvalid},
		"long name":         {Mount{Type: Tmpfs, Target: "/" + strings.Repeat("a", 256)}, "Target", fs.ErrInvalid},
		"no source":         {Mount{Type: Bind, Target: "/a"}, "Source", fs.ErrInvalid},
		"relative source":   {Mount{Type: Bind, Source: "a", Target: "/a"}, "Source", fs.ErrInvalid},
		"NUL in source":     {Mount{Type: Bind, Source: "/\x00", Target: "/a"}, "Source", fs.ErrInvalid},
		"missing source":    {Mount{Type: Bind, Source: filepath.Join(dir, "x"), Target: "/a"}, "Source", fs.ErrNotExist},
		"source of a tmpfs": {Mount{Type: Tmpfs, Source: "/a", Target: "/a"}, "Source", fs.ErrInvalid},
		"source of a file":  {Mount{Type: File, Source: "/a", Target: "/a"}, "Source", fs.ErrInvalid},
		"unknown scope":     {Mount{Type: Tmpfs, Target: "/a", Scope: 9}, "Scope", fs.ErrInvalid},
		"scope of a bind":   {Mount{Type: Bind, Source: dir, Target: "/a", Scope: PerRun}, "Scope", fs.ErrInvalid},
		"negative size":     {Mount{Type: Tmpfs, Target: "/a", Size: -1}, "Size", fs.ErrInvalid},
		"small size":        {Mount{Type: Tmpfs, Target: "/a", Size: 4095}, "Size", fs.ErrInvalid},
		"huge size":         {Mount{Type: Tmpfs, Target: "/a", Size: MaxTmpfsSize + 1}, "Size", fs.ErrInvalid},
		"size of a bind":    {Mount{Type: Bind, Source: dir, Target: "/a", Size: 4096}, "Size", fs.ErrInvalid},
		"one inode":         {Mount{Type: Tmpfs, Target: "/a", Inodes: 1}, "Inodes", fs.ErrInvalid},
		"negative inodes":   {Mount{Type: Tmpfs, Target: "/a", Inodes: -1}, "Inodes", fs.ErrInvalid},
		"huge inodes":       {Mount{Type: Tmpfs, Target: "/a", Inodes: 1 << 62}, "Inodes", fs.ErrInvalid},
		"inodes of a file":  {Mount{Type: File, Target: "/a", Inodes: 5}, "Inodes", fs.ErrInvalid},
		"setuid file":       {Mount{Type: File, Target: "/a", Mode: 0o755 | fs.ModeSetuid}, "Mode", fs.ErrInvalid},
		"sticky file":       {Mount{Type: File, Target: "/a", Mode: 0o755 | fs.ModeSticky}, "Mode", fs.ErrInvalid},
		"octal setuid":      {Mount{Type: Tmpfs, Target: "/a", Mode: 0o4755}, "Mode", fs.ErrInvalid},
		"mode of a bind":    {Mount{Type: Bind, Source: dir, Target: "/a", Mode: 0o755}, "Mode", fs.ErrInvalid},
		"negative uid":      {Mount{Type: File, Target: "/a", UID: -1}, "UID", fs.ErrInvalid},
		"uid -1 as uint32":  {Mount{Type: File, Target: "/a", UID: 1<<32 - 1}, "UID", fs.ErrInvalid},
		"data of a bind":    {Mount{Type: Bind, Source: dir, Target: "/a", Data: []byte("x")}, "Data", fs.ErrInvalid},
		"too much data":     {Mount{Type: File, Target: "/a", Data: make([]byte, MaxFileData+1)}, "Data", fs.ErrInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.m.Validate()
			require.ErrorIs(t, err, test.kind)
			require.Equal(t, []string{test.field}, fields(err), "%v", err)
		})
	}
}

// fields lists the fields that an error names.
func fields(err error) (names []string) {
	switch e := err.(type) {
	case *FieldError:
		return []string{e.Field}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			names = append(names, fields(err)...)
		}
	case interface{ Unwrap() error }:
		return fields(e.Unwrap())
	}
	return names
}

// TestMountAllFaults: all at once, and no secret in the text.
func TestMountAllFaults(t *testing.T) {
	m := Mount{Type: Tmpfs, Source: "s", Target: "t", Size: 1, Inodes: -1, Mode: fs.ModeDir, UID: -1, GID: -1, Data: []byte("hunter2"), Scope: 9}
	err := m.Validate()
	require.Equal(t, []string{"Target", "Source", "Scope", "Size", "Inodes", "Mode", "UID", "GID", "Data"}, fields(err))
	require.NotContains(t, err.Error(), "hunter2")
	require.Contains(t, err.Error(), `Target: "t": not absolute`)
}

func FuzzMountValidate(f *testing.F) {
	f.Add(uint8(Bind), "/etc", "/a", int64(0), uint32(0), []byte(nil))
	f.Add(uint8(Tmpfs), "", "/a/../b", int64(4096), uint32(0o1777), []byte(nil))
	f.Add(uint8(File), "", "//a", int64(-1), uint32(0o4755), []byte("secret"))
	f.Fuzz(func(t *testing.T, kind uint8, source, target string, size int64, mode uint32, data []byte) {
		m := Mount{Type: MountType(kind), Source: source, Target: target, Size: size, Mode: fs.FileMode(mode), Data: data}
		err := m.Validate()
		if err != nil {
			require.NotEmpty(t, fields(err))
			require.True(t, errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) ||
				errors.Is(err, fs.ErrPermission) || m.Type == Bind, "%v", err)
			return
		}
		require.True(t, filepath.IsAbs(target) && filepath.Clean(target) == target && target != "/", "%q", target)
		require.NotContains(t, target+source, "\x00")
		require.Contains(t, []MountType{Bind, Tmpfs, File}, m.Type)
		require.Equal(t, m.Type == Bind, source != "")
		require.True(t, m.Mode&^(0o777|fs.ModeSticky) == 0)
	})
}
