# Everything a developer does. `make race` and `make test` need Python 3.11+ with venv, and nothing
# else: each sets up what it needs in $(VENV) first, from the versions in constraints.txt.

PYTHON ?= python3
VENV ?= .venv
OPTAX ?= git+https://github.com/google-deepmind/optax
BIN = $(VENV)/bin
READY = $(VENV)/.ready
WORKERS ?= auto
SHARE ?= 1/1

.PHONY: help setup race test test-slow test-newest test-head test-clients test-tpu lint docs docs-links \
  docs-serve package test-package format lock clean
.DEFAULT_GOAL := help

help:  ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(READY)  ## Set up $(VENV) only.

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "gradsmith needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[race,dev]'
	@touch $@

# It should take five minutes: few steps, no look inside, which compiles every entry once more, and rates so far
# apart that everyone's best is between them.
race: $(READY)  ## Race AdamW, two Muons, forge and a home-made optimizer on Shakespeare.
	@$(BIN)/gradsmith race forge adamw muon optax.contrib.muon \
	  examples/custom_optimizer.py:custom_optimizer --arg constant=0.95 \
	  --rates 0.002 0.01 0.06 0.3 --extensions 0 --task-arg steps=130 --no-watch

test: $(READY)  ## Run the tests, docstrings and documentation pages.
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not clients"

test-slow: $(READY)  ## Run what `make test` leaves out.
	@$(BIN)/python -m pytest -n $(WORKERS) -m "slow and not clients" --share $(SHARE)

# The command line and the diff call JAX through what the others test. Of the cases of one test, such as
# those of each dtype, one in four shows whether the versions fit. Pages quote what the versions of
# constraints.txt print.
test-newest: $(READY)  ## Run what depends on the versions of JAX and Optax; for a second Python.
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not clients" --share 1/4 \
	  --ignore-glob='*/test_cli_*' --ignore-glob='*/test_docs_outputs.py' --ignore-glob='*/test_checks_[dfr]*' \
	  --ignore-glob='*/test_race_[defhklpst]*'

# constraints.txt does not know that commit, so it gets an environment of its own.
test-head:  ## Run the same with the newest commit of Optax.
	@$(MAKE) --no-print-directory VENV=$(VENV)-head setup
	@$(VENV)-head/bin/python -m pip install --quiet --disable-pip-version-check --upgrade '$(OPTAX)'
	@$(MAKE) --no-print-directory VENV=$(VENV)-head test-newest

test-clients: $(READY)  ## Install the libraries of others that train with gradsmith, and test that.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[clients,cluster]'
	@$(BIN)/python -m pytest -m clients tests/clients tests/test_race_cluster.py

test-tpu: $(READY)  ## Install the compiler for TPUs (130 MB, needs no TPU), and test what it makes.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[tpu]'
	@$(BIN)/python -m pytest -m slow tests/test_observe_topologies.py

lint: $(READY)  ## Check style and types.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright --pythonpath $(BIN)/python

# SPHINX="-D plot_gallery=0" leaves out the races of the gallery, which take minutes.
docs: $(READY)  ## Build the site into docs/_build; a warning is an error.
	@rm -rf docs/_build docs/generated docs/gallery
	@$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs src examples benchmarks
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going $(SPHINX) docs docs/_build
	@echo "docs/_build/index.html"

docs-links: $(READY)  ## Follow every link of the site to other sites.
	@$(BIN)/sphinx-build --quiet -D plot_gallery=0 -b linkcheck docs docs/_build/links

docs-serve: docs  ## Build the site and serve it.
	@$(BIN)/python -m http.server --directory docs/_build 8000

package: $(READY)  ## Build and check what is released, into dist/.
	@rm -rf dist
	@$(BIN)/python -m build --quiet
	@$(BIN)/twine check --strict dist/*

test-package: package  ## Install what is released in a clean environment, and test that.
	@$(BIN)/python -m pytest tests/package_tests.py

format: $(READY)  ## Mend style.
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: $(READY)  ## Write constraints.txt anew, with the newest versions for every Python.
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --upgrade --no-header --no-annotate --quiet --output-file constraints.txt

clean:  ## Remove the environment and all results.
	rm -rf $(VENV) $(VENV)-head runs docs/_build docs/generated docs/gallery
