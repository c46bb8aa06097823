# What there is to do here. `make help` lists it. Everything but the e2e targets works without root and without ZFS.

GO      ?= go
BIN     := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)

# How long each fuzz target runs.
FUZZTIME ?= 30s
# Random programs that make model runs, or 0 for as many as fit into MODEL_SECONDS, and the first one's seed; none is a new one.
PROGRAMS ?= 2000
SEED     ?=
# How long make test runs random programs.
MODEL_SECONDS ?= 60
# Runs of each way to send that bench-transport takes the median of.
ROUNDS   ?= 5
# Which chapters of the end-to-end stories to tell, as go test -run takes it: create|sync. Later ones need earlier ones.
E2E      ?= .
# The race detector needs a C compiler; without one the tests run without it. The binary that is shipped has no C in it.
RACE      ?= $(if $(shell command -v gcc),-race)
# Six tests of a package at once: most of their time they wait.
TESTFLAGS ?= $(RACE) -shuffle=on -timeout 60m -parallel 6

.DEFAULT_GOAL := help

.PHONY: build
build: ## build bin/hoody-agent, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/hoody-agent ./cmd/hoody-agent

# A tag vX.Y.Z names a release; what comes after it is later than it, and before the first one there is only the date.
DEB_VERSION ?= $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/' | grep . || \
	git log -1 --date=format:%Y%m%d%H%M%S --format=0.0.0+%cd.%h)
DEB_ARCH    ?= $(shell $(GO) env GOARCH)
export DEB_VERSION DEB_ARCH

.PHONY: deb
deb: build ## build bin/hoody-agent_VERSION_ARCH.deb
	rm -rf $(BIN)/package $(BIN)/hoody-agent_*.deb
	$(BIN)/hoody-agent documentation $(BIN)/package
	printf 'hoody-agent (%s) unstable; urgency=medium\n\n  * Built from %s.\n\n -- %s  %s\n' '$(DEB_VERSION)' "$$(git rev-parse HEAD)" \
		"$$(sed -n 's/^maintainer: //p' packaging/nfpm.yaml)" "$$(git log -1 --format=%cD)" >$(BIN)/package/changelog
	gzip -9n $(BIN)/package/man/*.8 $(BIN)/package/changelog
	$(GO) tool -modfile=packaging/tools/go.mod nfpm package --config packaging/nfpm.yaml --packager deb --target $(BIN)/

.PHONY: test
test: ## all tests that need neither root nor ZFS, with the race detector
	MODEL_SECONDS=$(MODEL_SECONDS) $(GO) test $(TESTFLAGS) ./...

.PHONY: model
model: ## run PROGRAMS (2000) random programs from SEED on, each step compared with a model of what it is to do
	PROGRAMS=$(PROGRAMS) SEED=$(SEED) MODEL_SECONDS=$(MODEL_SECONDS) $(GO) test -v -count=1 -timeout 0 -run TestPrograms ./internal/modeltest

.PHONY: demo
demo: ## tell the story of copy and sync on simulated hosts
	$(GO) run ./cmd/hoody-agent demo

# Each story has hosts of its own, in a network namespace that it makes (package test/e2e/hosts): make -j2 tells both at
# once. What they need is built before, with the network that they lack afterwards.
.PHONY: e2e
e2e: e2e-story e2e-survival ## the stories on two real hosts each, with ZFS and Incus; needs root and Debian packages

.PHONY: e2e-story
e2e-story: e2e-built ## what users and admins do, on real hosts
	$(call tell,TestStory)

.PHONY: e2e-survival
e2e-survival: e2e-built ## what faults do, on real hosts
	$(call tell,TestSurvival)

.PHONY: e2e-readme
e2e-readme: e2e-built ## what the README says, typed on a clean host
	$(call tell,TestReadme)

.PHONY: e2e-full
e2e-full: export HOODY_E2E_FULL = 1
e2e-full: e2e e2e-readme ## e2e with all that the gate has no time for: every fault, every alert, lineage at size

.PHONY: e2e-built
e2e-built: deb
	for package in ./test/e2e ./internal/zfs ./internal/lxc ./internal/modeltest; do \
		CGO_ENABLED=0 $(GO) test -c -tags e2e -o $(BIN)/$$(basename $$package).test $$package || exit 1; \
	done

define tell
	cd test/e2e && HOODY_AGENT_BINARY=$(abspath $(BIN)/hoody-agent) HOODY_AGENT_DEB=$$(ls $(abspath $(BIN))/hoody-agent_*.deb) HOODY_DRIVER_TESTS=$(abspath $(BIN)) \
		$(abspath $(BIN)/e2e.test) -test.v -test.timeout 200m -test.run '^$(1)$$/($(E2E))' $(E2EFLAGS)
endef

.PHONY: faults
faults: ## every fault at every moment of a copy and of a sync, on simulated hosts; FAULTS=sync/cut selects
	HOODY_FAULTS=all $(GO) test -count 1 -timeout 60m -run 'TestFaults/$(FAULTS)' -v ./internal/agent

.PHONY: lint
lint: ## go vet, and golangci-lint where it is installed
	$(GO) vet ./...
	$(GO) vet -tags e2e ./...
	@if command -v golangci-lint >/dev/null; then golangci-lint run; \
	else echo 'golangci-lint is not installed: go vet only'; fi

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s)
	@grep -rl --include='*_test.go' '^func Fuzz' . | sort | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "== $$(dirname "$$file") $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null || exit 1; \
		done || exit 1; \
	done

.PHONY: bench
bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-transport
bench-transport: ## a table of our transport beside TCP, TLS, ssh and mbuffer; ROUNDS (5) of each, LINK=50ms selects
	$(GO) test -run '^$$' -bench '^BenchmarkTransport$$/$(LINK)' -benchtime $(ROUNDS)x -timeout 0 ./internal/transfer

.PHONY: generate
generate: ## write generated code anew
	$(GO) generate ./...

.PHONY: fmt
fmt: ## format
	gofmt -w .

.PHONY: clean
clean: ## remove what was built; the test hosts' cache stays
	rm -rf $(BIN)

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
