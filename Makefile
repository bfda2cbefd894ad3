# The two commands: `make demo` (the main job, end to end) and `make test` (everything).
# Both set up all they need: system packages on Debian, .venv, the locked requirements.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell sh moshid/demo/setup.sh python)
CACHE ?= .cache
STAMP := $(VENV)/.installed

.PHONY: demo test setup setup-demo packages lint types imports tests lock clean

demo: setup-demo ## download, load and talk with the demo model; report and picture in demo-out/
	$(BIN)/moshid demo --out demo-out

test: lint types imports tests ## everything

setup: setup-demo ## all of it: system packages (Debian), .venv, locked requirements
	@sh moshid/demo/setup.sh tests

setup-demo: packages $(STAMP)

packages:
	@sh moshid/demo/setup.sh demo

$(STAMP): requirements.lock pyproject.toml | packages
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lint: setup-demo
	$(BIN)/ruff format --check moshid client tests
	$(BIN)/ruff check moshid client tests

types: setup-demo
	$(BIN)/mypy

imports: setup-demo
	$(BIN)/lint-imports

tests: setup
	$(BIN)/pytest

lock: ## make requirements.lock again from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras --override moshid/demo/lock-overrides.txt \
	  pyproject.toml moshid/demo/lock-extras.txt -o requirements.lock

clean:
	rm -rf $(VENV) $(CACHE) demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis
