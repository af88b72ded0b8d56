# The verbs of the project; CI calls them too. Each does by itself all that it needs.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
SITE := .venv-site/bin

# The first interpreter that is new enough; or say `make setup PYTHON=...`.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

# What hangs is ended: `timeout` is not everywhere, pytest has limits of its own.
LIMIT := $(if $(shell command -v timeout),timeout 3600)

RUST := Cargo.toml Cargo.lock rust-toolchain.toml pyproject.toml $(shell find src -name '*.rs')

export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.PHONY: help
help:  ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/' \
		| while IFS=$$'\t' read -r verb what; do printf '  make %-12s %s\n' "$$verb" "$$what"; done

.PHONY: setup
setup: $(VENV)/built  ## make .venv: pinned requirements, and treadle in a release build

.PHONY: dev
dev: $(VENV)/installed | cargo  ## build treadle into .venv within seconds, slower to run than a release
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --profile quick
	@rm -f $(VENV)/built

.PHONY: demo
demo: setup  ## measure Python's standard library, in one run
	@$(BIN)/python -m treadle demo

.PHONY: test
test: setup test-rust test-python test-postgres  ## run every test, of the core and of the package

.PHONY: test-rust
test-rust: cargo
	$(LIMIT) cargo test

# The server of TREADLE_TEST_POSTGRES, or one that is started from installed programs and stopped at the end.
BESIDE_POSTGRES := python3 tests/python/postgres_server.py

.PHONY: test-postgres
test-postgres: setup failpoints servers  ## run the tests of the journals in files and in PostgreSQL, on a server of their own
	$(LIMIT) $(BESIDE_POSTGRES) cargo test --features sqlite,postgres -- --skip simulation
	$(LIMIT) $(BESIDE_POSTGRES) $(BIN)/pytest -q -m postgres

.PHONY: servers
servers:  ## install PostgreSQL, pgbouncer and openssl for the tests, with apt-get, if they are missing
	@.ci/install-servers

.PHONY: test-python
test-python: setup failpoints
	$(LIMIT) $(BIN)/pytest -m 'not postgres'

# Where the event loop matters; `.venv/bin/pytest --uvloop` runs everything on it.
ON_UVLOOP := asyncio cancellation run_cancelled runs races streams waiting pause steps engine engine_binding \
	memory_release unreferenced

.PHONY: test-uvloop
test-uvloop: setup  ## run the tests where the event loop matters on uvloop
	$(LIMIT) $(BIN)/pytest -q --uvloop $(ON_UVLOOP:%=tests/python/test_%.py)

# Interpreters of other versions, found by `pythonX.Y` or among pyenv's: those of PYTHONS that are there are tested. Each
# has a virtual environment of its own. What no interpreter has a part in is built once for all of them.
PYTHONS ?= 3.11 3.12 3.13
TESTS ?= tests/python --ignore=tests/python/torture

# Where the version matters: recursion in C, tasks, annotations, threads, pickles.
VERSIONED := $(addprefix tests/python/test_, values_depth.py values.py values_attacks.py eager_tasks.py asyncio.py \
	cancellation.py definition.py definition_strings.py context_threads.py steps.py pause.py first_page.py)

.PHONY: test-pythons
test-pythons: cargo servers  ## run the package's tests on each version of PYTHONS that is there
	@for version in $(PYTHONS); do \
		.ci/find-python $$version >/dev/null || { echo "==> Python $$version is not here"; continue; }; \
		echo "==> Python $$version ($$(date +%H:%M:%S))"; \
		$(MAKE) --no-print-directory $(VENV)-$$version/built || exit 1; \
		$(LIMIT) $(VENV)-$$version/bin/pytest -q $(TESTS) || exit 1; \
	done

.PHONY: test-versioned
test-versioned:  ## the same for the tests in which the version matters
	@$(MAKE) --no-print-directory test-pythons TESTS='$(VERSIONED)'

# The page of runs, in a real browser. What is large there takes a while: each has a limit of its own.
UI_TESTS := $(addprefix tests/ui/,pages.test.mjs live.test.mjs large.test.mjs)

.PHONY: test-ui
test-ui: setup browser  ## test the page of runs in Chromium
	$(LIMIT:3600=600) node --test --test-concurrency=1 $(UI_TESTS)

.PHONY: screenshots
screenshots: setup browser  ## take pictures of the page of runs into target/screenshots
	node tests/ui/screenshots.mjs target/screenshots

.PHONY: browser
browser:  ## install Chromium and what drives it for the tests, if they are missing
	@.ci/install-browser

# The package in a build whose processes can be made to die at named places. Only tests have a use for it.
FAILPOINTS := target/failpoints

.PHONY: failpoints
failpoints: $(FAILPOINTS)/built  ## build the package with failpoints, for the tests

.PHONY: torture
torture: setup failpoints  ## kill processes that execute durable runs, 3,000 times and at every failpoint
	KILLS=3000 $(LIMIT:3600=14400) $(BIN)/pytest -q -s tests/python/torture

.PHONY: lint
lint: setup lint-rust lint-python  ## check style and types

.PHONY: lint-rust
lint-rust: cargo $(VENV)/installed
	cargo fmt --check
	$(LIMIT) cargo clippy --all-targets -- -D warnings
	$(LIMIT) cargo clippy --all-targets --features sqlite -- -D warnings
	$(LIMIT) cargo clippy --all-targets --features postgres -- -D warnings
	$(LIMIT) cargo clippy --all-targets --features python -- -D warnings
	$(LIMIT) cargo clippy --features python,failpoints -- -D warnings

.PHONY: lint-python
lint-python: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m mypy.stubtest treadle._treadle \
		--allowlist tests/python/typing/stubtest_allowlist.txt

.PHONY: docs
docs: setup  ## run the examples in README and docs/, and check their links
	$(LIMIT) $(BIN)/pytest -q tests/python/test_docs.py

.PHONY: site
site: $(SITE)/installed  ## build the pages for a browser into target/site/html; a broken link fails
	$(SITE)/python site/build.py $(SITE)/zensical

.PHONY: bench
bench: setup  ## measure the core, then the package
	cargo bench --bench core --bench formats
	cargo bench --features sqlite --bench journal
	cd benches/python && ../../$(BIN)/pytest -c /dev/null --rootdir . -q .

.PHONY: bench-peers
bench-peers: $(PEERS)/built  ## compare with other engines; writes docs/performance.md and docs/durability.md
	$(PEERS)/bin/python benches/python/compare_peers.py --write docs/performance.md
	$(PEERS)/bin/python benches/python/compare_durable.py --write docs/durability.md

# The decoders of everything that comes from outside; a crash, a second for one input or much memory fails.
FUZZ := snapshot_open snapshot_inspect record_decode archive_decode
FUZZ_SECONDS ?= 60

.PHONY: fuzz
fuzz: cargo  ## run each decoder on hostile bytes, for a minute
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	python3 fuzz/seed.py
	@for target in $(FUZZ); do \
		cargo fuzz run --sanitizer none $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=1 -rss_limit_mb=512 -max_len=16384 -print_final_stats=1 \
			|| exit 1; \
	done

# How many changes of the core are tried, and which; each takes a build and a run of its tests.
SAMPLE ?= 40
SEED ?= 1

.PHONY: mutants
mutants: cargo  ## change the core in a sample of places: the tests must notice 95 % of the changes
	@command -v cargo-mutants >/dev/null || cargo install --locked cargo-mutants
	python3 .ci/mutants.py --sample $(SAMPLE) --seed $(SEED)

.PHONY: wheel
wheel: setup  ## build a wheel into dist/, for this machine
	$(BIN)/maturin build --release --out dist --interpreter $(BIN)/python

# What is released. The linker of zig makes wheels that run on every Linux with glibc 2.17 or later.
RELEASE := .venv-release/bin

# A version whose interpreter is not here is built for all the same: nothing of it is linked.
WHEELS ?= 3.11 3.12 3.13 3.14
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: wheels
wheels: cargo $(RELEASE)/installed  ## build what is released into dist/: the sdist, and a wheel for each of WHEELS
	rm -rf dist
	$(RELEASE)/maturin sdist --out dist
	@for version in $(WHEELS); do \
		echo "==> wheel for Python $$version ($$(date +%H:%M:%S))"; \
		unset PYO3_PYTHON PYO3_CROSS_PYTHON_VERSION; \
		if python=$$(.ci/find-python $$version); then export PYO3_PYTHON=$$python; \
		else python=python$$version; export PYO3_CROSS_PYTHON_VERSION=$$version; fi; \
		PATH="$(CURDIR)/$(RELEASE):$$PATH" $(RELEASE)/maturin build --quiet --release --zig --target $(HOST) \
			--compatibility manylinux2014 --interpreter $$python --out dist || exit 1; \
	done
	$(RELEASE)/twine check --strict dist/*
	$(RELEASE)/python .ci/check_release.py dist


.PHONY: wheel-test
wheel-test:  ## use each wheel of dist/ in a bare Debian without a compiler; takes root
	.ci/test-wheels dist

.PHONY: sdist-test
sdist-test: python cargo  ## build the sdist of dist/ in a fresh environment, and use it
	rm -rf target/sdist-test
	$(PYTHON) -m venv target/sdist-test
	target/sdist-test/bin/python -m pip install --quiet dist/*.tar.gz
	cd target/sdist-test && bin/treadle demo | tail -n 3

.PHONY: clean
clean:  ## remove what the other verbs made
	rm -rf $(VENV) $(VENV)-* target dist python/treadle/*.so .mypy_cache .pytest_cache .ruff_cache

.PHONY: cargo
cargo:
	@command -v cargo >/dev/null || { echo 'cargo is missing: get Rust from https://rustup.rs' >&2; exit 1; }

.PHONY: python
python:
	@[ -n '$(PYTHON)' ] || { echo 'Python 3.11 or later is missing: get it from https://www.python.org' >&2; exit 1; }

$(VENV)/installed: requirements/dev.txt | python cargo
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements/dev.txt
	@touch $@

$(VENV)-%/installed: requirements/dev.txt
	$$(.ci/find-python $*) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --requirement requirements/dev.txt
	@touch $@

$(VENV)-%/built: export PYO3_PYTHON = $(CURDIR)/$(VENV)-$*/bin/python
$(VENV)-%/built: $(VENV)-%/installed $(RUST)
	CARGO_TARGET_DIR=target/pythons VIRTUAL_ENV=$(CURDIR)/$(VENV)-$* \
		$(VENV)-$*/bin/maturin develop --quiet --profile quick
	@touch $@

.PRECIOUS: $(VENV)-%/installed

$(SITE)/installed: requirements/site.txt | python
	$(PYTHON) -m venv .venv-site
	$(SITE)/python -m pip install --quiet --requirement requirements/site.txt
	@touch $@

$(RELEASE)/installed: requirements/release.txt | python
	$(PYTHON) -m venv .venv-release
	$(RELEASE)/python -m pip install --quiet --requirement requirements/release.txt
	@touch $@

$(VENV)/built: $(VENV)/installed $(RUST) | cargo
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release
	@touch $@

$(FAILPOINTS)/built: $(VENV)/installed $(RUST) $(shell find python/treadle -name '*.py') | cargo
	rm -rf $(FAILPOINTS)/wheel $(FAILPOINTS)/python
	$(BIN)/maturin build --profile failpoints --features python,failpoints \
		--out $(FAILPOINTS)/wheel --interpreter $(BIN)/python
	$(BIN)/python -m pip install --quiet --no-deps --target $(FAILPOINTS)/python $(FAILPOINTS)/wheel/*.whl
	@touch $@

$(PEERS)/built: benches/python/peers/requirements.txt benches/python/peers/requirements-blazen.txt \
		benches/python/peers/requirements-durable.txt $(VENV)/built
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --requirement benches/python/peers/requirements.txt
	-$(PEERS)/bin/python -m pip install --quiet --requirement benches/python/peers/requirements-blazen.txt
	-$(PEERS)/bin/python -m pip install --quiet --requirement benches/python/peers/requirements-durable.txt
	rm -rf $(PEERS)/wheel
	$(BIN)/maturin build --release --out $(PEERS)/wheel --interpreter $(PEERS)/bin/python
	$(PEERS)/bin/python -m pip install --quiet --force-reinstall --no-deps $(PEERS)/wheel/*.whl
	@touch $@
