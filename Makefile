# Everything runs in .venv, which `make setup` builds from requirements.lock; nothing but the package index is reached.
PYTHON ?= python3
BIN := .venv/bin
STORE ?= demo-store
# Two spinning thread pools on one core crawl; sleeping ones do not.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup demo server test check bench lock clean

help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | while IFS='|' read -r n t; do printf '  make %-8s %s\n' "$$n" "$$t"; done

setup: .venv/ready ## set up .venv with exact versions

.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "tessera needs Python 3.11 or newer: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## 1,797 digits: images → samples, with a report to look at (minutes on 2 cores; cached afterwards)
	$(BIN)/tessera run digits --store $(STORE)

server: setup ## Prefect with everything in it, at http://127.0.0.1:4200: forms, progress, pictures; Ctrl-C ends it
	$(BIN)/tessera server --store $(abspath $(STORE))

test: setup ## the whole test suite, as CI runs it
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

check: setup ## ruff, formatting, types, imports, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/house_rules.py

bench: setup ## measure against plain baselines, and write docs/benchmarks.md
	$(BIN)/python -m benchmarks --write $(BENCH_ARGS)

lock: setup ## write requirements.lock anew from what .venv holds
	$(BIN)/python -m pip freeze --exclude-editable | sort -f > requirements.lock

clean: ## remove the environment and the demo's store
	rm -rf .venv demo-store
