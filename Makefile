# The two commands: `make demo` (the main job, end to end) and `make test` (everything).
# Both set up all they need: system packages on Debian, .venv, the locked requirements.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell sh moshid/demo/setup.sh python)
CACHE ?= .cache
STAMP := $(VENV)/.installed
NEWEST_HUB := $(CACHE)/newest-hub/.installed

.PHONY: demo test setup setup-demo packages lint types imports tests tests-of-sound tests-of-the-rest tests-alone lock clean

demo: setup-demo ## download, load and talk with the demo model; report and picture in demo-out/
	$(BIN)/moshid demo --out demo-out

test: lint types imports tests ## everything

setup: setup-demo $(NEWEST_HUB) ## all of it: system packages (Debian), .venv, locked requirements
	@sh moshid/demo/setup.sh tests

setup-demo: packages $(STAMP)

packages:
	@sh moshid/demo/setup.sh demo

$(STAMP): requirements.lock pyproject.toml | packages
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(NEWEST_HUB): tests/newest_hub.lock | $(STAMP) # huggingface_hub's newest major, for tests beside 0.28
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

lint: setup-demo
	$(BIN)/ruff format --check moshid client tests
	$(BIN)/ruff check moshid client tests

types: setup-demo ## as on Linux, and as on macOS
	$(BIN)/mypy
	$(BIN)/mypy --platform darwin

imports: setup-demo
	$(BIN)/lint-imports

# Sound is heard in real time and goes first; the rest shares what the cores have left meanwhile.
UNPACED := %/test_audio_codecs.py
SOUND := $(filter-out $(UNPACED),$(wildcard tests/integration/test_audio_*.py)) \
  $(addprefix tests/integration/,test_demo_run.py test_journey.py test_journey_devices.py)

tests: setup # not by "&": the shell lets what it puts into the background ignore SIGQUIT
	@$(MAKE) --no-print-directory --keep-going --jobs=2 $(HALVES) \
	  || $(MAKE) --no-print-directory tests-alone

HALVES := tests-of-sound tests-of-the-rest
REMEMBERED = -o cache_dir=$(abspath $(CACHE))/$@
ENDED = ; code=$$?; echo $$code > $(CACHE)/$@.ended; exit $$code

tests-of-sound: # one after the other, in a process of their own: see faulthandler_timeout
	$(BIN)/pytest -n 1 $(REMEMBERED) $(SOUND) $(ENDED)

tests-of-the-rest:
	nice -n 10 $(BIN)/pytest -n 4 --dist worksteal $(REMEMBERED) $(SOUND:%=--ignore=%) $(ENDED)

tests-alone: ## what failed beside others, once more with the machine to itself; up to the first that fails again
	@for half in $(HALVES); do \
	  case $$(cat $(CACHE)/$$half.ended) in \
	    0) ;; \
	    1) echo "Failed in $$half, now alone:"; \
	       $(BIN)/pytest -o cache_dir=$(abspath $(CACHE))/$$half -v -x --last-failed --last-failed-no-failures none || exit 1;; \
	    *) echo "$$half did not come to its end"; exit 1;; \
	  esac; \
	done

lock: ## make the locks again, of pyproject.toml and of tests/newest_hub.in (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras --override moshid/demo/lock-overrides.txt \
	  pyproject.toml moshid/demo/lock-extras.txt -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --no-emit-package hf-xet tests/newest_hub.in -o tests/newest_hub.lock

clean:
	rm -rf $(VENV) $(CACHE) demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis
