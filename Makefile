# The checks of this module. `make test` is the one that a change must pass; .ci/run runs it and the rest.
SHELL     := /bin/bash
GO        ?= go
PKG       ?= ./...
TIMEOUT   ?= 15m
FUZZTIME  ?= 10s
SUMMARY   ?=
# As root the leak check compares the whole machine, so the packages run one after the other.
JOBS      := $(if $(filter 0,$(shell id -u)),1,$(shell nproc))
GOTEST    := $(GO) run ./internal/testenv/gotest -skips .ci/skips $(if $(SUMMARY),-summary $(SUMMARY)) -- -p $(JOBS) -timeout $(TIMEOUT)
TOOL      := $(GO) tool -modfile=internal/tools/go.mod

.PHONY: test race bench soak arm64 matrix lint fuzz deps
# Unit, root, ordinary-user and integration tests. As an ordinary user what needs root skips, as .ci/skips lists.
test: deps
	$(GOTEST) $(PKG)

# The same under the race detector.
race: deps
	$(GOTEST) -race $(PKG)

# Our figures beside those of os/exec and of the peers that are installed.
bench: deps
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)
	$(GO) run ./internal/bench spawn
	$(GO) run ./internal/bench limits
	$(GO) run ./internal/bench accuracy

# The long ones: TestSoak… in files with the build tag soak.
soak:
	@bash scripts/deps stress-ng
	$(GOTEST) -count=1 -timeout 2h -tags soak -run '^TestSoak' $(PKG)

# The tests of internal/spawn on an emulated arm64 machine with a Debian kernel (TCG: no KVM).
arm64:
	@bash scripts/deps qemu-system-arm
	$(GO) test -count=1 -tags guest -run '^TestSpawnOnArm64$$' -v ./internal/vmtest

# The suites of cgroup and of the root package on kernels 5.10 and 6.1 with cgroup v1, v2 and both, and on 6.12 with v2,
# emulated: some eight minutes each. KIND= picks some by a pattern: KIND='6.1 v2', KIND='6.1 v2/cgroup/TestMemory'.
KIND      ?= .
matrix: deps
	$(GO) test -count=1 -tags matrix -timeout 6h -run '^TestMatrix$$/$(KIND)' -v ./internal/vmtest

lint:
	@out=$$(gofmt -l .) && test -z "$$out" || { echo "gofmt -w these:"; echo "$$out"; exit 1; }
	$(GO) vet $(PKG)
	$(TOOL) staticcheck $(PKG)

# Every fuzz target for FUZZTIME.
fuzz:
	FUZZTIME=$(FUZZTIME) bash scripts/fuzz

deps:
	@bash scripts/deps
