# `make` lists the targets. The environments are made once, and again when pyproject.toml changes.
SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export NO_MKDOCS_2_WARNING := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# What is compiled is kept, whatever the environment says: tests start Python hundreds of times.
unexport PYTHONDONTWRITEBYTECODE
export UV_COMPILE_BYTECODE := 1

PYTHON := .venv/bin/python
STEP := tools/step
EXTRAS := --editable ".[postgresql,mariadb,async,async-mariadb,redis,httpx2,cli,testing]"
PYTEST := -m pytest --quiet -rs --numprocesses auto --dist loadgroup
# What a user's machine runs too: all tests but those of the checkout itself.
HOUSE := tests/house tests/docs tests/packaging
# The typed code outside the package, where it exists.
TYPED := src tests/docs tests/house tests/packaging $(wildcard tests/typing benchmarks/*.py examples/*/*.py tools/*.py)

.PHONY: help demo test check lint format bench torture coverage docs serve build clean \
	ruff mypy pyright floors quick tests tests-3.13

help: ## list these targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/p' Makefile | expand --tabs 16

demo: .venv/ready ## place real orders on SQLite and show what happened
	@$(PYTHON) examples/online_retail --data examples/online_retail/sample

test: ## run everything: lint, types, floors, all tests, docs, wheel, Python 3.13
	@$(MAKE) --keep-going lint tests tests-3.13 BESIDE=.venv-3.13/ready

check: ## run the everyday part, in at most two minutes
	@$(MAKE) --keep-going --jobs 2 --output-sync ruff mypy floors quick

lint: ## check style, types and floors
	@$(MAKE) --keep-going --jobs 2 --output-sync ruff mypy pyright floors $(BESIDE)

format: .venv/ready ## format the code and repair what can be repaired
	@$(PYTHON) -m ruff check --quiet --fix .
	@$(PYTHON) -m ruff format .

bench: .venv/ready-bench ## measure, write build/bench.json and print the table
	@$(PYTHON) -m benchmarks

torture: .venv/ready ## run the long crash profiles
	@$(PYTHON) -m pytest -rs -m torture tests

coverage: .venv/ready ## measure which lines and branches the tests reach
	@$(PYTHON) -m coverage erase
	@$(PYTHON) -m coverage run $(PYTEST) tests $(HOUSE:%=--ignore=%)
	@$(PYTHON) -m coverage combine --quiet
	@$(PYTHON) -m coverage report

docs: .venv/ready ## build the documentation into build/site; broken links are errors
	@$(STEP) docs $(PYTHON) -m mkdocs build --strict

serve: .venv/ready ## show the documentation while it is written
	@$(PYTHON) -m mkdocs serve

build: .venv/ready ## build wheel and sdist into build/dist
	@rm -rf build/dist
	@$(STEP) build $(PYTHON) -m build --no-isolation --outdir build/dist

clean: ## remove everything that was made, environments included
	rm -rf .venv .venv-* build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

# --- steps ----------------------------------------------------------------------------------

ruff: .venv/ready
	@$(STEP) "ruff check" $(PYTHON) -m ruff check --output-format concise .
	@$(STEP) "ruff format" $(PYTHON) -m ruff format --check .

mypy: .venv/ready
	@$(STEP) mypy $(PYTHON) -m mypy $(TYPED)

pyright: .venv/ready
	@$(STEP) pyright $(PYTHON) -m pyright

floors: .venv/ready
	@$(STEP) floors .venv/bin/lint-imports

quick: .venv/ready
	@$(STEP) tests-quick $(PYTHON) $(PYTEST) -m "not slow and not torture" tests

tests: .venv/ready
	@$(STEP) tests $(PYTHON) $(PYTEST) tests

# The everyday part, on the built wheel and not on the source tree.
tests-3.13: .venv-3.13/ready build
	@if [[ -e .venv-3.13/ready ]]; then \
		tools/environment .venv-3.13 3.13 --no-deps --force-reinstall build/dist/*.whl >/dev/null && \
		$(STEP) tests-3.13 .venv-3.13/bin/python $(PYTEST) -m "not slow and not torture" tests $(HOUSE:%=--ignore=%); \
	fi

# --- environments ---------------------------------------------------------------------------

.venv/ready: pyproject.toml
	@$(STEP) environment tools/environment .venv 3.11+ $(EXTRAS) --group dev
	@touch $@

.venv/ready-bench: .venv/ready
	@$(STEP) environment-bench tools/environment .venv 3.11+ --group bench
	@touch $@

.venv-3.13/ready: pyproject.toml
	@$(STEP) environment-3.13 tools/environment .venv-3.13 3.13 ".[postgresql,mariadb,async,async-mariadb,redis,httpx2,cli,testing]" --group test
	@[[ ! -e .venv-3.13 ]] || touch $@
