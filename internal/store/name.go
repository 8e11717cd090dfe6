package store

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"strings"
)

const (
	maxName  = 63 // as a hostname's label (RFC 1123), for names become hostnames
	ownerLen = 10 // base32 digits: 50 bits
)

// NewName makes up a name of 12 random base32 digits (60 bits).
func NewName() string { return random(12) }

// CheckName reports, as fs.ErrInvalid, a name that is not of the form [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}. Such names
// are safe as file names, hostnames and parts of cgroup names: none is hidden, "..", or an option.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || !alnum(name[0]) || strings.ContainsFunc(name, func(r rune) bool {
		return r > 127 || !alnum(byte(r)) && !strings.ContainsRune("_.-", r)
	}) {
		return fmt.Errorf("name %q: %w: want [a-zA-Z0-9][a-zA-Z0-9_.-]{0,%d}", name, fs.ErrInvalid, maxName-1)
	}
	return nil
}

func alnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// random returns n lower-case base32 digits, n <= 26.
func random(n int) string { return strings.ToLower(rand.Text()[:n]) }

// validOwner guards against paths in what a damaged record calls its owner.
func validOwner(id string) bool {
	return len(id) == ownerLen && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
