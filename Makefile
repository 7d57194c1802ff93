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

build: ## build bin/econbench, one static program
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION)" -o bin/econbench ./cmd/econbench

run: deps build ## measure: the quick suite on two engines started on this machine (root)
	./bin/econbench run

bench: deps build ## measure the speed suite: every workload, with one flow and with eight (root; minutes)
	./bin/econbench run --suite speed

# Packages one after the other: a lab next to a test that counts on the CPUs would spoil it. The end-to-end tests take six
# minutes on a quiet machine of two CPUs and more than go test's ten on a busy one.
test: deps ## run every test; those that need root say so when they are skipped
	$(GO) build ./...
	$(GO) test -count=1 -timeout 40m -p 1 ./...

test-kernels: ## run the fast paths' tests on Debian's kernels, in a virtual machine (qemu; fetches 70 MB)
	@.ci/test-kernels

lint: ## gofmt, go vet, staticcheck (version in tools/go.mod), syntax of the scripts
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || { echo "lint: not gofmt's: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -C tools ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	@for script in .ci/*; do bash -n $$script || exit 1; done

generate: ## make generated files anew: BPF objects, with clang 14 (GENERATE=1 make deps brings it)
	$(GO) generate ./...

check-generated: ## fail when a generated file is not what generates it
	@MAKE="$(MAKE)" .ci/check-generated

clean: ## remove what build made; results stay, `econbench clean` is for dead runs
	rm -rf bin

.PHONY: help deps build run bench test test-kernels lint generate check-generated clean
