# The index of commands. Each one sets up what it needs in $(VENV); a second run installs nothing again.
#
#   make fit          train the network of System 1 and test it        (CONFIG=configs/....yaml for another)
#   make faces        train a classifier of a million classes, spread over two processes (10 GB of memory)
#   make test         lint, types and every test not marked slow
#   make test-slow    the rest of the tests
#   make test-oldest  the tests on the oldest torch and triton that pyproject.toml allows, in $(VENV)-oldest
#   make bench        time what bench/ holds, leave rows and plots in bench/results/ (half an hour)
#   make kernel-table what each kernel uses of three cards, compiled without one: bench/results/compiled-kernels.csv
#   make reproduce    train every experiment on the real data, write bench/results/reproduction.md (half an hour)
#   make gpu          on a machine with a CUDA device and torch: its kernels' tests, rows and pictures and their summary
#                     under bench/results/, with $(PYTHON) as it is
#   make format       rewrite the sources as `make test` wants them
#   make clean        remove the environment and all caches

VENV   ?= .venv
CONFIG ?= configs/mnist.yaml
JOBS   ?= 2

# The first interpreter at hand that is 3.11 to 3.13; PYTHON=... names another.
SUPPORTED := import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo "$$p"; break; }; done)

RUN := $(VENV)/bin/python

.PHONY: fit faces test test-slow test-oldest bench kernel-table reproduce gpu lint format clean
.DEFAULT_GOAL := test

fit: $(VENV)/.installed
	$(RUN) -m lit_l2softmax fit --config $(CONFIG)

faces: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(RUN) -m lit_l2softmax fit --config configs/faces_synthetic.yaml

test: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS)

test-slow: $(VENV)/.installed-test
	$(RUN) -m pytest -m slow

test-oldest: $(VENV)-oldest/.installed-test
	OMP_NUM_THREADS=1 $(VENV)-oldest/bin/python -m pytest -n $(JOBS)

bench: $(VENV)/.installed-bench
	$(RUN) -m pytest bench --benchmark

kernel-table: $(VENV)/.installed-test
	$(RUN) bench/kernel_table.py

reproduce: $(VENV)/.installed-test
	$(RUN) bench/reproduce.py $(EXPERIMENTS)

# Such a machine has its own build of torch, and perhaps no network: nothing is installed there. Each case's rows are kept
# at once, no case is started later than so many seconds, and each part is interrupted, as by Ctrl-C, before all of it
# takes eight minutes. A test that fails stops no benchmark, but make.
SIDE_BY_SIDE = $(if $(shell "$(PYTHON)" -c 'import xdist' 2>/dev/null && echo yes),-n 4)
GPU_TESTS = $(wildcard tests/test_softmax_*.py tests/test_local_response_norm*.py)
GPU_BENCH = "$(PYTHON)" -m pytest -p no:cacheprovider --benchmark --benchmark-long
gpu:
	@failed=0; \
	timeout -s INT 150 "$(PYTHON)" -m pytest -p no:cacheprovider $(SIDE_BY_SIDE) $(GPU_TESTS) || failed=1; \
	timeout -s INT 190 $(GPU_BENCH) --benchmark-seconds 160 bench/bench_linear_l2_softmax_cross_entropy.py || failed=1; \
	timeout -s INT 65 $(GPU_BENCH) --benchmark-seconds 50 bench/bench_l2_softmax_cross_entropy.py || failed=1; \
	timeout -s INT 65 $(GPU_BENCH) --benchmark-seconds 50 bench/bench_local_response_norm.py || failed=1; \
	exit $$failed

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(VENV)/.installed-test
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf $(VENV) $(VENV)-oldest build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(RUN):
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python" >&2; exit 2; }
	@"$(PYTHON)" -c '$(SUPPORTED)' || { echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13" >&2; exit 2; }
	"$(PYTHON)" -m venv $(VENV)

# A stamp is written only when pip has succeeded, and pyproject.toml alone can make it stale.
$(VENV)/.installed: pyproject.toml | $(RUN)
	@echo "installing lit_l2softmax into $(VENV) (one to several minutes, once)"
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(RUN)
	@echo "installing lit_l2softmax and its test tools into $(VENV) (one to several minutes, once)"
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: $(VENV)/.installed-test
	@echo "installing what benchmarks compare with into $(VENV) (once)"
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test,bench]'
	@touch $@

$(VENV)-oldest/.installed-test: pyproject.toml
	"$(PYTHON)" -m venv $(VENV)-oldest
	@echo "installing lit_l2softmax with torch 2.11 and triton 3.6 into $(VENV)-oldest (some minutes, once)"
	$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' torch==2.11.0 triton==3.6.0 'numpy<2.4' # triton 3.6 interprets with no later one
	@touch $@
