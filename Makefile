# Two commands do everything: `make run` and `make test`. A second run installs nothing.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Those that start real servers come last and one by one: they need the machine for themselves.
TESTS = $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile -m "not system" \
	&& $(BIN)/python -m pytest -m system

# Bytecode makes the first imports three times faster; some machines switch it off.
unexport PYTHONDONTWRITEBYTECODE
# The matrices here are small: a second thread of the linear algebra waits for the first, and spins while it does.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help run test check chaos format

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: .venv/run.stamp  ## install what is missing, then start everything: server, features, models
	@$(BIN)/nba up

test: .venv/test.stamp  ## install what tests need, then run all of them
	@$(TESTS)

check: .venv/test.stamp  ## format, lint, types, import rules, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TESTS)

chaos: .venv/test.stamp  ## break a server in every way we know, ten minutes; the table goes into experiments/chaos
	@$(BIN)/python experiments/chaos/run.py \
		--json experiments/chaos/result.json --markdown experiments/chaos/README.md

fuzz: .venv/test.stamp  ## feed each parser and the whole server with damaged input, SECONDS (60) each
	NBA_FUZZ_SECONDS=$(or $(SECONDS),60) NBA_FUZZ_SEED=$(or $(SEED),$(shell date +%s)) $(BIN)/python -m pytest -v tests/fuzz

format: .venv/test.stamp  ## mend what can be mended by machine
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv (about three minutes, once)"
	@$(INSTALL) --editable .
	@touch $@

.venv/test.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "installing into .venv, with what tests need (about three minutes, once)"
	@$(INSTALL) --editable '.[test]'
	@touch .venv/run.stamp $@
