# The two commands: `make demo` (the main job, end to end) and `make test` (everything).
# Both set up all they need: system packages on Debian, .venv, the locked requirements.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell sh moshid/demo/setup.sh python)
CACHE ?= .cache
STAMP := $(VENV)/.installed

.PHONY: demo test setup lint types imports tests bench lock clean

demo: setup ## download, load and talk with the demo model; report and picture in demo-out/
	$(BIN)/moshid demo --out demo-out

test: setup lint types imports tests ## everything

setup: $(STAMP) ## system packages (Debian), .venv, locked requirements
	@sh moshid/demo/setup.sh system

$(STAMP): requirements.lock pyproject.toml
	@sh moshid/demo/setup.sh system
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lint: setup
	$(BIN)/ruff format --check moshid client tests
	$(BIN)/ruff check moshid client tests

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

tests: setup
	$(BIN)/pytest

bench: setup ## speed and memory, as tables (tests/bench)
	$(BIN)/python -m tests.bench

lock: ## make requirements.lock again from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras --override moshid/demo/lock-overrides.txt \
	  pyproject.toml moshid/demo/lock-extras.txt -o requirements.lock

clean:
	rm -rf $(VENV) $(CACHE) demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis
