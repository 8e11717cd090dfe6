package store

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
)

// IDRange is Count ids from First on. Count is at least 1 and no id is 4294967295, which means "none" to the kernel.
type IDRange struct{ First, Count uint32 }

// SubIDs returns the subordinate user and group ids that newuidmap(1) and newgidmap(1) let a user map: those of
// /etc/subuid and /etc/subgid, by his name in /etc/passwd or by number (subuid(5)). None is no error. Lines that are not
// of the form NAME:FIRST:COUNT are passed over, as those programs do: one user's line is not another's fault.
// Ranges that come from a directory service ("subid:" in nsswitch.conf) are not seen.
func SubIDs(uid uint32) (uids, gids []IDRange, err error) { return subIDs("/etc", uid) }

func subIDs(etc string, uid uint32) (uids, gids []IDRange, err error) {
	passwd, err := readEtc(etc, "passwd")
	if err != nil {
		return nil, nil, err
	}
	who := append(namesOf(passwd, uid), strconv.FormatUint(uint64(uid), 10))
	subuid, err := readEtc(etc, "subuid")
	if err != nil {
		return nil, nil, err
	}
	subgid, err := readEtc(etc, "subgid")
	if err != nil {
		return nil, nil, err
	}
	return parseSubIDs(subuid, who...), parseSubIDs(subgid, who...), nil
}

// readEtc reads a file that need not be there.
func readEtc(etc, name string) ([]byte, error) {
	path := filepath.Join(etc, name)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fail("read ids", path, err)
	}
	return b, nil
}

// parseSubIDs returns the ranges of those whom who names; of all when it names nobody.
func parseSubIDs(b []byte, who ...string) []IDRange {
	var ranges []IDRange
	for line := range bytes.Lines(b) {
		f := bytes.Split(bytes.TrimSuffix(line, []byte("\n")), []byte(":"))
		if len(f) != 3 || len(f[0]) == 0 || f[0][0] == '#' || !among(who, f[0]) {
			continue
		}
		first, ok1 := parseID(f[1])
		count, ok2 := parseID(f[2])
		if ok1 && ok2 && count > 0 && uint64(first)+uint64(count) <= math.MaxUint32 {
			ranges = append(ranges, IDRange{First: first, Count: count})
		}
	}
	return ranges
}

func among(names []string, b []byte) bool {
	for _, n := range names {
		if n == string(b) {
			return true
		}
	}
	return len(names) == 0
}

func parseID(b []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err == nil
}

// namesOf returns the users with that id in a passwd(5) file.
func namesOf(passwd []byte, uid uint32) []string {
	var names []string
	for line := range bytes.Lines(passwd) {
		if name, id, ok := account(line); ok && id == uid {
			names = append(names, name)
		}
	}
	return names
}

// account reads a line of passwd(5) or group(5): both begin NAME:PASSWORD:ID.
func account(line []byte) (name string, id uint32, ok bool) {
	f := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(":"), 4)
	if len(f) < 3 || len(f[0]) == 0 {
		return "", 0, false
	}
	id, ok = parseID(f[2])
	return string(f[0]), id, ok
}

// idRanges are ids that others use.
type idRanges []IDRange

// meets says whether one of the ids is among the count from first on.
func (rs idRanges) meets(first, count uint32) bool {
	for _, r := range rs {
		if uint64(first) < uint64(r.First)+uint64(r.Count) && uint64(r.First) < uint64(first)+uint64(count) {
			return true
		}
	}
	return false
}

// readReserved returns the ids from FirstID to LastID that the machine's files give to somebody.
func readReserved(etc string) (idRanges, error) {
	var all idRanges
	for _, name := range []string{"subuid", "subgid", "passwd", "group"} {
		b, err := readEtc(etc, name)
		if err != nil {
			return nil, err
		}
		if name == "subuid" || name == "subgid" {
			all = append(all, parseSubIDs(b)...)
			continue
		}
		for line := range bytes.Lines(b) {
			if _, id, ok := account(line); ok {
				all = append(all, IDRange{First: id, Count: 1})
			}
		}
	}
	var in idRanges
	for _, r := range all {
		if (idRanges{r}).meets(FirstID, LastID-FirstID+1) {
			in = append(in, r)
		}
	}
	return in, nil
}
