# make build      the binary for this machine, bin/runner
# make build-all  the binaries for Linux and macOS, in bin/
# make run        a demo that needs no account and no network; VAULT=DIR: with your vault
# make check      format, vet, staticcheck, quick tests; about two minutes
# make test       all tests, and what was left out; SOAK=N or SOAK=full: more kills
# make fuzz       each fuzz target for FUZZTIME; PACKAGES=./internal/note: only these
# make bench      the figures of docs/performance.md
# make vuln       known vulnerabilities in what the binary calls
# make homelab    kuma-sync for the machines of homelab/
# make pin        the digests of homelab/'s images, where a registry answers
# make rehearse   deploys the homelab on this machine, in a world of its own, and breaks it

VERSION := $(shell git --git-dir=.git describe --tags --always --dirty 2>/dev/null || echo devel)
PACKAGES ?= ./...
SOAK ?= 1
FUZZTIME ?= $(if $(filter full,$(SOAK)),10m,60s)
DEMO ?= $(CURDIR)/demo

# The version is stamped by us, so a tree whose .git Go may not read builds too.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
export GOWORK := off

go_build = CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
platforms := linux/amd64 linux/arm64 darwin/arm64
# Tests of the product as a whole, with its peers; make check leaves them to make test.
wholes := browsertest|killtest|opstest|roomtest|syncpair

.PHONY: build build-all $(platforms) run check test fuzz bench vuln homelab pin rehearse tools clean

build:
	$(go_build) -o bin/runner ./cmd/runner

build-all: $(platforms)

# The other platforms are vetted too, since nothing runs there.
$(platforms):
	CGO_ENABLED=0 GOOS=$(@D) GOARCH=$(@F) go vet -trimpath ./...
	GOOS=$(@D) GOARCH=$(@F) $(go_build) -o bin/runner-$(@D)-$(@F) ./cmd/runner

run: build
	@bin/runner init --demo --config '$(DEMO)/runner.yaml' $(if $(VAULT),--vault '$(VAULT)')
	@exec bin/runner up --config '$(DEMO)/runner.yaml'

check: tools
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || \
		{ printf 'not as gofmt writes it:\n%s\n' "$$unformatted"; exit 1; }
	CGO_ENABLED=0 go vet ./...
	CGO_ENABLED=0 bin/tools/staticcheck ./...
	CGO_ENABLED=0 go test $$(go list ./... | grep -vE '/internal/($(wholes))$$')
	go -C tools vet ./...
	go -C tools test ./...
	CGO_ENABLED=0 go -C homelab vet ./...
	cd homelab && CGO_ENABLED=0 ../bin/tools/staticcheck ./...
	CGO_ENABLED=0 go -C homelab test ./cmd/... ./internal/...

# The runner of the tests is named by its file: so it needs nothing of the tools' module.
# homelab/checks reads files and runs programs, and has no code that is deployed: under the race
# detector that takes more than twice as long.
test:
	@SOAK='$(SOAK)' go run tools/testrun/main.go $(PACKAGES) && all=0 || all=1; \
	$(if $(filter ./...,$(PACKAGES)),(cd homelab && go run ../tools/testrun/main.go $(if $(filter true,$(CI)),,-race=false) ./cmd/... ./internal/...) || all=1; \
		(cd homelab && go run ../tools/testrun/main.go -race=false ./checks/...) || all=1; \
		$(if $(filter true,$(CI)),,echo 'left out: the race detector in homelab/, with CI=true';)) exit $$all

fuzz:
	@scripts/fuzz '$(FUZZTIME)' $(PACKAGES)

bench:
	@test -d internal/bench || { echo 'there is no internal/bench'; exit 1; }
	CGO_ENABLED=0 go test -timeout=30m -run='^$$' -bench=. ./internal/bench/... ./internal/prepare/...

vuln:
	@scripts/vuln

homelab:
	@for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build -C homelab -trimpath -ldflags '-s -w' -o ../bin/kuma-sync-linux-$$arch ./cmd/kuma-sync || exit 1; \
	done

pin:
	@go run -C homelab ./cmd/pin prod-services/compose.yaml dev-learning/compose.yaml contabo/compose.yaml

# Built first, since a go run that is killed may leave its child behind.
rehearse:
	@go build -C homelab -o ../bin/rehearse ./cmd/rehearse
	@cd homelab && exec ../bin/rehearse

tools:
	@go build -C tools -o ../bin/tools/ honnef.co/go/tools/cmd/staticcheck

clean:
	rm -rf bin
