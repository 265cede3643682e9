# Everything runs in .venv, which is made on first use and again when
# pyproject.toml or what is compiled changes. Needed beforehand: Python 3.10+ with pip, and make.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo ui test check bench clean
.DELETE_ON_ERROR:

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

demo: $(INSTALLED)  ## Load the 336,776 flights of 2013 through Dagster
	@$(PY) -m demo.run

ui: $(INSTALLED)  ## Open Dagit on the demo: http://127.0.0.1:3000, or another PORT=...
	@$(PY) -m demo.ui

test: $(INSTALLED)  ## Run the tests; PYTEST_ARGS=... are passed to pytest
	@.ci/compiler
	@.ci/browser
	@.ci/oracle
	@.ci/pooler
	@.ci/postgresql
	@$(PY) -m pytest --numprocesses auto --dist loadscope --no-loadscope-reorder \
		$(PYTEST_ARGS)

check: $(INSTALLED)  ## Check style, format, types and import layers
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy mapper_core mapper_dagster demo benchmarks tests
	$(VENV)/bin/lint-imports

bench: $(INSTALLED)  ## Run all benchmarks; WHAT=pipes,... for some, ROWS=... for fewer than 6 million rows
	@$(PY) -m pip install --quiet --quiet --editable '.[bench]'
	@$(PY) -m benchmarks $(if $(WHAT),--what $(WHAT)) $(if $(ROWS),--rows $(ROWS)) \
		$(if $(ROUNDS),--rounds $(ROUNDS))

clean:  ## Remove everything that the other targets made, the demo's data included
	@if [ -d .demo ] && [ -x $(PY) ]; then $(PY) -m demo.server --stop; fi
	rm -rf .demo .bench .h2 $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache \
		.hypothesis build dist *.egg-info mapper_core/adapters/postgresql/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Written for any Python, so that an old one is told so instead of failing oddly.
define REQUIRE_PYTHON
import sys
if sys.version_info < (3, 10):
    sys.exit("mapper needs Python 3.10 or newer; %s is %d.%d.\n"
             "Name a newer one:  make PYTHON=python3.12 ..."
             % (sys.executable, sys.version_info[0], sys.version_info[1]))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("%s cannot make virtual environments. On Debian and Ubuntu:\n"
             "  sudo apt install python%d.%d-venv"
             % (sys.executable, sys.version_info[0], sys.version_info[1]))
endef
export REQUIRE_PYTHON

$(INSTALLED): pyproject.toml mapper_core/adapters/postgresql/_arrivals.c
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "There is no $(PYTHON): install Python 3.10 or newer." >&2; exit 1; }
	@"$(PYTHON)" -c "$$REQUIRE_PYTHON"
	@$(PY) -c 'import pip' 2>/dev/null || rm -rf $(VENV)
	@[ -x $(PY) ] || "$(PYTHON)" -m venv $(VENV)
	@echo "Installing into $(VENV) (once; a minute or two) ..."
	@$(PY) -m pip install --quiet --quiet --editable '.[dev]'
	@touch $@
