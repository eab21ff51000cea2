# Everything that a developer does, each in one command. `make help` lists them.

# The Python that .venv is made from; by default the first of 3.11, 3.12 and 3.13 that really runs here.
PYTHON ?=

# Where MNIST and the published instances are, if they are here; without them the tests that need them skip and say so.
ifneq ($(wildcard ../shared/data),)
export POET_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/instances),)
export POET_INSTANCES ?= $(abspath ../shared/instances)
endif

BIN := .venv/bin
# Newer than everything that decides what is in .venv, so that a second call costs nothing. Its name is a checksum of the
# modules' names: the editable install has a map of them, and a module that moves must not be looked for in its old place.
PACKAGES := poet_core solvers poet_client poet_runtime projection_nets poet_service poet_cli device_profiles
STAMP := .venv/.made-$(shell find $(PACKAGES) -name '*.py' 2>/dev/null | LC_ALL=C sort | cksum | cut -d ' ' -f 1)

.PHONY: help demo test test-all lint check format bench poet-experiments serve clean
.PHONY: lint-rules lint-format lint-types lint-imports
.DEFAULT_GOAL := help

help:
	@echo "make demo      trace, plan, judge and train a ProjectionNet inside a fraction of the RAM"
	@echo "make test      the tests, without the slow ones"
	@echo "make test-all  the tests, the slow ones too"
	@echo "make lint      ruff, mypy and the import contracts"
	@echo "make check     poet check: do the examples still fit the devices that poet-check.toml names"
	@echo "make format    let ruff rewrite the files"
	@echo "make bench     the measurements behind the claims (benchmarks/)"
	@echo "make poet-experiments  POET's experiments, rerun: 45 minutes, continued where it stopped"
	@echo "make serve     the planning service on http://127.0.0.1:8080"
	@echo "make clean     remove what these commands made, .venv too"

demo: $(STAMP)
	@$(BIN)/python -m examples.demo

test: $(STAMP)
	@$(BIN)/python scripts/run_tests.py -m "not slow"

test-all: $(STAMP)
	@$(BIN)/python scripts/run_tests.py

# Four checks that stand on their own, so that `make -k lint` says everything at once.
lint: lint-rules lint-format lint-types lint-imports

lint-rules: $(STAMP)
	@$(BIN)/ruff check

lint-format: $(STAMP)
	@$(BIN)/ruff format --check

lint-types: $(STAMP)
	@$(BIN)/mypy

# import-linter looks the modules up by itself; solvers/ is where poet_solvers is.
lint-imports: $(STAMP)
	@PYTHONPATH=solvers $(BIN)/lint-imports

# The gate that this project is for, on its own examples (poet-check.toml); what did not change is answered from a cache.
check: $(STAMP)
	@$(BIN)/poet check

format: $(STAMP)
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(STAMP)
	@$(BIN)/python -m benchmarks

poet-experiments: $(STAMP)
	@$(BIN)/python -m benchmarks.poet_experiments --jobs 2

serve: $(STAMP)
	@$(BIN)/poet serve

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt scripts/make_venv.sh scripts/find_python.sh
	@PYTHON="$(PYTHON)" scripts/make_venv.sh
	@rm -f .venv/.made-* && touch $@
