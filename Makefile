# make run    install once, then the main job on the embedded default
# make test   install once, then the whole test suite
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run test lint bench install clean

run: $(INSTALLED)
	$(BIN)/neuron-explainer run

test: $(INSTALLED)
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python jobs/benchmark_collector.py
	$(BIN)/python jobs/benchmark_scaling.py
	$(BIN)/python jobs/benchmark_simulator.py
	$(BIN)/python jobs/benchmark_client.py
	$(BIN)/python jobs/benchmark_search.py
	$(BIN)/python -m jobs.benchmark_lookup
	$(BIN)/python jobs/benchmark_explainers.py
	$(BIN)/python -m jobs.benchmark_viewer

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
