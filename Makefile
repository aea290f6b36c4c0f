# Two commands do everything: `make run` and `make test`. The rest is for daily work.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTHON ?= python3

.PHONY: run test up lint lock docs clean
.DEFAULT_GOAL := run

run: $(STAMP)  ## the closed circle in the simulated organisation, then where to look
	$(BIN)/loop run

test: $(STAMP)  ## every test, on two cores
	$(BIN)/pytest -n 2 --dist worksteal

up: $(STAMP)  ## Postgres, MLflow, Dagster webserver and daemon, until Ctrl-C
	$(BIN)/loop up

lint: $(STAMP)  ## style, types, layers, Dagster's definitions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	eval "$$($(BIN)/loop env)" && $(BIN)/dagster definitions validate -w workspace.yaml; code=$$?; $(BIN)/loop down; exit $$code

lock: $(STAMP)  ## compile the exact versions from pyproject.toml; torch's local label names no file of an index
	$(BIN)/pip-compile --quiet --all-extras --strip-extras --no-emit-index-url --no-emit-find-links \
	    --no-emit-trusted-host --no-header --no-annotate --output-file constraints.txt pyproject.toml
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' constraints.txt

docs: $(STAMP)  ## the table reference from the schema
	$(BIN)/python docs/tables.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/pip install --progress-bar on --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .loop
