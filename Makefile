.DEFAULT_GOAL := help
.PHONY: help run secrets test bench soak lint rules layout types imports dependencies tools pytest format lock clean \
	install install-dev install-bench

VENV := .venv
BIN := $(VENV)/bin
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$p" -c '$(NEW_ENOUGH)' 2>/dev/null && { echo "$$p"; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --upgrade --custom-compile-command "make lock"

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: install ## Install what is needed into .venv and serve in the foreground until Ctrl-C
	@exec $(BIN)/lizenzserver serve

secrets: ## Make the secrets that compose.yaml reads, in the folder secrets/; never over those that are there
	@infra/compose/make-secrets.sh

test: lint pytest ## Lint, check types and imports, run all tests

bench: install-bench tools ## Measure beside baselines, as ARGS say; see bench/README.md
	@$(BIN)/python -m bench $(ARGS)

soak: install-bench tools ## Take part after part away under load, for an hour or two, and count what must hold; see docs/reliability.md
	@$(BIN)/python -m tests.faults.soak $(ARGS)
	@FUZZ_REQUESTS=1000000 $(BIN)/python -m pytest tests/security/test_mutated_requests.py

lint: rules layout types imports dependencies ## All checks that run nothing: ruff, mypy, import-linter, deptry

rules: install-dev
	@echo "== ruff: rules"; $(BIN)/ruff check

layout: install-dev
	@echo "== ruff: layout"; $(BIN)/ruff format --check

types: install-bench
	@echo "== mypy: types"; $(BIN)/mypy

imports: install-dev
	@echo "== import-linter: who imports whom"; $(BIN)/lint-imports

dependencies: install-dev
	@echo "== deptry: declared dependencies"; $(BIN)/deptry .

tools:
	@tests/install-tools.sh

pytest: install-bench tools
	@echo "== pytest: tests"; $(BIN)/python $(if $(ARGS),-m pytest $(ARGS),tests/side_by_side.py)

format: install-dev ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

lock: install-dev ## Pin the newest allowed versions, with hashes, into requirements*.txt
	@echo "== pinning requirements.txt"; $(COMPILE) --extra install -o requirements.txt pyproject.toml
	@echo "== pinning requirements-dev.txt"
	@$(COMPILE) --extra install --extra dev -c requirements.txt -o requirements-dev.txt pyproject.toml
	@echo "== pinning requirements-bench.txt"
	@$(COMPILE) --extra install --extra dev --extra bench -c requirements-dev.txt -o requirements-bench.txt pyproject.toml

clean: ## Remove .venv and caches; the data folder var/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

install-bench: $(VENV)/.installed-bench

$(VENV)/.installed: requirements.txt pyproject.toml $(BIN)/python
$(VENV)/.installed-dev: requirements-dev.txt pyproject.toml $(BIN)/python
$(VENV)/.installed-bench: requirements-bench.txt pyproject.toml $(BIN)/python
$(VENV)/.installed $(VENV)/.installed-dev $(VENV)/.installed-bench:
	@echo "== installing $< into $(VENV)"
	@$(PIP) install --require-hashes -r $<
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; found neither python3.11 nor a newer python3" \
		"(or name one: make PYTHON=/path/to/python3)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) has no venv and ensurepip" \
		"(on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
