# Everything a person or a machine does with this tree. Needs make and Python 3.11+ (with venv and pip), nothing else:
# the environments are made here, from locks with hashes.

PYTHON ?= python3
VENV ?= .venv
VENV_GENERATE ?= .venv-generate
VENV_FLOOR ?= .venv-floor
VENV_RIVAL ?= .venv-rival
# Seconds after which `make torture` is given up as hanging.
TORTURE_SECONDS ?= 3600
# Further arguments for pytest (test, torture) or the benchmarks (bench): make test ARGS='tests/unit -k deadline'
ARGS ?=

BIN := $(VENV)/bin
INSTALL := sh scripts/install.sh
MEMBERS := generated/python client server
MEMBER_FILES := $(MEMBERS:=/pyproject.toml)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --no-emit-package toolwright-protos $(UPGRADE)

# Trust what the machine trusts: networks with their own certificate authority work unchanged.
export UV_SYSTEM_CERTS ?= 1
# Tests start some hundred processes: without compiled modules each of them would compile SQLAlchemy and the rest anew.
export UV_COMPILE_BYTECODE ?= 1
unexport PYTHONDONTWRITEBYTECODE

# Three processes per two cores, as servers that start leave them idle; a file of tests at a time, those of whole servers
# first. PARALLEL= for one after the other.
export PYTEST_XDIST_AUTO_NUM_WORKERS ?= $(shell echo $$(($$(nproc) * 3 / 2)))
PARALLEL ?= -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow torture torture-sample floor bench bench-admission bench-history check check-style check-types check-imports check-sizes \
	check-locks check-protos check-generated format proto lock upgrade clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready-dev ## make the environment for all the rest
	@echo "$(VENV) is ready"

run: export TOOLWRIGHT_CONFIG ?= examples/local.toml
run: $(VENV)/.ready-run ## start the server on 127.0.0.1:50051, as examples/local.toml says
	@exec $(BIN)/toolwright serve

test: $(VENV)/.ready-dev ## run the tests, in a few minutes
	@$(BIN)/python -m pytest --ignore=tests/torture -m 'not torture and not slow' $(PARALLEL) $(ARGS)
	@echo "not run: installations, several processes, deaths and takeovers (make test-slow), the long forms (make torture)"

test-slow: $(VENV)/.ready-dev ## run those of whole installations, several processes, deaths and takeovers
	@$(BIN)/python -m pytest --ignore=tests/torture -m slow $(PARALLEL) $(ARGS)

torture: $(VENV)/.ready-dev ## run the long tests: deadlines, leaks, kills
	@timeout --kill-after=30 $(TORTURE_SECONDS) \
		$(BIN)/python -m pytest tests/torture --timeout=$(TORTURE_SECONDS) $(ARGS)

# Those that `make test` has a sample of itself, and what only a machine with nothing else to do can judge (neighbours).
SAMPLED := $(patsubst %,--ignore=tests/torture/test_%.py,credits half_open limit_store_faults neighbours several \
	shared_limits_served)

torture-sample: ## those that the tests have no sample of, at a tenth of the length (TORTURE_SCALE=0.1)
	@TORTURE_SCALE=0.1 $(MAKE) --no-print-directory torture TORTURE_SECONDS=800 ARGS='$(SAMPLED)'

floor: $(VENV_FLOOR)/.ready ## run the tests on the oldest gRPC and protobuf that users may have
	@$(VENV_FLOOR)/bin/python -m pytest --ignore=tests/torture --ignore=tests/packaging -m 'not torture and not slow' $(PARALLEL) $(ARGS)

bench: $(VENV)/.ready-dev $(VENV_RIVAL)/.ready ## compare the server with a bare gRPC echo and with FastMCP
	@$(BIN)/python -m benchmarks --rival $(VENV_RIVAL)/bin/python $(ARGS)

bench-admission: $(VENV)/.ready-dev ## compare one script for all limits of a call with a limiter library
	@$(BIN)/python -m benchmarks.admission $(ARGS)

bench-history: $(VENV)/.ready-dev ## fill a database with a million executions and read from it
	@$(BIN)/python -m benchmarks.history $(ARGS)

check: check-style check-types check-imports check-sizes check-locks check-protos check-generated ## run every check but the tests

check-style: $(VENV)/.ready-dev ## lint and formatting
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo "formatting differs in the files below; run: make format"; \
		$(BIN)/ruff format --check; exit 1; }

check-types: $(VENV)/.ready-dev ## pyright, strict
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --warnings

check-imports: $(VENV)/.ready-dev ## who may import whom
	@$(BIN)/lint-imports --no-cache --no-logo

check-sizes: $(VENV)/.ready-dev ## length of files and functions, names of modules
	@$(BIN)/python scripts/check_sizes.py

check-locks: $(VENV)/.ready-dev ## locks have hashes, no addresses, and all that the members ask for
	@$(BIN)/python scripts/check_locks.py

check-protos: $(VENV)/.ready-dev ## the contract: style, and nothing broken since the last release
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code
	@tag=$$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null) || tag=; \
	if [ -n "$$tag" ]; then $(BIN)/buf breaking --against ".git#tag=$$tag"; \
	else echo "buf breaking: no release tag yet, nothing to compare with"; fi

check-generated: $(VENV_GENERATE)/.ready ## generated code is what protos/ gives
	@$(VENV_GENERATE)/bin/python scripts/generate_protos.py --check

format: $(VENV)/.ready-dev ## rewrite Python and protos in the house style
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet
	@$(BIN)/buf format --write

proto: $(VENV_GENERATE)/.ready ## rewrite generated/ from protos/
	@$(VENV_GENERATE)/bin/python scripts/generate_protos.py

lock: $(VENV)/.ready-uv ## rewrite requirements/*.txt, changing only what must change
	@$(LOCK) --group bootstrap -o requirements/bootstrap.txt
	@$(LOCK) $(MEMBER_FILES) --group build -o requirements/run.txt
	@$(LOCK) $(MEMBER_FILES) --extra redis --group dev -c requirements/run.txt -o requirements/dev.txt
	@$(LOCK) $(MEMBER_FILES) --extra redis --group floor -o requirements/floor.txt
	@$(LOCK) --group generate -o requirements/generate.txt
	@$(LOCK) --group rival -o requirements/rival.txt
	@echo "requirements/*.txt are locked"

upgrade: ## as lock, but take the newest of everything
	@$(MAKE) --no-print-directory lock UPGRADE=--upgrade

clean: ## remove the environments and what tools left behind (keeps .toolwright, the data)
	@rm -rf $(VENV) $(VENV_GENERATE) $(VENV_FLOOR) $(VENV_RIVAL) .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps below make repeated calls instantaneous; a changed lock or member installs again.

$(VENV)/.ready-uv: requirements/bootstrap.txt scripts/install.sh
	@$(INSTALL) uv $(PYTHON) $(VENV) requirements/bootstrap.txt
	@touch $@

# An environment for development holds what running needs: it is not cut down again.
$(VENV)/.ready-run: requirements/run.txt $(MEMBER_FILES) $(VENV)/.ready-uv $(wildcard $(VENV)/.ready-dev)
	@test -e $(VENV)/.ready-dev || $(INSTALL) lock $(VENV) requirements/run.txt
	@test -e $(VENV)/.ready-dev || $(INSTALL) members $(VENV) $(MEMBERS)
	@touch $@

$(VENV)/.ready-dev: requirements/dev.txt $(MEMBER_FILES) $(VENV)/.ready-uv
	@$(INSTALL) lock $(VENV) requirements/dev.txt
	@$(INSTALL) members $(VENV) $(MEMBERS)
	@touch $@ $(VENV)/.ready-run

$(VENV_GENERATE)/.ready: requirements/generate.txt $(VENV)/.ready-uv
	@$(INSTALL) venv $(PYTHON) $(VENV_GENERATE)
	@UV=$(BIN)/uv $(INSTALL) lock $(VENV_GENERATE) requirements/generate.txt
	@touch $@

$(VENV_RIVAL)/.ready: requirements/rival.txt $(VENV)/.ready-uv
	@$(INSTALL) venv $(PYTHON) $(VENV_RIVAL)
	@UV=$(BIN)/uv $(INSTALL) lock $(VENV_RIVAL) requirements/rival.txt
	@touch $@

$(VENV_FLOOR)/.ready: requirements/floor.txt $(MEMBER_FILES) $(VENV)/.ready-uv
	@$(INSTALL) venv $(PYTHON) $(VENV_FLOOR)
	@UV=$(BIN)/uv $(INSTALL) lock $(VENV_FLOOR) requirements/floor.txt
	@UV=$(BIN)/uv $(INSTALL) members $(VENV_FLOOR) $(MEMBERS)
	@touch $@
