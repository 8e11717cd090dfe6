package image

import (
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// parsePlatform reads "os/arch[/variant]"; "" is the host's. Architectures may have uname's names.
func parsePlatform(s string) (v1.Platform, error) {
	if s == "" {
		return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return v1.Platform{}, invalidf("platform %q: not os/arch[/variant]", s)
	}
	for _, p := range parts {
		if p == "" || strings.ContainsAny(p, " \t\n:,") {
			return v1.Platform{}, invalidf("platform %q: not os/arch[/variant]", s)
		}
	}
	p := v1.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return normalise(p), nil
}

// normalise gives architectures the names that Go and the OCI specification use, and drops a variant that says nothing.
func normalise(p v1.Platform) v1.Platform {
	switch p.Architecture {
	case "x86_64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	}
	if (p.Architecture == "arm64" && p.Variant == "v8") || (p.Architecture == "amd64" && p.Variant == "v1") {
		p.Variant = ""
	}
	return v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

func platformString(p v1.Platform) string {
	p = normalise(p)
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// runs reports whether an image for have is what was asked for: an image that doesn't say fits everything, a missing
// variant in want any variant.
func runs(have, want v1.Platform) bool {
	have = normalise(have)
	return (have.OS == "" || have.OS == want.OS) &&
		(have.Architecture == "" || have.Architecture == want.Architecture) &&
		(want.Variant == "" || have.Variant == "" || have.Variant == want.Variant)
}

// choose picks the manifest for want from an index: the exact variant first, then the first that fits.
func choose(list []v1.Descriptor, want v1.Platform) (v1.Descriptor, error) {
	var have []string
	var fit *v1.Descriptor
	for i, d := range list {
		// Attestations hang in an index as platform unknown/unknown; they are no images.
		if d.Platform == nil || d.Platform.OS == "unknown" {
			continue
		}
		p := normalise(*d.Platform)
		have = append(have, platformString(p))
		if p.OS != want.OS || p.Architecture != want.Architecture {
			continue
		}
		if p.Variant == want.Variant {
			return d, nil
		}
		if want.Variant == "" && fit == nil {
			fit = &list[i]
		}
	}
	if fit != nil {
		return *fit, nil
	}
	return v1.Descriptor{}, &PlatformError{Want: platformString(want), Have: have}
}
