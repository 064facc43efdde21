# The commands people need. CI calls the same ones (.ci/run).
SHELL := /bin/bash
CARGO ?= cargo
BIN := target/debug/tollpass
# Longer or shorter runs of `make conformance`, `make fuzz`, `make soak`.
REPEAT ?= 5
CASES ?= 20000
SECONDS_EACH ?= 600
SOAK_SECONDS ?= 1800

.PHONY: help demo test peers conformance fuzz soak mutants release bench lint image clean

help:            ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

# A development build: with whole-program optimisation the first run would take several times longer.
demo:            ## see it pay, on loopback, with test money
	$(CARGO) build --locked
	$(BIN) demo --once

test:            ## install what is missing; unit, integration and peer tests; a summary
	.ci/test

peers:           ## only the peer tests: real sellers, clients and chain
	.ci/test peers

conformance:     ## the long runs: peer tests REPEAT times, property tests with CASES cases
	PROPTEST_CASES=$(CASES) $(CARGO) test --locked --workspace --features failpoints
	REPEAT=$(REPEAT) .ci/test peers

fuzz:            ## every fuzz target for SECONDS_EACH seconds
	SECONDS_EACH=$(SECONDS_EACH) .ci/fuzz

soak:            ## one process under everything agents and sellers do, for SOAK_SECONDS: it has to stay as small as it was
	SOAK_SECONDS=$(SOAK_SECONDS) $(CARGO) test --locked --features failpoints --test it soak -- --nocapture

mutants:         ## change the code that decides about money: the tests have to notice (hours)
	.ci/mutants

release:         ## the program as it is released: built, put under load, built again with what that counted (half an hour)
	.ci/release

bench:           ## measure; writes benches/RESULTS.md
	.ci/bench

lint:            ## format, clippy, dependencies: what CI checks before the tests
	.ci/run lint

image:           ## container image; FEATURES=local-signer adds the trial signer
	docker build --build-arg FEATURES=$(FEATURES) -t tollpass:dev .

clean:           ## remove everything that was built or installed into this folder
	rm -rf target .tools fuzz/target tests/peers/node_modules tests/peers/.venv tests/peers/.built tests/peers/out
