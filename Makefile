# Two commands do everything: make lab, make test. Continuous integration calls
# make test and nothing else.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-builtin-rules

# The tools live in /usr/sbin on Debian, where an ordinary user's PATH misses them.
export PATH := $(PATH):/usr/sbin:/sbin

FUZZTIME ?= 30s
LABFLAGS ?=
BENCHFLAGS ?=
SUDO     := $(if $(filter-out 0,$(shell id -u)),sudo --preserve-env env PATH=$(PATH))
suite    := go run .ci/suite.go

# The package whose tests take longest, which begins first.
longest = bulkhead/webui

# Packages whose tests need namespaces: they say so by importing nstest or the lab.
rootpkgs = $(filter-out $(vmpkgs),$(shell go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}} ' ./... \
	| awk '/ bulkhead\/netcfg\/nstest / || $$1 == "bulkhead/images/lab" {print $$1}'))

# Those of them whose tests start programs that are built, and are about these. What the
# others are about runs in the tests' own process, where the race detector sees it.
programpkgs = $(filter bulkhead/cmd/% bulkhead/images/lab,$(rootpkgs))
kernelpkgs = $(filter-out $(programpkgs),$(rootpkgs))

# Packages whose tests want the image's kernel, mostly to start machines with it, which
# want the processor for themselves. They say so by importing one of the two.
vmpkgs = $(shell go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}} ' ./... \
	| awk '/ bulkhead\/images\/(kernel|lab\/vm) / {print $$1}')

# Those of them that start several machines at once, which have both processors busy.
machinepkgs = $(filter bulkhead/images/lab/%,$(vmpkgs))

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

.PHONY: lab
lab: deps build ## build everything and start the namespace lab (ends with Ctrl-C; LABFLAGS=--once)
	$(SUDO) bin/bulkhead lab $(LABFLAGS)

.PHONY: run
run: deps-test build image ## boot the image in QEMU between clients and a pretended internet (ends with Ctrl-C; LABFLAGS=--once)
	$(SUDO) bin/bulkhead lab vm $(LABFLAGS)

# Tests that want a tool which deps-test installs fail without it, where others skip.
test: export BULKHEAD_NEED_TOOLS = 1

# What root could try in check already, test-root tries in the same way, and lets nothing
# be skipped: once is enough.
test: later = $(if $(SUDO),,$(kernelpkgs))

.PHONY: test
test: deps-test check test-root kernel test-vm ## run all tests: check, test-root and test-vm, with what they need

.PHONY: deps
deps: ## install the Debian packages that are missing, and say which and why
	@.ci/deps

.PHONY: deps-test
deps-test: ## the same, with what only the tests need
	@.ci/deps test

.PHONY: build
build: ## build all programs into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

.PHONY: check
check: ## formatting, vet, staticcheck, unit tests with the race detector, goldens unchanged
	@unformatted=$$(git ls-files -z '*.go' | xargs -0 --no-run-if-empty gofmt -l); \
		test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted"; exit 1; }
	go vet ./...
	go vet .ci/suite.go
	go tool staticcheck ./...
	$(suite) -name unit -- -race -timeout 15m $(filter-out $(vmpkgs) $(later),$(longest) $(filter-out $(longest),$(shell go list ./...)))
	@git diff --exit-code -- '*testdata*' 'configs' || { echo "the tests changed tracked files"; exit 1; }

.PHONY: test-root
test-root: build ## kernel tests in network namespaces (as root, or with sudo)
	BULKHEAD_NEED_ROOT=1 BULKHEAD_BIN=$(CURDIR)/bin \
		$(suite) -name kernel -noskip -- -race -count=1 -timeout 15m $(if $(SUDO),-exec "$(SUDO)") $(kernelpkgs)
	BULKHEAD_NEED_ROOT=1 BULKHEAD_BIN=$(CURDIR)/bin \
		$(suite) -name programs -noskip -- -count=1 -p 2 -timeout 15m $(if $(SUDO),-exec "$(SUDO)") $(programpkgs)

.PHONY: test-vm
test-vm: ## tests in virtual machines with the image's kernel, which make kernel builds
	BULKHEAD_NEED_VM=1 $(suite) -name images -noskip -- -race -count=1 -p 2 -timeout 30m $(if $(SUDO),-exec "$(SUDO)") $(filter-out $(machinepkgs),$(vmpkgs))
	BULKHEAD_NEED_VM=1 $(suite) -name vm -noskip -- -race -count=1 -p 1 -timeout 30m $(if $(SUDO),-exec "$(SUDO)") $(machinepkgs)

.PHONY: test-arm64
test-arm64: ## kernel and image on arm64, emulated: not part of make test, since its kernel takes as long again
	@.ci/deps test arm64
	@$(MAKE) --no-print-directory kernel ARCH=arm64
	BULKHEAD_NEED_VM=arm64 $(suite) -name arm64-kernel -noskip -- -count=1 -timeout 30m -run '^TestGuest$$' ./images/kernel
	BULKHEAD_NEED_VM=arm64 $(suite) -name arm64-image -noskip -- -count=1 -timeout 30m $(if $(SUDO),-exec "$(SUDO)") \
		-run '^(TestEveryZoneIsServed|TestMatrixOverTags|TestBoxComesBackAfterLossOfPower)$$' ./images/lab/vm

.PHONY: soak
soak: build ## kill -9 of each of five daemons under load, 50 times, and of flowd, 20 times; 200,000 recorded connections, 1,000,000 refusals; 200 random changes, watched (SEED= of an earlier run); and holds the clock against what is promised
	BULKHEAD_NEED_ROOT=1 BULKHEAD_BIN=$(CURDIR)/bin BULKHEAD_TIMES=1 BULKHEAD_KILLS=250 \
		$(suite) -name soak -noskip -- -count=1 -timeout 30m $(if $(SUDO),-exec "$(SUDO)") -run '^(TestKilledDaemons|TestIsolatedMachine)' ./images/lab
	BULKHEAD_NEED_ROOT=1 BULKHEAD_BIN=$(CURDIR)/bin BULKHEAD_TIMES=1 BULKHEAD_FLOWS=200000 BULKHEAD_REFUSALS=1000000 BULKHEAD_KILLS=20 \
		$(suite) -name soak-flows -noskip -- -count=1 -timeout 30m $(if $(SUDO),-exec "$(SUDO)") -run '^(TestFlows|TestFloodOf|TestKilledFlowd)' ./images/lab
	BULKHEAD_NEED_ROOT=1 BULKHEAD_BIN=$(CURDIR)/bin BULKHEAD_CHANGES=200 \
		$(suite) -name soak-changes -noskip -- -count=1 -timeout 30m $(if $(SUDO),-exec "$(SUDO)") -run '^TestChangesProve' ./images/lab $(if $(SEED),-seed $(SEED))

.PHONY: soak-vm
soak-vm: ## cut a virtual box's power 30 times during updates, 20 times while it promises leases and changes, 20 times during a change
	BULKHEAD_NEED_VM=1 BULKHEAD_KILLS=30 $(suite) -name soak-vm-updates -noskip -- -count=1 -timeout 2h $(if $(SUDO),-exec "$(SUDO)") -run '^TestPowerIsCutDuringUpdates$$' ./images/lab/updates
	BULKHEAD_NEED_VM=1 BULKHEAD_KILLS=20 $(suite) -name soak-vm-promises -noskip -- -count=1 -timeout 1h $(if $(SUDO),-exec "$(SUDO)") -run '^TestNothingAcknowledgedIsLost$$' ./images/lab/updates
	BULKHEAD_NEED_VM=1 BULKHEAD_KILLS=20 $(suite) -name soak-vm-changes -noskip -- -count=1 -timeout 1h $(if $(SUDO),-exec "$(SUDO)") -run '^TestPowerIsCutDuringAChange$$' ./images/lab/vm $(if $(SEED),-seed $(SEED))

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (30s each)
	@found=0; for pkg in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			found=1; echo "== $$pkg $$f"; \
			go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
		done; \
	done; test $$found = 1 || { echo "no fuzz targets found"; exit 1; }

.PHONY: bench
bench: deps-test build image ## measure scale, packet cost, throughput, following connections, memory, the image's start and the flow records' store, and print the tables (BENCHFLAGS=--only=boot)
	$(SUDO) bin/bulkhead lab bench $(BENCHFLAGS)
	go run ./images/kernel/measure
	go test -run '^$$' -bench . -benchtime 1x -timeout 30m ./services/flow/store

.PHONY: screens
screens: ## take pictures of all pages of the web UI, light and dark, wide and narrow, into out/screens/
	@.ci/deps test
	mkdir -p out/screens && rm -f out/screens/*.png
	BULKHEAD_NEED_TOOLS=1 BULKHEAD_SCREENS=$(CURDIR)/out/screens go test -count=1 -run '^TestScreens$$' ./webui

.PHONY: clean
clean: ## remove what was built
	rm -rf bin out

.PHONY: kernel
kernel: ## build the image's kernel, or take it from a cache (ARCH=arm64, KERNEL_SOURCE=DIR, KERNEL_CACHE=DIR)
	@ARCH=$(ARCH) go run ./images/kernel/mkkernel

.PHONY: image
image: ## build out/bulkhead-<arch>.img, to flash, and .gaf, to push (ARCH=arm64; kernel as above)
	@.ci/deps image
	@ARCH=$(ARCH) go run ./images/build/mkimage
