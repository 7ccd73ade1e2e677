# The verbs of this repository. `make help` lists them.
#
# Everything is built with the one profile (release) into a cache folder outside of the tree, so that RocksDB, which
# takes 20 CPU minutes, is compiled once for the product, the tests and CI.

SHELL := bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/ledgermq/target
export PATH := $(HOME)/.cargo/bin:$(PATH)
export LEDGERMQ_BIN := $(CARGO_TARGET_DIR)/release/ledgermq

# Two sets, by the features of tokio that they need: with what the product has, or with a clock that can be paused. So
# each crate is compiled once for each, and no more.
PAUSED_TESTS := -p ledgermq-raft-store -p ledgermq-broker -p ledgermq-sim
PRODUCT_TESTS := -p ledgermq-proto -p ledgermq-namesrv -p ledgermq-client -p ledgermq-cli -p ledgermq-tests

.DEFAULT_GOAL := help
.PHONY: help prepare build quickstart test soak lint format

# What `make soak` does; the next seeds are those that the ledger has not.
SOAK ?= --budget 10m --jobs 2 --profile quick --and default,log --ledger sim/ledger/soaks.jsonl

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|' 2>/dev/null \
	  || grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST)

prepare: ## Install what building needs and is missing (says what it does)
	@.ci/prepare build

build: prepare ## Build the product binary
	cargo build --release --locked -p ledgermq-cli
	@echo "built $(LEDGERMQ_BIN)"

quickstart: build ## Three replicas, 10,000 messages, the leader killed in the middle: is anything lost?
	@tests/quickstart/run

lint: prepare ## Formatting and lints; changes nothing
	@.ci/lint

format: ## Format the sources
	cargo fmt --all

test: prepare ## Everything that CI checks
	@.ci/prepare test
	@echo "same seed twice, the same trace?"
	cargo test --release --locked $(PAUSED_TESTS) --test same_seed
	@.ci/lint
	cargo build --release --locked -p ledgermq-cli
	cargo test --release --locked $(PRODUCT_TESTS)
	cargo test --release --locked $(PAUSED_TESTS) -- --skip runs_the_same_twice
	@if [ -x tests/python/run ]; then echo "tests/python/run"; tests/python/run; fi
	@echo "all tests passed"

soak: prepare ## Seeds of the simulation for ten minutes, noted in sim/ledger (SOAK="..." for other options)
	cargo test --release --locked $(PAUSED_TESTS) --test same_seed --no-run
	$(CARGO_TARGET_DIR)/release/ledgermq-sim soak $(SOAK)
