# Everything from a bare python3: `make test` in a fresh clone installs what it needs and runs.
# The environment is made anew whenever what it is made of changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEVICES ?= 100000
PROVIDERS ?= three
ONLY ?=
SIZES ?=
MINUTES ?=
DATA ?=
SENDERS ?= 3

.PHONY: help env test fast lint format demo bench growth soak chaos simulate fuzz conformance drill dev histories schema lock secrets clean

help:
	@echo "make demo    one durable campaign to DEVICES=100000 devices, judged at the end (PROVIDERS=all: all of them)"
	@echo "make bench   what Clarion costs, beside its peers and its bars (ONLY=apns,fcm,webpush,vendors,ledger,pipeline,stop)"
	@echo "make growth  the same campaign at SIZES=100000,1000000,10000000: what grows and what does not"
	@echo "make soak    the stack in use for MINUTES=30, with faults and releases: nothing lost, nothing grows"
	@echo "make chaos   campaigns in flight while everything around them breaks (SEED= DEVICES=), judged"
	@echo "make simulate lives of campaigns under a virtual clock, from a seed that lives them again (SEED=1 LIVES=200), judged"
	@echo "make conformance every sender by every case: accepted, dead, throttled, silent, garbage, …"
	@echo "make dev     PostgreSQL, Temporal with its UI, the simulators and the workers, until Ctrl-C"
	@echo "make test    all tests (ARGS= goes to pytest)"
	@echo "make fast    the tests that need no whole stack"
	@echo "make fuzz    mutants of tests/corpus against all parsers for MINUTES=5 (SEED= ONLY=, or REPLAY=build/fuzz/…)"
	@echo "make lint    ruff, mypy, import-linter"
	@echo "make schema  docs/schema: what workflows take and give, from the models"
	@echo "make drill   the operator's fourteen stories by clarion, temporal and Temporal's UI, timed (needs Chromium)"
	@echo "make screenshot pictures of Temporal's UI into docs/images, their text checked (needs Chromium)"
	@echo "make histories record the workflow histories of tests/histories anew (docs/changing-workflows.md)"
	@echo "make secrets the secrets of docker-compose.yml, once"
	@echo "make lock    resolve requirements.lock anew"

env: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Clarion needs Python 3.11 or newer")'
	@echo "installing into $(VENV), once: about a minute"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

# Most tests wait more than they compute, so there are more processes than cores; file by file, in our order.
# Those of the whole stack measure an operator's seconds: one at a time.
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST) -n 4 tests/unit tests/integration $(ARGS)
	$(BIN)/python -m pytest tests/acceptance $(ARGS)

fast: $(READY)
	$(PYTEST) -n 2 -m "not slow" tests/unit tests/integration $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chaos: $(READY)
	$(BIN)/python -m benchmarks.chaos --devices $(DEVICES) $(if $(SEED),--seed $(SEED))

simulate: $(READY)
	$(BIN)/python -m benchmarks.simulation $(if $(SEED),--seed $(SEED)) $(if $(LIVES),--lives $(LIVES))

fuzz: $(READY)
	$(BIN)/python -m benchmarks.fuzz --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) \
		$(if $(REPLAY),--replay $(REPLAY))

demo: $(READY)
	$(BIN)/python -m benchmarks.demo --devices $(DEVICES) --providers $(PROVIDERS)

bench: $(READY)
	$(BIN)/python -m benchmarks.bench $(if $(ONLY),--only $(ONLY)) $(if $(filter command line environment,$(origin DEVICES)),--devices $(DEVICES))

growth: $(READY)
	$(BIN)/python -m benchmarks.growth $(if $(SIZES),--sizes $(SIZES)) --picture docs/images/growth.svg

soak: $(READY)
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),30)

conformance: $(READY)
	$(BIN)/python -m tests.integration.sender_conformance

dev: $(READY)
	$(BIN)/clarion dev --senders $(SENDERS) $(if $(DATA),--data $(DATA))

schema: $(READY)
	$(BIN)/python -m workers.schema

screenshot: $(READY) chromium
	$(BIN)/python -m benchmarks.screenshots

drill: $(READY) chromium
	$(BIN)/python -m benchmarks.drill $(ARGS)

# What the tests of Temporal's UI, `make drill` and `make screenshot` drive.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
		test "$$(id -u)" = 0 || { echo "no Chromium: install the package chromium as root"; exit 1; }; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk; }

# Only when workflows are meant to decide otherwise from now on: the recorded histories are what a release owes
# to the pushes that run while it is rolled out.
histories: $(READY)
	$(BIN)/python -m tests.support.recording $(SCENARIOS)

# No host names and no paths in the lock: it must mean the same against any mirror.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check pip-tools
	build/lock/bin/pip-compile --quiet --all-extras --build-deps-for editable --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header \
		--output-file requirements.lock pyproject.toml

secrets:
	deploy/secrets.sh

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
