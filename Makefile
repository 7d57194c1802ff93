# SPDX-License-Identifier: Apache-2.0

.DEFAULT_GOAL := build
.NOTPARALLEL:
export PATH := $(PATH):/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin

GO ?= go
VERSION ?= $(shell git describe --always --dirty --tags 2>/dev/null)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile

deps: ## install what is missing: engine, iptables, archive keyring (Debian, Ubuntu; root)
	@.ci/deps

BIN ?= bin/econbench

build: ## build bin/econbench, one static program
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION)" -o $(BIN) ./cmd/econbench

PREFIX ?= /usr/local
share = $(DESTDIR)$(PREFIX)/share
completions = bash-completion/completions/econbench zsh/site-functions/_econbench fish/vendor_completions.d/econbench.fish

# The pages' date is the commit's, so that one commit's pages are always the same.
install: build ## install below DESTDIR and PREFIX (/usr/local): program, manual pages, completion for bash, zsh and fish
	install -D -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/econbench
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null)} $(DESTDIR)$(PREFIX)/bin/econbench man $(share)/man/man1
	@for file in $(completions); do \
		install -d $(share)/$$(dirname $$file) && $(DESTDIR)$(PREFIX)/bin/econbench completion $${file%%[-/]*} >$(share)/$$file || exit 1; done

run: deps build ## measure: the quick suite on two engines started on this machine (root)
	./bin/econbench run

bench: deps build ## measure the speed suite: every fast path against the host's network (root; half an hour)
	./bin/econbench run --suite speed

# bin/scale.txt is for benchstat; the plot is the documentation's.
bench-scale: deps ## measure what a packet costs with more peers, containers, flows; attach to 50 containers a host (root; ten minutes)
	mkdir -p bin && rm -f bin/scale.txt
	$(GO) test ./fastpath -count=1 -timeout 60m -v -run 'TestScale$$' -costs 1000 -scale 1000000 -scale-files $(CURDIR)/bin/scale
	cp bin/scale.svg docs/scale.svg
	$(GO) test ./cmd/econbench -count=1 -timeout 30m -v -run TestFastpathCrowd -crowd 50

# Packages one after the other: a lab next to a test that counts on the CPUs would spoil it. The end-to-end tests take six
# minutes on a quiet machine of two CPUs and more than go test's ten on a busy one.
test: export BROWSER = 1 # deps: what looks at the page, too
test: deps ## run every test; those that need root say so when they are skipped
	$(GO) build ./...
	$(GO) test -count=1 -timeout 40m -p 1 ./...

test-kernels: ## run the fast paths' tests on Debian's kernels, in a virtual machine (qemu; fetches 70 MB)
	@.ci/test-kernels

lint: ## gofmt, go vet, staticcheck, actionlint (versions in tools/go.mod), syntax of the scripts
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || { echo "lint: not gofmt's: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -C tools ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	$(GO) tool -modfile=tools/go.mod actionlint -ignore 'label "bare-metal" is unknown' docs/examples/nightly/github-actions.yml
	@for script in .ci/* docs/examples/nightly/econbench-nightly; do bash -n $$script || exit 1; done

generate: ## make generated files anew: BPF objects, with clang 14 (GENERATE=1 make deps brings it)
	$(GO) generate ./...

check-generated: ## fail when a generated file is not what generates it
	@MAKE="$(MAKE)" .ci/check-generated

clean: ## remove what build made; results stay, `econbench clean` is for dead runs
	rm -rf bin

.PHONY: help deps build install run bench bench-scale test test-kernels lint generate check-generated clean
