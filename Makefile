# Everything a developer needs: make demo, make test, make check, make bench. The targets install what they need.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo install test fuzz check format bench lock clean

demo: install
	$(BIN)/longshore demo

install: .venv/installed

test: .venv/installed-dev
	$(BIN)/python -m pytest

# At least 20,000 requests that schemathesis makes up, with and without credentials; takes some minutes.
fuzz: .venv/installed-dev
	$(BIN)/python -m tests.fuzz

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks

# A new lock, for Python 3.11 and later alike; run it after changing the dependencies in pyproject.toml.
lock: .venv/bin/python
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --no-header --no-annotate --generate-hashes --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv data benchmarks/results

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Longshore needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
