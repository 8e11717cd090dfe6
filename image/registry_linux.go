package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registry reads one repository by the OCI distribution protocol.
type registry struct {
	ref    name.Reference
	conns  *http.Transport
	client *http.Client
}

// openRegistry asks the registry how it wants to be spoken to, and gets a token if need be.
func openRegistry(ctx context.Context, r Reference, o PullOptions) (source, error) {
	ref := r.ref
	if o.Insecure {
		insecure, err := name.ParseReference(ref.Name(), name.Insecure)
		if err != nil {
			return nil, invalidf("%v", err)
		}
		ref = insecure
	}
	conns := newTransport()
	rt := asRoundTripper(conns, o.Insecure)
	repo := ref.Context()
	client, err := authorize(ctx, repo, o.Keychain, rt)
	if err != nil {
		conns.CloseIdleConnections()
		return nil, registryError(err)
	}
	return &registry{ref: ref, conns: conns, client: client}, nil
}

func asRoundTripper(conns *http.Transport, insecure bool) http.RoundTripper {
	if insecure {
		return retry{conns}
	}
	return httpsOnly{retry{conns}}
}

func authorize(ctx context.Context, repo name.Repository, keys authn.Keychain, rt http.RoundTripper) (*http.Client, error) {
	if keys == nil {
		keys = authn.DefaultKeychain
	}
	auth, err := authn.Resolve(ctx, keys, repo)
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	rt, err = transport.NewWithContext(ctx, repo.Registry, auth, rt, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: rt, CheckRedirect: checkRedirect}, nil
}

func (r *registry) close() error {
	r.conns.CloseIdleConnections()
	return nil
}

func (r *registry) url(kind, id string) url.URL {
	repo := r.ref.Context()
	return url.URL{Scheme: repo.Scheme(), Host: repo.RegistryStr(), Path: fmt.Sprintf("/v2/%s/%s/%s", repo.RepositoryStr(), kind, id)}
}

func (r *registry) top(ctx context.Context, _ v1.Platform) (document, error) {
	data, err := r.manifest(ctx, r.ref.Identifier())
	if err != nil {
		return document{}, err
	}
	if d, ok := r.ref.(name.Digest); ok {
		h, err := v1.NewHash(d.DigestStr())
		if err != nil {
			return document{}, invalidf("%v", err)
		}
		return document{data, h}, verifyBytes(data, h)
	}
	return newDocument(data)
}

func (r *registry) child(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	return r.manifest(ctx, d.Digest.String())
}

func (r *registry) manifest(ctx context.Context, id string) ([]byte, error) {
	u := r.url("manifests", id)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", strings.Join([]string{
		string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
	}, ","))
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp)
	}
	return readLimited(resp.Body)
}

// blob begins a download. Layers that are hosted elsewhere (urls of a descriptor) are taken from the registry or not at all.
func (r *registry) blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	dl := &download{ctx: ctx, client: r.client, url: r.url("blobs", d.Digest.String())}
	if err := dl.open(); err != nil {
		return nil, err
	}
	return dl, nil
}

// statusError reads what the registry has to say; an answer of 200 where none is wanted is an error too.
func statusError(resp *http.Response) error {
	if err := transport.CheckError(resp); err != nil {
		return registryError(err)
	}
	return fmt.Errorf("unexpected status %d", resp.StatusCode)
}
