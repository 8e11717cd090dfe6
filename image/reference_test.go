package image

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseReference(t *testing.T) {
	wd, err := os.Getwd()
	require.NoError(t, err)
	hash := "sha256:" + strings.Repeat("ab", 32)
	for in, want := range map[string]string{
		"alpine":                           "docker.io/library/alpine:latest",
		"alpine:3.20":                      "docker.io/library/alpine:3.20",
		"docker.io/alpine":                 "docker.io/library/alpine:latest",
		"index.docker.io/library/alpine":   "docker.io/library/alpine:latest",
		"user/app":                         "docker.io/user/app:latest",
		"localhost/app":                    "localhost/app:latest",
		"localhost:5000/app":               "localhost:5000/app:latest",
		"localhost:5000/a/b/c:v1.2_3-x":    "localhost:5000/a/b/c:v1.2_3-x",
		"example.test/app@" + hash:         "example.test/app@" + hash,
		"example.test/app:ignored@" + hash: "example.test/app@" + hash,
		"[::1]:5000/app":                   "[::1]:5000/app:latest",
		"a--b/c__d/e.f":                    "docker.io/a--b/c__d/e.f:latest",
		"oci:layout":                       "oci:" + wd + "/layout",
		"oci:/l/../m:tag":                  "oci:/m:tag",
		"oci:/l:a/b@c":                     "oci:/l:a/b@c",
		"oci-archive:/f.tar":               "oci-archive:/f.tar",
		"docker-archive:/f.tar":            "docker-archive:/f.tar",
		"docker-archive:/f.tar:app:1":      "docker-archive:/f.tar:docker.io/library/app:1",
	} {
		r, err := ParseReference(in)
		require.NoError(t, err, in)
		require.Equal(t, want, r.String())
		again, err := ParseReference(want)
		require.NoError(t, err, want)
		require.Equal(t, want, again.String())
	}
	for _, bad := range []string{
		"", " ", "A", "a b", "a//b", "/a", "-a", "a:", "a:b:c", "a:" + strings.Repeat("x", 129), "a:.x", "a@b", "a@sha256:1", "a@md5:" + strings.Repeat("a", 32),
		"https://example.test/app", "a:@" + hash, "x/" + strings.Repeat("y", 256), strings.Repeat("ab", 32), "a\x00b", "oci:", "oci::tag", "oci:dir:", "docker-archive:/f:B", "a/b/../c", "user@host/app",
	} {
		_, err := ParseReference(bad)
		require.ErrorIs(t, err, fs.ErrInvalid, "%q", bad)
		var e *Error
		require.ErrorAs(t, err, &e)
	}
}

// FuzzReference: no input panics, and what is accepted is normalised once and for all.
func FuzzReference(f *testing.F) {
	for _, s := range []string{"alpine:3.20", "localhost:5000/a@sha256:" + strings.Repeat("0", 64), "oci:d:t", "docker-archive:f:a/b:c", "[::1]:1/a", "a/b/c", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			if !errors.Is(err, fs.ErrInvalid) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		again, err := ParseReference(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%q became %q, and that %q: %v", s, r, again, err)
		}
	})
}
