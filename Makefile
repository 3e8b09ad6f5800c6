# The commands of this project; `make help` lists them. Everything lives in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The folder with the MNIST files. Without one they are downloaded into the user's cache.
DATA ?= $(wildcard ../shared/mnist)
export SMIDGEN_DATA := $(or $(SMIDGEN_DATA),$(abspath $(DATA)))
ifeq ($(SMIDGEN_DATA),)
unexport SMIDGEN_DATA
endif

.PHONY: help train test check slow wheel browser clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

train: $(BIN)/.ready ## Set up, train the default recipe on MNIST, show the result, write its page
	@$(BIN)/smidgen train --or-stripes --report

# A file runs in one process, so that what its tests share is made once.
test: $(BIN)/.ready-dev ## Set up, run every check and the fast tests
	@PATH="$(abspath $(BIN)):$$PATH" scripts/check
	@$(BIN)/pytest -q -n auto --maxprocesses 2 --dist loadfile

check: $(BIN)/.ready-dev ## Format, lint, import order and types only
	@PATH="$(abspath $(BIN)):$$PATH" scripts/check

slow: $(BIN)/.ready-dev ## The tests that need minutes
	@$(BIN)/pytest -q -n auto --maxprocesses 2 --dist loadfile -m slow

wheel: ## Build the package, install it alone in an empty folder, and use it there
	@PYTHON="$(PYTHON)" scripts/try_wheel

browser: ## Install what the browser tests of the report pages need beside node and Chromium
	@cd tests/report/browser && npm ci --silent

clean: ## Remove the environment and caches; runs stay
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf tests/report/browser/node_modules

$(BIN)/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (once; half a minute)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[images,report]'
	@touch $@

# torch's pinned version is the small CPU build where one is offered; an open range would
# bring gigabytes of CUDA.
$(BIN)/.ready-dev: $(BIN)/.ready
	@echo "Adding what checks and tests need"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
