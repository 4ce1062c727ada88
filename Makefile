# The commands that people type. CMake presets do the work (CMakePresets.json).
SHELL := /bin/bash
JOBS ?= $(shell nproc)

.PHONY: help build demo test unit style asan tsan crash-sweep crash-sweep-selftest lease-protocol virtual-machine-test fuzz tidy bench install clean

help:
	@echo "make demo    build Squall, break the example system twice, leave two reports (3 min)"
	@echo "make test    every test: style, unit, integration, end to end, sanitizers"
	@echo "make unit    the unit tests of the dev build"
	@echo "make build   the release program: build/release/squall"
	@echo "make crash-sweep   kill each of our processes at every system call of every kind"
	@echo "make crash-sweep-selftest   seed bugs and see each of them caught"
	@echo "make lease-protocol   every pair of kill, stop and lost message under virtual time"
	@echo "make virtual-machine-test   systemd, power cuts, netem and cgroup v2 in a virtual machine"
	@echo "make asan | tsan | fuzz | tidy | bench | install | clean"

build:
	@scripts/bootstrap --build
	@cmake --preset release >/dev/null
	@cmake --build --preset release -j $(JOBS)

demo: build
	@examples/orchestrator/demo

build/dev/build.ninja:
	@cmake --preset dev >/dev/null

dev: build/dev/build.ninja
	@cmake --build --preset dev -j $(JOBS)

unit: dev
	@cd build/dev && ctest -L 'unit|style' -j $(JOBS) --output-on-failure

style:
	@scripts/check-format

test:
	@scripts/bootstrap
	@scripts/run-tests

asan tsan:
	@cmake --preset $@ >/dev/null
	@cmake --build --preset $@ -j $(JOBS)
	@cd build/$@ && ctest -L unit -j $(JOBS) --output-on-failure

# Whole: every point, of what users get. An interrupted one goes on where it was; `make test` has a
# sample. A life mostly waits: six for each processor keep it busy.
crash-sweep:
	@cmake --preset sweep >/dev/null
	@cmake --build --preset sweep -j $(JOBS)
	@mkdir -p build/crash-sweep
	@build/sweep/tests/crash_sweep/crash_sweep --jobs $$((6 * $(JOBS))) --resume build/crash-sweep/done $(SWEEP)

crash-sweep-selftest: dev
	@scripts/crash-sweep-selftest build/dev

lease-protocol: dev
	@cmake --build --preset dev --target lease_protocol_pairs
	@for shard in $$(seq 0 $$(($$(nproc) - 1))); do \
	  SQUALL_PROTOCOL_SHARE=1 GTEST_TOTAL_SHARDS=$$(nproc) GTEST_SHARD_INDEX=$$shard \
	    build/dev/tests/lease_protocol/lease_protocol_pairs & shards="$$shards $$!"; \
	done; status=0; for shard in $$shards; do wait $$shard || status=1; done; exit $$status

# Whole: with what takes long; `make test` has the core.
virtual-machine-test: dev
	@build/dev/tests/virtual_machine/virtual_machine_tests $(VIRTUAL_MACHINE)

fuzz:
	@scripts/bootstrap
	@cmake --preset fuzz >/dev/null && cmake --build --preset fuzz -j $(JOBS)
	@scripts/run-fuzzers $(SECONDS_EACH)

tidy:
	@scripts/check-tidy

bench:
	@scripts/bootstrap
	@cmake --preset bench >/dev/null && cmake --build --preset bench -j $(JOBS)
	@bench/run

install: build
	@cmake --install build/release

clean:
	@rm -rf build
