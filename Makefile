# Everything a person runs. Each target installs what it needs first (.deps/, by .ci/setup).
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup servers build nccl demo check test test-k8s parity invariance soak fuzz bench

TESTS := accord-tests/torch,accord-tests/kubernetes

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## libtorch and protoc into .deps/
	@.ci/setup

servers: ## etcd, an S3 server and Prometheus into .deps/, for tests alone
	@.ci/servers

build: setup ## the two binaries, in target/release
	cargo build --release

nccl: setup ## the library that lets several GPUs train together, in .deps/nccl
	@.ci/nccl

demo: ## from nothing to five recommendations: eight minutes on two idle cores, half an hour on shared ones; most of it is compiling
	@echo "demo 1/4: fetch libtorch and compile Accord with the libraries it uses (6 minutes on two idle cores, half an hour on shared ones; once)"
	@$(MAKE) --no-print-directory build
	@echo "demo 2/4: prepare MovieLens-100K and embed its texts (half a minute)"
	target/release/coordinator data fetch ml-100k --dest data/ml-100k
	@echo "demo 3/4: train IRLLRec on it (a minute); Ctrl-C saves, the same command goes on"
	target/release/coordinator run configs/ml-100k.toml --run-dir runs/demo
	@echo "demo 4/4: recommend five films to user 42"
	target/release/coordinator recommend runs/demo --user 42 --k 5

check: setup ## formatting, import arrows, lints
	cargo fmt --all --check
	.ci/arrows
	cargo clippy --workspace --all-targets --features $(TESTS) -- -D warnings

test: setup servers ## every test
	cargo test --workspace --features $(TESTS)

test-k8s: setup servers ## jobs on a real Kubernetes control plane, built with Go into the user's cache, once; SKIPPED without Go
	@if plane=$$(.ci/kubernetes); then \
	  ACCORD_CONTROL_PLANE="$$plane" cargo test --workspace --features $(TESTS) --test kubernetes -- --nocapture --test-threads 1; \
	else [ $$? -eq 3 ]; fi

parity: setup ## the official code's numbers, replayed by every kernel set
	cargo test -p accord-tests --features torch --test parity -- --nocapture --test-threads 1

invariance: setup ## the same model from 1, 2 and 4 workers: MovieLens-100K, and amazon where it is in data/amazon
	ACCORD_INVARIANCE=full cargo test --release -p accord-tests --features torch --test invariance -- --nocapture --test-threads 1

soak: setup ## kills and freezes on real data, 20 a run: the numbers stay; how long each recovery took
	ACCORD_SOAK=full cargo test --release -p accord-tests --features torch --test cluster soak -- --nocapture --test-threads 1

# of each target
SECONDS ?= 60
fuzz: ## bad job files, checkpoints and datasets by the million: SECONDS=60 for each of five
	@.ci/fuzz $(SECONDS)

bench: setup ## seconds a step by phase, peak memory, ratio to the official operators (wants ../shared)
	cargo bench -p accord-engine --bench step
