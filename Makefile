# All commands for developers. `make demo` and `make test` work as the first command on a fresh Debian machine.
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
export OPSY_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/opsy
export PATH := $(PATH):/usr/sbin:$(OPSY_CACHE)/sshd/usr/sbin
TARGET = $(abspath $(or $(CARGO_TARGET_DIR),target))

.PHONY: help demo demo-cluster test properties check build runner prerequisites cluster-prerequisites image-prerequisites bed idle bench bench-clones bench-push scale format

help:
	@echo 'make demo          build Opsy, and run its main loop once on an emulated AWS'
	echo 'make demo-cluster  run it in a real Kubernetes cluster, with an approval and a rollback'
	echo 'make test          build the test bed and run every test'
	echo 'make properties    run random events in simulated worlds, and compare plans with what follows: 10,000 cases, an hour'
	echo 'make check         check format, lints, docs, generated files, licenses and advisories of crates'
	echo 'make runner        build the static opsy-runner'
	echo 'make bed           run an emulated AWS and print its address'
	echo 'make idle          measure what an idle agent costs'
	echo 'make bench         measure what it costs to apply 1,000 manifests to a cluster'
	echo 'make bench-clones  measure what it costs to follow a large repository'
	echo 'make bench-push    measure the time from a push to the start of Packer'
	echo 'make scale         measure how costs grow up to 10,000 objects without a cluster'
	echo 'make format        format the code and write generated files'

prerequisites:
	@tests/bed/bin/prerequisites

cluster-prerequisites:
	@tests/bed/bin/prerequisites cluster

image-prerequisites:
	@tests/bed/bin/prerequisites image

build: prerequisites
	@cargo build --locked

# The runner is copied next to any Packer, so it must be static. A plain `cargo build --profile runner` silently
# replaces it with a dynamic program, which the check detects.
runner: prerequisites
	@cargo rustc --locked -p opsy-runner --bin opsy-runner --profile runner -- -C target-feature=+crt-static
	if readelf --program-headers --wide $(TARGET)/runner/opsy-runner | grep INTERP; then
	  echo 'opsy-runner is not static' >&2
	  exit 1
	fi

demo: build
	@python=$$(tests/bed/bin/venv)
	OPSY=$(TARGET)/debug/opsy PYTHON=$$python tests/bed/demo/demo

demo-cluster: image-prerequisites
	@python=$$(tests/bed/bin/venv)
	tests/bed/bin/controlplane >/dev/null
	helm=$$(tests/bed/bin/helm)
	image=$$(tests/bed/bin/image)
	IMAGE=$$image HELM=$$helm PYTHON=$$python tests/bed/demo/demo-cluster

# The control plane and Packer are built after cargo has compiled: at the same time, they need more memory than a small
# machine has.
# Most tests wait, so five at once keep two cores busy. The tests of the test bed run in parallel with the others.
test: export RUST_TEST_THREADS ?= $(shell cores=$$(nproc); echo $$((cores > 5 ? cores : 5)))
test: cluster-prerequisites runner
	@export OPSY_BED_PYTHON=$$(tests/bed/bin/venv) OPSY_BED_RUNNER=$(TARGET)/runner/opsy-runner
	cargo test --locked --workspace --no-run
	tests/bed/bin/controlplane >/dev/null
	OPSY_BED_PACKER=$$(tests/bed/bin/packer)
	OPSY_BED_HELM=$$(tests/bed/bin/helm)
	export OPSY_BED_PACKER OPSY_BED_HELM
	said=$$(mktemp)
	trap 'rm -f "$$said"' EXIT
	(cd tests/bed && exec $$OPSY_BED_PYTHON -m pytest -q -p no:cacheprovider aws bedkit git chat forges network registry scaling) >"$$said" 2>&1 &
	cargo test --locked --workspace || failed=1
	wait $$! || failed=1
	cat "$$said"
	exit $${failed:-0}

properties: export PROPTEST_CASES ?= $(or $(CASES),10000)
properties: prerequisites
	@cargo test --locked --lib -- refresher::tests::property ::tests::previews::

check: prerequisites
	@cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items --quiet
	generated=$$(mktemp -d)
	trap 'rm -rf "$$generated"' EXIT
	cargo run --quiet --locked -- crds --dir "$$generated"
	diff -r "$$generated" schemas || { echo 'schemas/ is out of date: make format' >&2; exit 1; }
	tests/bed/bin/deny

format:
	@cargo fmt --all
	cargo run --quiet --locked -- crds --dir schemas

bed: prerequisites
	@python=$$(tests/bed/bin/venv)
	cd tests/bed/aws && exec $$python -m opsybed --port 0

idle: build
	@python=$$(tests/bed/bin/venv)
	OPSY=$(TARGET)/debug/opsy PYTHON=$$python $$python tests/bed/idle.py

# Measures a release build, whose first build takes a quarter of an hour. OPSY names another program to measure.
# COUNT=10000 measures more objects, and GROWTH=1 a tenth of them first.
bench: export OPSY_BENCH_COUNT ?= $(or $(COUNT),1000)
bench: export OPSY_BENCH_GROWTH ?= $(GROWTH)
bench: cluster-prerequisites
	@python=$$(tests/bed/bin/venv)
	if [ -z "$${OPSY:-}" ]; then cargo build --locked --release --bin opsy; fi
	export CONTROLPLANE=$$(tests/bed/bin/controlplane) OPSY=$${OPSY:-$(TARGET)/release/opsy}
	(cd tests/bed/controlplane && GOFLAGS=-buildvcs=false go build -o $$OPSY_CACHE/bareloop ./bareloop)
	BARELOOP=$$OPSY_CACHE/bareloop $$python tests/bed/bench.py

bench-clones: prerequisites
	@if [ -z "$${OPSY:-}" ]; then cargo build --locked --release --bin opsy; fi
	OPSY=$${OPSY:-$(TARGET)/release/opsy} python3 tests/bed/clones.py

bench-push: prerequisites
	@python=$$(tests/bed/bin/venv)
	if [ -z "$${OPSY:-}" ]; then cargo build --locked --release --bin opsy; fi
	OPSY=$${OPSY:-$(TARGET)/release/opsy} $$python tests/bed/push.py

# ROWS selects rows, such as ROWS="first clone". Fewer objects: OPSY_SCALE_COUNT=1000.
scale: prerequisites
	@python=$$(tests/bed/bin/venv)
	if [ -z "$${OPSY:-}" ]; then cargo build --locked --release --bin opsy; fi
	OPSY=$${OPSY:-$(TARGET)/release/opsy} $$python tests/bed/scale.py
