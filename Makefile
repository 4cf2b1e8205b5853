# Two commands: `make run` and `make test`. Each sets up .venv from envs/requirements.lock first, if it must.
# `make benchmark` needs the default run; it compares with datatrove, nanoGPT and programs that
# read exported models, which it installs or clones below results/benchmarks/.
PYTHON ?= python3
CORES ?= all
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test benchmark setup lint clean

run: setup
	snakemake --cores $(CORES) --rerun-incomplete

test: setup
	pytest

benchmark: run
	python -m tests.benchmarks.filters
	python -m tests.benchmarks.deduplication
	python -m tests.benchmarks.scale
	python -m tests.benchmarks.reading
	python -m tests.benchmarks.shards results/corpora/demo
	python -m tests.benchmarks.precision
	python -m tests.benchmarks.models results/shards/demo/bpe2k
	python -m tests.benchmarks.generation
	python -m tests.benchmarks.exports
	python -m tests.benchmarks.nanogpt

setup: .venv/installed

# The file `installed` says that the environment holds what the lock asks for.
.venv/installed: envs/requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pileline needs Python 3.11 or newer, found " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement envs/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

lint: setup
	ruff check . && ruff format --check . && mypy && lint-imports
	snakefmt --check Snakefile workflow && snakemake --lint

clean:
	rm -rf .snakemake results/*/ .pytest_cache .mypy_cache .ruff_cache
