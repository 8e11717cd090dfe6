package store

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSubIDs(t *testing.T) {
	etc := t.TempDir()
	put := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644))
	}
	uids, gids, err := subIDs(etc, 1000)
	require.NoError(t, err, "files that aren't there")
	require.Empty(t, uids)
	require.Empty(t, gids)
	put("passwd", "root:x:0:0::/:\nann:x:1000:1000::/:\nalso:x:1000:1000::/:\nbob:x:1001:1000::/:\n+::::::\nshort:x\n")
	put("subuid", "# ann:1:1\nbob:1:5\nann:100000:65536\n1000:300000:10\nalso:1:2\n\nann:x:1\nann:1\nann:1:0\nann:-1:5\nann:4294967295:1\nann:4294967290:5\nann:5:6:7\n:1:1\n ann:1:1")
	put("subgid", "ann:200000:65536\r\nann:200000:1")
	uids, gids, err = subIDs(etc, 1000)
	require.NoError(t, err)
	require.Equal(t, []IDRange{{100000, 65536}, {300000, 10}, {1, 2}, {4294967290, 5}}, uids)
	require.Equal(t, []IDRange{{200000, 1}}, gids)
	uids, _, err = subIDs(etc, 1001)
	require.NoError(t, err)
	require.Equal(t, []IDRange{{1, 5}}, uids)
	uids, _, err = subIDs(etc, 7)
	require.NoError(t, err)
	require.Empty(t, uids)
	require.NoError(t, os.Remove(filepath.Join(etc, "subgid")))
	require.NoError(t, os.Mkdir(filepath.Join(etc, "subgid"), 0o755))
	_, _, err = subIDs(etc, 7)
	require.ErrorContains(t, err, filepath.Join(etc, "subgid"))
}

func FuzzSubIDs(f *testing.F) {
	f.Add([]byte("ann:100000:65536\n1000:4294967290:5\n#x:1:1\nann:1:0\n"), "ann")
	f.Add([]byte("a:0:4294967295\n:::\n"), "a")
	f.Fuzz(func(t *testing.T, b []byte, who string) {
		all := parseSubIDs(b)
		for _, r := range all {
			if r.Count == 0 || uint64(r.First)+uint64(r.Count) > math.MaxUint32 {
				t.Errorf("range %v", r)
			}
			if !(idRanges{r}).meets(r.First, 1) || !(idRanges{r}).meets(r.First+r.Count-1, 1) {
				t.Errorf("range %v does not meet its ends", r)
			}
		}
		if his := parseSubIDs(b, who); len(his) > len(all) {
			t.Errorf("%v has more than all, %v", his, all)
		}
		for _, name := range namesOf(b, 1) {
			if name == "" {
				t.Error("empty name")
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"a","owner":"aaaaaaaaaa","created":"2026-01-02T03:04:05Z","block":524288,"upper":"/u"}`), "a")
	f.Add([]byte(`{"version":2}`), "a")
	f.Add([]byte(`{"version":1,"name":"../a","owner":"../../etc"}`), "../a")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		r, err := decode(b, name)
		if err != nil {
			return
		}
		if r.Name != name || !validOwner(r.Owner) || r.Version != Version || CheckName(r.Name) != nil || r.Block != 0 && !validBlock(r.Block) {
			t.Fatalf("accepted %+v", r)
		}
		again, err := r.encode()
		if err != nil {
			return // larger than it was, by escapes
		}
		r2, err := decode(again, name)
		require.NoError(t, err)
		require.Equal(t, r.Created.UnixNano(), r2.Created.UnixNano())
		r.Created = r2.Created
		if len(r.Labels) == 0 {
			r.Labels, r2.Labels = nil, nil
		}
		require.Equal(t, r, r2)
	})
}
