# `make` lists what can be made. Everything runs inside .venv, which `make env` builds.

PYTHON ?= python3
CORES ?= 2
RESULTS ?= results
PAPER ?= $(RESULTS)/paper

BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO_TABLES := table1 table2 table3 table4 table5

.DEFAULT_GOAL := help
.PHONY: help env demo pdf test lint docs audit clean

help:
	@echo 'make env     build .venv with everything at the versions of constraints.txt (again if they change)'
	@echo 'make demo    the tables on a few photographs, and some training steps: minutes, no GPU, no data to download'
	@echo 'make pdf     compile the tables and figures of $(RESULTS) with LaTeX, e.g. make pdf RESULTS=results/demo'
	@echo 'make test    run the tests'
	@echo 'make lint    check style and workflow'
	@echo 'make docs    build the documentation site into site/; every warning is an error'
	@echo 'make audit   ask for known vulnerabilities of the pinned packages, where the network allows'
	@echo 'make clean   delete results, with the state of trainings, and caches; keep results/published, data and .venv'
	@echo
	@echo 'Variables: PYTHON=$(PYTHON) (3.11 or newer) makes .venv; CORES=$(CORES) for the demo.'

env: $(INSTALLED)

# The stamp is written last: an installation that was interrupted has none, and starts from an empty .venv.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: '$(PYTHON)' is not Python 3.11 or newer; try make PYTHON=python3.12" >&2; exit 1; }
	@test -f $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@echo 'installing into .venv: a few minutes the first time'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[bench,dev]'
	@touch $@

demo: env
	$(BIN)/snakemake --cores $(CORES) $(DEMO_TABLES) figures train report paper --configfile workflow/config/demo.yaml
	@echo
	@cat $(DEMO_TABLES:%=results/demo/tables/%.md)
	@echo
	@echo 'All of it, with figures, on one page: results/demo/report.html'

pdf: env
	@$(BIN)/python -m bench paper --from $(RESULTS) --output $(PAPER) --pdf

test: env
	$(BIN)/python -m pytest -q

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint

docs: env
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/mkdocs build --strict

audit: env
	@.ci/audit

clean:
	@if [ -d results ]; then find results -mindepth 1 -maxdepth 1 ! -name published -exec rm -rf {} +; fi
	@rm -rf .snakemake .pytest_cache .ruff_cache .hypothesis build site
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
