package image

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// kind is where a reference points.
type kind int

const (
	kindRegistry      kind = iota
	kindLayout             // oci:DIR[:TAG]
	kindLayoutArchive      // oci-archive:FILE[:TAG]
	kindDockerArchive      // docker-archive:FILE[:REF]
)

var kindPrefixes = [...]struct {
	prefix string
	kind   kind
}{
	{"oci:", kindLayout},
	{"oci-archive:", kindLayoutArchive},
	{"docker-archive:", kindDockerArchive},
}

// The grammar of distribution/reference, which Docker and every registry apply; the parser of go-containerregistry
// alone lets "a//b" and "-a" pass.
var (
	pathGrammar = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagGrammar  = regexp.MustCompile(`^\w[\w.-]{0,127}$`)
	idGrammar   = regexp.MustCompile(`^[a-f0-9]{64}$`)
)

// Reference is a parsed and normalised image reference. Compare and store it by its String.
type Reference struct {
	kind kind
	file string         // archive or layout; absolute, clean
	tag  string         // in a layout; "" for none
	ref  name.Reference // registry; in a docker-archive nil for none
}

// ParseReference parses a reference without looking anything up. The forms are
//
//	alpine, alpine:3.20, localhost:5000/app@sha256:…   in a registry, normalised as Docker does: the host is docker.io
//	                                                   unless the first part has a dot, a colon or is "localhost",
//	                                                   the tag "latest"; a tag beside a digest is ignored
//	oci:DIR[:TAG]                                      an OCI image layout
//	oci-archive:FILE[:TAG]                             the same in a tar file
//	docker-archive:FILE[:REF]                          what docker save writes; REF as in a registry
//
// As with skopeo, a path ends at the first colon. A relative path is taken from the current directory. A malformed
// reference gives an *Error that is fs.ErrInvalid.
func ParseReference(s string) (Reference, error) {
	r, err := parseReference(s)
	if err != nil {
		return Reference{}, &Error{Op: "parse reference", Object: shorten(s), Err: err}
	}
	return r, nil
}

func parseReference(s string) (Reference, error) {
	if strings.ContainsRune(s, 0) {
		return Reference{}, invalidf("NUL byte")
	}
	for _, k := range kindPrefixes {
		if rest, ok := strings.CutPrefix(s, k.prefix); ok {
			return parseFile(k.kind, rest)
		}
	}
	ref, err := parseName(s)
	return Reference{kind: kindRegistry, ref: ref}, err
}

func parseFile(k kind, s string) (Reference, error) {
	file, tag, tagged := strings.Cut(s, ":")
	switch {
	case file == "":
		return Reference{}, invalidf("path is empty")
	case tagged && tag == "":
		return Reference{}, invalidf("name after the path is empty")
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return Reference{}, err
	}
	r := Reference{kind: k, file: abs}
	switch {
	case !tagged:
		return r, nil
	case k == kindDockerArchive:
		r.ref, err = parseName(tag)
		return r, err
	case len(tag) > 255 || strings.ContainsAny(tag, "\n\t "):
		return Reference{}, invalidf("tag %q: not a tag", shorten(tag))
	}
	r.tag = tag
	return r, nil
}

func parseName(s string) (name.Reference, error) {
	if s == "" {
		return nil, invalidf("reference is empty")
	}
	if idGrammar.MatchString(s) {
		return nil, invalidf("an image id is not a name")
	}
	ref, err := name.ParseReference(s)
	if err != nil {
		return nil, invalidf("%v", err)
	}
	repo := ref.Context()
	switch {
	case !pathGrammar.MatchString(repo.RepositoryStr()) || len(repo.RepositoryStr()) > 255:
		return nil, invalidf("repository %q: not a repository name", repo.RepositoryStr())
	case repo.RegistryStr() == "" || strings.ContainsAny(repo.RegistryStr(), "@ %"):
		return nil, invalidf("registry %q: not a host", repo.RegistryStr())
	}
	if t, ok := ref.(name.Tag); ok && !tagGrammar.MatchString(t.TagStr()) {
		return nil, invalidf("tag %q: not a tag", t.TagStr())
	}
	if d, ok := ref.(name.Digest); ok {
		return repo.Digest(d.DigestStr()), checkTagBeside(s)
	}
	return ref, nil
}

// checkTagBeside looks at the tag of "name:tag@digest", which go-containerregistry drops unseen.
func checkTagBeside(s string) error {
	base, _, _ := strings.Cut(s, "@")
	if i := strings.LastIndexByte(base, ':'); i > strings.LastIndexByte(base, '/') && !tagGrammar.MatchString(base[i+1:]) {
		return invalidf("tag %q: not a tag", base[i+1:])
	}
	return nil
}

// String is the normalised form, which ParseReference understands: "docker.io/library/alpine:3.20".
func (r Reference) String() string {
	s := ""
	for _, k := range kindPrefixes {
		if k.kind == r.kind {
			s = k.prefix + r.file
		}
	}
	switch {
	case r.ref != nil && s != "":
		return s + ":" + familiar(r.ref)
	case r.ref != nil:
		return familiar(r.ref)
	case r.tag != "":
		return s + ":" + r.tag
	}
	return s
}

// familiar writes Docker Hub's host as people do.
func familiar(r name.Reference) string {
	return strings.Replace(r.Name(), name.DefaultRegistry+"/", "docker.io/", 1)
}
